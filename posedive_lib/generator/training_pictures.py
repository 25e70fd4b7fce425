"""Pictures in the middle of training: the loss hardly says whether a generator is any good."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from posedive_lib.devices import autocast
from posedive_lib.generator.denoising import denoise
from posedive_lib.generator.encoders import Encoders
from posedive_lib.generator.guiders import maps_to_float
from posedive_lib.generator.noise_schedule import load_scheduler
from posedive_lib.seeds import rng_for, seed_for
from posedive_lib.writing import replacing

if TYPE_CHECKING:
    from posedive_lib.generator.trainer import Trainer


@dataclass
class TrainingPictures:
    """Always the same pairs and seeds, drawn with the EMA weights.

    One column per pair: reference, skeleton, drawn image, target.
    """

    trainer: Trainer
    stable_diffusion: Path
    folder: Path
    encoders: Encoders
    targets: np.ndarray
    references: np.ndarray

    @classmethod
    def of(
        cls, trainer: Trainer, stable_diffusion: Path, folder: Path, count: int = 6
    ) -> TrainingPictures:
        """`count` pairs of the trainer's data."""
        pairs = trainer.pairs.draw(rng_for("generator-samples", trainer.seed), count)
        params = trainer.params
        encoders = Encoders.from_stable_diffusion(
            stable_diffusion, trainer.device, vae=params.vae, image_encoder=params.image_encoder
        )
        return cls(trainer, stable_diffusion, folder, encoders, *pairs)

    @torch.no_grad()
    def save(self, step: int) -> Path:
        """Write `folder/step_<step>.png`; weights and random states stay as they are."""
        trainer, data = self.trainer, self.trainer.data
        weights = list(trainer.trainable.values())
        latents = self._tensor(data.latents, self.references)
        trainer.ema.store(weights)
        trainer.ema.copy_to(weights)
        trainer.model.eval()
        try:
            drawn = self._draw(latents)
        finally:
            trainer.ema.restore(weights)
            trainer.model.train()
        rows = [
            self.encoders.images(latents),
            self._tensor(data.skeleton, self.targets),
            self.encoders.images(drawn),
            self.encoders.images(self._tensor(data.latents, self.targets)),
        ]
        # (count, H, W, 3) per row -> one picture (4 H, count W, 3)
        picture = np.concatenate([np.concatenate([*row.cpu().numpy()], axis=1) for row in rows])
        path = self.folder / f"step_{step:06d}.png"
        with replacing(path) as draft:
            Image.fromarray(picture).save(draft, format="PNG")
        return path

    def _draw(self, latents: Tensor) -> Tensor:
        """Latents (count, C, h, w) of the targets, from those of the references."""
        trainer, data, model = self.trainer, self.trainer.data, self.trainer.model
        sampling = trainer.params.sampling
        seeds = [seed_for("generator-samples", trainer.seed, i) for i in range(len(self.targets))]
        scheduler = load_scheduler(self.stable_diffusion, trainer.params, sampling.scheduler)
        with autocast(trainer.device, trainer.precision):
            tokens = self._tensor(data.clip_tokens, self.references)
            maps = [
                maps_to_float(self._tensor(array, self.targets))
                for array in (data.depth, data.normals, data.skeleton)
            ]
            return denoise(
                model,
                scheduler,
                tokens,
                model.reference_features(latents, tokens),
                model.guiders(*maps),
                seeds,
                steps=sampling.steps,
                guidance=sampling.guidance,
            )

    def _tensor(self, array: np.ndarray, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(array[rows]).to(self.trainer.device)
