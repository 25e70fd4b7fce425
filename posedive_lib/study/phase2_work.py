"""The generator's training images as arrays, encoded once, and what determines a training (§B).

The key of the arrays follows the code of this module and of all that it imports. So nothing is
imported here that encoding does not use.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posedive_lib.augment.photo_arrays import (
    PhotoEncoder,
    encoded_in_blocks,
    encoding_inputs,
    in_order,
)
from posedive_lib.bench.runs import RunStore
from posedive_lib.digests import code_digest
from posedive_lib.model_digests import model_digest

if TYPE_CHECKING:
    import pandas as pd

    from posedive_lib.cluster import Spread
    from posedive_lib.params import Params

STORE = RunStore("runs/generator")
GENERATOR = Path("build/generator")  # where the pipeline passes it on
TRAINING = "posedive_lib.generator.training"
# Entries of `generator` that change no weights.
NOT_OF_A_TRAINING = {"sampling", "log_every", "checkpoint_every", "sample_every"}


def recipe_of(P: Params) -> dict[str, Any]:
    """The parameters of the generator that change its weights."""
    return P.generator.model_dump(exclude=NOT_OF_A_TRAINING)


def encoded(
    P: Params, images: pd.DataFrame, spread: Spread = in_order
) -> tuple[Path, dict[str, Any]]:
    """Folder of the arrays that the generator trains on, made once.

    images: as `phase2.training_images` gives them. spread: who encodes the blocks.
    With it all that determines a training on these arrays, but for its recipe and seed.
    """
    spec = _spec(P, images)
    path = STORE.folder(spec) / "arrays"
    if not path.is_dir():
        make = partial(PhotoEncoder.of(P).arrays, progress=False)
        encoded_in_blocks(images, path, make, spread=spread)
    phase1 = model_digest(P.paths.phase1) if P.paths.phase1 else None
    return path, {"arrays": spec, "phase1": phase1, "code": code_digest(TRAINING)}


def _spec(P: Params, images: pd.DataFrame) -> dict[str, Any]:
    """Everything that determines the arrays."""
    columns = ["dataset", "rel", "pid", "camid", "reference_ok", "target_ok"]
    rows = images[columns].to_numpy().tolist()
    return {"what": "arrays", "images": rows, **encoding_inputs(P, images)}
