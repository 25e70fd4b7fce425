"""Train the generator on a data set of one's own (§B), outside any notebook:

    python -m posedive_lib.own_data.train DATASET ROOT --out FOLDER

From phase 1 (`paths.phase1`), or from Stable Diffusion where that is null. The data set's training
photos need their bodies, `smpl.npz`. FOLDER gets the photos' arrays and list, `losses.csv`,
samples, the checkpoint and the finished `generator`. A stopped run goes on. On several GPUs:

    accelerate launch -m posedive_lib.own_data.train DATASET ROOT --out FOLDER
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from posedive_lib import datasets
from posedive_lib import params as parameters
from posedive_lib.augment.card import PHOTOS
from posedive_lib.augment.confidence import PoseEstimator
from posedive_lib.augment.photo_arrays import (
    PhotoEncoder,
    encoded_in_blocks,
    encoding_inputs,
    stable_diffusion_folder,
)
from posedive_lib.augment.selection import training_roles
from posedive_lib.augment.training_set import Training
from posedive_lib.cluster import spread
from posedive_lib.datasets import checks
from posedive_lib.datasets.images import inspect
from posedive_lib.datasets.images import read as read_images
from posedive_lib.devices import chosen_precision, processes
from posedive_lib.digests import folder_digest
from posedive_lib.errors import StudyError, command
from posedive_lib.generator.arrays import TrainingArrays
from posedive_lib.generator.trainer import check_batch, check_data
from posedive_lib.generator.training import starting_model, train
from posedive_lib.places import has_header, refuse_tracked
from posedive_lib.weights import local_folder
from posedive_lib.writing import replacing, writing

if TYPE_CHECKING:
    from posedive_lib.generator.model import PoseDiveModel
    from posedive_lib.params import Params

ARRAYS = "arrays"
LISTED = ["dataset", "rel", "pid", "camid"]  # columns of the list of photos
# What `_encoded` leaves in ARRAYS: folders of arrays, blocks, and drafts of both.
ENCODED = re.compile(r"[0-9a-f]{16}(-\d{5}\.npz)?|\.[0-9a-f]{16}(-\d{5}\.npz)?\..+")


def train_on(
    dataset: datasets.ReIDDataset, out: str | Path, P: Params, *, progress: bool = True
) -> Path:
    """Train on a data set's photos; returns the folder of the generator, `out/generator`.

    StudyError, before anything long starts, where an input is missing or does not fit.
    """
    out, team = Path(out).expanduser().resolve(), processes()
    images = training_photos(dataset)
    check_out(out, dataset)
    check_batch(P.generator, team.num_processes)
    chosen_precision(team.device, P.generator.precision, "generator.precision")
    if team.is_main_process:
        _check_images(images)
    model = starting_model(stable_diffusion_folder(P), P.generator, P.paths.phase1, P.seed)
    work = _Encoding(P)
    one = work.arrays(images.iloc[:1])  # what does not fit together shows at the first photo
    check_data(model, one)
    if not (out / ARRAYS).is_dir():
        _check_disk(out, one, len(images), model)
    with writing(out):
        (out / ARRAYS).mkdir(parents=True, exist_ok=True)
    if progress and team.is_main_process:
        start = P.paths.phase1 or "Stable Diffusion"
        people, steps = images["pid"].nunique(), P.generator.steps
        print(f"{len(images)} photos of {people} identities; {steps} steps from {start}.")
    if team.is_main_process:
        _list_photos(images.assign(dataset=dataset.name), out / PHOTOS)
    data = _encoded(work, images, out / ARRAYS, progress)
    folder = stable_diffusion_folder(P)
    return train(folder, data, P.generator, out, P.seed, model=model, progress=progress)


def training_photos(dataset: datasets.ReIDDataset) -> pd.DataFrame:
    """The real training photos of identities that have two: a pair needs two photos of a person.

    With column `bodies`, their file. StudyError where there is none, or where a photo has no body.
    """
    rows = dataset.train[~dataset.train["generated"].astype(bool)]
    Training.of(replace(dataset, train=rows))  # generated images of an augmented set have no body
    rows = rows[rows.groupby("pid")["pid"].transform("size") > 1]
    if rows.empty:
        raise StudyError(
            f"No identity of {dataset.folder} has two real training photos: "
            "training the generator needs pairs of photos of one person."
        )
    return rows.assign(bodies=str(dataset.bodies)).reset_index(drop=True)


def check_out(out: Path, dataset: datasets.ReIDDataset) -> None:
    """StudyError unless `out` is new, empty, or the folder of such a training, and not in git."""
    if out.is_relative_to(dataset.folder) or dataset.folder.is_relative_to(out):
        raise StudyError(
            f"{out} and the data set's own folder {dataset.folder} lie one in the other: "
            "choose another folder for the training."
        )
    if out.exists() and not out.is_dir():
        raise StudyError(f"{out} is a file: choose a folder for the training.")
    if out.is_dir() and any(out.iterdir()) and not _ours(out):
        raise StudyError(
            f"{out} holds something else than a training (it has no {PHOTOS} with the columns "
            f"{', '.join(LISTED)}): choose a new folder."
        )
    refuse_tracked(out, "the training")


def _ours(out: Path) -> bool:
    """Whether a folder is that of a training: it lists its photos, or has just been begun."""
    arrays = out / ARRAYS
    begun = [*out.iterdir()] == [arrays] and arrays.is_dir() and not any(arrays.iterdir())
    return begun or has_header(out / PHOTOS, LISTED)


def _list_photos(images: pd.DataFrame, file: Path) -> None:
    """Who is in the generator: for the card of what it draws, and for people who withdraw."""
    text = images[LISTED].to_csv(index=False, lineterminator="\n")
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        with replacing(file) as draft:
            draft.write_text(text, encoding="utf-8")


def _check_images(images: pd.DataFrame) -> None:
    """StudyError with preflight's sentence where a photo cannot be read."""
    found = pd.DataFrame(inspect(images["path"]), index=images.index)
    for finding in checks.unreadable(images.join(found)):
        raise StudyError(finding.text)


