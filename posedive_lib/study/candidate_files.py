"""Where the pipeline keeps generated images, and how they are read.

Manifests lie in `build/candidates`, where stages depend on them. The images are kept once, in the
archives of `runs/candidates`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from posedive_lib.datasets.archives import Archived

if TYPE_CHECKING:
    from posedive_lib.params import Image

CANDIDATES = Path("build/candidates")
RUNS = Path("runs/candidates")


def candidates_folder(name: str, arm: str = "pose-dive") -> Path:
    """Folder of a data set's manifest; that of a control arm lies in a folder inside it."""
    return CANDIDATES / name if arm == "pose-dive" else CANDIDATES / name / arm


def store_of(name: str, arm: str = "pose-dive") -> Path:
    """Folder of a data set's and arm's archives; the paths of a manifest are relative to it."""
    return RUNS / name / arm


def load_manifest(name: str, arm: str = "pose-dive") -> pd.DataFrame:
    """The list of a data set's and arm's candidates, as notebook 04 wrote it."""
    return pd.read_csv(candidates_folder(name, arm) / "manifest.csv", keep_default_na=False)


def candidate_images(
    name: str, rows: pd.DataFrame, size: Image, arm: str = "pose-dive"
) -> np.ndarray:
    """(N, H, W, 3) uint8: the images of a manifest's rows, in the given size."""
    return archived(name, rows, size, arm)[:]


def archived(name: str, rows: pd.DataFrame, size: Image, arm: str = "pose-dive") -> Archived:
    """`candidate_images` that are read when they are asked for."""
    return Archived(rows, store_of(name, arm), size.height, size.width)
