"""MSMT17: `train/`, `test/` and four lists with lines `<path> <pid>`; MSMT17-S (§A) likewise.

Version 2 is version 1 with blurred faces, in `mask_train_v2/` and `mask_test_v2/`; results on the
two are not comparable. CLIP-ReID and SOLIDER train on list_train and list_val together (32,621
images, the default here), torchreid and fast-reid on list_train alone. The camera is the third
field of the file name. Identities of training and test are numbered independently: equal numbers
are different people.
"""

import re
from pathlib import Path, PurePosixPath

import pandas as pd

from posedive_lib.datasets.table import Read, find_folder, frame_of, protocol
from posedive_lib.errors import StudyError, unreadable
from posedive_lib.intake.files import read_text

FOLDER = "MSMT17_V1"
S_FOLDER = "MSMT17-S"
PLACES = {
    "V1": {"train": "train", "test": "test"},
    "V2": {"train": "mask_train_v2", "test": "mask_test_v2"},
}
LISTS = {
    "train": "list_train.txt",
    "val": "list_val.txt",
    "query": "list_query.txt",
    "gallery": "list_gallery.txt",
}
NAMES = (FOLDER, "", "MSMT17_V2", "MSMT17", "msmt17", "msmt17/MSMT17_V1", "msmt17/MSMT17_V2")
VERSION_FILE = "VERSION"  # of trees whose folder names cannot say that the faces are masked


def camera(name: str, where: Path) -> int:
    """Camera, counted from 0, of `0000_000_01_0303morning_0008_0.jpg`; StudyError if it has none.

    where: the list that names the file, for the message.
    """
    fields = name.split("_")
    if len(fields) < 4 or not re.fullmatch("[0-9]{1,9}", fields[2]) or int(fields[2]) < 1:
        raise StudyError(
            f"Cannot read the camera from {name!r} named in {where}: expected a name like "
            "0000_000_01_0303morning_0008_0.jpg, where cameras count from 1."
        )
    return int(fields[2]) - 1


def read_list(path: Path) -> list[tuple[str, int]]:
    """(relative path, pid) of each line; empty lines are skipped.

    StudyError if the file is missing or no UTF-8, or if a line has another form, leaves the folder
    or names an image again.
    """
    if not path.is_file():
        mend = (
            "it is written by posedive_lib.datasets.splits (notebook 01)"
            if S_FOLDER in path.parts
            else "copies without lists circulate: fetch the four list_*.txt files of the original"
        )
        raise StudyError(f"The list file {path} is missing: {mend}.")
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(
            f"The list file {path}", error, "cannot be read", "fetch it again"
        ) from None
    rows: list[tuple[str, int]] = []
    first: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, *pid = line.strip().rsplit(maxsplit=1)
        if not pid or not re.fullmatch("[0-9]{1,18}", pid[0]):  # no more than 64 bits
            raise StudyError(
                f"Line {number} of {path} is {line.strip()[:200]!r}: expected '<path> <pid>'."
            )
        if name.startswith("/") or ".." in name.split("/"):
            raise StudyError(
                f"Line {number} of {path} leaves the data set's folder with {name!r}: "
                "paths are relative to it."
            )
        name = PurePosixPath(name).as_posix()  # one spelling: a//b and ./a/b are a/b
        if first.setdefault(name, number) != number:
            raise StudyError(
                f"Line {number} of {path} names {name} again (as line {first[name]} does): "
                "remove one of them."
            )
        rows.append((name, int(pid[0])))
    return rows


def version_of(folder: Path) -> str:
    """ "V1" or "V2", by the `VERSION` file if there is one, else by the folders' names.

    StudyError if both versions are there, or the file says neither.
    """
    if (folder / VERSION_FILE).is_file():
        text = read_text(folder / VERSION_FILE, errors="replace")
        version = text.strip()
        if version not in PLACES:
            raise StudyError(
                f"{folder / VERSION_FILE} says {version[:20]!r}: write V1 or V2 there, "
                "or remove it."
            )
        return version
    masked = any((folder / name).is_dir() for name in PLACES["V2"].values())
    plain = any((folder / name).is_dir() for name in PLACES["V1"].values())
    if masked and plain:
        raise StudyError(
            f"{folder} holds folders of MSMT17 version 1 (train, test) and of version 2 "
            "(mask_train_v2, mask_test_v2): keep each version in a folder of its own."
        )
    return "V2" if masked or folder.name.lower().endswith("_v2") else "V1"


