"""MSMT17: `train/`, `test/` and four list files with lines `<path> <pid>`, and the lists of MSMT17-S (§A) over the same images.

Training uses list_train and list_val together (32,621 images), as CLIP-ReID and SOLIDER do. The camera is the third field of the
file name. Identities of the training and the test lists are numbered independently: equal numbers are different people.
"""

from pathlib import Path

import pandas as pd

from posedive_lib.datasets.table import find_folder, frame_of
from posedive_lib.errors import StudyError

FOLDER = "MSMT17_V1"
S_FOLDER = "MSMT17-S"
PLACES = {"train": ("train", "mask_train_v2"), "test": ("test", "mask_test_v2")}


def camera(name: str, where: Path) -> int:
    """0-based camera from `0000_000_01_0303morning_0008_0.jpg`."""
    fields = name.split("_")
    if len(fields) < 4 or not fields[2].isdigit() or int(fields[2]) < 1:
        raise StudyError(f"Cannot read the camera from '{name}' named in {where}: expected a name like 0000_000_01_0303morning_0008_0.jpg.")
    return int(fields[2]) - 1


def read_list(path: Path) -> list[tuple[str, int]]:
    """(relative path, pid) of each line; empty lines are skipped."""
    if not path.is_file():
        raise StudyError(f"The list file {path} is missing: MSMT17 needs list_train, list_val, list_query and list_gallery; MSMT17-S is written by its splits stage.")
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line.strip():
            continue
        name, _, pid = line.strip().rpartition(" ")
        if not name or not pid.isdigit():
            raise StudyError(f"Line {number} of {path} is '{line.strip()}': expected '<path> <pid>'.")
        rows.append((name, int(pid)))
    return rows


def _place(folder: Path, side: str) -> str:
    for name in PLACES[side]:
        if (folder / name).is_dir():
            return name
    raise StudyError(f"The folder {folder / PLACES[side][0]} is missing: unpack the whole data set into {folder}.")


def _frame(folder: Path, entries: list[tuple[str, int]], where: Path) -> pd.DataFrame:
    rows = []
    for rel, pid in entries:
        if not (folder / rel).is_file():
            raise StudyError(f"{where} names the image {rel}, which is not in {folder}: unpack the data set again or mend the list.")
        rows.append((rel, pid, camera(rel.rsplit("/", 1)[-1], where)))
    return frame_of(folder, rows)


def folder_of(root: Path) -> Path:
    """The folder of MSMT17 below `root` (version 2, with masked faces, if version 1 is not there)."""
    return find_folder(root, (FOLDER, "MSMT17", "MSMT17_V2"), "MSMT17")


def read(root: Path) -> tuple[Path, dict[str, pd.DataFrame]]:
    """Folder and splits of MSMT17 below `root`."""
    folder = folder_of(root)
    lists = {"train": (("list_train.txt", "list_val.txt"), "train"), "query": (("list_query.txt",), "test"), "gallery": (("list_gallery.txt",), "test")}
    splits = {}
    for split, (files, side) in lists.items():
        place = _place(folder, side)
        parts = [_frame(folder, [(f"{place}/{name}", pid) for name, pid in read_list(folder / file)], folder / file) for file in files]
        splits[split] = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    return folder, splits


def read_s(root: Path, kind: str) -> tuple[Path, dict[str, pd.DataFrame]]:
    """§A: MSMT17-S (Cam) or (Pose); its lists name images of MSMT17, with the folder `train` or `test` first."""
    folder = folder_of(root)
    where = find_folder(root, (f"{S_FOLDER}/{kind}",), f"MSMT17-S ({kind})")
    places = {side: _place(folder, side) for side in PLACES}
    splits = {}
    for split in ("train", "query", "gallery"):
        path = where / f"list_{split}.txt"
        entries = []
        for name, pid in read_list(path):
            side, _, rest = name.partition("/")
            if side not in places:
                raise StudyError(f"{path} names '{name}': paths of MSMT17-S begin with train/ or test/.")
            entries.append((f"{places[side]}/{rest}", pid))
        splits[split] = _frame(folder, entries, path)
    return folder, splits
