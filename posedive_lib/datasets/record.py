"""The record in an augmented data set: only what was written here is ever replaced."""

import json
import os
from pathlib import Path

from posedive_lib.datasets.table import ReIDDataset
from posedive_lib.errors import StudyError
from posedive_lib.intake.files import read_json
from posedive_lib.places import refuse_tracked
from posedive_lib.writing import replacing

RECORD = "augmented.json"  # marks a tree written here
NAMES = "names"  # in the record: all names in the folder
FILES = "files"  # in the record: how many files lie in each folder below it


def check_free(dataset: ReIDDataset, out_root: Path, overwrite: bool) -> None:
    """StudyError unless `out_root` is new, empty, or a tree written here that may be replaced.

    And where git would take the pictures.
    """
    if out_root.is_relative_to(dataset.folder) or dataset.folder.is_relative_to(out_root):
        raise StudyError(
            f"{out_root} and the data set's own folder {dataset.folder} lie one in the other: "
            "choose another folder for the augmented data set."
        )
    refuse_tracked(out_root, "the augmented data set")
    if not out_root.exists():
        return
    if not out_root.is_dir():
        raise StudyError(f"{out_root} is a file: choose a folder for the augmented data set.")
    if not any(out_root.iterdir()):
        return
    if not overwrite:
        raise StudyError(
            f"{out_root} already exists: choose another folder for the augmented data set, "
            "or overwrite it (--overwrite)."
        )
    record = read_json(out_root / RECORD) if (out_root / RECORD).is_file() else {}
    if not {"dataset", "layout"} <= record.keys():
        raise StudyError(
            f"{out_root} was not written as an augmented data set (it has no {RECORD} of one) and "
            "is not replaced: remove it yourself or choose another folder."
        )
    names, counts = {path.name for path in out_root.iterdir()}, _counts(out_root)
    noted, files = record.get(NAMES, [*names]), record.get(FILES, counts)
    if not isinstance(noted, list) or not isinstance(files, dict):
        raise StudyError(f"{out_root / RECORD} is damaged: remove {out_root} yourself.")
    foreign = [name for name in sorted(names) if name not in noted]
    if foreign:
        raise StudyError(
            f"{out_root} holds {foreign[0]}, which is not of the augmented data set and would be "
            "lost: move it, or choose another folder."
        )
    for inner, count in counts.items():
        if count > files.get(inner, 0):
            raise StudyError(
                f"{out_root / inner} holds more files than were written there, which would be "
                "lost: move yours, or choose another folder."
            )


def _counts(root: Path) -> dict[str, int]:
    """How many files lie in each folder at or below `root`, by its relative path."""
    return {
        Path(folder).relative_to(root).as_posix(): len(files)
        for folder, _, files in os.walk(root)
        if files
    }


def note_names(root: Path) -> None:
    """Write into the record what lies in the folder, so that it is known from what others add."""
    names = sorted(path.name for path in root.iterdir())
    record = {**read_json(root / RECORD), NAMES: names, FILES: _counts(root)}
    with replacing(root / RECORD) as draft:
        draft.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
