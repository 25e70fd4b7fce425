"""CUHK03 as published: the images come out of cuhk-03.mat whole, once, and under relative names."""

import shutil

import numpy as np
import pytest
import trees
from PIL import Image
from pipeline import ROOT
from scipy.io import loadmat, savemat

from posedive_lib import datasets, params
from posedive_lib.datasets import cuhk03_mat
from posedive_lib.errors import StudyError


@pytest.mark.parametrize("place", ["cuhk03", ""])
@pytest.mark.parametrize("boxes", ["labeled", "detected"])
def test_every_pixel_arrives_and_the_protocol_is_kept(tmp_path, place, boxes):
    made = trees.cuhk03_mat(tmp_path / place, boxes)
    data = datasets.load(f"cuhk03-{boxes}", tmp_path)
    images = tmp_path / place / f"images_{boxes}"
    assert sorted(path.name for path in images.iterdir()) == sorted(made)
    for name, pixels in made.items():
        assert np.array_equal(np.asarray(Image.open(images / name)), pixels)
    config = loadmat(tmp_path / place / f"cuhk03_new_protocol_config_{boxes}.mat")
    names = [str(cell[0][0]) for cell in config["filelist"]]
    for split, frame in (("train", data.train), ("query", data.query), ("gallery", data.gallery)):
        rows = config[f"{split}_idx"].ravel() - 1
        expected = sorted(
            (
                f"images_{boxes}/{names[i]}",
                config["labels"].ravel()[i],
                config["camId"].ravel()[i] - 1,
            )
            for i in rows
        )
        assert list(frame[["rel", "pid", "camid"]].itertuples(index=False, name=None)) == expected
    assert set(data.train["pid"]).isdisjoint(data.query["pid"]) and data.protocol["boxes"] == boxes
    assert not list((tmp_path / place).glob(".*"))


def test_extraction_happens_once_and_the_folder_may_move(tmp_path):
    trees.cuhk03_mat(tmp_path / "cuhk03")
    first = datasets.load("cuhk03-labeled", tmp_path)
    stamps = {
        path: path.stat().st_mtime_ns for path in (tmp_path / "cuhk03" / "images_labeled").iterdir()
    }
    again = datasets.load("cuhk03-labeled", tmp_path)
    assert stamps == {
        path: path.stat().st_mtime_ns for path in (tmp_path / "cuhk03" / "images_labeled").iterdir()
    }
    assert first.train.equals(again.train)
    (tmp_path / "cuhk03").rename(tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved" / "cuhk03_release")  # not needed any more
    moved = datasets.load("cuhk03-labeled", tmp_path / "moved")
    assert (
        moved.train["rel"].tolist() == first.train["rel"].tolist()
        and str(tmp_path / "moved") in moved.train["path"].iloc[0]
    )


def test_a_study_writes_nothing_beside_the_file(tmp_path, monkeypatch):
    """Its images lie in build/, each version of the file in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    made = trees.cuhk03_mat(tmp_path / "data/cuhk03")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}
    paths = params.load(ROOT / "params/paper.yaml", overrides={"paths.datasets": "data"}).paths
    first, again = (datasets.of_study("cuhk03-labeled", paths) for _ in range(2))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")} == before
    assert first.train.equals(again.train) and first.folder.parent == tmp_path / "build/cuhk03"
    assert len(list((tmp_path / "build/cuhk03").iterdir())) == 1
    assert {path.name for path in (first.folder / "images_labeled").iterdir()} == set(made)
    trees.cuhk03_mat(tmp_path / "data/cuhk03", images=3)
    assert datasets.of_study("cuhk03-labeled", paths).folder != first.folder
    beside = datasets.load("cuhk03-labeled", "data").folder
    assert datasets.of_study("cuhk03-labeled", paths).folder == beside == tmp_path / "data/cuhk03"


def test_one_thread_and_many_write_the_same(tmp_path):
    made, written = trees.cuhk03_mat(tmp_path), []
    for workers in (1, 4):
        out = cuhk03_mat.extracted(tmp_path, "labeled", workers=workers)
        written.append({path.name: path.read_bytes() for path in out.iterdir()})
        shutil.rmtree(out)
    assert sorted(written[0]) == sorted(made) and written[0] == written[1]


def refusal(root):
    with pytest.raises(StudyError) as caught:
        datasets.load("cuhk03-labeled", root)
    assert not (root / "images_labeled").exists() or "lacks" in str(caught.value)
    assert not list(root.glob(".*"))
    return str(caught.value)


def test_what_is_missing_or_wrong_is_named_and_nothing_is_left(tmp_path, monkeypatch):
    assert "neither" in refusal(tmp_path)
    trees.cuhk03_mat(tmp_path)
    config = tmp_path / "cuhk03_new_protocol_config_labeled.mat"
    good = config.read_bytes()
    config.unlink()
    assert "config_labeled.mat is missing" in refusal(tmp_path)
    config.write_bytes(b"MATLAB 5.0 nothing of the kind")
    assert "cannot be read as the new protocol" in refusal(tmp_path)
    config.write_bytes(good)
    parts = {key: value for key, value in loadmat(config).items() if not key.startswith("__")}
    savemat(config, parts | {"camId": 3 - parts["camId"].astype(int)})
    assert "for camera" in refusal(tmp_path)
    savemat(config, parts | {"query_idx": np.array([[60000]])})
    assert "contradicts itself" in refusal(tmp_path)
    config.write_bytes(good)
    raw = tmp_path / "cuhk03_release" / "cuhk-03.mat"
    content = raw.read_bytes()
    raw.write_bytes(content[: len(content) // 2])
    assert "cuhk-03.mat" in refusal(tmp_path)
    raw.write_bytes(b"not HDF5")
    assert "cannot be read" in refusal(tmp_path)
    trees.cuhk03_mat(tmp_path, "detected")
    assert "no images under 'labeled'" in refusal(tmp_path)
    raw.write_bytes(content)
    calls = []

    def fail(image, path, *args, **kwargs):
        calls.append(path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    assert "No space left" in refusal(tmp_path) and calls
    monkeypatch.undo()
    datasets.load("cuhk03-labeled", tmp_path)
    lost = next((tmp_path / "images_labeled").iterdir())
    lost.unlink()
    assert lost.name in refusal(tmp_path)


def test_tree_and_mat_side_by_side_are_refused(tmp_path):
    trees.cuhk03_mat(tmp_path / "cuhk03")
    trees.market(tmp_path / "cuhk03-np" / "labeled", suffix=".png", distractor=False)
    with pytest.raises(StudyError, match="is there twice"):
        datasets.load("cuhk03-labeled", tmp_path)
    assert not (tmp_path / "cuhk03" / "images_labeled").exists()
