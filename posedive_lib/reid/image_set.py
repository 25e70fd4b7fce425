"""Images of a Re-ID table as uint8 arrays, on the disk or in memory.

Photos are decoded once. Generated images stay in their archives, and are decoded when a batch asks
for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from PIL import Image

from posedive_lib.datasets.archives import Archived
from posedive_lib.datasets.images import RESAMPLING, read
from posedive_lib.errors import StudyError


class Joined:
    """Images (N, H, W, 3) of two arrays, one after the other; neither is copied.

    Rows are taken as from an array: by a number, a slice, indices or a mask.
    """

    ndim = 4

    def __init__(self, first: Images, second: Images) -> None:
        self.first, self.second = first, second
        self.dtype: np.dtype = first.dtype
        self.shape: tuple[int, ...] = (len(first) + len(second), *first.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        yield from self.first
        yield from self.second

    def __getitem__(self, rows: Any) -> np.ndarray:
        index = np.arange(len(self))[rows]
        if index.ndim == 0:
            behind = int(index) - len(self.first)
            return self.first[int(index)] if behind < 0 else self.second[behind]
        found, own = np.empty((len(index), *self.shape[1:]), self.dtype), index < len(self.first)
        found[own] = self.first[index[own]]
        found[~own] = self.second[index[~own] - len(self.first)]
        return found


Images: TypeAlias = np.ndarray | Archived | Joined


@dataclass(frozen=True, init=False)
class ImageSet:
    """Images (N, H, W, 3) uint8 with identities (N,), 0-based cameras (N,) and marks (N,) bool.

    generated: which images are generated; by default none. StudyError on other shapes.
    """

    images: Images
    pids: np.ndarray
    camids: np.ndarray
    generated: np.ndarray

    def __init__(
        self,
        images: Images,
        pids: np.ndarray,
        camids: np.ndarray,
        generated: np.ndarray | None = None,
    ) -> None:
        check_pixels(images)
        if len(pids) != len(images) or len(camids) != len(images):
            raise StudyError(
                f"{len(images)} images with {len(pids)} identities and {len(camids)} cameras: "
                "one of each per image is needed."
            )
        marks = np.zeros(len(pids), bool) if generated is None else np.asarray(generated, bool)
        if len(marks) != len(pids):
            raise StudyError(
                f"{len(images)} images with {len(marks)} marks of generated ones: "
                "one per image is needed."
            )
        for field, value in zip(fields(self), (images, pids, camids, marks), strict=True):
            object.__setattr__(self, field.name, value)

    def __len__(self) -> int:
        return len(self.pids)

    def copies(self) -> np.ndarray:
        """(N,) numbers, equal for photos with the same pixels; generated images are all apart."""
        numbers, real = len(self) + np.arange(len(self)), np.flatnonzero(~self.generated)
        digests = [hashlib.blake2b(self.images[row].tobytes()).digest() for row in real.tolist()]
        numbers[real] = np.unique(np.array(digests, object), return_inverse=True)[1]
        return numbers

    def take(self, rows: np.ndarray) -> ImageSet:
        """The given rows (indices, possibly repeated, or a mask)."""
        return ImageSet(*(getattr(self, field.name)[rows] for field in fields(self)))

    def plus(self, other: ImageSet) -> ImageSet:
        """This set followed by another of the same image size."""
        names = ("pids", "camids", "generated")
        labels = [np.concatenate([getattr(self, n), getattr(other, n)]) for n in names]
        return ImageSet(Joined(self.images, other.images), *labels)

    @classmethod
    def from_table(
        cls, frame: pd.DataFrame, height: int, width: int, resample: str = "bicubic"
    ) -> ImageSet:
        """Read the images of a data set's table: columns path, pid, camid, perhaps generated."""
        images = read(frame["path"].tolist(), height, width, resample)
        marks = frame["generated"].to_numpy() if "generated" in frame else None
        return cls(images, frame["pid"].to_numpy(), frame["camid"].to_numpy(), marks)


def check_pixels(images: Images) -> None:
    """StudyError unless images are (N, H, W, 3) uint8."""
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise StudyError(
            f"Images have shape {images.shape} and type {images.dtype}: "
            "expected (N, H, W, 3) uint8."
        )


def resized(images: Images, height: int, width: int, resample: str = "bilinear") -> Any:
    """(N, H, W, 3) uint8 in another size; the same images where they have the size already."""
    if images.shape[1:3] == (height, width):
        return images
    out = np.empty((len(images), height, width, 3), dtype=np.uint8)
    for index, image in enumerate(images):
        scaled = Image.fromarray(image).resize((width, height), RESAMPLING[resample])
        out[index] = np.asarray(scaled)
    return out
