"""Train the generator on a data set of one's own (§B), outside any notebook:

    python -m posedive_lib.own_data.train DATASET ROOT --out FOLDER

From phase 1 (`paths.phase1`), or from Stable Diffusion where that is null. The data set's training
photos need their bodies, `smpl.npz`. FOLDER gets the photos' arrays and list, `losses.csv`,
samples, the checkpoint and the finished `generator`. A stopped run goes on. One FOLDER holds one
training: other photos or parameters need another FOLDER. On several GPUs:

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
from os.path import expanduser
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from posedive_lib.datasets.arguments import add_dataset, add_params, dataset_of
from posedive_lib.datasets.images import inspect
from posedive_lib.datasets.images import read as read_images
from posedive_lib.devices import chosen_precision, processes
from posedive_lib.errors import StudyError, command
from posedive_lib.generator import saved
from posedive_lib.generator.arrays import TrainingArrays
from posedive_lib.generator.trainer import check_batch, check_data
from posedive_lib.generator.training import PACE, starting_model, train
from posedive_lib.intake.files import read_json
from posedive_lib.intake.paths import resolved
from posedive_lib.model_digests import model_digest
from posedive_lib.own_data import made_for
from posedive_lib.places import has_header, refuse_tracked
from posedive_lib.weights import local_folder
from posedive_lib.writing import alone_in, replacing, writing

if TYPE_CHECKING:
    from posedive_lib.generator.model import PoseDiveModel
    from posedive_lib.params import Params

ARRAYS = "arrays"
RECORD = "run.json"  # what the training in a folder is of
LISTED = ["dataset", "rel", "pid", "camid"]  # columns of the list of photos
# What `_encoded` leaves in ARRAYS: folders of arrays, blocks, and drafts of both.
ENCODED = re.compile(r"[0-9a-f]{16}(-\d{5}\.npz)?|\.[0-9a-f]{16}(-\d{5}\.npz)?\..+")


def train_on(
    dataset: datasets.ReIDDataset, out: str | Path, P: Params, *, progress: bool = True
) -> Path:
    """Train on a data set's photos; returns the folder of the generator, `out/generator`.

    StudyError, before anything long starts, where an input is missing or does not fit.
    """
    out, team = resolved(out), processes()
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
    listed = images.assign(dataset=dataset.name)
    inputs, finished = work.inputs(images), out / "generator"
    about = work.about(dataset.name, inputs)
    if not _is_finished(out, about, listed):
        if not (out / ARRAYS).is_dir():
            _check_disk(out, one, len(images), model)
        # `train` takes the lock again: until then no other run may encode here.
        with alone_in(out, "training", first=team.is_main_process):
            with writing(out):
                (out / ARRAYS).mkdir(exist_ok=True)
            if team.is_main_process:
                _write(json.dumps(about, indent=1) + "\n", out / RECORD)
                _write(_list_of(listed), out / PHOTOS)
                if progress:
                    start = P.paths.phase1 or "Stable Diffusion"
                    people, steps = images["pid"].nunique(), P.generator.steps
                    print(
                        f"{len(images)} photos of {people} identities; {steps} steps from {start}."
                    )
            data = _encoded(work, images, out / ARRAYS, _digest(inputs), progress)
        folder = stable_diffusion_folder(P)
        train(folder, data, P.generator, out, P.seed, model=model, progress=progress)
    if team.is_main_process:
        made_for.write(P, finished)
    return finished


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
    known = {path.name for path in out.iterdir()} <= {ARRAYS, RECORD, ".lock"}
    begun = known and not (arrays.is_dir() and any(arrays.iterdir()))
    return begun or has_header(out / PHOTOS, LISTED)


def _is_finished(out: Path, about: dict[str, Any], listed: pd.DataFrame) -> bool:
    """Whether this very training has been made in `out`.

    StudyError where `out` holds a checkpoint or a generator of another one: that would be lost.
    """
    finished = (out / "generator" / saved.SETTINGS).is_file()
    if not finished and not (out / "checkpoint.safetensors").is_file():
        return False
    known = (out / RECORD).is_file()
    before = read_json(out / RECORD) if known else {}
    if known:
        other = [name for name, value in about.items() if before.get(name) != value]
        other = [name for name in other if finished or name != "steps"]
    else:  # a training of before there was a record
        other = [] if _read(out / PHOTOS) == _list_of(listed) else ["photos"]
    if other == ["steps"]:
        raise StudyError(
            f"{out} holds a finished training of {before['steps']} steps: choose another folder "
            f"for {about['steps']}."
        )
    if other:
        raise StudyError(
            f"{out} holds a training with other {', '.join(other)}: choose another folder, or "
            "remove that one."
        )
    return finished and known


def _list_of(images: pd.DataFrame) -> str:
    """Who is in the generator: for the card of what it draws, and for people who withdraw."""
    return images[LISTED].to_csv(index=False, lineterminator="\n")


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _write(text: str, file: Path) -> None:
    if _read(file) != text:
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

    def inputs(self, images: pd.DataFrame) -> dict[str, Any]:
        """Everything that determines the arrays."""
        P = self.params
        return {
            **encoding_inputs(P, images),
            **P.pick("augment.tau_ref", "augment.tau_tar", "augment.keypoints"),
            "images": images[["rel", "pid", "camid"]].to_numpy().tolist(),
            "pose estimator": model_digest(P.paths.pose_estimator),
        }

    def about(self, dataset: str, inputs: dict[str, Any]) -> dict[str, Any]:
        """What a training on a data set is of, from `inputs`: other values are another training.

        Not the code, so that an unfinished one goes on after an update. Nor files that come to the
        hub's copy of a model.
        """
        P, g = self.params, self.params.generator
        left_out = ("code", "pose estimator")  # the latter is among the weights
        encoded = {name: value for name, value in inputs.items() if name not in left_out}
        parts = [source for source in (g.vae, g.image_encoder, P.paths.pose_estimator) if source]
        diffusion = model_digest(P.paths.stable_diffusion, g.revision)
        encoded["weights"] = [diffusion, *map(model_digest, parts)]
        return {
            "data set": dataset,
            "photos, image settings or encoders": _digest(encoded),
            "parameters of the generator": g.model_dump(mode="json", exclude={*PACE}),
            "starting weights": model_digest(P.paths.phase1) if P.paths.phase1 else diffusion,
            "seed": P.seed,
            "steps": P.generator.steps,
        }


def _digest(inputs: dict[str, Any]) -> str:
    """In 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]


def _encoded(
    work: _Encoding, images: pd.DataFrame, folder: Path, key: str, progress: bool
) -> TrainingArrays:
    """Arrays of all photos; those of other photos or parameters are removed, and nothing else.

    key: `_digest` of the work's inputs.
    """
    team = processes()
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
    generator = train_on(dataset_of(given), given.out, P)
    if processes().is_main_process:
        print(f"The generator: {generator}")
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m posedive_lib.own_data.train",
        description="Train the generator on the training photos of a Re-ID data set.",
    )
    add_dataset(made)
    made.add_argument("--out", type=expanduser, required=True, help="folder of the training")
    add_params(made)
    return made


if __name__ == "__main__":
    sys.exit(main())
