"""CUHK03 as published: `cuhk-03.mat` (MATLAB 7.3, which is HDF5) and `cuhk03_new_protocol_config_{labeled,detected}.mat`.

The images are cells [camera pair][person, image] of (H, W, 3) uint8, images 1-5 from the first view and 6-10 from the second, some empty.
They are written once as PNG under `<pair>_<person>_<view>_<image>.png`, the names that the configuration lists, into `images_<boxes>/`
beside the file; torchreid and fast-reid use the same folder. Nothing absolute is stored, so the folder may be moved.
"""

import shutil
import tempfile
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from posedive_lib.datasets.images import threads
from posedive_lib.errors import StudyError

RAW = "cuhk-03.mat"
RELEASE = "cuhk03_release"
FIRST_VIEW = 5  # images 1-5 of a person come from view 1
WAITING = 64  # images held in memory while the writers are busy


class Config(NamedTuple):
    """The new protocol: file names, labels (N,), cameras (N,) counted from 1, and 0-based rows of each split."""

    names: list[str]
    labels: np.ndarray
    cameras: np.ndarray
    rows: dict[str, np.ndarray]


def images_folder(boxes: str) -> str:
    """Name of the folder that the images are extracted into."""
    return f"images_{boxes}"


def raw_file(folder: Path) -> Path | None:
    """`cuhk-03.mat` in the folder or in its `cuhk03_release`, if it is there."""
    return next((path for path in (folder / RELEASE / RAW, folder / RAW) if path.is_file()), None)


def read_config(folder: Path, boxes: str) -> Config:
    """The protocol file beside the data; StudyError if it is missing, is none, or contradicts itself."""
    from scipy.io import loadmat

    name = f"cuhk03_new_protocol_config_{boxes}.mat"
    path = next(
        (
            where / name
            for where in (folder, folder / RELEASE, folder.parent)
            if (where / name).is_file()
        ),
        None,
    )
    if path is None:
        raise StudyError(
            f"{folder / name} is missing: fetch the new protocol's file (zhunzhong07/person-re-ranking, evaluation/data/CUHK03) and put it there."
        )
    try:
        mat = loadmat(path)
        names = [str(np.ravel(cell)[0]) for cell in np.ravel(mat["filelist"])]
        labels, cameras = (np.ravel(mat[key]).astype(np.int64) for key in ("labels", "camId"))
        rows = {
            split: np.ravel(mat[f"{split}_idx"]).astype(np.int64) - 1
            for split in ("train", "query", "gallery")
        }
    except Exception as error:  # a broken file fails in many ways
        raise StudyError(
            f"{path} cannot be read as the new protocol of CUHK03 ({type(error).__name__}: {error}): fetch it again."
        ) from None
    if not len(names) == len(labels) == len(cameras) or any(
        len(r) and not 0 <= r.min() <= r.max() < len(names) for r in rows.values()
    ):
        raise StudyError(
            f"{path} contradicts itself: {len(names)} names, {len(labels)} labels, {len(cameras)} cameras, or rows beyond them; fetch it again."
        )
    for image, camera in zip(names, cameras, strict=True):
        if "/" in image or "\\" in image or image.split("_")[2:3] != [str(camera)]:
            raise StudyError(
                f"{path} lists '{image}' for camera {camera}: expected a name like 1_001_{camera}_01.png; fetch it again."
            )
    return Config(names, labels, cameras, rows)


def extracted(folder: Path, boxes: str, workers: int | None = None) -> Path:
    """The folder of PNG files, extracted now if it is not there: in parallel, whole or not at all."""
    out = folder / images_folder(boxes)
    if out.is_dir():
        return out
    raw = raw_file(folder)
    if raw is None:
        raise StudyError(
            f"{folder / RELEASE / RAW} is missing: CUHK03 ({boxes}) needs it once, to extract {out}."
        )
    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=folder))
        partial.chmod(0o755)
    except OSError as error:
        raise StudyError(
            f"The images of {raw} cannot be extracted beside it ({error.strerror}): make {folder} writable."
        ) from None
    try:
        _extract(raw, boxes, partial, workers)
        if not out.is_dir():  # another process may have been quicker
            partial.rename(out)
    except OSError as error:
        raise StudyError(
            f"{raw} cannot be read, or its images cannot be written to {out} ({error}): fetch it again or free space."
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def _cells(mat, boxes: str, raw: Path):
    """(file name, image (H, W, 3) uint8) of every filled cell; HDF5 stores MATLAB's arrays with their axes reversed."""
    if boxes not in mat:
        raise StudyError(
            f"{raw} has no images under '{boxes}': it is not the original cuhk-03.mat; fetch it again."
        )
    for pair, reference in enumerate(np.ravel(mat[boxes][()]), start=1):
        for person, row in enumerate(mat[reference][()].T, start=1):
            for number, cell in enumerate(np.ravel(row), start=1):
                image = mat[cell][()].T
                if image.ndim < 3 or image.size == 0:  # an empty cell
                    continue
                name = f"{pair}_{person:03d}_{1 if number <= FIRST_VIEW else 2}_{number:02d}.png"
                if image.dtype != np.uint8 or image.shape[2] != 3:
                    raise StudyError(
                        f"{raw} holds for {name} an array {image.shape} of {image.dtype}, not an RGB image: fetch it again."
                    )
                yield name, image


def _extract(raw: Path, boxes: str, into: Path, workers: int | None) -> None:
    import h5py
    from tqdm import tqdm

    save = lambda name, image: Image.fromarray(np.ascontiguousarray(image)).save(into / name)
    count, waiting = 0, set()
    with (
        h5py.File(raw, "r") as mat,
        ThreadPoolExecutor(threads(workers)) as pool,
        tqdm(desc=f"CUHK03 ({boxes}) to PNG", unit="image", mininterval=1, disable=None) as bar,
    ):
        try:
            for name, image in _cells(mat, boxes, raw):
                if len(waiting) >= WAITING:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    [task.result() for task in done]
                waiting.add(pool.submit(save, name, image))
                count += 1
                bar.update()
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            if isinstance(error, StudyError):
                raise
            raise StudyError(
                f"{raw} is not the original cuhk-03.mat ({error}): fetch it again."
            ) from None
        [task.result() for task in waiting]
    if not count:
        raise StudyError(f"{raw} holds no images under '{boxes}': fetch it again.")
