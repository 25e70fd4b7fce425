"""Market-1501, MSMT17, CUHK03-NP and MSMT17-S: one loader, one kind of table.

`load(name, root)` gives the same tables for every data set, whatever its layout on disk; `write.write_augmented` writes a data set
with generated training images back in the source's own layout.
"""

from pathlib import Path

from posedive_lib.datasets import cuhk03, market1501, msmt17
from posedive_lib.datasets.table import ReIDDataset, with_truth
from posedive_lib.errors import StudyError

__all__ = ["LOADERS", "NAMES", "ReIDDataset", "load"]

LOADERS = {
    "market1501": market1501.read,
    "msmt17": msmt17.read,
    "cuhk03-labeled": lambda root: cuhk03.read(root, "labeled"),
    "cuhk03-detected": lambda root: cuhk03.read(root, "detected"),
    "msmt17-s-cam": lambda root: msmt17.read_s(root, "cam"),
    "msmt17-s-pose": lambda root: msmt17.read_s(root, "pose"),
}
NAMES = tuple(LOADERS)


def load(name: str, root: str | Path) -> ReIDDataset:
    """Read the data set `name` (one of `NAMES`) below the folder `root`.

    The tables `.train`, `.query` and `.gallery` have the columns `path` (absolute), `rel` (posix, relative to the data set's folder),
    `pid`, `camid` (0-based) and `generated`, and whatever `truth.csv` in that folder knows of each image.
    Raises StudyError naming the missing folder, list, image or name that cannot be read.
    """
    if name not in LOADERS:
        raise StudyError(f"Unknown data set '{name}': use one of {', '.join(NAMES)}.")
    folder, splits = LOADERS[name](Path(root).expanduser().resolve())
    for split, frame in splits.items():
        if frame.empty:
            raise StudyError(f"The {split} split of {name} in {folder} has no images: check that the data set was unpacked completely.")
    splits = with_truth(folder, splits)
    return ReIDDataset(name=name, root=Path(root).expanduser().resolve(), folder=folder, **splits)
