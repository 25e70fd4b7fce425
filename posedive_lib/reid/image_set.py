"""Images of a Re-ID table as one uint8 array in memory: read once per run, not once per batch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
from PIL import Image

from posedive_lib.datasets.images import RESAMPLING, read
from posedive_lib.errors import StudyError


@dataclass(frozen=True, init=False)
class ImageSet:
    """Images (N, H, W, 3) uint8 with identities (N,), 0-based cameras (N,) and marks (N,) bool.

    generated: which images are generated; by default none. StudyError on other shapes.
    """

    images: np.ndarray
    pids: np.ndarray
    camids: np.ndarray
    generated: np.ndarray

    def __init__(
        self,
        images: np.ndarray,
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
        digests = [hashlib.blake2b(image.tobytes()).digest() for image in self.images]
        numbers = np.unique(np.array(digests, object), return_inverse=True)[1]
        return np.where(self.generated, len(self) + np.arange(len(self)), numbers)

    def take(self, rows: np.ndarray) -> ImageSet:
        """The given rows (indices, possibly repeated, or a mask)."""
        return ImageSet(*(getattr(self, field.name)[rows] for field in fields(self)))

    def plus(self, other: ImageSet) -> ImageSet:
        """This set followed by another of the same image size."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return ImageSet(*(np.concatenate(pair) for pair in pairs))

    @classmethod
    def from_table(
        cls, frame: pd.DataFrame, height: int, width: int, resample: str = "bicubic"
    ) -> ImageSet:
        """Read the images of a data set's table (columns path, pid, camid)."""
        images = read(frame["path"].tolist(), height, width, resample)
        return cls(images, frame["pid"].to_numpy(), frame["camid"].to_numpy())


def check_pixels(images: np.ndarray) -> None:
    """StudyError unless images are (N, H, W, 3) uint8."""
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise StudyError(
            f"Images have shape {images.shape} and type {images.dtype}: "
            "expected (N, H, W, 3) uint8."
        )


def resized(images: np.ndarray, height: int, width: int, resample: str = "bilinear") -> np.ndarray:
    """(N, H, W, 3) uint8 in another size; the same array where it has the size already."""
    if images.shape[1:3] == (height, width):
        return images
    out = np.empty((len(images), height, width, 3), dtype=np.uint8)
    for index, image in enumerate(images):
        scaled = Image.fromarray(image).resize((width, height), RESAMPLING[resample])
        out[index] = np.asarray(scaled)
    return out
