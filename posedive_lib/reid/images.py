"""Images of a Re-ID table as one uint8 array in memory: they are read once per run, not once per batch."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from posedive_lib.datasets.images import read
from posedive_lib.errors import StudyError


@dataclass(frozen=True)
class ImageSet:
    """Images (N, H, W, 3) uint8 with identities (N,) and 0-based cameras (N,)."""

    images: np.ndarray
    pids: np.ndarray
    camids: np.ndarray

    def __post_init__(self):
        if self.images.ndim != 4 or self.images.shape[-1] != 3 or self.images.dtype != np.uint8:
            raise StudyError(f"Images have shape {self.images.shape} and type {self.images.dtype}: expected (N, H, W, 3) uint8.")
        if len(self.pids) != len(self.images) or len(self.camids) != len(self.images):
            raise StudyError(f"{len(self.images)} images with {len(self.pids)} identities and {len(self.camids)} cameras: one of each per image is needed.")

    def __len__(self) -> int:
        return len(self.pids)

    def take(self, rows: np.ndarray) -> "ImageSet":
        """The given rows (indices, possibly repeated, or a mask)."""
        return replace(self, images=self.images[rows], pids=self.pids[rows], camids=self.camids[rows])

    def plus(self, other: "ImageSet") -> "ImageSet":
        """This set followed by another of the same image size."""
        return ImageSet(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in ("images", "pids", "camids")))

    @classmethod
    def from_table(cls, frame: pd.DataFrame, height: int, width: int) -> "ImageSet":
        """Read the images of a data set's table (columns path, pid, camid)."""
        return cls(read(frame["path"].tolist(), height, width), frame["pid"].to_numpy(), frame["camid"].to_numpy())
