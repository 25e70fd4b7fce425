"""Augment a data set: from its folder to the same layout with generated training images, a manifest and a contact sheet (§B, §E).

The candidates stay in a folder beside the result, one shard at a time, so that an interrupted run goes on where it was, and other
thresholds or more images per identity take what is there.
"""

import hashlib
import shlex
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from posedive_lib import datasets
from posedive_lib.augment import candidates
from posedive_lib.augment.candidates import for_writing, usable_references
from posedive_lib.augment.confidence import PoseEstimator
from posedive_lib.augment.distribution import Training
from posedive_lib.augment.diversify import plan, policies_of
from posedive_lib.augment.selection import select, shortfall
from posedive_lib.body.camera import viewpoint
from posedive_lib.body.poses import load_poses
from posedive_lib.body.rendering import Rendering
from posedive_lib.body.table import BodyTable
from posedive_lib.datasets.images import read as read_images
from posedive_lib.datasets.write import check_free, write_augmented
from posedive_lib.errors import StudyError
from posedive_lib.own_data.contact_sheet import contact_sheet


@dataclass(frozen=True)
class Augmented:
    """What `augment` made: where, all candidates with their scores, the rows that were added, and the identities that fall short."""

    dataset: datasets.ReIDDataset
    manifest: pd.DataFrame
    added: pd.DataFrame
    short: pd.DataFrame


def training_bodies(dataset: datasets.ReIDDataset) -> Training:
    """Bodies and viewpoints of the training images, from `smpl.npz` in the data set's folder; StudyError where there is none."""
    path = dataset.folder / "smpl.npz"
    if not path.is_file():
        raise StudyError(
            f"{path} is missing: fit SMPL to the images first, with `python -m posedive_lib.own_data.fit {dataset.name} {shlex.quote(str(dataset.root))}`."
        )
    bodies = BodyTable.load(path).select(dataset.train["rel"].tolist())
    return Training(bodies, *viewpoint(bodies.global_orient, bodies.cam_t))


def digest(*paths: str | Path) -> str:
    """SHA-256 over the names and contents of files, and of all files below folders."""
    total = hashlib.sha256()
    for path in map(Path, paths):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                total.update(f"{file.relative_to(path).as_posix()}\n".encode())
                with open(file, "rb") as stream:
                    total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def _check_generator(folder: str | Path | None) -> None:
    if folder is None or not Path(folder).is_dir():
        raise StudyError(
            f"There is no generator at {folder}: train one (`dvc repro 03_generator_training`) or name its folder."
        )
    from posedive_lib.generator.saved import SETTINGS

    if not (Path(folder) / SETTINGS).is_file():
        raise StudyError(
            f"{folder} holds no trained generator (it has no {SETTINGS}; Stable Diffusion alone follows no pose): name a generator's folder."
        )


def augment(
    name: str,
    root: str | Path,
    out: str | Path,
    P,
    *,
    generator: str | Path | None = None,
    painter=None,
    arm: str = "pose-dive",
    overwrite: bool = False,
    progress: bool = True,
) -> Augmented:
    """Diversify, generate, filter and write a data set.

    name, root: as in `datasets.load`. out: folder of the augmented data set; candidates go to `<out>.candidates`. P: parameters
    (`posedive_lib.params.load`). generator: a saved generator's folder; or a `painter` (see `candidates`) instead of one.
    arm: which of `diversify.ARMS` to make. Raises StudyError before anything long starts where an input is missing.
    """
    out, a = Path(out).expanduser().resolve(), P.augment
    if painter is None:
        _check_generator(generator)
    dataset = datasets.load(name, root)
    check_free(dataset, out, overwrite)
    training, source, estimator = (
        training_bodies(dataset),
        load_poses(P.paths.motions),
        PoseEstimator(P.paths.pose_estimator),
    )
    height, width = P.image.height, P.image.width
    _, sigma = estimator.estimate(
        read_images(dataset.train["path"], height, width),
        progress="references" if progress else None,
    )
    references = usable_references(dataset.train, sigma, tau_ref=a.tau_ref, keypoints=a.keypoints)
    rows = plan(
        name,
        references,
        training,
        source,
        n_per_pid=a.candidates_per_pid,
        azimuth=a.azimuth,
        elevation=a.elevation,
        seed=P.seed,
        **policies_of(arm, a.policy),
    )
    key = "custom painter"
    if painter is None:
        from posedive_lib.generator import load

        sampling = P.generator.sampling
        painter = candidates.diffusion(
            load(generator, P.paths.stable_diffusion),
            steps=sampling.steps,
            guidance=sampling.guidance,
            batch_size=sampling.batch_size,
        )
        key = f"{digest(generator, P.paths.stable_diffusion)} {sampling.steps} {sampling.guidance}"
    key = f"{key} {digest(P.paths.pose_estimator, P.paths.motions, P.paths.body, dataset.folder / 'smpl.npz')} {digest(*dataset.train['path'])}"
    c, store = P.conditions, out.with_name(f"{out.name}.candidates")
    rendering = Rendering(
        P.paths.body, height, width, c.depth_near, c.depth_far, c.focal, P.world.workers
    )
    manifest = candidates.generate(
        rows,
        dataset.train,
        training,
        source,
        estimator=estimator,
        painter=painter,
        rendering=rendering,
        limits=a,
        out=store,
        key=key,
        images_per_pid=a.images_per_pid,
        progress=progress,
    )
    added = select(manifest, a, images_per_pid=a.images_per_pid)
    used = set(zip(added["pid"], added["index"]))
    listed = manifest.assign(
        added=[pair in used for pair in zip(manifest["pid"], manifest["index"])]
    )
    sheet = contact_sheet(manifest, dataset.train, store, height=height, width=width)

    def describe(tree: Path) -> None:
        listed.to_csv(tree / "manifest.csv", index=False, lineterminator="\n")
        sheet.save(tree / "contact_sheet.jpg", quality=92)

    written = write_augmented(
        dataset, for_writing(added, store), out, overwrite=overwrite, also=describe
    )
    return Augmented(written, listed, added, shortfall(manifest, added, a.images_per_pid))
