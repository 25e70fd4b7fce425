"""What the tests of the mini world share."""

from pathlib import Path

import pandas as pd
import pytest
from pipeline import ROOT

from posedive_lib.body.poses import load_poses

BODY = str(ROOT / "data/body/SMPL_NEUTRAL.npz")
H, W, FOCAL = 64, 32, 2.5


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    return pd.read_csv(ROOT / "data/world/identities.csv", keep_default_na=False)


@pytest.fixture(scope="module")
def source():
    return load_poses(ROOT / "data/motions", fps=5)


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of every file below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(f): (f.read_bytes(), f.stat().st_mtime_ns) for f in files}
