"""SMPL parameters for a data set that has none: ViTPose's key points, then `fitting` (ours).

    python -m posedive_lib.own_data.fit market1501 build/world --out smpl.npz

Takes the training, query and gallery images of a data set in any supported layout, and writes the
table `smpl.npz` beside the images. Its pixels are those of each image in its own size. A stopped
run goes on: finished batches lie in `OUT.parts` until the table is written. They belong to what
determines them: images, body, motions, pose estimator, settings, code of the fit.
"""

import argparse
import hashlib
import re
import sys
from dataclasses import asdict, fields
from functools import partial
from os.path import expanduser
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from posedive_lib import datasets
from posedive_lib import params as parameters
from posedive_lib.augment.confidence import PoseEstimator
from posedive_lib.body.poses import load_poses
from posedive_lib.body.smpl import load_smpl
from posedive_lib.body.table import BodyTable
from posedive_lib.cluster import Work, spread
from posedive_lib.datasets.arguments import add_dataset, add_params, dataset_of
from posedive_lib.datasets.images import resized
from posedive_lib.datasets.loading import source_of
from posedive_lib.datasets.table import BODIES
from posedive_lib.digests import code_digest, file_digest, files_below
from posedive_lib.errors import StudyError, command
from posedive_lib.intake.arrays import read_npz, write_npz
from posedive_lib.intake.frames import check_frames
from posedive_lib.intake.images import open_rgb
from posedive_lib.own_data.fitting import FitSettings, Fitter, fit_rows
from posedive_lib.own_data.heading import Heading
from posedive_lib.weights import local_folder
from posedive_lib.writing import writing

BATCH = 64
FPS = 10.0  # of the motions that are learned from: neighbours at full rate say nothing new
SPLITS = ("train", "query", "gallery")
PART = re.compile(r"\.?[0-9a-f]{16}-(points|bodies)-\d{5}\.npz.*")  # finished batches, and drafts

Columns = dict[str, np.ndarray]


def images_of(dataset: datasets.ReIDDataset, splits: tuple[str, ...]) -> pd.DataFrame:
    """Paths (`path`, `rel`) of the splits' images, each once."""
    parts = [getattr(dataset, split)[["path", "rel"]] for split in splits]
    return pd.concat(parts).drop_duplicates("rel", ignore_index=True)


