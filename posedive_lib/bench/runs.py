"""Run records: a result is computed once for everything that determines it.

The key of a record is the digest of its *spec*: parameters, digests of input files, and the digest
of the code that computes it (`posedive_lib.digests`). So a changed plot trains nothing anew, and a
changed training module trains what it must. Records live in runs/: git ignores it, and it is no
output of the pipeline, because DVC deletes outputs before a stage runs::

    store = RunStore("runs/reid")
    spec = {**P.pick("reid"), "train": folder_digest(folder), "code": code_digest(__name__)}
    result = store.get_or_run(spec, lambda: train(checkpoints=store.folder(spec)))
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from posedive_lib.errors import StudyError
from posedive_lib.intake.files import read_json
from posedive_lib.writing import replacing, writing


class RunStore:
    """Records of one kind, one JSON file each, in `path`."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def key(self, spec: dict[str, Any]) -> str:
        """20 hexadecimal digits that change when anything in `spec` does."""
        return hashlib.sha256(_json(spec).encode()).hexdigest()[:20]

    def get(self, spec: dict[str, Any]) -> Any | None:
        """The result recorded for `spec`, or None. A damaged record counts as none."""
        try:
            return read_json(self._file(spec), "result")["result"]
        except StudyError:
            return None

    def put(self, spec: dict[str, Any], result: Any) -> Path:
        """Record a JSON-able `result`; a stop half-way leaves no broken record behind."""
        file = self._file(spec)
        write_text(file, _json({"spec": spec, "result": result}, indent=1) + "\n")
        return file

    def get_or_run(self, spec: dict[str, Any], function: Callable[[], Any]) -> Any:
        """The recorded result, or else that of `function()`; both as JSON gives them back."""
        found = self.get(spec)
        if found is None:
            self.put(spec, result := function())
            found = json.loads(_json(result))  # not read back: somebody may remove the record
        return found

    def folder(self, spec: dict[str, Any]) -> Path:
        """A folder of this spec's own: for checkpoints, and for files too large for a record."""
        folder = self.path / self.key(spec)
        make_folder(folder)
        return folder

    def _file(self, spec: dict[str, Any]) -> Path:
        return self.path / f"{self.key(spec)}.json"


def make_folder(path: str | Path) -> Path:
    """Make `path` and its parents; `StudyError` where that is not allowed."""
    with writing(path):
        Path(path).mkdir(parents=True, exist_ok=True)
    return Path(path)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write all of the file or nothing of it; `StudyError` where that is not allowed."""
    with replacing(path) as draft:
        draft.write_bytes(content)


def write_array(path: str | Path, array: np.ndarray) -> None:
    """`write_bytes` of an array as `.npy`."""
    with (
        replacing(path) as draft,
        draft.open("wb") as stream,
    ):  # a stream, because NumPy would add a suffix to the name
        np.save(stream, array)


def write_text(path: str | Path, content: str) -> None:
    """`write_bytes` of UTF-8 text with plain line feeds."""
    write_bytes(path, content.encode("utf-8"))


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, sort_keys=True, indent=indent, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """NumPy and paths as JSON has them."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return value.as_posix()
    raise TypeError(f"a run record cannot hold a {type(value).__name__}")
