"""One Re-ID run (§D, §F): what is asked for, all that determines its result, and the result.

The key of a run's record follows the code of this module and of all that it imports. So nothing is
imported here that a run does not use: no tables, no figures, no generator.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from posedive_lib import datasets
from posedive_lib.body.camera import viewpoint
from posedive_lib.body.table import BodyTable
from posedive_lib.datasets.images import read_blocks
from posedive_lib.digests import code_digest, file_digest
from posedive_lib.intake.arrays import begin_npy, map_npy
from posedive_lib.model_digests import published_digests
from posedive_lib.reid.breakdown import azimuth_bins
from posedive_lib.reid.clip_reid_training import ClipReIDModel
from posedive_lib.reid.image_set import Images, ImageSet, resized
from posedive_lib.reid.loop import Machine
from posedive_lib.reid.models import (
    Subsets,
    create_model,
    evaluate_model,
    model_class,
    train_and_evaluate,
)
from posedive_lib.seeds import rng_for
from posedive_lib.study.candidate_files import archived
from posedive_lib.study.job import Job
from posedive_lib.writing import replacing

if TYPE_CHECKING:
    from posedive_lib.params import Params, ReID
    from posedive_lib.params.sections import Paths

PHOTOS, READING = Path("runs/photos"), "posedive_lib.datasets.images"
SECTORS = 8  # of 45° azimuth
NOT_OF_A_RUN = {"seeds", "model", "checkpoint_every"}  # entries of `reid` that change no result


def spec_of(P: Params, job: Job) -> dict[str, Any]:
    """Everything that determines the result of a run: the spec of its record."""
    model = job.model or P.reid.model
    source = pretrained(P, model)
    reid = longer(P.reid, job.longer).model_dump(exclude=NOT_OF_A_RUN)
    return {
        **P.pick("image"),
        "reid": reid,
        "data": _data_digest(job.dataset, P.paths),
        "repeat": job.arm == "repeat",
        "model": model,
        "seed": job.seed,
        "added": _added_spec(job),
        "weights": _weights_digests(source) if source else [],
        "precision": Machine(None, P.reid.precision).precision,
        "azimuth": job.by_azimuth,
        "borders": list(job.borders),
        "bodies": _bodies_digest(job.dataset, P.paths) if job.by_azimuth or job.borders else "",
        "code": code_digest(__name__),
    }


def result_of(P: Params, job: Job, checkpoints: Path | None = None) -> dict[str, Any]:
    """Train and measure: what `reid.models.train_and_evaluate` returns."""
    model = job.model or P.reid.model
    train, query, gallery = photos(P, job.dataset)
    extra = _added(P, job, train)
    return train_and_evaluate(
        train if extra is None else train.plus(extra),
        query,
        gallery,
        longer(P.reid, job.longer),
        pretrained=pretrained(P, model),
        seed=job.seed,
        model=model,
        checkpoints=checkpoints,
        groups=_test_sectors(job.dataset, P.paths) if job.by_azimuth else None,
        subsets=beyond(job, P.paths),
    )


def longer(reid: ReID, factor: int) -> ReID:
    """The parameters of a training `factor` times as long, with the same course of its rates."""
    stages = {}
    for name in ("stage1", "stage2", "resnet"):
        stage = getattr(reid, name)
        if stage.steps is not None:
            change = {"steps": factor * stage.steps}
        else:  # passes through the images
            change = {
                entry: factor * getattr(stage, entry) for entry in ("epochs", "warmup_epochs")
            }
            if hasattr(stage, "milestones"):
                change["milestones"] = [factor * epoch for epoch in stage.milestones]
        stages[name] = stage.model_copy(update=change)
    return reid.model_copy(update=stages) if factor > 1 else reid


def beyond(job: Job, paths: Paths) -> Subsets:
    """Per border of a job: which queries and which gallery images lie beyond it."""
    if not job.borders:
        return {}
    query, gallery = (np.abs(azimuth) for azimuth in _test_azimuths(job.dataset, paths))
    return {f"{border:g}": (query > border, gallery > border) for border in job.borders}


def before_training(P: Params, name: str) -> float:
    """mAP (percent) of the pre-trained CLIP features on a data set's test images."""
    _, query, gallery = photos(P, name)
    size = P.reid.image
    model = ClipReIDModel(P.reid, P.paths.clip, size.height, size.width, precision="fp32")
    return evaluate_model(model.start(), query, gallery)["mAP"]


def save_trained_on_real(P: Params, name: str, folder: Path) -> None:
    """Train CLIP-ReID on a data set's real images with the seed `P.seed` and save it."""
    size = P.reid.image
    reid = create_model("clip-reid", P.reid, P.paths.clip, size.height, size.width)
    reid.fit(photos(P, name)[0], seed=P.seed)
    reid.save(folder)


def pretrained(P: Params, model: str) -> str | None:
    """Published weights that a Re-ID model starts from: a folder or hub id, or None."""
    return getattr(P.paths, model_class(model).weights)


