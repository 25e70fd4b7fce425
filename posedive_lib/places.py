"""Folders that the study's commands write to: whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from posedive_lib.errors import unreadable


def has_header(file: str | Path, columns: Sequence[str]) -> bool:
    """Whether a CSV file has exactly these columns.

    Its name alone would not tell a table of ours from one of the user's. StudyError where it may
    not be read.
    """
    try:
        with Path(file).open(encoding="utf-8") as stream:
            return stream.readline(1000).rstrip("\r\n") == ",".join(columns)
    except PermissionError as error:
        raise unreadable(file, error, "", "") from None
    except (OSError, UnicodeDecodeError):
        return False
