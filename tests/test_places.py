"""Where the commands write: nothing that shows people lands where git would take it."""

import subprocess
from pathlib import Path

import pandas as pd
import pytest
import trees

from posedive_lib import datasets, places
from posedive_lib.datasets.write import write_augmented
from posedive_lib.errors import StudyError
from posedive_lib.own_data import augment, train


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git repository that ignores build/ and licensed/, and a link in it that leads out."""
    root = tmp_path / "repository"
    (root / "docs").mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet", root], check=True)
    (root / ".gitignore").write_text("/build\n/licensed\n/mine\n")
    (tmp_path / "disk").mkdir()
    (root / "link").symlink_to(tmp_path / "disk")
    monkeypatch.chdir(root)
    return root


@pytest.mark.parametrize("out", ["run", "docs/run", "../repository/run", "builds", "new/run"])
def test_pictures_are_refused_where_git_would_take_them(repository, out):
    with pytest.raises(StudyError, match="does not ignore it, and pictures of people must not"):
        places.refuse_tracked(Path(out), "the training")


@pytest.mark.parametrize("out", ["build/run", "licensed/a/b", "../run", "link/run", "mine"])
def test_other_places_are_free(repository, out):
    places.refuse_tracked(Path(out), "the training")


def test_without_git_every_place_is_free(repository, monkeypatch):
    monkeypatch.setenv("PATH", "")
    places.refuse_tracked(Path("run"), "the training")


def test_every_command_that_writes_pictures_asks(repository, tmp_path):
    """`mine` is ignored by name, so the candidates beside it are not."""
    data = datasets.load("market1501", trees.market(tmp_path / "sets/market1501"))
    none = pd.DataFrame(columns=["image_path", "pid", "camid", "index"])
    out = repository / "run"
    for write in (
        lambda: train.check_out(out, data),
        lambda: write_augmented(data, none, out),
        lambda: augment._check_store(repository / "mine.candidates"),
    ):
        with pytest.raises(StudyError, match="must not come into git"):
            write()
    assert not out.exists()


def test_a_table_is_known_by_its_columns(tmp_path):
    table = tmp_path / "photos.csv"
    assert not places.has_header(table, ["a", "b"])
    for content, ours in ((b"a,b\n1,2\n", True), (b"a,b,c\n", False), (b"\xff\xfe", False)):
        table.write_bytes(content)
        assert places.has_header(table, ["a", "b"]) == ours
    assert not places.has_header(tmp_path, ["a", "b"])
