"""Sampling by several processes of one thread each, where a processor computes (§B).

The threads of one process wait for each other in every operation. So a neighbour that keeps one
core busy slows them all down. Processes only share with it what there is.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from posedive_lib.devices import processes
from posedive_lib.digests import folder_digest

if TYPE_CHECKING:
    from posedive_lib.generator.sampling import Generator
    from posedive_lib.params import Sampling


@dataclass(frozen=True)
class SavedGenerator:
    """A generator in a folder, as `load` takes it: every process can draw with it.

    digest: of the folder, so that another generator in the same place is loaded anew.
    """

    folder: str
    stable_diffusion: str
    sampling: Sampling
    digest: str

    @classmethod
    def of(
        cls, folder: str | Path, stable_diffusion: str | Path, sampling: Sampling
    ) -> SavedGenerator:
        """The generator that is in the folder now."""
        return cls(str(folder), str(stable_diffusion), sampling, folder_digest(folder))

    def loaded(self) -> Generator:
        """The generator in this process; the last one is kept."""
        return _loaded(self)

    def draw(
        self,
        references: np.ndarray,
        reference_index: np.ndarray,
        skeleton: np.ndarray,
        depth: np.ndarray,
        normals: np.ndarray,
        seeds: np.ndarray,
        pool: Executor | None,
    ) -> np.ndarray:
        """Images of `Generator.generate`, by the processes of `pool`.

        Their number changes no image. Without a pool, on a GPU, and under `accelerate launch` this
        process draws.
        """
        team = processes()
        inputs = (references, reference_index, skeleton, depth, normals, seeds)
        if pool is None or team.device.type != "cpu" or team.num_processes > 1:
            return self.loaded().generate(*inputs, progress=False)
        # Images of one person lie side by side, so that the reference U-Net runs once per person.
        order, size = np.argsort(reference_index, kind="stable"), self.sampling.batch_size
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        drawn = []
        for rows in parts:
            people, own = np.unique(reference_index[rows], return_inverse=True)
            maps = [array[rows] for array in (skeleton, depth, normals, seeds)]
            drawn.append(pool.submit(_draw, self, references[people], own, *maps))
        images = np.empty((len(order), *references.shape[1:]), np.uint8)
        for rows, part in zip(parts, drawn, strict=True):
            images[rows] = part.result()
        return images


@lru_cache(maxsize=1)
def _loaded(saved: SavedGenerator) -> Generator:
    from posedive_lib.generator.sampling import load  # takes seconds: diffusers comes with it

    return load(saved.folder, saved.stable_diffusion, sampling=saved.sampling)


def _draw(saved: SavedGenerator, *inputs: np.ndarray) -> np.ndarray:
    from transformers.utils.logging import disable_progress_bar  # takes a second

    disable_progress_bar()  # a bar per loaded model would hide the caller's bar
    return saved.loaded().generate(*inputs, progress=False)
