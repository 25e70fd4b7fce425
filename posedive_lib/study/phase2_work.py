"""The generator's training images as arrays, encoded once, and what determines a training (§B).

The key of the arrays follows the code of this module and of all that it imports. So nothing is
imported here that encoding does not use.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from posedive_lib.augment.targets import rendering_of
from posedive_lib.bench.runs import RunStore
from posedive_lib.body.rendering import render_many
from posedive_lib.body.table import BodyTable
from posedive_lib.datasets.images import read as read_images
from posedive_lib.digests import code_digest, file_digest, folder_digest
from posedive_lib.generator.arrays import TrainingArrays, TrainingImages, encode
from posedive_lib.generator.encoders import Encoders
from posedive_lib.weights import local_folder

if TYPE_CHECKING:
    from posedive_lib.params import Params

STORE = RunStore("runs/generator")
GENERATOR = Path("build/generator")  # where the pipeline passes it on
TRAINING = "posedive_lib.generator.training"
# Entries of `generator` that change no weights.
NOT_OF_A_TRAINING = {"sampling", "log_every", "checkpoint_every", "sample_every"}


def stable_diffusion_folder(P: Params) -> Path:
    """Local folder of Stable Diffusion, at the pinned revision where it is a hub id."""
    return local_folder(P.paths.stable_diffusion, P.generator.revision)


def recipe_of(P: Params) -> dict[str, Any]:
    """The parameters of the generator that change its weights."""
    return P.generator.model_dump(exclude=NOT_OF_A_TRAINING)


def encoded(P: Params, images: pd.DataFrame) -> tuple[Path, dict[str, Any]]:
    """File of the arrays that the generator trains on, made once.

    images: as `phase2.training_images` gives them. With it all that determines a training on these
    arrays, but for its recipe and seed.
    """
    spec = _spec(P, images)
    path = STORE.folder(spec) / "arrays.npz"
    if not path.is_file():
        _encode(P, images).save(path)
    phase1 = folder_digest(local_folder(P.paths.phase1)) if P.paths.phase1 else None
    return path, {"arrays": spec, "phase1": phase1, "code": code_digest(TRAINING)}


def _spec(P: Params, images: pd.DataFrame) -> dict[str, Any]:
    """Everything that determines the arrays."""
    columns = ["dataset", "rel", "pid", "camid", "reference_ok", "target_ok"]
    folders = images["folder"].unique().tolist()
    weights = [stable_diffusion_folder(P)]
    weights += [local_folder(w) for w in (P.generator.vae, P.generator.image_encoder) if w]
    return {
        "what": "arrays",
        **P.pick("image", "conditions", "generator.clip_tokens"),
        "images": images[columns].to_numpy().tolist(),
        "photos": [file_digest(path) for path in images["path"]],
        "bodies": [file_digest(Path(folder) / "smpl.npz") for folder in folders],
        "body": file_digest(P.paths.body),
        "weights": [folder_digest(folder) for folder in weights],
        "code": code_digest(__name__),
    }


def _encode(P: Params, images: pd.DataFrame) -> TrainingArrays:
    """Photos, and the conditions of their bodies in the photos' own cameras."""
    tables = [
        BodyTable.load(Path(str(folder)) / "smpl.npz").select(rows["rel"].tolist())
        for folder, rows in images.groupby("folder", sort=False)
    ]
    drawn = render_many(BodyTable.joined(tables), rendering_of(P), progress="conditions")
    photos = TrainingImages(
        photos=read_images(images["path"].tolist(), P.image.height, P.image.width),
        depth=drawn.depth,
        normals=drawn.normals,
        skeleton=drawn.skeleton,
        pid=images["pid"].to_numpy(),
        camid=images["camid"].to_numpy(),
    )
    generator = P.generator
    encoders = Encoders.from_stable_diffusion(
        stable_diffusion_folder(P), vae=generator.vae, image_encoder=generator.image_encoder
    )
    return replace(
        encode(photos, encoders, clip_tokens=generator.clip_tokens),
        reference_ok=images["reference_ok"].to_numpy(),
        target_ok=images["target_ok"].to_numpy(),
    )
