"""Candidates drawn again by another generator: same people, poses, views and noise.

The key of a record follows the code of this module and of all that it imports.
"""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from posedive_lib import datasets
from posedive_lib.augment.candidates import load_bodies
from posedive_lib.augment.photo_arrays import stable_diffusion_folder
from posedive_lib.augment.targets import rendering_of
from posedive_lib.bench.runs import RunStore, write_array
from posedive_lib.body.rendering import render_many
from posedive_lib.datasets.images import read as read_images
from posedive_lib.digests import array_digest, code_digest, folder_digest
from posedive_lib.generator.drawing import SavedGenerator
from posedive_lib.model_digests import model_digest
from posedive_lib.study.candidate_files import store_of

if TYPE_CHECKING:
    from posedive_lib.params import Params


def draw(P: Params, name: str, rows: pd.DataFrame, folder: Path, pool: Executor) -> Path:
    """File with images (N, H, W, 3) of manifest rows by the generator in `folder`, drawn once.

    pool: who draws, where this process has no GPU.
    """
    dataset = datasets.of_study(name, P.paths)
    references, index = np.unique(rows["reference"], return_inverse=True)
    paths = dataset.train.set_index("rel")["path"].loc[references].tolist()
    photos = read_images(paths, P.image.height, P.image.width)
    bodies, _ = load_bodies(rows, store_of(name))
    frozen = stable_diffusion_folder(P)
    spec = {
        "rows": rows[["path", "reference", "seed"]].to_numpy().tolist(),
        "photos": array_digest(photos),
        "generator": folder_digest(folder),
        "stable_diffusion": model_digest(frozen),
        "sampling": P.generator.sampling.model_dump(),
        **P.pick("image", "conditions"),
        "code": code_digest(__name__),
    }
    file = RunStore("runs/redrawn").folder(spec) / "images.npy"
    if not file.is_file():
        maps = render_many(bodies, rendering_of(P))
        generator = SavedGenerator.of(folder, frozen, P.generator.sampling)
        inputs = index, maps.skeleton, maps.depth, maps.normals, rows["seed"].to_numpy()
        write_array(file, generator.draw(photos, *inputs, pool))
    return file