def key_of(
    images: pd.DataFrame,
    *,
    body: str,
    motions: str,
    estimator: str,
    focal: float,
    settings: FitSettings | None = None,
) -> str:
    """Digest of everything that determines `fit_images`, in 16 hexadecimal digits."""
    folders = motions, local_folder(estimator)
    files = [*images["path"], body, *(path for folder in folders for path in files_below(folder))]
    settings = settings or FitSettings()
    code = code_digest("posedive_lib.own_data.fitting", "posedive_lib.augment.confidence")
    names = images["rel"].tolist()  # the table names the photos
    text = repr((asdict(settings), focal, FPS, BATCH, code, names, *map(file_digest, files)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def estimate(paths: list[str], estimator: PoseEstimator) -> Columns:
    """Key points of image files of any sizes.

    keypoints (N, 17, 2) and size (N, 2), height and width, in pixels of the files;
    confidence (N, 17).
    """
    images = [open_rgb(path) for path in paths]
    size = np.array([(image.height, image.width) for image in images])
    shown = size.copy()
    # An estimator with an input of 2:1 knows crops as the generator does: stretched to fill it.
    # Published ones have 3:4, and know padded crops.
    if estimator.input_size[0] == 2 * estimator.input_size[1]:
        shown[:, 1] = np.maximum(1, size[:, 0] // 2)
    points = np.zeros((len(images), 17, 2), np.float32)
    sigma = np.zeros((len(images), 17), np.float32)
    for height, width in np.unique(shown, axis=0):  # the estimator takes images of one size
        rows = np.flatnonzero((shown == (height, width)).all(1))
        pixels = [resized(images[row], height, width) for row in rows]
        points[rows], sigma[rows] = estimator.estimate(np.stack(pixels))
    points *= (size / shown)[:, None, ::-1]
    return {"keypoints": points, "confidence": sigma, "size": size}


def fit_images(
    images: pd.DataFrame,
    out: str | Path,
    *,
    body: str,
    motions: str,
    estimator: str,
    focal: float,
    settings: FitSettings | None = None,
    scheduler: str = "",
    progress: bool = True,
) -> BodyTable:
    """Fit every image (columns path, rel) and write the table to `out`.

    scheduler: of a cluster whose workers take the batches (`scale.scheduler`).
    Goes on where a stopped call with the same inputs was. StudyError for an input that is missing
    or broken, and for a place that cannot be written.
    """
    out, settings = Path(out), settings or FitSettings()
    if out.suffix != ".npz":
        raise StudyError(f"{out} is no .npz: name the table of bodies, such as smpl.npz")
    if images.empty:
        raise StudyError("There are no images to fit: give at least one")
    check_frames(motions)
    pose_estimator = PoseEstimator(estimator)
    fitter = Fitter(load_smpl(body), load_poses(motions, fps=FPS), focal=focal, settings=settings)
    models = {"body": body, "motions": motions, "estimator": estimator}
    key = key_of(images, **models, focal=focal, settings=settings)
    parts = out.with_name(out.name + ".parts")
    with writing(parts):
        parts.mkdir(parents=True, exist_ok=True)
        _remove(parts, but=key)
    batches = [images.iloc[start : start + BATCH] for start in range(0, len(images), BATCH)]
    sizes = [len(batch) for batch in batches]

    def made(what: str, work: Work, jobs: list[tuple], label: str) -> list[Columns]:
        return _parts(sizes, parts / f"{key}-{what}", work, jobs, label, scheduler, progress)

    files = [(batch["path"].tolist(),) for batch in batches]
    found = made("points", partial(_found, pose_estimator), files, "key points")
    everything = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    cue = fitter.heading(everything["keypoints"], everything["confidence"])
    cues = [
        None if cue is None else cue[start : start + BATCH]
        for start in range(0, len(images), BATCH)
    ]
    names = [batch["rel"].to_numpy(str) for batch in batches]
    jobs = list(zip(found, names, cues, strict=True))
    columns = made("bodies", partial(_fitted, fitter), jobs, "fit")
    table = BodyTable.joined([BodyTable(**part) for part in columns])
    table.save(out)
    with writing(parts):
        _remove(parts)
        if not any(parts.iterdir()):
            parts.rmdir()
    return table


def _remove(parts: Path, but: str | None = None) -> None:
    """Remove finished batches, those of the key `but` excepted; other files are the user's."""
    for file in parts.iterdir():
        if PART.fullmatch(file.name) and not (but and file.name.startswith(but)):
            file.unlink()


def _found(estimator: PoseEstimator, paths: list[str]) -> Columns:
    return estimate(paths, estimator)


def _fitted(fitter: Fitter, found: Columns, names: np.ndarray, cue: Heading | None) -> Columns:
    height, width = found["size"].T
    table = fit_rows(fitter, found["keypoints"], found["confidence"], height, width, names, cue)
    return {field.name: getattr(table, field.name) for field in fields(table)}


def _parts(
    sizes: list[int],
    stem: Path,
    work: Work,
    jobs: list[tuple],
    label: str,
    scheduler: str,
    progress: bool,
) -> list[Columns]:
    """`work(*job)` of every batch, or what an earlier call left of it in `stem`-i.npz."""
    paths = [stem.with_name(f"{stem.name}-{i:05d}.npz") for i in range(len(sizes))]
    waiting = [i for i, path in enumerate(paths) if not path.exists()]
    with tqdm(total=sum(sizes), desc=label, unit="image", disable=not progress) as bar:
        bar.update(sum(sizes) - sum(sizes[i] for i in waiting))
        written = [(paths[i], *jobs[i]) for i in waiting]
        for number, _ in spread(scheduler, partial(_write, work), written):
            bar.update(sizes[waiting[number]])
    return [read_npz(path, what="a finished batch") for path in paths]


def _write(work: Work, path: Path, *job: object) -> None:
    if not path.exists():  # the worker that wrote it may be lost since
        write_npz(path, work(*job))


@command("Stopped: the same command goes on from here.")
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fit SMPL to every image of a data set.")
    add_dataset(parser)
    parser.add_argument(
        "--out",
        type=expanduser,
        help="the table (default: that of --bodies, else smpl.npz in the data set's folder)",
    )
    parser.add_argument("--splits", nargs="+", default=list(SPLITS), choices=SPLITS)
    add_params(
        parser, "paths.body, paths.motions, paths.pose_estimator, conditions.focal and scale"
    )
    given = parser.parse_args(arguments)
    P, dataset = parameters.load(given.params), dataset_of(given)
    out = dataset.folder / BODIES
    if given.bodies:
        out = Path(given.bodies) / f"{source_of(given.dataset)}.npz"
    if given.out:
        out = Path(given.out)
    if out.exists():
        raise StudyError(f"{out} exists: name another table with --out, or remove it first")
    table = fit_images(
        images_of(dataset, tuple(given.splits)),
        out,
        body=P.paths.body,
        motions=P.paths.motions,
        estimator=P.paths.pose_estimator,
        focal=P.conditions.focal,
        scheduler=P.scale.scheduler,
    )
    print(f"{out}: {len(table)} bodies")
    return 0


if __name__ == "__main__":
    sys.exit(main())
