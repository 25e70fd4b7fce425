"""Find and read a data set by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from posedive_lib.datasets import cuhk03, folder, market1501, msmt17
from posedive_lib.datasets.table import BODIES, Read, ReIDDataset, with_truth
from posedive_lib.datasets.unread import unread_files
from posedive_lib.errors import StudyError, require_utf8, shown, unreadable
from posedive_lib.intake.paths import resolved

if TYPE_CHECKING:
    from posedive_lib.params.sections import Paths

UNPACKED = Path("build/cuhk03")  # a study writes nothing beside cuhk-03.mat


class Places(NamedTuple):
    """Where a reader looks beside the root: for lists of MSMT17-S, for images of `cuhk-03.mat`."""

    train_val: bool
    splits: Path
    unpacked: Path | None


READERS: dict[str, Callable[[Path, Places], Read]] = {
    "market1501": lambda root, _: market1501.read(root),
    "msmt17": lambda root, its: msmt17.read(root, its.train_val),
    "cuhk03-labeled": lambda root, its: cuhk03.read(root, "labeled", its.unpacked),
    "cuhk03-detected": lambda root, its: cuhk03.read(root, "detected", its.unpacked),
    "msmt17-s-cam": lambda root, its: msmt17.read_s(root, "cam", its.splits),
    "msmt17-s-pose": lambda root, its: msmt17.read_s(root, "pose", its.splits),
    "folder": lambda root, _: folder.read(root),
}
NAMES = tuple(READERS)


def load(
    name: str,
    root: str | Path,
    *,
    train_val: bool = True,
    splits: str | Path | None = None,
    bodies: str | Path | None = None,
    unpacked: str | Path | None = None,
) -> ReIDDataset:
    """Read the data set `name` (one of `NAMES`) at or below the folder `root`, in any usual layout.

    The tables `.train`, `.query` and `.gallery` have the columns `path` (absolute), `rel` (posix,
    relative to the data set's folder), `pid`, `camid` (from 0) and `generated`, and whatever
    `truth.csv` in that folder knows of each image. `.protocol` says what was read.

    train_val: MSMT17 trains on list_train and list_val (CLIP-ReID, SOLIDER); if False, on
    list_train alone (torchreid, fast-reid). One's own data may be training images alone, to be
    augmented: query and gallery are empty then, and `.require_test()` raises.
    splits: the folder that holds `MSMT17-S/`, if that is not `root`. bodies: a folder whose table
    NAME.npz takes the place of `smpl.npz` beside the images. unpacked: the folder for the images of
    `cuhk-03.mat`, if that is not the file's own.
    Raises StudyError naming the missing or unreadable folder, list, image or name, a name that is
    not UTF-8, or two folders that both hold the data set.
    """
    if name not in READERS:
        raise StudyError(f"Unknown data set '{name}': use one of {', '.join(NAMES)}.")
    root = resolved(root)
    lists = root if splits is None else resolved(splits)
    own_place = None if unpacked is None else resolved(unpacked)
    try:
        its = Places(train_val, lists, own_place)
        where, tables, protocol = READERS[name](root, its)
        tables = with_truth(where, tables)
        file = where / BODIES if bodies is None else resolved(bodies) / f"{source_of(name)}.npz"
        _is_file(file)  # says so where it may not be asked
    except OSError as error:  # of a folder; files have their own sentences
        place = error.filename or root
        raise unreadable(place, error, "cannot be read", "check the folder and its disk") from None
    dataset = ReIDDataset(name, root, where, **tables, bodies=file, protocol=protocol)
    _refuse_empty(dataset)
    for frame in tables.values():
        for rel in frame["rel"]:
            require_utf8(rel, where)
    return dataset


def of_study(name: str, paths: Paths) -> ReIDDataset:
    """A study's data set, in `paths.datasets`, where nothing is written.

    MSMT17-S by the lists in `paths.splits`, bodies as `made_bodies`.
    """
    bodies = made_bodies(name, paths.bodies)
    return load(name, paths.datasets, splits=paths.splits, bodies=bodies, unpacked=UNPACKED)


def made_bodies(name: str, folder: str | Path | None) -> str | Path | None:
    """The folder, if the stage `bodies` made a data set's table there; None for the set's own."""
    found = folder is not None and _is_file(Path(folder) / f"{source_of(name)}.npz")
    return folder if found else None


def _is_file(path: Path) -> bool:
    """Whether a file is there. StudyError where a folder above it may not be entered."""
    try:
        return path.is_file()
    except PermissionError as error:
        raise unreadable(path, error, "", "") from None


def source_of(name: str) -> str:
    """The data set that a data set is a part of, or its own name."""
    return "msmt17" if name.startswith("msmt17-s-") else name


def _refuse_empty(dataset: ReIDDataset) -> None:
    """StudyError for a split without images; one's own data may lack query and gallery."""
    empty = [split for split, frame in dataset.tables.items() if frame.empty]
    own = dataset.name == folder.FOLDER
    if not empty or (own and empty == ["query", "gallery"]):
        return
    mend = "check that the data set was unpacked completely"
    unread = unread_files(dataset)
    if own:
        mend = f"list some in {folder.TABLE}"
    elif unread.pictures:
        first = shown(unread.pictures[0])
        mend = f"{len(unread.pictures):,} are there but not read ({first}), for {unread.mend}"
    raise StudyError(
        f"The {empty[0]} split of {dataset.name} in {dataset.folder} has no images: {mend}."
    )
