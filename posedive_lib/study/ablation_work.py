"""One variant of the generator: what determines it, its training, and its images (§B, §H).

The key of its record follows the code of this module and of all that it imports.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from posedive_lib.augment.photo_arrays import stable_diffusion_folder
from posedive_lib.bench.runs import RunStore, write_array
from posedive_lib.digests import code_digest
from posedive_lib.generator.arrays import TrainingArrays
from posedive_lib.generator.sampling import load
from posedive_lib.generator.training import train
from posedive_lib.study.phase2_work import encoded, recipe_of

if TYPE_CHECKING:
    from posedive_lib.params import Params
    from posedive_lib.study.quality import Targets

STORE = RunStore("runs/ablation")
Changes = dict[str, dict[str, Any]]  # section of the parameters -> entry -> value


@dataclass(frozen=True)
class Variant:
    """A generator that is trained otherwise.

    P: its parameters. arrays: the folder that it trains on. spec: all that determines its weights
    but the seed.
    """

    P: Params
    arrays: Path
    spec: dict[str, Any]


def variant_of(P: Params, images: pd.DataFrame, changed: Changes, steps: int) -> Variant:
    """The parameters with changes, for so many training steps on the given images."""
    pace = {"steps": steps, "sample_every": 0}
    generator = P.generator.model_copy(update=pace | changed.get("generator", {}))
    paths = P.paths.model_copy(update=changed.get("paths", {}))
    own = P.model_copy(update={"generator": generator, "paths": paths})
    arrays, spec = encoded(own, images)
    return Variant(own, arrays, {**spec, "recipe": recipe_of(own), "code": code_digest(__name__)})


def train_variant(variant: Variant, seed: int, folder: Path) -> Path:
    """Folder of the trained generator; one that is finished is found again."""
    P = variant.P
    return train(
        stable_diffusion_folder(P),
        TrainingArrays.read(variant.arrays),
        P.generator,
        folder,
        seed,
        progress=False,
        init_from=P.paths.phase1,
    )


def draw_variant(variant: Variant, seed: int, folder: Path, targets: Targets, file: Path) -> None:
    """Train in `folder`, and leave the images of the targets in `file`."""
    saved = train_variant(variant, seed, folder)
    images = load(saved, stable_diffusion_folder(variant.P)).generate(
        targets.references,
        np.arange(len(targets.pids)),
        targets.skeleton,
        targets.depth,
        targets.normals,
        targets.seeds,
        progress=False,
        **variant.P.generator.sampling.model_dump(),
    )
    write_array(file, images)
