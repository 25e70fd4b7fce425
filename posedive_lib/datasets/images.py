"""Many image files: RGB arrays of one size, and an inspection that only looks.

Files are decoded by threads (Pillow lets go of the interpreter meanwhile), in the order
given, whatever the number of threads.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from posedive_lib.intake.files import read_bytes
from posedive_lib.intake.images import BROKEN, decode, open_rgb, to_rgb, turn

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
BLOCK = 512  # images of `read_blocks` at a time
FLAT = 8  # grey levels: a picture whose means differ by less shows nothing, like any other


class Inspection(NamedTuple):
    """One file as read.

    width, height: pixels. digest: of the file's bytes. error: what is wrong with it ("" if
    nothing). turned: whether its EXIF orientation turns it. look: 8 rows of 9 means of grey.
    """

    width: int
    height: int
    digest: str
    error: str
    turned: bool = False
    look: bytes = b""


def threads(workers: int | None = None) -> int:
    """Threads to decode with: as asked, else one per core of this process, eight at most."""
    if workers:
        return max(1, workers)
    if hasattr(os, "sched_getaffinity"):  # Linux
        return min(8, len(os.sched_getaffinity(0)))
    return min(8, os.cpu_count() or 1)


def read_one(path: str | Path, height: int, width: int, resample: str = "bicubic") -> np.ndarray:
    """uint8 (height, width, 3) RGB of `open_rgb`, resized where the file has another size.

    height, width: pixels. resample: a key of `RESAMPLING`. StudyError as `open_rgb`.
    """
    return resized(open_rgb(path), height, width, resample)


def resized(image: Image.Image, height: int, width: int, resample: str = "bicubic") -> np.ndarray:
    """uint8 (height, width, 3) of an RGB image, resized where it has another size."""
    if image.size != (width, height):
        image = image.resize((width, height), RESAMPLING[resample])
    return np.asarray(image)


def read(
    paths: Sequence[str | Path],
    height: int,
    width: int,
    resample: str = "bicubic",
    workers: int | None = None,
) -> np.ndarray:
    """uint8 (N, height, width, 3) RGB in the order of `paths`, each as `read_one` gives it."""
    paths = list(paths)
    images = np.empty((len(paths), height, width, 3), np.uint8)

    def fill(row: int) -> None:
        images[row] = read_one(paths[row], height, width, resample)

    with ThreadPoolExecutor(threads(workers)) as pool:
        list(pool.map(fill, range(len(paths))))  # the list raises what a thread raised
    return images


def read_blocks(
    paths: Sequence[str | Path], height: int, width: int, resample: str = "bicubic"
) -> Iterator[np.ndarray]:
    """What `read` gives, `BLOCK` images at a time: for more than the memory holds."""
    for start in range(0, len(paths), BLOCK):
        yield read(paths[start : start + BLOCK], height, width, resample)


def read_sizes(paths: Sequence[str | Path], workers: int | None = None) -> np.ndarray:
    """(N, 2) width and height of images as `open_rgb` gives them, in the order of `paths`."""
    with ThreadPoolExecutor(threads(workers)) as pool:
        sizes = list(pool.map(lambda path: open_rgb(path).size, paths))
    return np.array(sizes, int).reshape(-1, 2)


def inspect_one(path: str | Path) -> Inspection:
    """Read one file as `open_rgb` does, without keeping its pixels; never raises on a bad file."""
    try:
        return inspect_bytes(read_bytes(path))
    except BROKEN as error:
        return _unread("", error)


def inspect_bytes(content: bytes) -> Inspection:
    """`inspect_one` of a file's bytes."""
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    try:
        image = decode(content)
        turned = turn(image)
        rgb = to_rgb(image)
        look = rgb.convert("L").resize((9, 8), Image.Resampling.BOX).tobytes()
        return Inspection(*rgb.size, digest, "", turned, look)
    except BROKEN as error:
        return _unread(digest, error)


def _unread(digest: str, error: Exception) -> Inspection:
    reason = str(getattr(error, "strerror", None) or error).replace("\n", " ")
    return Inspection(0, 0, digest, reason or type(error).__name__)


def inspect(
    paths: Iterable[str | Path], workers: int | None = None, progress: str | None = None
) -> list[Inspection]:
    """Inspect every file, in order; `progress` labels a bar with rate and time left."""
    paths = list(paths)
    with ThreadPoolExecutor(threads(workers)) as pool:
        results: Iterable[Inspection] = pool.map(inspect_one, paths)
        if progress:
            from tqdm import tqdm

            results = tqdm(results, total=len(paths), desc=progress, unit="image", mininterval=0.5)
        return list(results)
