"""Folders that the study's commands write to: whose they are."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from posedive_lib.errors import StudyError, unreadable
from posedive_lib.writing import replacing

BUILD = Path("build")  # of the repository; git ignores it
REPORTS = Path("reports")  # the mini world's, which are committed
MARK = ".posedive-reports"  # in any other folder of reports
MARK_TEXT = "The study made this folder, and removes its old figures and tables.\n"
FIRST_REPORT = Path("notebooks/01_dataset_splits.ipynb")  # in reports from before there was a mark


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


def refuse_tracked(out: Path, what: str) -> None:
    """StudyError where git would take what is written into a folder, for it shows people.

    what: the folder's purpose, for the message. Git itself is asked, so folders that it ignores are
    free, and so are all where there is no repository or no git.
    """
    there = out.resolve()
    above = next(folder for folder in there.parents if folder.is_dir())
    ask = ["git", "-C", str(above), "check-ignore", "--quiet", "--", str(there / "picture")]
    try:
        tracked = subprocess.run(ask, capture_output=True, check=False).returncode == 1
    except OSError:  # there is no git
        return
    if tracked:
        raise StudyError(
            f"{out} lies in a git repository that does not ignore it, and pictures of people must "
            f"not come into git: choose a folder for {what} outside of the repository, or below "
            f"{BUILD}/ or licensed/ of this one."
        )


def require_kept(folder: str, parameter: str) -> None:
    """StudyError unless DVC can keep a folder that a stage writes: only below `build/`.

    DVC finds out when the stage has run, maybe for hours. The folder itself may be a link.
    """
    there, build = Path(os.path.abspath(folder)), Path(os.path.abspath(BUILD))
    if build not in there.parents:
        raise StudyError(
            f"{parameter} is {folder}, but the pipeline keeps what it writes there only below "
            f"{BUILD}/: name a folder such as {BUILD}/{there.name} (it may be a link to another "
            "disk)."
        )


def claim_reports(folder: str) -> None:
    """Mark `paths.reports` as the study's, whose old figures and tables DVC removes.

    StudyError for a folder with content that is not the study's.
    """
    place = Path(folder)
    if place.resolve() == REPORTS.resolve():
        return
    known = (place / MARK).is_file() or (place / FIRST_REPORT).is_file()
    if place.exists() and not known and not (place.is_dir() and not any(place.iterdir())):
        raise StudyError(
            f"paths.reports is {folder}, which has content that the study did not make, and the "
            "pipeline removes figures and tables there: name a new or an empty folder."
        )
    with replacing(place / MARK) as draft:
        draft.write_text(MARK_TEXT, encoding="utf-8")
