"""The one reader of image files: RGB arrays of one size, and an inspection that only looks.

Images are read as photo viewers show them: turned by their EXIF orientation, transparent pixels
over white. Files are decoded by threads (Pillow lets go of the interpreter meanwhile), in the order
given, whatever the number of threads.
"""

import hashlib
import io
import os
import struct
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from posedive_lib.errors import StudyError, unreadable

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# What Pillow raises on broken files; damaged PNG chunks give SyntaxError or struct.error.
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


class Inspection(NamedTuple):
    """One file as read.

    width, height: pixels. digest: of the file's bytes. error: what is wrong with it ("" if
    nothing). turned: whether its EXIF orientation turns it.
    """

    width: int
    height: int
    digest: str
    error: str
    turned: bool = False


def threads(workers: int | None = None) -> int:
    """Threads to decode with: as asked, else one per core of this process, eight at most."""
    if workers:
        return max(1, workers)
    if hasattr(os, "sched_getaffinity"):  # Linux
        return min(8, len(os.sched_getaffinity(0)))
    return min(8, os.cpu_count() or 1)


def decode(content: bytes) -> Image.Image:
    """The image in a file's bytes, as stored.

    Raises one of `BROKEN` if there is none, or if it has more than 8 bits per channel, which
    Pillow would clip to white.
    """
    if not content:
        raise ValueError("the file is empty")
    try:
        image = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:  # its message names the buffer
        raise ValueError("its content is no image of a known format") from None
    image.load()
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"its pixels are of mode {image.mode}: save it with 8 bits per channel")
    return image


def turn(image: Image.Image) -> bool:
    """Turn an image in place by its EXIF orientation; whether it has one."""
    with suppress(Exception):  # broken EXIF fails in many ways, and says nothing about the pixels
        turned = image.getexif().get(ExifTags.Base.Orientation) in range(2, 9)
        ImageOps.exif_transpose(image, in_place=True)
        return turned
    return False


def to_rgb(image: Image.Image) -> Image.Image:
    """RGB of a decoded image: turned by its EXIF orientation, transparent pixels over white."""
    turn(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")  # the colour that such pixels hide may be any
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def open_rgb(path: str | Path) -> Image.Image:
    """The image of a file as `to_rgb` gives it, in its own size.

    StudyError names a missing, unreadable or broken file.
    """
    try:
        return to_rgb(decode(Path(path).read_bytes()))
    except FileNotFoundError:
        raise StudyError(
            f"The image {path} is missing: unpack or write the data set again."
        ) from None
    except BROKEN as error:
        mend = "restore it, or remove it and its line in the lists"
        raise unreadable(path, error, "is not a readable image", mend) from None


def read_one(path: str | Path, height: int, width: int, resample: str = "bicubic") -> np.ndarray:
    """uint8 (height, width, 3) RGB of `open_rgb`, resized where the file has another size.

    height, width: pixels. resample: a key of `RESAMPLING`. StudyError as `open_rgb`.
    """
    image = open_rgb(path)
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


def read_sizes(paths: Sequence[str | Path], workers: int | None = None) -> np.ndarray:
    """(N, 2) width and height of images as `open_rgb` gives them, in the order of `paths`."""
    with ThreadPoolExecutor(threads(workers)) as pool:
        sizes = list(pool.map(lambda path: open_rgb(path).size, paths))
    return np.array(sizes, int).reshape(-1, 2)


def inspect_one(path: str | Path) -> Inspection:
    """Read one file as `open_rgb` does, without keeping its pixels; never raises on a bad file."""
    digest = ""
    try:
        content = Path(path).read_bytes()
        digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        image = decode(content)
        turned = turn(image)
        return Inspection(*to_rgb(image).size, digest, "", turned)
    except BROKEN as error:
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
