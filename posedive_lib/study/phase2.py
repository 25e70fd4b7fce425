"""Phase 2 of the generator: its training on Re-ID photos (§B, §E).

Long work lives in `runs/`, keyed by everything that determines it. What the pipeline passes on is
copied to `build/`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from posedive_lib import datasets
from posedive_lib.augment.confidence import PoseEstimator
from posedive_lib.augment.photo_arrays import stable_diffusion_folder
from posedive_lib.augment.scoring import confidence_of
from posedive_lib.augment.selection import training_roles
from posedive_lib.cluster import spread
from posedive_lib.generator.arrays import TrainingArrays
from posedive_lib.study import phase2_work
from posedive_lib.study.names import SPLIT_OF_MSMT17, sources
from posedive_lib.study.phase2_work import GENERATOR, STORE, recipe_of
from posedive_lib.writing import replacing_folder

if TYPE_CHECKING:
    from posedive_lib.datasets import ReIDDataset
    from posedive_lib.params import Params

APART = 100_000  # between the identities of two data sets


def training_images(P: Params) -> pd.DataFrame:
    """Training images of the generator, from all data sets of the study.

    Columns: path, rel, pid, camid, dataset, bodies; reference_ok and target_ok say whether an image
    may be a pair's reference (Eq. 3) and its target (Eq. 4: here the target is a photo itself).
    Identities of different sets never coincide. Of MSMT17 only those that all MSMT17-S training
    sets of the study hold: phase 2 sees no photo in a viewpoint or pose that they test.
    """
    loaded: dict[str, ReIDDataset] = {
        name: datasets.of_study(name, P.paths) for name in P.study.datasets
    }
    splits = [data for name, data in loaded.items() if name.startswith(SPLIT_OF_MSMT17)]
    parts = []
    for number, name in enumerate(sources(P.study.datasets)):
        rows = loaded[name].train
        for split in splits if name.startswith("msmt17") else []:
            rows = rows[rows["rel"].isin(split.train["rel"])]
        # A pair needs two photos of a person.
        rows = rows[rows.groupby("pid")["pid"].transform("size") > 1]
        rows = rows.assign(
            dataset=name, bodies=str(loaded[name].bodies), pid=rows["pid"] + APART * number
        )
        parts.append(rows)
    images = pd.concat(parts, ignore_index=True)
    return training_roles(images, confidence(P, images["path"]), P.augment)


def confidence(P: Params, paths: Iterable[str | Path]) -> np.ndarray:
    """Eq. 2: confidence σ_k (N, 17) of photos."""
    estimator, size = PoseEstimator(P.paths.pose_estimator), (P.image.height, P.image.width)
    files = [str(path) for path in paths]
    return confidence_of(estimator, files, *size, scheduler=P.scale.scheduler)


def encoded(P: Params, images: pd.DataFrame) -> tuple[Path, dict[str, Any]]:
    """`phase2_work.encoded`, by a scheduler's workers where the parameters name one."""
    return phase2_work.encoded(P, images, partial(spread, P.scale.scheduler))


def train_generator(P: Params, images: pd.DataFrame) -> Path:
    """Train on `training_images`; returns `build/generator`: weights, parameters, losses.csv."""
    from posedive_lib.generator.training import train  # takes seconds: diffusers comes with it

    arrays, spec = encoded(P, images)
    out = STORE.folder({"what": "training", "seed": P.seed, "recipe": recipe_of(P), **spec})
    saved = train(
        stable_diffusion_folder(P),
        TrainingArrays.read(arrays),
        P.generator,
        out,
        P.seed,
        init_from=P.paths.phase1,
    )
    with replacing_folder(GENERATOR) as draft:
        shutil.copytree(saved, draft, dirs_exist_ok=True)
        shutil.copy(out / "losses.csv", draft / "losses.csv")
    return GENERATOR
