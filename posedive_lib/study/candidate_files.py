"""Where the pipeline keeps generated images, and how they are read: `build/candidates`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from posedive_lib.datasets.images import read as read_images

if TYPE_CHECKING:
    from posedive_lib.params import Image

CANDIDATES = Path("build/candidates")


def candidates_folder(name: str, arm: str = "pose-dive") -> Path:
    """Folder of a data set's candidates; those of a control arm lie in a folder inside it."""
    return CANDIDATES / name if arm == "pose-dive" else CANDIDATES / name / arm


def load_manifest(name: str, arm: str = "pose-dive") -> pd.DataFrame:
    """The list of a data set's and arm's candidates, as notebook 04 wrote it."""
    return pd.read_csv(candidates_folder(name, arm) / "manifest.csv", keep_default_na=False)


def candidate_images(
    name: str, rows: pd.DataFrame, size: Image, arm: str = "pose-dive"
) -> np.ndarray:
    """(N, H, W, 3) uint8: the images of a manifest's rows, in the given size."""
    folder = candidates_folder(name, arm)
    return read_images([folder / path for path in rows["path"]], size.height, size.width)
