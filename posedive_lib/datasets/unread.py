"""Files in a data set's folder that are not read: pictures that were overlooked, and companions.

Companion files are what file managers and archive tools leave beside photos: `._*`, `.DS_Store`,
`Thumbs.db`, `__MACOSX`, waste bins. Nothing reads them, and a report counts them.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from posedive_lib.datasets import folder as own_data
from posedive_lib.datasets import market1501, msmt17
from posedive_lib.datasets.table import ReIDDataset
from posedive_lib.errors import unreadable
from posedive_lib.intake.companions import among_companions

# Endings of pictures: all that Pillow knows of the formats in `intake.images`, and what it lacks.
PICTURES = market1501.IMAGES | set(
    ".apng .avif .avifs .bmp .bw .dib .gif .icb .j2c .j2k .jfif .jp2 .jpc .jpe .jpf .jpx .mpo .pbm "
    ".pcx .pfm .pgm .pnm .ppm .qoi .rgb .rgba .sgi .tga .tif .tiff .vda .vst .webp "
    ".heic .heif .hif .jp2k .jxl".split()
)


class Unread(NamedTuple):
    """Paths relative to the data set's folder, sorted, and how to have the pictures read."""

    pictures: list[str]
    companions: list[str]
    mend: str


def unread_files(dataset: ReIDDataset) -> Unread:
    """What lies among the images of a loaded data set and is in none of its tables.

    StudyError where a folder among them may not be read: nobody knows what is in it.
    """
    places, mend = _places(dataset)
    known = {rel for frame in dataset.tables.values() for rel in frame["rel"]}
    if dataset.name == own_data.FOLDER:
        listed = own_data.lines(dataset.folder / own_data.TABLE)["path"]  # junk, too
        known |= {*listed, *own_data.TAKEN}
    pictures, companions = [], []
    for place in places:
        for rel in _files_below(dataset.folder, place):
            path = PurePosixPath(rel)
            if among_companions(path):
                companions.append(rel)
            elif _is_picture(path) and rel not in known and not _is_junk(rel):
                pictures.append(rel)
    return Unread(sorted(pictures), sorted(companions), mend)


def _places(dataset: ReIDDataset) -> tuple[list[str], str]:
    """Folders whose pictures all belong to the data set, and what to do about the others."""
    if market1501.is_tree(dataset.folder):
        suffixes = ", ".join(sorted(market1501.IMAGES))
        folders = ", ".join(market1501.SPLITS.values())
        return (
            list(market1501.SPLITS.values()),
            f"only files in {suffixes} directly in {folders} are read: convert, rename or move "
            "them",
        )
    if dataset.name == own_data.FOLDER:
        return [""], f"they are not in {own_data.TABLE}: add their lines, or move them away"
    if dataset.name == "msmt17" and dataset.protocol["train_val"]:
        places = list(msmt17.places(dataset.folder).values())
        return places, "no list names them: add their lines, or move them away"
    return [], ""  # lists that leave images out on purpose, or images that we extracted


def _files_below(folder: Path, place: str) -> Iterator[str]:
    """Files at any depth, relative to `folder`; linked folders are followed, each once."""

    def refuse(error: OSError) -> None:
        path = Path(error.filename)
        if not among_companions(path.relative_to(folder)):  # where nothing would be read
            raise unreadable(path, error, "cannot be read", "check the folder and its disk")

    seen = set()
    for where, folders, files in os.walk(folder / place, onerror=refuse, followlinks=True):
        status = os.stat(where)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()  # a link that leads back
            continue
        seen.add((status.st_dev, status.st_ino))
        below = Path(where).relative_to(folder)
        for name in files:
            yield (below / name).as_posix()


def _is_picture(path: PurePosixPath) -> bool:
    """By the ending of its name; without one by a name that says identity and camera."""
    if path.suffix:
        return path.suffix.lower() in PICTURES
    return market1501.NAME.match(path.name) is not None


def _is_junk(rel: str) -> bool:
    """Market-1501's bad detections, which are read and dropped."""
    return PurePosixPath(rel).name.startswith("-1_") and rel.count("/") == 1