def _check_disk(out: Path, one: TrainingArrays, photos: int, model: PoseDiveModel) -> None:
    """StudyError where the disk has no room for the arrays, a checkpoint and the generator."""
    arrays = photos * sum(array.nbytes for array in vars(one).values())
    weights = sum(parameter.numel() * 4 for parameter in model.parameters())
    # A checkpoint holds weights, their EMA and two moments, and is written beside the last one.
    there = next(folder for folder in (out, *out.parents) if folder.exists())
    needed, free = arrays + 9 * weights, shutil.disk_usage(there).free
    if needed > free:
        raise StudyError(
            f"{out} has {free / 1e9:.1f} GB free, but arrays, checkpoint and generator need "
            f"{needed / 1e9:.1f} GB: choose another disk."
        )


class _Encoding:
    """Pose estimator and encoders, loaded once."""

    def __init__(self, P: Params):
        self.params, self.encoder = P, PhotoEncoder.of(P)
        self.estimator = PoseEstimator(local_folder(P.paths.pose_estimator))

    def __reduce__(self) -> tuple:
        """Another process loads them itself."""
        return _Encoding, (self.params.alone(),)

    def arrays(self, images: pd.DataFrame) -> TrainingArrays:
        """Arrays of some photos, with Eq. 3 and 4."""
        P = self.params
        photos = read_images(images["path"].tolist(), P.image.height, P.image.width)
        sigma = self.estimator.estimate(photos)[1]
        return self.encoder.arrays(training_roles(images, sigma, P.augment), progress=False)

    def key(self, images: pd.DataFrame) -> str:
        """Of everything that determines the arrays, in 16 hexadecimal digits."""
        P = self.params
        text = json.dumps(
            {
                **encoding_inputs(P, images),
                **P.pick("augment.tau_ref", "augment.tau_tar", "augment.keypoints"),
                "images": images[["rel", "pid", "camid"]].to_numpy().tolist(),
                "pose estimator": folder_digest(local_folder(P.paths.pose_estimator)),
            }
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _encoded(work: _Encoding, images: pd.DataFrame, folder: Path, progress: bool) -> TrainingArrays:
    """Arrays of all photos; those of other photos or parameters are removed, and nothing else."""
    team, key = processes(), work.key(images)
    if team.is_main_process:
        with writing(folder):
            for other in folder.iterdir():
                old = not other.name.startswith((key, f".{key}"))
                if old and ENCODED.fullmatch(other.name):
                    shutil.rmtree(other) if other.is_dir() else other.unlink()
    team.wait_for_everyone()
    by = partial(spread, work.params.scale.scheduler)
    made = encoded_in_blocks(images, folder / key, work.arrays, spread=by, progress=progress)
    return TrainingArrays.read(made)


@command("Stopped: the same command goes on from here.")
def main(arguments: list[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    P = parameters.load(given.params)
    generator = train_on(datasets.load(given.dataset, given.root), given.out, P)
    if processes().is_main_process:
        print(f"The generator: {generator}")
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m posedive_lib.own_data.train",
        description="Train the generator on the training photos of a Re-ID data set.",
    )
    made.add_argument("dataset", choices=datasets.NAMES)
    made.add_argument("root", help="folder of the data set, with smpl.npz beside its images")
    made.add_argument("--out", required=True, help="folder of the training")
    made.add_argument("--params", default="params.yaml", help="default: %(default)s")
    return made


if __name__ == "__main__":
    sys.exit(main())
