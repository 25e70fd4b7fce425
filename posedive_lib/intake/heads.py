"""How much is in an `.npz`, by the heads of its arrays: none of their numbers are read."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

from numpy.lib import format as npy

from posedive_lib.intake.files import open_file


def length_of(path: str | Path, keys: Sequence[str]) -> int:
    """Rows of the first of the arrays `keys` that an `.npz` has.

    0 for a file without them, and for a broken one: that has its sentence where it is read.
    """
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            name = next(f"{key}.npy" for key in keys if f"{key}.npy" in archive.namelist())
            with archive.open(name) as member:
                first = npy.read_magic(member) == (1, 0)
                read = npy.read_array_header_1_0 if first else npy.read_array_header_2_0
                return max(0, int(read(member)[0][0]))
    except Exception:  # zip, zlib and header parsing each fail in their own ways
        return 0
