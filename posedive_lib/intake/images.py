"""Image files as photo viewers show them: turned by EXIF, transparent pixels over white."""

import io
import struct
from contextlib import suppress
from pathlib import Path

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from posedive_lib.errors import StudyError, unreadable
from posedive_lib.intake.files import read_bytes

# Formats that hold pixels. Pillow also runs PostScript (EPS), and takes text for X bitmaps.
FORMATS = frozenset("AVIF BMP DIB GIF JPEG JPEG2000 MPO PCX PNG PPM QOI SGI TGA TIFF WEBP".split())
MAX_PIXELS = 10**8  # of one image: 300 MB in RGB
# What Pillow raises on broken files; damaged PNG chunks give SyntaxError or struct.error, damaged
# AVIF files RuntimeError.
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    RuntimeError,
    struct.error,
    Image.DecompressionBombError,
)


def decode(content: bytes) -> Image.Image:
    """The image in a file's bytes, as stored.

    Raises one of `BROKEN` if there is none, if it has more than `MAX_PIXELS`, or more than 8 bits
    per channel, which Pillow would clip to white.
    """
    if not content:
        raise ValueError("the file is empty")
    try:
        image = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:  # its message names the buffer
        raise ValueError("its content is no image of a known format") from None
    if image.format not in FORMATS:
        raise ValueError(f"images of the format {image.format} are not read: save it as PNG")
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"it claims {image.width} x {image.height} pixels: more than is read")
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


def rgb_of(image: Image.Image, name: str, mend: str) -> Image.Image:
    """RGB of an image of PIL in any mode, as `to_rgb` gives it; the given one stays as it is.

    StudyError `name is … : mend.` where it is not readable, or has more than 8 bits per channel,
    which Pillow would clip to white.
    """
    if image.mode.startswith(("I", "F")):
        raise StudyError(f"{name} is of mode {image.mode}: give one with 8 bits per channel.")
    try:
        return to_rgb(image.copy())  # which turns its argument in place
    except BROKEN as error:
        raise unreadable(name, error, "is not a readable image", mend) from None


def open_rgb(path: str | Path) -> Image.Image:
    """The image of a file as `to_rgb` gives it, in its own size.

    StudyError names a missing, unreadable or broken file.
    """
    try:
        return to_rgb(decode(read_bytes(path)))
    except FileNotFoundError:
        raise StudyError(
            f"The image {path} is missing: unpack or write the data set again."
        ) from None
    except BROKEN as error:
        mend = "restore it, or remove it and its line in the lists"
        raise unreadable(path, error, "is not a readable image", mend) from None
