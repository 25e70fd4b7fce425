"""Run records are found again, and only for exactly what determined them."""

import json
import os

import numpy as np
import pytest

from posedive_lib.bench.runs import RunStore
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