def photos(P: Params, name: str) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Training, query and gallery images of a data set."""
    return read_photos(name, P.paths, P.reid.image.height, P.reid.image.width)


@lru_cache(maxsize=2)
def read_photos(
    name: str, paths: Paths, height: int, width: int
) -> tuple[ImageSet, ImageSet, ImageSet]:
    """See `photos`. StudyError for a data set without test images, before anything is trained."""
    dataset, sets = datasets.of_study(name, paths).require_test(), []
    for split, table in dataset.tables.items():
        resample = "bicubic" if split == "train" else "bilinear"  # as CLIP-ReID resizes
        inputs = _data_digest(name, paths), code_digest(READING), split, height, width
        file = PHOTOS / f"{hashlib.sha256(repr(inputs).encode()).hexdigest()[:20]}.npy"
        if not file.is_file():
            _write(file, table["path"].tolist(), height, width, resample)
        pids, camids = table["pid"].to_numpy(), table["camid"].to_numpy()
        sets.append(ImageSet(map_npy(file, what="photos"), pids, camids))
    train, query, gallery = sets
    return train, query, gallery


def _write(file: Path, paths: list[str], height: int, width: int, resample: str) -> None:
    """Photos in one size as an array on the disk, of which all processes share what is read."""
    with replacing(file) as draft, draft.open("wb") as out:
        for number, block in enumerate(read_blocks(paths, height, width, resample)):
            if not number:
                begin_npy(out, block, len(paths))
            out.write(block.data)


def stored_images(P: Params, file: Path) -> np.ndarray:
    """Images (N, H, W, 3) of a .npy file, in the size of the Re-ID images."""
    size = P.reid.image
    return resized(np.load(file, allow_pickle=False), size.height, size.width, "bicubic")


def generated_set(rows: pd.DataFrame, images: Images) -> ImageSet:
    """Images (N, H, W, 3) of rows, with the identity and the camera of their references."""
    generated = np.ones(len(rows), bool)
    return ImageSet(images, rows["pid"].to_numpy(int), rows["camid"].to_numpy(int), generated)


def repeated(train: ImageSet, count_per_pid: dict[int, int], seed: int) -> ImageSet:
    """The arm `repeat`: real images again, as many of each identity as are asked for.

    Every photo of an identity is repeated equally often, but for the rest of the division.
    """
    rows = [np.zeros(0, int)]
    for pid, count in sorted(count_per_pid.items()):
        own = np.flatnonzero(train.pids == pid)
        rest = rng_for("repeat", seed, pid).choice(own, count % len(own), replace=False)
        rows += [np.tile(own, count // len(own)), rest]
    return train.take(np.concatenate(rows))


def _added(P: Params, job: Job, train: ImageSet) -> ImageSet | None:
    """What an arm adds to the real training images."""
    if job.rows is None or job.rows.empty:
        return None
    if job.arm == "repeat":
        pids, counts = np.unique(job.rows["pid"].to_numpy(int), return_counts=True)
        wanted = dict(zip(pids.tolist(), counts.tolist(), strict=True))
        return repeated(train, wanted, job.seed)
    if job.drawn is not None:
        return generated_set(job.rows, stored_images(P, job.drawn))
    # The arm that drew them: other arms choose among the same images.
    images = archived(job.dataset, job.rows, P.reid.image, job.rows["arm"].iloc[0])
    return generated_set(job.rows, images)


def _added_spec(job: Job) -> dict[str, Any] | None:
    """What decides the added images and labels. A candidate's path holds a digest of its pixels."""
    if job.rows is None:
        return None
    return {
        "labels": job.rows[["pid", "camid"]].to_numpy().tolist(),
        "images": job.rows["path"].tolist() if job.drawn is None else _file_digest(job.drawn),
    }


_file_digest = cache(file_digest)  # many runs add the same images
_weights_digests = cache(published_digests)  # and begin from the same weights


@cache
def _data_digest(name: str, paths: Paths) -> str:
    """Digest of a data set's files and labels."""
    dataset = datasets.of_study(name, paths)
    rows: list[list] = []
    for frame in (dataset.train, dataset.query, dataset.gallery):
        rows += frame[["rel", "pid", "camid"]].to_numpy().tolist()
        rows += [[file_digest(path)] for path in frame["path"]]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


@cache
def _bodies_digest(name: str, paths: Paths) -> str:
    return file_digest(datasets.of_study(name, paths).bodies)


def _test_sectors(name: str, paths: Paths) -> tuple[np.ndarray, np.ndarray]:
    """Azimuth sector (its centre, degrees) of each query and each gallery image."""
    query, gallery = _test_azimuths(name, paths)
    return azimuth_bins(query, SECTORS), azimuth_bins(gallery, SECTORS)


@cache
def _test_azimuths(name: str, paths: Paths) -> tuple[np.ndarray, np.ndarray]:
    """Azimuth (degrees from the front, in (-180, 180]) of each query and each gallery image."""
    dataset = datasets.of_study(name, paths)
    bodies = BodyTable.load(dataset.bodies)

    def azimuths(frame: pd.DataFrame) -> np.ndarray:
        own = bodies.select(frame["rel"].tolist())
        return viewpoint(own.global_orient, own.cam_t)[0]

    return azimuths(dataset.query), azimuths(dataset.gallery)
