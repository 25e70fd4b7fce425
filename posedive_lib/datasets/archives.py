"""Images in tar archives, read by their place: written whole, and never unpacked.

The layout is WebDataset's: members whose names are alike up to the first dot are one sample, and
members below `__NAME__/` are about the archive itself. An image of an archive has the path
`ARCHIVE.tar/NAME.jpg`; `offset` and `length` (bytes) say where in the file it lies.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from posedive_lib.datasets.images import BLOCK, resized, threads
from posedive_lib.errors import StudyError, unreadable
from posedive_lib.intake.files import open_file
from posedive_lib.intake.images import BROKEN, decode, to_rgb
from posedive_lib.writing import replacing

PLACE = ["offset", "length"]  # columns of a table of images that lie in archives
MEND = (
    "the command that made it makes it again (in the study: `dvc repro --single-item --force "
    "04_augmentation_filtering`)"
)


def write(path: str | Path, members: Iterable[tuple[str, bytes]]) -> dict[str, tuple[int, int]]:
    """Write an archive whole or not at all. Returns the offset and the length of each member."""
    with replacing(path) as draft:
        with tarfile.open(draft, "w") as archive:
            for name, content in members:
                entry = tarfile.TarInfo(name)  # no date and no owner: always the same bytes
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        with tarfile.open(draft) as archive:
            return {entry.name: (entry.offset_data, entry.size) for entry in archive}


def is_whole(path: Path, end: int) -> bool:
    """Whether an archive reaches byte `end`, and is padded as `write` leaves it."""
    size = path.stat().st_size
    return size > end and size % tarfile.RECORDSIZE == 0


def content(path: str | Path, offset: int, length: int) -> bytes:
    """The bytes of a member; StudyError where the archive is missing or ends before them."""
    try:
        with open_file(path) as file:
            file.seek(offset)
            found = file.read(length)
    except FileNotFoundError:
        raise StudyError(f"The archive {path} is missing: {MEND}.") from None
    except OSError as error:
        raise unreadable(path, error, "cannot be read", MEND) from None
    if len(found) < length:
        raise StudyError(
            f"The archive {path} is cut short (it ends before byte {offset + length}): {MEND}."
        )
    return found


def first(path: str | Path) -> bytes:
    """The bytes of an archive's first member; StudyError as `content`."""
    head = content(path, 0, tarfile.BLOCKSIZE)
    try:
        entry = tarfile.TarInfo.frombuf(head, tarfile.ENCODING, "strict")
    except (tarfile.HeaderError, ValueError) as error:
        raise unreadable(path, error, "is no archive", MEND) from None
    return content(path, tarfile.BLOCKSIZE, entry.size)


class Archived:
    """Images (N, H, W, 3) uint8 that stay in archives until rows are asked for.

    Rows are taken as from an array: by a number, a slice, indices or a mask. rows: a table with the
    columns path (relative to `folder`), offset and length. StudyError for an archive that is
    missing, cut short, or holds no image there.
    """

    ndim = 4
    dtype: np.dtype = np.dtype(np.uint8)

    def __init__(
        self,
        rows: pd.DataFrame,
        folder: str | Path,
        height: int,
        width: int,
        resample: str = "bicubic",
    ) -> None:
        self.folder, self.resample = Path(folder), resample
        self.paths = rows["path"].to_numpy(object)
        self.places = rows[PLACE].to_numpy(np.int64)
        self.shape: tuple[int, ...] = (len(rows), height, width, 3)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self._image(row) for row in range(len(self)))

    def __getitem__(self, rows: Any) -> np.ndarray:
        index = np.arange(len(self))[rows]
        if index.ndim == 0:
            return self._image(int(index))
        found = np.empty((len(index), *self.shape[1:]), self.dtype)
        for start in range(0, len(index), BLOCK):
            block = index[start : start + BLOCK].tolist()
            for place, image in enumerate(_readers().map(self._image, block), start):
                found[place] = image
        return found

    def bytes_of(self, row: int) -> bytes:
        """The file of one image, as it was written."""
        path = self.folder / self.paths[row]
        return content(path.parent, *self.places[row].tolist())

    def _image(self, row: int) -> np.ndarray:
        try:
            image = to_rgb(decode(self.bytes_of(row)))
        except StudyError:
            raise
        except BROKEN as error:
            name = self.folder / self.paths[row]
            raise unreadable(name, error, "is not a readable image", MEND) from None
        _, height, width, _ = self.shape
        return resized(image, height, width, self.resample)


@cache
def _readers() -> ThreadPoolExecutor:
    """Threads that decode: Pillow lets go of the interpreter meanwhile."""
    return ThreadPoolExecutor(threads())
