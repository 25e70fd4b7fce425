"""The stage `bodies`: every photo of a study gets a body, and no data set's folder is touched."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import trees
from pipeline import ROOT

from posedive_lib import datasets, params, places
from posedive_lib.body.table import BodyTable
from posedive_lib.errors import StudyError
from posedive_lib.own_data import bodies, fit
from posedive_lib.own_data.hmr2 import export_hmr2


def table(rels, betas=0.0) -> BodyTable:
    n = len(rels)
    camera, points = np.tile([0.0, 0.0, 40.0], (n, 1)), np.zeros((n, 17, 2))
    shape, seen, focal = np.full((n, 10), betas), np.full((n, 17), 2), np.full(n, 625.0)
    rest = np.zeros((n, 3)), np.zeros((n, 69))
    return BodyTable(np.array(rels), *rest, shape, camera, focal, points, seen)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Parameters by `source`, and a Market-1501 of plain photos, 32 x 16 pixels."""
    monkeypatch.chdir(tmp_path)
    trees.market(tmp_path / "data/Market-1501-v15.09.15")

    def load(source, **changes):
        here = {"paths.datasets": "data", "study.datasets": ["market1501"], "bodies.source": source}
        here["paths.body"] = str(ROOT / "data/body/SMPL_NEUTRAL.npz")
        kinds = [f"{kind}_dataset" for kind in ("azimuth", "generator", "count", "threshold")]
        here |= {f"study.{kind}": "market1501" for kind in kinds}
        here |= {"bodies.hmr2": "results"} if source == "hmr2" else {}
        return params.load(ROOT / "params/paper.yaml", overrides=here | changes)

    return load


@pytest.fixture
def fitted(monkeypatch):
    """Photos that were fitted, call by call; a fit gives every body the shape 5."""
    calls = []

    def fit_images(photos, out, **inputs):
        calls.append(sorted(photos["rel"]))
        made = table(photos["rel"].tolist(), 5.0)
        made.save(out)
        return made

    monkeypatch.setattr(bodies.fit, "fit_images", fit_images)
    monkeypatch.setattr(bodies.fit, "key_of", lambda photos, **inputs: str(len(photos)))
    return calls


def rels() -> list[str]:
    return fit.images_of(datasets.load("market1501", "data"), fit.SPLITS)["rel"].tolist()


def files(folder) -> dict:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_fit_is_made_once_and_lies_apart_from_the_photos(study, fitted, tmp_path):
    P, before = study("fit"), files(tmp_path / "data")
    for _ in range(2):
        listed = bodies.make(P)
        assert listed.to_dict("records") == [
            {"dataset": "market1501", "source": "fit", "given": 0, "fitted": len(rels())}
        ]
    assert fitted == [sorted(rels())] and files(tmp_path / "data") == before
    made = datasets.of_study("market1501", P.paths).bodies
    assert made.samefile("build/bodies/market1501.npz") and len(BodyTable.load(made)) == len(rels())
    assert pd.read_csv("build/bodies/bodies.csv").equals(listed)


def test_the_truth_stays_where_it_is(study, fitted, tmp_path):
    P = study("truth")
    with pytest.raises(StudyError, match="smpl.npz is missing: set bodies.source to fit"):
        bodies.make(P)
    own = tmp_path / "data/Market-1501-v15.09.15/smpl.npz"
    table(rels()[1:]).save(own)
    with pytest.raises(StudyError, match="has no body for"):
        bodies.make(P)
    table(rels()).save(own)
    assert bodies.make(study("fit"))["fitted"].item()  # whose tables are in the way
    assert bodies.make(P)["given"].item() == len(rels())
    assert datasets.of_study("market1501", P.paths).bodies == own
    assert [path.name for path in (tmp_path / "build/bodies").iterdir()] == ["bodies.csv"]


def test_hmr2_is_taken_where_it_has_a_body_and_the_rest_is_fitted(study, fitted, tmp_path):
    P, known = study("hmr2"), table(rels()[2:], 1.0)
    with pytest.raises(StudyError, match="bodies.hmr2, results, has results of none of market1501"):
        bodies.make(P)
    (tmp_path / "results").mkdir()
    junk = "bounding_box_test/-1_c2s1_000009_00.jpg"  # which lies there and is not read
    columns = export_hmr2(BodyTable.joined([known, table([junk])]), np.array([16.0, 32.0]))
    np.savez(tmp_path / "results/market1501.npz", **columns)
    assert bodies.make(P)[["given", "fitted"]].to_numpy().tolist() == [[len(rels()) - 2, 2]]
    assert fitted == [sorted(rels()[:2])]
    made = BodyTable.load(datasets.of_study("market1501", P.paths).bodies).select(rels())
    assert np.allclose(made.betas[:, 0], [5, 5, *[1] * len(known)])
    for spoilt, said in (
        (columns | {"img_size": columns["img_size"] + 1}, "is not that of the photo, 16 x 32"),
        (export_hmr2(replace(known, path=known.path + "x"), np.array([16.0, 32.0])), "photos that"),
    ):
        np.savez(tmp_path / "results/market1501.npz", **spoilt)
        with pytest.raises(StudyError, match=said):
            bodies.make(P)
    assert len(BodyTable.load("build/bodies/market1501.npz")) == len(rels())  # the last good one


