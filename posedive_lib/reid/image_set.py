"""Images of a Re-ID table as one uint8 array in memory: they are read once per run, not once per batch."""

from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd
from PIL import Image

from posedive_lib.datasets.images import RESAMPLING, read
from posedive_lib.errors import StudyError


@dataclass(frozen=True)
class ImageSet:
    """Images (N, H, W, 3) uint8 with identities (N,), 0-based cameras (N,) and which of them are generated (N,); by default none."""

    images: np.ndarray
    pids: np.ndarray
    camids: np.ndarray
    generated: np.ndarray | None = None

    def __post_init__(self):
        if self.images.ndim != 4 or self.images.shape[-1] != 3 or self.images.dtype != np.uint8:
            raise StudyError(
                f"Images have shape {self.images.shape} and type {self.images.dtype}: expected (N, H, W, 3) uint8."
            )
        if len(self.pids) != len(self.images) or len(self.camids) != len(self.images):
            raise StudyError(
                f"{len(self.images)} images with {len(self.pids)} identities and {len(self.camids)} cameras: one of each per image is needed."
            )
        flags = (
            np.zeros(len(self.pids), bool)
            if self.generated is None
            else np.asarray(self.generated, bool)
        )
        if len(flags) != len(self.pids):
            raise StudyError(
                f"{len(self.images)} images with {len(flags)} marks of generated ones: one per image is needed."
            )
        object.__setattr__(self, "generated", flags)

    def __len__(self) -> int:
        return len(self.pids)

    def take(self, rows: np.ndarray) -> "ImageSet":
        """The given rows (indices, possibly repeated, or a mask)."""
        return replace(
            self, **{field.name: getattr(self, field.name)[rows] for field in fields(self)}
        )

    def plus(self, other: "ImageSet") -> "ImageSet":
        """This set followed by another of the same image size."""
        return ImageSet(
            *(
                np.concatenate([getattr(self, field.name), getattr(other, field.name)])
                for field in fields(self)
            )
        )

    @classmethod
    def from_table(
        cls, frame: pd.DataFrame, height: int, width: int, resample: str = "bicubic"
    ) -> "ImageSet":
        """Read the images of a data set's table (columns path, pid, camid)."""
        return cls(
            read(frame["path"].tolist(), height, width, resample),
            frame["pid"].to_numpy(),
            frame["camid"].to_numpy(),
        )


def resized(images: np.ndarray, height: int, width: int, resample: str = "bilinear") -> np.ndarray:
    """(N, H, W, 3) uint8 in another size; the same array where it has the size already."""
    if images.shape[1:3] == (height, width):
        return images
    out = np.empty((len(images), height, width, 3), dtype=np.uint8)
    for index, image in enumerate(images):
        out[index] = np.asarray(
            Image.fromarray(image).resize((width, height), RESAMPLING[resample])
        )
    return out
