"""MSMT17: `train/`, `test/` and four list files with lines `<path> <pid>`, and the lists of MSMT17-S (§A) over the same images.

Version 2 is version 1 with blurred faces, in `mask_train_v2/` and `mask_test_v2/`; results on the two are not comparable. CLIP-ReID and
SOLIDER train on list_train and list_val together (32,621 images, the default here), torchreid and fast-reid on list_train alone. The
camera is the third field of the file name. Identities of training and test are numbered independently: equal numbers are different people.
"""

from pathlib import Path

import pandas as pd

from posedive_lib.datasets.table import find_folder, frame_of, protocol
from posedive_lib.errors import StudyError

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
    """0-based camera from `0000_000_01_0303morning_0008_0.jpg`."""
    fields = name.split("_")
    if len(fields) < 4 or not fields[2].isdecimal() or int(fields[2]) < 1:
        raise StudyError(
            f"Cannot read the camera from '{name}' named in {where}: expected a name like 0000_000_01_0303morning_0008_0.jpg."
        )
    return int(fields[2]) - 1


def read_list(path: Path) -> list[tuple[str, int]]:
    """(relative path, pid) of each line; empty lines are skipped."""
    if not path.is_file():
        mend = (
            "it is written by posedive_lib.datasets.splits (notebook 01)"
            if S_FOLDER in path.parts
            else "copies without lists circulate: fetch the four list_*.txt files of the original"
        )
        raise StudyError(f"The list file {path} is missing: {mend}.")
    rows, first = [], {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(
            f"The list file {path} cannot be read ({error}): fetch it again."
        ) from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, _, pid = line.strip().rpartition(" ")
        if not name or not pid.isdecimal():
            raise StudyError(
                f"Line {number} of {path} is '{line.strip()}': expected '<path> <pid>'."
            )
        if name.startswith("/") or ".." in name.split("/"):
            raise StudyError(
                f"Line {number} of {path} leaves the data set's folder with '{name}': paths are relative to it."
            )
        if first.setdefault(name, number) != number:
            raise StudyError(
                f"Line {number} of {path} names {name} again (as line {first[name]} does): remove one of them."
            )
        rows.append((name, int(pid)))
    return rows


def version_of(folder: Path) -> str:
    """ "V1" or "V2" by the folders of the images, or of the data set where those are named as in version 1."""
    if (folder / VERSION_FILE).is_file():
        version = (folder / VERSION_FILE).read_text(encoding="utf-8", errors="replace").strip()
        if version not in PLACES:
            raise StudyError(
                f"{folder / VERSION_FILE} says '{version[:20]}': write V1 or V2 there, or remove it."
            )
        return version
    masked = [(folder / PLACES["V2"][side]).is_dir() for side in ("train", "test")]
    plain = [(folder / PLACES["V1"][side]).is_dir() for side in ("train", "test")]
    if any(masked) and any(plain):
        raise StudyError(
            f"{folder} holds folders of MSMT17 version 1 (train, test) and of version 2 (mask_train_v2, mask_test_v2): keep each version in a folder of its own."
        )
    return "V2" if any(masked) or folder.name.lower().endswith("_v2") else "V1"


def places(folder: Path) -> dict[str, str]:
    """Inner folder of the training and of the test images; StudyError names the one that is missing."""
    found = {}
    for side in ("train", "test"):
        names = PLACES["V2"][side], PLACES["V1"][side]
        found[side] = next((name for name in names if (folder / name).is_dir()), None)
        if found[side] is None:
            raise StudyError(
                f"The folder {folder / PLACES['V1'][side]} is missing: unpack the whole data set into {folder}."
            )
    return found


def _frame(folder: Path, entries: list[tuple[str, int]], where: Path) -> pd.DataFrame:
    rows = []
    for rel, pid in entries:
        if not (folder / rel).is_file():
            raise StudyError(
                f"{where} names the image {rel}, which is not in {folder}: unpack the data set again or mend the list."
            )
        rows.append((rel, pid, camera(rel.rsplit("/", 1)[-1], where)))
    return frame_of(folder, rows)


def _holds(folder: Path) -> bool:
    """Lists or masked folders tell MSMT17; plain `train` and `test` folders do so only in a folder of that name."""
    if any((folder / name).exists() for name in (*LISTS.values(), *PLACES["V2"].values())):
        return True
    return folder.name.lower().startswith("msmt17") and any(
        (folder / name).is_dir() for name in PLACES["V1"].values()
    )


def folder_of(root: Path) -> Path:
    """The one folder of MSMT17 at or below `root`; StudyError if both versions are there."""
    return find_folder(
        root, [(name, _holds) for name in NAMES], "MSMT17", "train, test and list_*.txt"
    )


def read(root: Path, train_val: bool = True) -> tuple[Path, dict[str, pd.DataFrame], dict]:
    """Folder, splits and protocol of MSMT17 at or below `root`; `train_val`: list_val trains too."""
    folder = folder_of(root)
    version, inner = version_of(folder), places(folder)
    splits = {}
    for split, files in {
        "train": ("train", "val") if train_val else ("train",),
        "query": ("query",),
        "gallery": ("gallery",),
    }.items():
        place = inner["train" if split == "train" else "test"]
        parts = [
            _frame(
                folder,
                [(f"{place}/{name}", pid) for name, pid in read_list(folder / LISTS[file])],
                folder / LISTS[file],
            )
            for file in files
        ]
        splits[split] = pd.concat(
            [part for part in parts if len(part)] or parts[:1], ignore_index=True
        )
    if len(both := splits["train"][splits["train"]["rel"].duplicated()]):
        raise StudyError(
            f"{both['rel'].iloc[0]} is in list_train.txt and in list_val.txt of {folder}: remove it from one of them."
        )
    return (
        folder,
        splits,
        protocol(
            "msmt17",
            "list_train + list_val" if train_val else "list_train",
            version=version,
            train_val=train_val,
        ),
    )


def read_s(root: Path, kind: str) -> tuple[Path, dict[str, pd.DataFrame], dict]:
    """§A: MSMT17-S (Cam) or (Pose); its lists name images of MSMT17, with the folder `train` or `test` first."""
    folder = folder_of(root)
    where = root / S_FOLDER / kind
    if not where.is_dir():
        raise StudyError(
            f"MSMT17-S ({kind}) not found: there is no folder {where}; notebook 01 writes it (posedive_lib.datasets.splits.write_msmt17_s)."
        )
    inner = places(folder)
    splits = {}
    for split in ("train", "query", "gallery"):
        path = where / f"list_{split}.txt"
        entries = []
        for name, pid in read_list(path):
            side, _, rest = name.partition("/")
            if side != ("train" if split == "train" else "test"):
                raise StudyError(
                    f"{path} names '{name}': its paths begin with {'train' if split == 'train' else 'test'}/."
                )
            entries.append((f"{inner[side]}/{rest}", pid))
        splits[split] = _frame(folder, entries, path)
    return (
        folder,
        splits,
        protocol(f"msmt17-s-{kind}", f"MSMT17-S ({kind})", version=version_of(folder)),
    )