@pytest.mark.parametrize("own", ["thesis.txt", "bodies.csv"])
def test_a_folder_of_something_else_is_not_replaced(study, fitted, tmp_path, own):
    """Not even one with a table of our name."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    (tmp_path / "mine" / own).write_text("years of work")
    with pytest.raises(StudyError, match="mine has no bodies.csv .* so it is no folder of bodies"):
        bodies.make(study("fit", **{"paths.bodies": "mine"}))
    assert not fitted and (tmp_path / "mine/thesis.txt").read_text() == "years of work"


def test_a_fit_belongs_to_the_names_of_its_photos(tmp_path):
    """A table of bodies names them, so photos under other names, in the same order, need a new one.

    Batches of an earlier fit are removed beside it; what else lies there is the user's.
    """
    (tmp_path / "motions").mkdir()
    for name in ("a.jpg", "body.npz"):
        (tmp_path / name).write_bytes(b"x")
    own = {"body": str(tmp_path / "body.npz"), "motions": str(tmp_path / "motions")}
    inputs = own | {"estimator": str(tmp_path / "motions"), "focal": 2.5}
    photo = pd.DataFrame({"path": [str(tmp_path / "a.jpg")], "rel": ["a.jpg"]})
    key = fit.key_of(photo, **inputs)
    assert key == fit.key_of(photo, **inputs)
    assert key != fit.key_of(photo.assign(rel="b.jpg"), **inputs)
    parts = tmp_path / "parts"
    parts.mkdir()
    for name in (f"{key}-points-00000.npz", f"{'0' * 16}-bodies-00000.npz", "notes.txt"):
        (parts / name).touch()
    (parts / "folder").mkdir()
    fit._remove(parts, but=key)
    assert len([*parts.iterdir()]) == 3
    fit._remove(parts)
    assert sorted(path.name for path in parts.iterdir()) == ["folder", "notes.txt"]


@pytest.mark.parametrize("name", ["bodies", "splits", "reports"])
@pytest.mark.parametrize("place", ["data", "data/here", "."])
def test_nothing_is_written_among_the_data(study, name, place):
    with pytest.raises(StudyError, match=f"must have {name}, which is written, apart from"):
        study("fit", **{f"paths.{name}": place})


@pytest.mark.parametrize("name", ["bodies", "splits", "reports"])
@pytest.mark.parametrize(
    "other",
    ["paths.motions", "paths.world", "paths.clip", "paths.phase1", "generator.vae", "bodies.hmr2"],
)
@pytest.mark.parametrize("place", ["mine/input", "mine", "mine/input/below"])
def test_nothing_is_written_where_inputs_lie(study, name, other, place):
    """Neither beside them, nor above, nor below."""
    said = f"must have (paths.)?{name}, which is written, apart from ({other}|{other[6:]})"
    with pytest.raises(StudyError, match=said):
        study("fit", **{f"paths.{name}": place, other: "mine/input"})


def test_what_is_written_is_kept_apart(study):
    """The folder of bodies is replaced as a whole."""
    with pytest.raises(StudyError, match="must have bodies, which is written, apart from splits"):
        study("fit", **{"paths.splits": "build/bodies/splits"})


@pytest.mark.parametrize("place", ["thesis", "file"])
def test_reports_of_the_user_s_own_are_not_removed(study, fitted, place):
    """DVC removes what a stage is to write before it runs."""
    Path("file").write_text("years of work")
    Path("thesis/figures/01").mkdir(parents=True)
    with pytest.raises(StudyError, match=f"paths.reports is {place}, which has content that the"):
        bodies.make(study("fit", **{"paths.reports": place}))
    assert not fitted and [*Path("thesis").rglob("*.*")] == []


def test_reports_of_the_study_are_known_by_their_mark(study, fitted):
    for place in ("new", "empty", "older"):
        if place != "new":
            Path(place).mkdir()
        if place == "older":
            (Path(place) / "notebooks").mkdir()
            (Path(place) / places.FIRST_REPORT).touch()
        for _ in range(2):
            bodies.make(study("fit", **{"paths.reports": place}))
            (Path(place) / "figures").mkdir(exist_ok=True)
        assert (Path(place) / places.MARK).is_file()
    Path("reports/figures").mkdir(parents=True)  # the mini world's, which are committed
    bodies.make(study("fit", **{"paths.reports": "reports"}))
    assert not (Path("reports") / places.MARK).exists()


def test_results_are_asked_for_by_their_folder(study):
    with pytest.raises(StudyError, match="bodies must have hmr2, the folder of its results"):
        study("hmr2", **{"bodies.hmr2": None})
