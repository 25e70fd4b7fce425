"""Pictures in the middle of training: the loss hardly says whether a generator is any good, samples do."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from posedive_lib.generator.arrays import Encoders
from posedive_lib.generator.denoising import denoise
from posedive_lib.generator.guiders import maps_to_float
from posedive_lib.generator.noise_schedule import load_scheduler
from posedive_lib.generator.precision import autocast
from posedive_lib.seeds import rng_for, seed_for
from posedive_lib.writing import replacing


@dataclass
class TrainingSamples:
    """Always the same pairs and seeds, drawn with the EMA weights; one column per pair: reference, skeleton, sample, target."""

    trainer: object
    stable_diffusion: Path
    folder: Path
    encoders: Encoders
    targets: np.ndarray
    references: np.ndarray

    @classmethod
    def of(cls, trainer, stable_diffusion: Path, folder: Path, count: int = 6) -> "TrainingSamples":
        """`count` pairs of the trainer's data."""
        pairs = trainer.pairs.draw(rng_for("generator-samples", trainer.seed), count)
        params = trainer.params
        encoders = Encoders.load(
            stable_diffusion, trainer.device, vae=params.vae, image_encoder=params.image_encoder
        )
        return cls(trainer, stable_diffusion, folder, encoders, *pairs)

    @torch.no_grad()
    def save(self, step: int) -> Path:
        """Write `folder/step_<step>.png`. Training goes on as if nothing had been drawn: weights and random states are untouched."""
        trainer, data, sampling = self.trainer, self.trainer.data, self.trainer.params.sampling
        weights = list(trainer.trainable.values())
        trainer.ema.store(weights)
        trainer.ema.copy_to(weights)
        trainer.model.eval()
        on_device = lambda array, rows: torch.from_numpy(array[rows]).to(trainer.device)
        try:
            with autocast(trainer.device, trainer.params.mixed_precision):
                tokens, latents = (
                    on_device(data.clip_tokens, self.references),
                    on_device(data.latents, self.references),
                )
                maps = [
                    maps_to_float(on_device(getattr(data, name), self.targets))
                    for name in ("depth", "normals", "skeleton")
                ]
                seeds = [
                    seed_for("generator-samples", trainer.seed, i) for i in range(len(self.targets))
                ]
                scheduler = load_scheduler(
                    self.stable_diffusion, trainer.params, sampling.scheduler
                )
                drawn = denoise(
                    trainer.model,
                    scheduler,
                    tokens,
                    trainer.model.reference_features(latents, tokens),
                    trainer.model.guiders(*maps),
                    seeds,
                    steps=sampling.steps,
                    guidance=sampling.guidance,
                )
        finally:
            trainer.ema.restore(weights)
            trainer.model.train()
        rows = [
            self.encoders.images(latents),
            on_device(data.skeleton, self.targets),
            self.encoders.images(drawn),
            self.encoders.images(on_device(data.latents, self.targets)),
        ]
        path = self.folder / f"step_{step:06d}.png"
        with replacing(path) as draft:
            Image.fromarray(
                np.concatenate([np.concatenate(list(row.cpu().numpy()), axis=1) for row in rows])
            ).save(draft, format="PNG")
        return path
