"""What the generator trains on, and what the records of training and painting are keyed by."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pipeline import ROOT

from posedive_lib import params
from posedive_lib.augment import augmenter, painting, photo_arrays
from posedive_lib.body.table import BodyTable
from posedive_lib.digests import Code
from posedive_lib.generator import sampling
from posedive_lib.study import names, phase2_work


@pytest.fixture(scope="module")
def P():
    kept = ("body", "motions", "stable_diffusion", "pose_estimator", "phase1")
    known = params.load(ROOT / "params.yaml")
    paths = {f"paths.{name}": str(ROOT / getattr(known.paths, name)) for name in kept}
    return params.load(ROOT / "params.yaml", overrides=paths)


def changed(P, section: str, **values):
    return P.model_copy(update={section: getattr(P, section).model_copy(update=values)})


def test_every_photo_is_taken_from_one_set():
    every = ["market1501", "msmt17", "cuhk03-labeled", "cuhk03-detected", "msmt17-s-cam"]
    assert names.sources(every) == ["market1501", "msmt17", "cuhk03-labeled"]
    assert names.sources(["msmt17-s-pose", "msmt17-s-cam"]) == ["msmt17-s-pose"]
    assert names.sources(["folder"]) == ["folder"]


@pytest.fixture
def images(tmp_path) -> pd.DataFrame:
    Image.new("RGB", (16, 32)).save(tmp_path / "a.jpg")
    zeros = [np.zeros((1, width)) for width in (3, 69, 10, 3)]
    ones, points, seen = np.ones(1), np.zeros((1, 17, 2)), np.zeros((1, 17))
    BodyTable(np.array(["a.jpg"]), *zeros, ones, points, seen).save(tmp_path / "smpl.npz")
    row = {
        "path": tmp_path / "a.jpg",
        "bodies": str(tmp_path / "smpl.npz"),
        "dataset": "folder",
        "rel": "a.jpg",
    }
    return pd.DataFrame([row | {"pid": 1, "camid": 0, "reference_ok": True, "target_ok": True}])


def test_arrays_are_keyed_by_all_that_makes_them(P, images, tmp_path, monkeypatch):
    specs = [phase2_work._spec(P, images)]
    assert phase2_work._spec(changed(P, "generator", steps=1), images) == specs[0]
    specs.append(phase2_work._spec(P, images.assign(target_ok=False)))
    specs.append(phase2_work._spec(changed(P, "generator", clip_tokens="pooled"), images))
    specs.append(phase2_work._spec(changed(P, "conditions", focal=9.0), images))
    (tmp_path / "smpl.npz").write_bytes(b"others")
    specs.append(phase2_work._spec(P, images))
    Image.new("RGB", (16, 32), "red").save(tmp_path / "a.jpg")
    specs.append(phase2_work._spec(P, images))
    monkeypatch.setattr(photo_arrays, "code_digest", lambda *modules: "other code")
    specs.append(phase2_work._spec(P, images))
    assert len({phase2_work.STORE.key(spec) for spec in specs}) == len(specs)


def test_keys_of_code_reach_what_does_the_work_and_no_more():
    code = Code(ROOT)
    encoding = code.reached([phase2_work.__name__])
    needed = {"generator.clip", "generator.encoders", "weights", "body.rendering", "body.opengl"}
    assert {f"posedive_lib.{name}" for name in needed} <= encoding
    assert not encoding & {"posedive_lib.generator.training", "posedive_lib.augment.selection"}
    candidates = code.reached([*augmenter.WORK, painting.SAMPLER])
    needed = {"augment.targets", "generator.denoising", "generator.clip", "datasets.images"}
    assert {f"posedive_lib.{name}" for name in needed} <= candidates
    assert not candidates & {"posedive_lib.augment.diversify", "posedive_lib.augment.filtering"}
    assert "posedive_lib.seeds" in code.reached([phase2_work.TRAINING])


def test_the_painter_s_key_holds_all_of_its_sampling(P, monkeypatch):
    asked = []

    def load(folder, frozen, *, sampling):
        asked.append(sampling)
        own = SimpleNamespace(vae=None, image_encoder=None)
        return SimpleNamespace(params=own, precision="fp32")

    monkeypatch.setattr(sampling, "load", load)

    def key(**values) -> str:
        wanted = P.generator.sampling.model_copy(update=values)
        key = painting.Diffusion.of(changed(P, "generator", sampling=wanted), P.paths.phase1).key
        assert asked[-1] == wanted
        return key

    others = [key(steps=9), key(guidance=9.0), key(scheduler="EulerDiscreteScheduler")]
    assert len({key(), *others}) == 4 and key(batch_size=9) == key()
