"""The playground: what it draws, what it refuses, its widgets, and its page on the bundle alone."""

import io
import re
from datetime import UTC, datetime

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image
from pipeline import ROOT

from posedive_lib import params
from posedive_lib.augment import filtering
from posedive_lib.errors import StudyError
from posedive_lib.study import playground_panel
from posedive_lib.study.playground import Playground, Wish


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What a fresh clone has after `make setup data`, and nothing that the study makes."""
    place = tmp_path_factory.mktemp("clone")
    for name in ("data", "params", "notebooks"):
        (place / name).symlink_to(ROOT / name)
    return place


@pytest.fixture(scope="module")
def P(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield params.load("params/mini.yaml")


@pytest.fixture(scope="module")
def playground(P):
    return Playground(P)


def a_wish(playground, **changed) -> Wish:
    person = list(playground.people.values())[0]
    return Wish(**{"person": person, "motion": "walk_normal_0", "steps": 2, **changed})


def test_a_wish_is_drawn_and_judged_by_the_filter_s_rules(playground, P):
    drawn = playground.draw(a_wish(playground))
    shape = (P.image.height, P.image.width, 3)
    pictures = ("reference", "skeleton", "depth", "normals", "generated", "truth")
    for name in pictures:
        picture = getattr(drawn, name)
        assert picture.shape == shape and picture.dtype == np.uint8 and picture.std() > 5, name
    a = P.augment
    rule = filtering.first_rule(
        drawn.sigma_gen[None],
        drawn.sigma_tar[None],
        drawn.sigma_ref[None],
        tau_ref=a.tau_ref,
        tau_tar=a.tau_tar,
        epsilon_gen=a.epsilon_gen,
        tau_gen=a.tau_gen,
    )
    assert drawn.rejected_by == rule[0] and drawn.sigma_gen.shape == (12,)
    again, turned = (playground.draw(a_wish(playground, azimuth=turn)) for turn in (0.0, 90.0))
    for name in pictures:
        assert (getattr(again, name) == getattr(drawn, name)).all(), name
        assert (getattr(turned, name) == getattr(drawn, name)).all() == (name == "reference"), name


def test_a_photo_of_one_s_own_takes_the_person_s_place(playground, P):
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (300, 200, 3), np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    photo = playground.photo(stream.getvalue())
    assert photo.shape == (P.image.height, P.image.width, 3)
    drawn = playground.draw(a_wish(playground, person=photo))
    assert drawn.truth is None and (drawn.reference == photo).all()
    assert drawn.rejected_by == "reference"  # nobody is in it
    with pytest.raises(StudyError, match="The photo is not a readable image"):
        playground.photo(b"no image")


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"motion": "fly"}, "no frame 0 of a motion 'fly': choose from call_0 "),
        ({"frame": 10**6}, "no frame 1000000 of a motion 'walk_normal_0'"),
        ({"person": "nobody"}, "no person 'nobody': choose one of `people`"),
        ({"steps": 0}, "steps is 0"),
    ],
)
def test_a_wish_that_cannot_be_is_refused(playground, changed, message):
    with pytest.raises(StudyError, match=message):
        playground.draw(a_wish(playground, **changed))


def dropped(content):
    """A file as the browser tells of it."""
    told = {"name": "me.png", "type": "image/png", "size": len(content)}
    return {**told, "content": content, "last_modified": datetime.now(UTC)}


def test_moved_controls_draw_anew(playground, P):
    panel = playground_panel.panel(P, playground)
    person, motion, frame, azimuth, *_, upload, shown = panel.children
    first = shown.value
    assert first.count("<img") == first.count('alt="') == 6 and "τ_gen" in first
    assert min(map(len, re.findall('alt="(.*?)"', first))) > 20
    azimuth.value = -90
    turned = shown.value
    assert turned != first
    motion.value = "jump_0"
    assert frame.max == playground.motions["jump_0"] - 1 and shown.value != turned
    stream = io.BytesIO()
    Image.new("RGB", (64, 128), "grey").save(stream, "PNG")
    upload.value = (dropped(stream.getvalue()),)
    assert person.value == playground_panel.OWN and shown.value.count("<img") == 5
    upload.value = (dropped(b"no image"),)
    assert "The photo is not a readable image" in shown.value


def test_the_page_runs_on_the_bundle_alone(folder, monkeypatch):
    monkeypatch.delenv("MPLBACKEND")  # a reader's Jupyter shows figures in the page
    notebook = nbformat.read(ROOT / "notebooks/10_playground.ipynb", as_version=4)
    resources = {"metadata": {"path": str(folder / "notebooks")}}
    NotebookClient(notebook, timeout=300, resources=resources).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = {kind for output in shown for kind in output.get("data", {})}
    assert "application/vnd.jupyter.widget-view+json" in kinds and "image/png" in kinds
    assert not (folder / "build").exists()
