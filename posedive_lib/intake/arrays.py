"""Read `.npz` and `.npy` files from anywhere; write whole ones."""

import io
import math
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from posedive_lib.errors import StudyError, require_readable, unreadable
from posedive_lib.intake.files import MAX_BYTES, open_file
from posedive_lib.writing import replacing


def read_npz(
    path: str | Path,
    keys: Collection[str] | Callable[[str], bool] | None = None,
    *,
    what: str,
    limit: int = MAX_BYTES,
    content: bytes | None = None,
) -> dict[str, np.ndarray]:
    """The arrays of an `.npz`, or those of `keys` that it has; the others are not unpacked.

    keys: names, or what says of a name whether its array is wanted.
    what: the kind of file, for messages. content: its bytes, where `path` is an archive that holds
    it. StudyError naming the file: missing, empty, cut short,
    no archive, Python objects among the arrays asked for, an array that claims more or less than
    it holds, or more than `limit` bytes of them unpacked (a zip bomb).
    """
    path = Path(path)
    wanted = keys if callable(keys) else lambda name: keys is None or name in keys
    require_readable(path)
    if not path.is_file():
        raise StudyError(f"{path} is missing: give {what}")
    if not path.stat().st_size:
        raise StudyError(f"{path} is empty, not {what}: copy or download it again")
    try:
        opened = open_file(path) if content is None else io.BytesIO(content)
        with opened as file, zipfile.ZipFile(file) as archive:
            items = [
                (item, item.filename.removesuffix(".npy"))
                for item in archive.infolist()
                if item.filename.endswith(".npy") and wanted(item.filename.removesuffix(".npy"))
            ]
            unpacked = sum(item.file_size for item, _ in items)
            if unpacked > limit:
                size, most = (f"{count / 2**30:.1f} GiB" for count in (unpacked, limit))
                raise StudyError(
                    f"{path} unpacks to {size}, more than the {most} that {what} may have: "
                    "give a smaller file in its place"
                )
            if len(set(archive.namelist())) < len(archive.namelist()):
                raise StudyError(f"{path} holds an array twice: save {what} again")
            arrays = {}
            for item, name in items:
                with archive.open(item) as member:
                    _check_header(path, name, member, item.file_size)
                with archive.open(item) as member:
                    arrays[name] = npy.read_array(member, allow_pickle=False)
                    if member.read(1):  # at the end of a member its checksum is compared, too
                        raise StudyError(
                            f"{path}: '{name}' holds more than it claims: "
                            "its first bytes are damaged, copy it again"
                        )
            return arrays
    except StudyError:
        raise
    except Exception as error:  # zip, zlib and header parsing each fail in their own ways
        mend = "copy or download it again, or remove it"
        raise unreadable(path, error, f"cannot be read as {what}", mend) from None


def map_npy(path: str | Path, *, what: str) -> np.ndarray:
    """An `.npy` whose numbers stay on the disk until they are asked for.

    What is written into the array stays in memory. what: the kind of file, for messages.
    StudyError naming the file: missing, cut short, no array.
    """
    try:
        with open_file(path):  # for its sentences
            return np.asarray(npy.open_memmap(path, mode="c"))
    except StudyError:
        raise
    except Exception as error:  # headers fail in their own ways
        mend = "remove it, and it is made again"
        raise unreadable(path, error, f"cannot be read as {what}", mend) from None


def begin_npy(file: IO[bytes], first: np.ndarray, rows: int) -> None:
    """Write the head of an `.npy` of `rows` rows like those of `first`; their bytes follow."""
    header = npy.header_data_from_array_1_0(first) | {"shape": (rows, *first.shape[1:])}
    npy.write_array_header_2_0(file, header)


def write_npz(path: str | Path, arrays: dict[str, np.ndarray], *, compressed: bool = False) -> None:
    """Write an `.npz`, whole or not at all; StudyError where the place or the space is missing."""
    # An open file, because NumPy would add a suffix to the draft's name.
    with replacing(path) as draft, draft.open("wb") as file:
        save = np.savez_compressed if compressed else np.savez
        save(file, **arrays)  # type: ignore[arg-type]


def _check_header(path: Path, name: str, member: IO[bytes], size: int) -> None:
    """StudyError if an array claims more than its member holds: NumPy reserves memory for it."""
    version = npy.read_magic(member)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise StudyError(
            f"{path}: '{name}' is written in an unknown .npy version {version}: "
            "save the file again with NumPy"
        )
    shape, _, dtype = read(member)
    if dtype.hasobject:
        raise StudyError(
            f"{path}: '{name}' cannot be read, it holds Python objects instead of numbers: "
            "save it as a plain array"
        )
    claimed = math.prod(int(length) for length in shape) * dtype.itemsize
    if claimed > size:
        raise StudyError(
            f"{path}: '{name}' claims {claimed} bytes and holds {size}: "
            "the file is cut short, copy it again"
        )
