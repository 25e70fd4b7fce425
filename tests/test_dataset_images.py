"""The one image reader: pixels, sizes, order and broken files."""

import struct
import zlib

import numpy as np
import pytest
import trees
from PIL import Image

from posedive_lib.datasets import images
from posedive_lib.errors import StudyError


def test_pixels_are_the_files_and_other_sizes_are_bicubic(tmp_path):
    same, other = (
        trees.paint(tmp_path / "a.png", size=(16, 32)),
        trees.paint(tmp_path / "b.png", size=(20, 50)),
    )
    read = images.read([same, other, same], 32, 16)
    assert read.shape == (3, 32, 16, 3) and read.dtype == np.uint8
    assert np.array_equal(read[0], np.asarray(Image.open(same))) and np.array_equal(
        read[0], read[2]
    )
    assert np.array_equal(
        read[1], np.asarray(Image.open(other).resize((16, 32), Image.Resampling.BICUBIC))
    )
    assert images.read([], 32, 16).shape == (0, 32, 16, 3)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    picture = Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (32, 16, 3), dtype=np.uint8)
    ).convert(mode)
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    picture.save(path)
    assert np.array_equal(
        images.read_one(path, 32, 16), np.asarray(Image.open(path).convert("RGB"))
    )


def test_the_order_and_the_pixels_do_not_depend_on_the_threads(tmp_path):
    paths = [trees.paint(tmp_path / f"{i}.png", size=(16 + i % 3, 32)) for i in range(40)]
    one, many = images.read(paths, 32, 16, workers=1), images.read(paths, 32, 16, workers=5)
    assert np.array_equal(one, many)
    assert all(
        np.array_equal(image, images.read_one(path, 32, 16))
        for image, path in zip(one, paths, strict=True)
    )
    assert images.inspect(paths, workers=1) == images.inspect(paths, workers=5)


def bad_files(tmp_path):
    good = trees.paint(tmp_path / "good.png").read_bytes()
    photo = trees.paint(tmp_path / "good.jpg", size=(64, 128)).read_bytes()

    def chunk(kind, data):
        end = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + end

    huge = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
        + chunk(b"IEND", b"")
    )
    return {
        "empty": b"",
        "text": b"no image",
        "cut": photo[:200],
        "half": photo[: len(photo) // 2],
        "chunk": good[:40] + b"\0\0\0\0" + good[44:],
        "bomb": huge,
    }


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "half", "chunk", "bomb"])
def test_broken_files_are_named_in_one_sentence(tmp_path, kind):
    path = tmp_path / "broken.jpg"
    path.write_bytes(bad_files(tmp_path)[kind])
    with pytest.raises(StudyError, match=r"broken\.jpg is not a readable image") as caught:
        images.read([tmp_path / "good.png", path], 32, 16)
    assert "\n" not in str(caught.value)
    fine, broken = images.inspect([tmp_path / "good.png", path])
    assert "BytesIO" not in str(caught.value) + broken.error and (
        "the file is empty" in broken.error
    ) == (kind == "empty")
    assert fine.error == "" and (fine.width, fine.height) == (16, 32) and broken.error
    with pytest.raises(StudyError, match="gone.png is missing"):
        images.read_one(tmp_path / "gone.png", 32, 16)


def test_deep_pixels_are_refused_not_clipped(tmp_path):
    Image.fromarray(np.full((8, 4), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(StudyError, match="8 bits per channel"):
        images.read_one(tmp_path / "deep.png", 8, 4)
    assert "8 bits per channel" in images.inspect_one(tmp_path / "deep.png").error


@pytest.mark.parametrize("format", ["jpg", "png", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_as_the_camera_was_held(tmp_path, format, orientation):
    upright = np.zeros((24, 16, 3), np.uint8)
    upright[:12, :8], upright[:12, 8:], upright[12:, :8] = 250, 170, 90  # no two corners alike
    turned = np.rot90(
        upright[:, :: -1 if orientation in (2, 4, 5, 7) else 1],
        {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 1, 7: 3, 8: 3}[orientation],
    )
    path = tmp_path / f"photo.{format}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(turned)).save(
        path, exif=exif, **({"quality": 100, "subsampling": 0} if format == "jpg" else {})
    )
    found = np.asarray(images.open_rgb(path)).astype(int)
    assert found.shape == upright.shape and np.abs(found - upright).max() < 4
    seen = images.inspect_one(path)
    assert (seen.width, seen.height, seen.error) == (16, 24, "") and seen.turned == (
        orientation > 1 and format != "tiff"
    )  # PIL turns TIFF itself


def test_broken_exif_spoils_no_photo(tmp_path):
    pixels = Image.open(trees.paint(tmp_path / "a.png"))
    pixels.save(tmp_path / "b.jpg", exif=b"Exif\0\0no such thing", quality=95)
    assert images.open_rgb(tmp_path / "b.jpg").size == (16, 32) and images.inspect_one(
        tmp_path / "b.jpg"
    )[3:5] == ("", False)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
def test_what_transparent_pixels_hide_is_not_seen(tmp_path, mode):
    picture, options = Image.new("RGBA", (8, 8), (40, 40, 40, 255)), {}
    picture.paste((0, 0, 0, 0), (0, 0, 4, 8))
    if mode in ("RGBA", "LA"):
        picture = picture.convert(mode)
    else:  # one colour stands for "nothing here"
        picture = picture.convert("RGB").convert(
            mode, **({"palette": Image.Palette.ADAPTIVE, "colors": 2} if mode == "P" else {})
        )
        options["transparency"] = (0, 0, 0) if mode == "RGB" else picture.getpixel((0, 0))
    picture.save(tmp_path / "cut.png", **options)
    found = np.asarray(images.open_rgb(tmp_path / "cut.png"))
    assert (found[:, :4] == 255).all() and (found[:, 4:] == 40).all()


def test_half_transparent_pixels_are_mixed_with_white(tmp_path):
    Image.new("RGBA", (4, 4), (0, 100, 255, 128)).save(tmp_path / "veil.png")
    assert (
        np.abs(
            np.asarray(images.open_rgb(tmp_path / "veil.png"))[0, 0].astype(int) - [127, 177, 255]
        ).max()
        <= 1
    )