def places(folder: Path) -> dict[str, str]:
    """Inner folder of the "train" and of the "test" images; StudyError names a missing one."""
    found = {}
    for side in ("train", "test"):
        for name in (PLACES["V2"][side], PLACES["V1"][side]):
            if (folder / name).is_dir():
                found[side] = name
                break
        else:
            raise StudyError(
                f"The folder {folder / PLACES['V1'][side]} is missing: "
                f"unpack the whole data set into {folder}."
            )
    return found


def _frame(folder: Path, entries: list[tuple[str, int]], where: Path) -> pd.DataFrame:
    rows = []
    for rel, pid in entries:
        if not (folder / rel).is_file():
            raise StudyError(
                f"{where} names the image {rel}, which is not in {folder}: "
                "unpack the data set again or mend the list."
            )
        rows.append((rel, pid, camera(rel.rsplit("/", 1)[-1], where)))
    return frame_of(folder, rows)


def _holds(folder: Path) -> bool:
    """Whether a folder is MSMT17: by its lists, its masked folders, or its name."""
    if any((folder / name).exists() for name in (*LISTS.values(), *PLACES["V2"].values())):
        return True
    # Other data sets have plain `train` and `test` folders, too.
    return folder.name.lower().startswith("msmt17") and any(
        (folder / name).is_dir() for name in PLACES["V1"].values()
    )


def folder_of(root: Path) -> Path:
    """The one folder of MSMT17 at or below `root`; StudyError if none or both are there."""
    places = [(name, _holds) for name in NAMES]
    return find_folder(root, places, "MSMT17", "train, test and list_*.txt")


def read(root: Path, train_val: bool = True) -> Read:
    """Folder, splits and protocol of MSMT17 at or below `root`.

    train_val: list_val trains too. StudyError names what is missing or contradicts itself.
    """
    folder = folder_of(root)
    version, inner = version_of(folder), places(folder)
    splits = {}
    for split, files in {
        "train": ("train", "val") if train_val else ("train",),
        "query": ("query",),
        "gallery": ("gallery",),
    }.items():
        place = inner["train" if split == "train" else "test"]
        parts = []
        for file in files:
            where = folder / LISTS[file]
            entries = [(f"{place}/{name}", pid) for name, pid in read_list(where)]
            parts.append(_frame(folder, entries, where))
        filled = [part for part in parts if len(part)]
        splits[split] = pd.concat(filled or parts[:1], ignore_index=True)
    both = splits["train"].loc[splits["train"]["rel"].duplicated(), "rel"]
    if len(both):
        raise StudyError(
            f"{both.iloc[0]} is in list_train.txt and in list_val.txt of {folder}: "
            "remove it from one of them."
        )
    rule = "list_train + list_val" if train_val else "list_train"
    return folder, splits, protocol("msmt17", rule, version=version, train_val=train_val)


def read_s(root: Path, kind: str, lists: Path) -> Read:
    """§A: MSMT17-S; its lists name images of MSMT17, with the folder `train` or `test` first.

    kind: "cam" or "pose". lists: the folder that holds `MSMT17-S/`. StudyError as `read`, or if
    the lists are not written yet.
    """
    folder = folder_of(root)
    where = lists / S_FOLDER / kind
    if not where.is_dir():
        raise StudyError(
            f"MSMT17-S ({kind}) not found: there is no folder {where}; "
            "notebook 01 writes it (posedive_lib.datasets.splits.write_msmt17_s)."
        )
    inner = places(folder)
    splits = {}
    for split in ("train", "query", "gallery"):
        own_side = "train" if split == "train" else "test"
        path = where / f"list_{split}.txt"
        entries = []
        for name, pid in read_list(path):
            side, _, rest = name.partition("/")
            if side != own_side:
                raise StudyError(f"{path} names {name!r}: its paths begin with {own_side}/.")
            entries.append((f"{inner[side]}/{rest}", pid))
        splits[split] = _frame(folder, entries, path)
    rule = f"MSMT17-S ({kind})"
    return folder, splits, protocol(f"msmt17-s-{kind}", rule, version=version_of(folder))
