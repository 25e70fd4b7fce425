"""Bytes, text and JSON of files from outside."""

import json
import stat
from pathlib import Path
from typing import Any

from posedive_lib.errors import StudyError, require_readable, unreadable

MAX_BYTES = 1 << 30  # five times the largest SMPL-X body or the longest AMASS motion


def read_bytes(path: str | Path, *, limit: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file. OSError: missing, no file, or larger than `limit` bytes."""
    with open_file(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(f"it is larger than {limit >> 20} MiB")
    return content


def open_file(path: str | Path) -> Any:
    """A regular file, open for reading bytes. Reading a pipe or a device could take for ever."""
    path = Path(path)
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a folder has an error of its own
        raise OSError("it is a pipe or a device, not a file")
    return path.open("rb")


def read_text(path: str | Path, *, errors: str = "strict") -> str:
    """The UTF-8 text of a file without a byte-order mark, with plain line feeds.

    OSError as `read_bytes`, UnicodeDecodeError.
    """
    text = read_bytes(path).decode("utf-8-sig", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def load_json(path: str | Path, what: str, mend: str) -> Any:
    """What a JSON file holds. StudyError `path what (reason): mend.`, also for a name given twice.

    Of two equal names Python would keep the last in silence.
    """
    require_readable(path)
    try:
        return json.loads(read_text(path), object_pairs_hook=_once)
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, error, what, mend) from None


def read_json(path: Path, *needed: str) -> dict[str, Any]:
    """The JSON object in `path`; StudyError where there is none or it lacks a key of `needed`."""
    content = load_json(path, "could not be read", "save or fetch it again")
    if not isinstance(content, dict):
        raise StudyError(
            f"{path} holds a {type(content).__name__} in place of names and values: "
            "save or fetch it again."
        )
    missing = [name for name in needed if name not in content]
    if missing:
        raise StudyError(f"{path} lacks {', '.join(missing)}: save or fetch it again.")
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} stands there twice")
    return found
