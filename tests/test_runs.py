"""Run records are found again, and only for exactly what determined them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from posedive_lib.bench import runs
from posedive_lib.bench.runs import RunStore, code_digest, file_digest, folder_digest
from posedive_lib.errors import StudyError


def test_a_result_is_computed_once(tmp_path):
    store, calls = RunStore(tmp_path / "reid"), []

    def work():
        calls.append(1)
        return {"mAP": np.float32(0.5), "cmc": np.arange(2)}

    spec = {"seed": 0, "steps": 3}
    assert store.get(spec) is None
    assert (
        store.get_or_run(spec, work)
        == store.get_or_run({"steps": 3, "seed": 0}, work)
        == {"mAP": 0.5, "cmc": [0, 1]}
    )
    assert len(calls) == 1


def test_anything_in_the_spec_changes_the_key(tmp_path):
    store = RunStore(tmp_path)
    specs = [{"a": 1}, {"a": 1.5}, {"a": "1"}, {"b": 1}, {"a": [1]}, {"a": {"b": 1}}, {"a": None}]
    assert len({store.key(spec) for spec in specs}) == len(specs)
    assert store.folder({"a": 1}) != store.folder({"b": 1})


def test_a_damaged_record_is_computed_again(tmp_path):
    store = RunStore(tmp_path)
    store.put({"a": 1}, 5).write_text('{"spec": {"a"')
    assert store.get({"a": 1}) is None
    assert store.get_or_run({"a": 1}, lambda: 6) == 6


def test_a_stop_while_writing_leaves_the_old_record(tmp_path, monkeypatch):
    store = RunStore(tmp_path)
    file = store.put({"a": 1}, 5)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        store.put({"a": 1}, 6)
    assert json.loads(file.read_text())["result"] == 5
    assert list(tmp_path.iterdir()) == [file]


def test_what_json_cannot_hold_is_refused(tmp_path):
    with pytest.raises(TypeError, match="a run record cannot hold a set"):
        RunStore(tmp_path).put({"a": 1}, {1, 2})


def test_unwritable_places_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="cannot be written .Not a directory."):
        RunStore(tmp_path / "file" / "runs").put({"a": 1}, 1)


def test_digests_of_files_and_folders(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.txt").write_text("a")
    before = folder_digest(tmp_path)
    assert before == folder_digest(tmp_path)
    (tmp_path / "sub/a.txt").rename(tmp_path / "sub/b.txt")
    assert folder_digest(tmp_path) != before
    assert folder_digest(tmp_path, "*.csv") == folder_digest(tmp_path / "sub", "*.csv")
    assert file_digest(tmp_path / "sub/b.txt").startswith("ca978112")  # SHA-256 of "a"
    for digest in (file_digest, folder_digest):
        with pytest.raises(StudyError, match="missing"):
            digest(tmp_path / "missing")


@pytest.fixture
def package(tmp_path, monkeypatch):
    package = tmp_path / "posedive_lib"
    (package / "reid").mkdir(parents=True)
    monkeypatch.setattr(runs, "PACKAGE", package)
    return package


def digest_of(file: Path, source: str, module: str = "posedive_lib.reid.train") -> str:
    file.write_text(source)
    return code_digest(module)


def test_code_digest_sees_what_the_code_does(package):
    file = package / "reid/train.py"
    first = digest_of(file, 'def f(x):\n    """Doc."""\n    return x + 1\n')
    assert digest_of(file, 'def f(x):  # why\n    """Other."""\n\n    return (x + 1)\n') == first
    assert digest_of(file, "def f(x):\n    return x + 2\n") != first


def test_code_digest_of_a_package_takes_all_its_modules(package):
    first = digest_of(package / "reid/a.py", "a = 1\n", "posedive_lib.reid")
    assert digest_of(package / "reid/b.py", "b = 1\n", "posedive_lib.reid") != first
    with pytest.raises(StudyError, match="posedive_lib.reids is not a module"):
        code_digest("posedive_lib.reids")
