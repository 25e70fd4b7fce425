"""The diffusion model as the painter of candidates (§B)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from posedive_lib.digests import code_digest, folder_digest
from posedive_lib.generator.drawing import SavedGenerator
from posedive_lib.model_digests import model_digest
from posedive_lib.weights import local_folder

if TYPE_CHECKING:
    from posedive_lib.augment.shards import Wanted
    from posedive_lib.params import Params

SAMPLER = "posedive_lib.generator.drawing"


@dataclass(frozen=True)
class Diffusion:
    """A painter (`posedive_lib.augment.shards.Painter`): a generator, sampled in one way."""

    generator: SavedGenerator
    key: str

    @classmethod
    def of(cls, P: Params, folder: str | Path) -> Diffusion:
        """The generator saved in `folder`, sampled as the parameters say."""
        frozen = local_folder(P.paths.stable_diffusion, P.generator.revision)
        saved = SavedGenerator.of(folder, frozen, P.generator.sampling)
        generator = saved.loaded()
        others = (generator.params.vae, generator.params.image_encoder)
        weights = [frozen, *(local_folder(other) for other in others if other)]
        key = [
            folder_digest(folder, ".safetensors"),
            folder_digest(folder, ".json"),
            [model_digest(part) for part in weights],
            P.generator.sampling.model_dump(exclude={"batch_size"}),  # which changes no image
            generator.precision,
            code_digest(SAMPLER),
        ]
        return cls(saved, json.dumps(key))

    def __call__(self, wanted: Wanted) -> np.ndarray:
        """See `Painter`; each image has its row's seed."""
        return self.generator.draw(
            wanted.references,
            wanted.reference_index,
            wanted.conditions.skeleton,
            wanted.conditions.depth,
            wanted.conditions.normals,
            wanted.rows["seed"].to_numpy(),
            wanted.pool,
        )
