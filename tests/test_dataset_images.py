"""The one image reader: pixels, sizes, order and broken files."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import trees
from posedive_lib.datasets import images
from posedive_lib.errors import StudyError


def test_pixels_are_the_files_and_other_sizes_are_bicubic(tmp_path):
    same, other = trees.paint(tmp_path / "a.png", size=(16, 32)), trees.paint(tmp_path / "b.png", size=(20, 50))
    read = images.read([same, other, same], 32, 16)
    assert read.shape == (3, 32, 16, 3) and read.dtype == np.uint8
    assert np.array_equal(read[0], np.asarray(Image.open(same))) and np.array_equal(read[0], read[2])
    assert np.array_equal(read[1], np.asarray(Image.open(other).resize((16, 32), Image.Resampling.BICUBIC)))
    assert images.read([], 32, 16).shape == (0, 32, 16, 3)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 16, 3), dtype=np.uint8)).convert(mode)
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    picture.save(path)
    assert np.array_equal(images.read_one(path, 32, 16), np.asarray(Image.open(path).convert("RGB")))


def test_the_order_and_the_pixels_do_not_depend_on_the_threads(tmp_path):
    paths = [trees.paint(tmp_path / f"{i}.png", size=(16 + i % 3, 32)) for i in range(40)]
    one, many = images.read(paths, 32, 16, workers=1), images.read(paths, 32, 16, workers=5)
    assert np.array_equal(one, many)
    assert all(np.array_equal(image, images.read_one(path, 32, 16)) for image, path in zip(one, paths, strict=True))
    assert images.inspect(paths, workers=1) == images.inspect(paths, workers=5)


def bad_files(tmp_path):
    good = trees.paint(tmp_path / "good.png").read_bytes()
    photo = trees.paint(tmp_path / "good.jpg", size=(64, 128)).read_bytes()
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    huge = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)) + chunk(b"IEND", b"")
    return {"empty": b"", "text": b"no image", "cut": photo[:200], "half": photo[: len(photo) // 2], "chunk": good[:40] + b"\0\0\0\0" + good[44:], "bomb": huge}


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "half", "chunk", "bomb"])
def test_broken_files_are_named_in_one_sentence(tmp_path, kind):
    path = tmp_path / "broken.jpg"
    path.write_bytes(bad_files(tmp_path)[kind])
    with pytest.raises(StudyError, match=r"broken\.jpg is not a readable image") as caught:
        images.read([tmp_path / "good.png", path], 32, 16)
    assert "\n" not in str(caught.value)
    fine, broken = images.inspect([tmp_path / "good.png", path])
    assert fine.error == "" and (fine.width, fine.height) == (16, 32) and broken.error
    with pytest.raises(StudyError, match="gone.png is missing"):
        images.read_one(tmp_path / "gone.png", 32, 16)


def test_deep_pixels_are_refused_not_clipped(tmp_path):
    Image.fromarray(np.full((8, 4), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(StudyError, match="8 bits per channel"):
        images.read_one(tmp_path / "deep.png", 8, 4)
    assert "8 bits per channel" in images.inspect_one(tmp_path / "deep.png").error
