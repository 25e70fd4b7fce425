"""CUHK03 as published: `cuhk-03.mat` and `cuhk03_new_protocol_config_{labeled,detected}.mat`.

`cuhk-03.mat` is MATLAB 7.3, which is HDF5. Its images are cells [camera pair][person, image] of
(H, W, 3) uint8: images 1-5 from the first view and 6-10 from the second, some empty. They are
written once as PNG under `<pair>_<person>_<view>_<image>.png`, the names of the configuration,
into `images_<boxes>/` beside the file, which torchreid and fast-reid use, too, or into a folder of
one's own. Nothing absolute is stored, so the folder beside the file may be moved.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from posedive_lib.datasets.images import threads
from posedive_lib.errors import StudyError, unreadable
from posedive_lib.intake.matlab import open_mat73, read_cell, read_mat
from posedive_lib.writing import replacing_folder

if TYPE_CHECKING:
    import h5py

RAW = "cuhk-03.mat"
RELEASE = "cuhk03_release"
PROTOCOL = "zhunzhong07/person-re-ranking, evaluation/data/CUHK03"
FIRST_VIEW = 5  # images 1-5 of a person come from view 1
WAITING = 64  # images held in memory while the writers are busy


class Config(NamedTuple):
    """The new protocol.

    names: file names (N). labels, cameras: (N,), cameras counted from 1. rows: split → its rows,
    counted from 0.
    """

    names: list[str]
    labels: np.ndarray
    cameras: np.ndarray
    rows: dict[str, np.ndarray]


def images_folder(boxes: str) -> str:
    """Name of the folder that the images are extracted into."""
    return f"images_{boxes}"


def raw_file(folder: Path) -> Path | None:
    """`cuhk-03.mat` in the folder or in its `cuhk03_release`, if it is there."""
    places = (folder / RELEASE / RAW, folder / RAW)
    return next((path for path in places if path.is_file()), None)


def read_config(folder: Path, boxes: str) -> Config:
    """The protocol file beside the data; StudyError if it is missing or contradicts itself."""
    name = f"cuhk03_new_protocol_config_{boxes}.mat"
    for where in (folder, folder / RELEASE, folder.parent):
        if (where / name).is_file():
            config = _parse_config(where / name)
            _check_config(where / name, config)
            return config
    raise StudyError(
        f"{folder / name} is missing: fetch the new protocol's file ({PROTOCOL}) and put it there."
    )


def _parse_config(path: Path) -> Config:
    try:
        mat = read_mat(path)
        return Config(
            names=[str(np.ravel(cell)[0]) for cell in np.ravel(mat["filelist"])],
            labels=np.ravel(mat["labels"]).astype(np.int64),
            cameras=np.ravel(mat["camId"]).astype(np.int64),
            rows={
                split: np.ravel(mat[f"{split}_idx"]).astype(np.int64) - 1
                for split in ("train", "query", "gallery")
            },
        )
    except Exception as error:  # a broken file fails in many ways
        what = "cannot be read as the new protocol of CUHK03"
        raise unreadable(path, error, what, "fetch it again") from None


def _check_config(path: Path, config: Config) -> None:
    names, labels, cameras = config.names, config.labels, config.cameras
    beyond = [
        split
        for split, rows in config.rows.items()
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(names)
    ]
    if beyond or not len(names) == len(labels) == len(cameras):
        raise StudyError(
            f"{path} contradicts itself: {len(names)} names, {len(labels)} labels, "
            f"{len(cameras)} cameras, or rows beyond them; fetch it again."
        )
    for image, camera in zip(names, cameras, strict=True):
        if "/" in image or "\\" in image or image.split("_")[2:3] != [str(camera)]:
            raise StudyError(
                f"{path} lists {image!r} for camera {camera}: "
                f"expected a name like 1_001_{camera}_01.png; fetch it again."
            )


def extracted(
    folder: Path, boxes: str, unpacked: Path | None = None, workers: int | None = None
) -> Path:
    """The folder of PNG files, extracted now if it is not there, whole or not at all.

    unpacked: where to, instead of beside the file; another file gets another folder there.
    workers: threads that write. StudyError if the .mat file is missing or damaged, or the images
    cannot be written.
    """
    out = folder / images_folder(boxes)
    if out.is_dir():
        return out
    raw = raw_file(folder)
    if raw is None:
        raise StudyError(
            f"{folder / RELEASE / RAW} is missing: "
            f"CUHK03 ({boxes}) needs it once, to extract {out}."
        )
    if unpacked is not None:
        status = raw.stat()
        text = f"{raw.resolve()} {status.st_size} {status.st_mtime_ns}"
        out = unpacked / hashlib.sha256(text.encode()).hexdigest()[:8] / out.name
        if out.is_dir():
            return out
    with replacing_folder(out, keep=True) as draft:
        try:
            _extract(raw, boxes, draft, workers)
        except OSError as error:
            what = f"cannot be read, or its images cannot be written to {out}"
            raise unreadable(raw, error, what, "fetch it again or free space") from None
    return out


def _cells(mat: "h5py.File", boxes: str, raw: Path) -> Iterator[tuple[str, np.ndarray]]:
    """(file name, image (H, W, 3) uint8) of every cell that holds one; HDF5 reverses the axes."""
    if boxes not in mat:
        raise StudyError(
            f"{raw} has no images under '{boxes}': it is not the original cuhk-03.mat; "
            "fetch it again."
        )
    for pair, reference in enumerate(np.ravel(read_cell(mat[boxes])), start=1):
        for person, row in enumerate(read_cell(mat[reference]).T, start=1):
            for number, cell in enumerate(np.ravel(row), start=1):
                image = read_cell(mat[cell]).T
                if image.ndim < 3 or image.size == 0:  # an empty cell
                    continue
                view = 1 if number <= FIRST_VIEW else 2
                name = f"{pair}_{person:03d}_{view}_{number:02d}.png"
                if image.dtype != np.uint8 or image.shape[2] != 3:
                    raise StudyError(
                        f"{raw} holds for {name} an array {image.shape} of {image.dtype}, "
                        "not an RGB image: fetch it again."
                    )
                yield name, image


def _extract(raw: Path, boxes: str, into: Path, workers: int | None) -> None:
    from tqdm import tqdm

    def save(name: str, image: np.ndarray) -> None:
        Image.fromarray(np.ascontiguousarray(image)).save(into / name)

    count = 0
    waiting: set[Future[None]] = set()
    with (
        open_mat73(raw) as mat,
        ThreadPoolExecutor(threads(workers)) as pool,
        tqdm(desc=f"CUHK03 ({boxes}) to PNG", unit="image", mininterval=1, disable=None) as bar,
    ):
        try:
            for name, image in _cells(mat, boxes, raw):
                if len(waiting) >= WAITING:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for task in done:
                        task.result()  # raises what the writer raised
                waiting.add(pool.submit(save, name, image))
                count += 1
                bar.update()
        except StudyError:
            raise
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise unreadable(
                raw, error, "is not the original cuhk-03.mat", "fetch it again"
            ) from None
        for task in waiting:
            task.result()
    if not count:
        raise StudyError(f"{raw} holds no images under '{boxes}': fetch it again.")
