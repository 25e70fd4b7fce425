"""How many frames motions have, by the heads of their arrays: none of their numbers are read."""

import zipfile
from itertools import accumulate
from pathlib import Path

from numpy.lib import format as npy

from posedive_lib.digests import files_below
from posedive_lib.errors import StudyError
from posedive_lib.intake.files import open_file

MOST = 200_000  # 0.2 GB as `load_poses` holds them, 1 every 0.8 s of AMASS
ARRAYS = ("poses.npy", "body_pose.npy")  # which have a row per frame


def check_frames(folder: str | Path, most: int = MOST) -> None:
    """StudyError where a folder of motions has more frames than the study holds in memory.

    Counting ends when there are too many.
    """
    files = files_below(folder) if Path(folder).is_dir() else []
    counts = (frames_of(path) for path in files if path.suffix == ".npz")
    if any(frames > most for frames in accumulate(counts)):
        raise StudyError(
            f"{folder} has more than {most:,} frames of motion, which the study would hold in "
            f"memory: thin them once with `python -m posedive_lib.body.motions {folder} --out "
            "FOLDER`, and name that folder in paths.motions."
        )


def frames_of(path: str | Path) -> int:
    """Frames of a file of motion.

    0 for one of another kind, and for a broken one: that has its sentence where it is read.
    """
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            name = next(name for name in ARRAYS if name in archive.namelist())
            with archive.open(name) as member:
                first = npy.read_magic(member) == (1, 0)
                read = npy.read_array_header_1_0 if first else npy.read_array_header_2_0
                return max(0, int(read(member)[0][0]))
    except Exception:  # zip, zlib and header parsing each fail in their own ways
        return 0
