"""MATLAB files: small ones whole, large ones (7.3, which is HDF5) cell by cell."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posedive_lib.intake.files import open_file, read_bytes

if TYPE_CHECKING:
    import h5py

MAX_BYTES = 1 << 24  # of a protocol; CUHK03's have 0.3 MB
MAX_CELL = 1 << 28  # bytes of one image


def read_mat(path: Path) -> dict[str, Any]:
    """The variables of a small file of MATLAB before 7.3. A broken file raises anything."""
    from scipy.io import loadmat

    return loadmat(io.BytesIO(read_bytes(path, limit=MAX_BYTES)))


def open_mat73(path: Path) -> "h5py.File":
    """A file of MATLAB 7.3, open for reading. OSError where it is none."""
    import h5py

    open_file(path).close()
    return h5py.File(path, "r")


def read_cell(cells: "h5py.Dataset") -> np.ndarray:
    """An array of such a file. ValueError if it claims more than `MAX_CELL` bytes."""
    if cells.nbytes > MAX_CELL:
        raise ValueError(f"an array of {cells.shape} is no image")
    return cells[()]
