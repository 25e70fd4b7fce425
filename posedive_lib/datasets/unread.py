"""Files in a data set's folder that are not read: pictures that were overlooked, and companions.

Companion files are what file managers and archive tools leave beside photos: `._*`, `.DS_Store`,
`Thumbs.db`, `__MACOSX`. Nothing reads them, and a report counts them.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from posedive_lib.datasets import folder as own_data
from posedive_lib.datasets import market1501, msmt17
from posedive_lib.datasets.listing import is_companion
from posedive_lib.datasets.table import ReIDDataset
from posedive_lib.intake.tables import read_table

PICTURES = market1501.IMAGES | {
    ".avif",
    ".bmp",
    ".gif",
    ".heic",
    ".jfif",
    ".jp2",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
}


class Unread(NamedTuple):
    """Paths relative to the data set's folder, sorted, and how to have the pictures read."""

    pictures: list[str]
    companions: list[str]
    mend: str


def unread_files(dataset: ReIDDataset) -> Unread:
    """What lies among the images of a loaded data set and is in none of its tables."""
    places, mend = _places(dataset)
    known = {rel for frame in dataset.tables.values() for rel in frame["rel"]}
    if dataset.name == own_data.FOLDER:
        listed = read_table(dataset.folder / own_data.TABLE)["path"]  # junk, too
        known |= {PurePosixPath(path).as_posix() for path in listed} | set(own_data.TAKEN)
    pictures, companions = [], []
    for place in places:
        for rel in _files_below(dataset.folder, place):
            path = PurePosixPath(rel)
            if any(is_companion(part) for part in path.parts):
                companions.append(rel)
            elif path.suffix.lower() in PICTURES and rel not in known and not _is_junk(rel):
                pictures.append(rel)
    return Unread(sorted(pictures), sorted(companions), mend)


def _places(dataset: ReIDDataset) -> tuple[list[str], str]:
    """Folders whose pictures all belong to the data set, and what to do about the others."""
    if market1501.is_tree(dataset.folder):
        suffixes = ", ".join(sorted(market1501.IMAGES))
        folders = ", ".join(market1501.SPLITS.values())
        return (
            list(market1501.SPLITS.values()),
            f"only files in {suffixes} directly in {folders} are read: convert or move them",
        )
    if dataset.name == own_data.FOLDER:
        return [""], f"they are not in {own_data.TABLE}: add their lines, or move them away"
    if dataset.name == "msmt17" and dataset.protocol["train_val"]:
        places = list(msmt17.places(dataset.folder).values())
        return places, "no list names them: add their lines, or move them away"
    return [], ""  # lists that leave images out on purpose, or images that we extracted


def _files_below(folder: Path, place: str) -> Iterator[str]:
    """Files at any depth, relative to `folder`; linked folders are followed, each once."""
    seen = set()
    for where, folders, files in os.walk(folder / place, followlinks=True):
        status = os.stat(where)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()  # a link that leads back
            continue
        seen.add((status.st_dev, status.st_ino))
        below = Path(where).relative_to(folder)
        for name in files:
            yield (below / name).as_posix()


def _is_junk(rel: str) -> bool:
    """Market-1501's bad detections, which are read and dropped."""
    return PurePosixPath(rel).name.startswith("-1_") and rel.count("/") == 1
