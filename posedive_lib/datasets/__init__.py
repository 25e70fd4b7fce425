"""Market-1501, MSMT17, CUHK03, MSMT17-S and one's own data: one loader, one kind of table.

`load(name, root)` gives the same tables for every data set, whatever its layout on disk; `write.write_augmented` writes a data set
with generated training images back, for whichever code base is to read it; `python -m posedive_lib.datasets.preflight NAME ROOT` looks
for what would spoil a result.
"""

from collections.abc import Callable
from pathlib import Path

from posedive_lib.datasets import cuhk03, folder, market1501, msmt17
from posedive_lib.datasets.table import ReIDDataset, with_truth
from posedive_lib.errors import StudyError

__all__ = ["NAMES", "READERS", "ReIDDataset", "load"]

# name -> reader(root, train_val)
READERS: dict[str, Callable] = {
    "market1501": lambda root, train_val: market1501.read(root),
    "msmt17": msmt17.read,
    "cuhk03-labeled": lambda root, train_val: cuhk03.read(root, "labeled"),
    "cuhk03-detected": lambda root, train_val: cuhk03.read(root, "detected"),
    "msmt17-s-cam": lambda root, train_val: msmt17.read_s(root, "cam"),
    "msmt17-s-pose": lambda root, train_val: msmt17.read_s(root, "pose"),
    "folder": lambda root, train_val: folder.read(root),
}
NAMES = tuple(READERS)


def load(name: str, root: str | Path, *, train_val: bool = True) -> ReIDDataset:
    """Read the data set `name` (one of `NAMES`) at or below the folder `root`, in any of the usual layouts.

    The tables `.train`, `.query` and `.gallery` have the columns `path` (absolute), `rel` (posix, relative to the data set's folder),
    `pid`, `camid` (0-based) and `generated`, and whatever `truth.csv` in that folder knows of each image. `train_val`: MSMT17 trains on
    list_train and list_val (CLIP-ReID, SOLIDER) or, if False, on list_train alone (torchreid, fast-reid). `.protocol` says what was read.
    One's own data may be training images alone, to be augmented: query and gallery are empty then, and `.require_test()` raises.
    Raises StudyError naming the missing folder, list, image or name that cannot be read, or two folders that both hold the data set.
    """
    if name not in READERS:
        raise StudyError(f"Unknown data set '{name}': use one of {', '.join(NAMES)}.")
    root = Path(root).expanduser().resolve()
    where, splits, protocol = READERS[name](root, train_val)
    empty = [split for split, frame in splits.items() if frame.empty]
    own = name == folder.FOLDER
    if empty and not (own and empty == ["query", "gallery"]):
        mend = (
            f"list some in {folder.TABLE}"
            if own
            else "check that the data set was unpacked completely"
        )
        raise StudyError(f"The {empty[0]} split of {name} in {where} has no images: {mend}.")
    splits = with_truth(where, splits)
    return ReIDDataset(name=name, root=root, folder=where, protocol=protocol, **splits)
