"""Run records: a result is computed once for everything that determines it, and found again after a stop.

A record's key is the digest of its *spec*: parameters, digests of input files and of the code that computes it. So a tweaked plot
retrains nothing, an added threshold trains only itself, and a changed training module retrains what it must. Records live in
runs/ (ignored by git, not a DVC output, because DVC deletes outputs before a stage runs).

    store = RunStore("runs/reid")
    spec = {"params": P.pick("reid"), "train": folder_digest(folder), "code": code_digest("posedive_lib.reid.clip_reid")}
    result = store.get_or_run(spec, lambda: train(checkpoints=store.folder(spec)))
"""

import ast
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import posedive_lib
from posedive_lib.errors import StudyError
from posedive_lib.writing import replacing, writing

PACKAGE = Path(posedive_lib.__file__).parent


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
            record = json.loads(self._file(spec).read_text(encoding="utf-8"))
            return record["result"]
        except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError, KeyError):
            return None

    def put(self, spec: dict[str, Any], result: Any) -> Path:
        """Record a JSON-able `result`; a stop half-way leaves no broken record behind."""
        file = self._file(spec)
        write_text(file, _json({"spec": spec, "result": result}, indent=1) + "\n")
        return file

    def get_or_run(self, spec: dict[str, Any], function: Callable[[], Any]) -> Any:
        """The recorded result, or the one of `function()`, recorded now; both as JSON gives them back."""
        if self.get(spec) is None:
            self.put(spec, function())
        return self.get(spec)

    def folder(self, spec: dict[str, Any]) -> Path:
        """A folder of this spec's own, for checkpoints and files too large for a record."""
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


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise StudyError(
            f"{path} cannot be read ({error.strerror}); a run needs it as input."
        ) from None


def array_digest(array: np.ndarray) -> str:
    """SHA-256 of an array's shape, type and values."""
    array = np.ascontiguousarray(array)
    return hashlib.sha256(f"{array.shape}{array.dtype}".encode() + array.data).hexdigest()


def folder_digest(path: str | Path, pattern: str = "**/*") -> str:
    """SHA-256 over the names and contents of all files of a folder that match `pattern`; dates do not count."""
    if not Path(path).is_dir():
        raise StudyError(f"There is no folder {path}; a run needs it as input.")
    digest = hashlib.sha256()
    for file in sorted(file for file in Path(path).glob(pattern) if file.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\n{file_digest(file)}\n".encode())
    return digest.hexdigest()


def code_digest(*modules: str) -> str:
    """SHA-256 of what the named posedive_lib modules do: comments, docstrings and layout do not count.

    A package ("posedive_lib.reid") stands for all of its modules. Imports are not followed: name every module that matters.
    """
    digest = hashlib.sha256()
    for module in sorted(set(modules)):
        for file in _sources(module):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            digest.update(
                f"{file.relative_to(PACKAGE).as_posix()}\n{ast.dump(_without_docstrings(tree))}\n".encode()
            )
    return digest.hexdigest()


def _sources(module: str) -> list[Path]:
    first, *rest = module.split(".")
    place = PACKAGE.joinpath(*rest)
    if first == PACKAGE.name and place.with_suffix(".py").is_file():
        return [place.with_suffix(".py")]
    if first == PACKAGE.name and place.is_dir():
        return sorted(place.rglob("*.py"))
    raise StudyError(f"{module} is not a module of posedive_lib; code_digest needs the exact name.")


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:]
    return tree


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
