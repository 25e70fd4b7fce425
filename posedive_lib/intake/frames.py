"""Which files below a folder are motions, and how many frames they have.

Frames are counted by the heads of the arrays: none of their numbers are read.
"""

import logging
import zipfile
from itertools import accumulate
from pathlib import Path

from numpy.lib import format as npy

from posedive_lib.digests import files_below
from posedive_lib.errors import StudyError, is_folder, require_utf8
from posedive_lib.intake.companions import among_companions
from posedive_lib.intake.files import open_file

MOST = 200_000  # 0.2 GB as `load_poses` holds them, 1 every 0.8 s of AMASS
# Sub-folders of motions, and what a motion below them is to the training set.
FOLDERS = {"in-domain": "in", "out-of-domain": "out"}
ARRAYS = ("poses.npy", "body_pose.npy")  # which have a row per frame


def motion_files(folder: str | Path, *, warn: bool = False) -> list[Path]:
    """The `.npz` files below a folder that are motions, by path; none where it is missing.

    The case of the ending does not count. AMASS's body shapes, hidden files, waste bins and what
    file managers leave are none. warn: say how many such `.npz` there are. StudyError as
    `files_below`, and for a name that no table can hold.
    """
    folder = Path(folder)
    found = files_below(folder) if is_folder(folder) else []
    archives = [path for path in found if path.suffix.lower() == ".npz"]
    files = [path for path in archives if _is_motion(path.relative_to(folder))]
    for path in files:
        require_utf8(path.relative_to(folder), folder)
    if warn and len(files) < len(archives):
        logging.getLogger(__name__).warning(
            "%s: %d of %d .npz files are no motions and are skipped (AMASS's shape.npz and "
            "*_stagei.npz, hidden files, waste bins, files of file managers).",
            folder,
            len(archives) - len(files),
            len(archives),
        )
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def _is_motion(path: Path) -> bool:
    """Not one of AMASS's body shapes, nor a companion of other files."""
    name = path.name.lower()
    return not (among_companions(path) or name == "shape.npz" or name.endswith("_stagei.npz"))


def domain_of(path: Path, folder: Path) -> str:
    """ "in" or "out", by the nearest of FOLDERS above a file of `folder`; "in" without."""
    above = folder.name, *path.relative_to(folder).parts[:-1]
    return next((FOLDERS[part] for part in reversed(above) if part in FOLDERS), "in")


def check_domains(folder: str | Path) -> None:
    """StudyError where a folder has motions of one domain alone: the study compares both."""
    found = {domain_of(path, Path(folder)) for path in motion_files(folder)}
    for name, domain in FOLDERS.items():
        if found and domain not in found:
            raise StudyError(
                f"{folder} has no {name} motion, but the study compares both domains: put AMASS "
                f"files into {Path(folder) / name}, and name {folder} in paths.motions."
            )


def check_frames(folder: str | Path, most: int = MOST) -> None:
    """StudyError where a folder of motions has more frames than the study holds in memory.

    Counting ends when there are too many.
    """
    counts = (frames_of(path) for path in motion_files(folder))
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
