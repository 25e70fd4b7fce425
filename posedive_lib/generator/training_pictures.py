"""Pictures and gauges in the middle of training: the loss hardly says how good a generator is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from posedive_lib.devices import autocast
from posedive_lib.generator.arrays import TrainingArrays
from posedive_lib.generator.denoising import denoise
from posedive_lib.generator.encoders import Encoders
from posedive_lib.generator.guiders import maps_to_float
from posedive_lib.generator.likeness import psnr
from posedive_lib.generator.noise_schedule import load_scheduler
from posedive_lib.generator.pairs import Pairs
from posedive_lib.params import PairParams
from posedive_lib.seeds import rng_for, seed_for
from posedive_lib.writing import replacing

if TYPE_CHECKING:
    from posedive_lib.generator.trainer import Trainer


SHOWN = 12  # pairs in a picture
GAUGES = ("psnr_person", "self_copy_psnr", "self_copy_psnr_person")


@dataclass
class TrainingPictures:
    """Always the same pairs and seeds, drawn with the EMA weights.

    One column per pair: reference, skeleton, drawn image, target, and the target drawn with itself
    as reference. A generator whose reference attention carries what it sees copies the latter, so
    its PSNR ("self-copy") tells within minutes whether a change helps.
    """

    trainer: Trainer
    stable_diffusion: Path
    folder: Path
    encoders: Encoders
    data: TrainingArrays
    targets: np.ndarray
    references: np.ndarray

    @classmethod
    def of(
        cls,
        trainer: Trainer,
        stable_diffusion: Path,
        folder: Path,
        held_out: TrainingArrays | None = None,
        count: int = 24,
    ) -> TrainingPictures:
        """`count` pairs of any view: of people that training does not see, if given."""
        params, data = trainer.params, held_out or trainer.data
        plain = PairParams(
            camera="same", same_photo=0.0, largest_turn=180.0, targets_per_reference=1
        )
        pairs = Pairs.of(data, plain).draw(rng_for("generator-samples", trainer.seed), count)
        encoders = Encoders.from_stable_diffusion(
            stable_diffusion, trainer.device, vae=params.vae, image_encoder=params.image_encoder
        )
        return cls(trainer, stable_diffusion, folder, encoders, data, *pairs)

    @torch.no_grad()
    def save(self, step: int) -> Path:
        """Write `folder/step_<step>.png`, and the gauges of this step to `folder/gauges.csv`.

        Weights and random states stay as they are.
        """
        trainer, weights = self.trainer, list(self.trainer.trainable.values())
        trainer.ema.store(weights)
        trainer.ema.copy_to(weights)
        trainer.model.eval()
        try:
            drawn = self._draw(self.references, trainer.params.sampling.guidance)
            copied = self._draw(self.targets, guidance=1.0)
        finally:
            trainer.ema.restore(weights)
            trainer.model.train()
        truth = self._photos(self.targets)
        self._note(step, truth, drawn, copied)
        skeleton = np.asarray(self.data.skeleton[self.targets])
        rows = [self._photos(self.references), skeleton, drawn, truth, copied]
        # (count, H, W, 3) per row -> one picture (5 H, SHOWN W, 3)
        picture = np.concatenate([np.concatenate([*row[:SHOWN]], axis=1) for row in rows])
        path = self.folder / f"step_{step:06d}.png"
        with replacing(path) as draft:
            Image.fromarray(picture).save(draft, format="PNG")
        return path

    def _note(self, step: int, truth: np.ndarray, drawn: np.ndarray, copied: np.ndarray) -> None:
        """One row of gauges.csv: mean PSNR in dB against the decoded target, by GAUGES."""
        body = np.asarray(self.data.normals[self.targets]).max(axis=-1) > 0  # (count, H, W)
        whole = np.ones_like(body)
        values = psnr(drawn, truth, body), psnr(copied, truth, whole), psnr(copied, truth, body)
        path = self.folder / "gauges.csv"
        rows = path.read_text().splitlines()[1:] if path.is_file() else []
        rows = [row for row in rows if int(row.split(",")[0]) < step]  # of steps that run again
        rows.append(f"{step}," + ",".join(f"{value.mean():.3f}" for value in values))
        with replacing(path) as draft:
            draft.write_text("\n".join([",".join(("step", *GAUGES)), *rows]) + "\n")

    def _photos(self, rows: np.ndarray) -> np.ndarray:
        """Decoded latents of images, uint8 (count, H, W, 3)."""
        return self.encoders.images(self._tensor(self.data.latents, rows)).cpu().numpy()

    def _draw(self, references: np.ndarray, guidance: float) -> np.ndarray:
        """The targets (count, H, W, 3) drawn from these references."""
        trainer, data, model = self.trainer, self.data, self.trainer.model
        sampling = trainer.params.sampling
        seeds = [seed_for("generator-samples", trainer.seed, i) for i in range(len(self.targets))]
        scheduler = load_scheduler(self.stable_diffusion, trainer.params, sampling.scheduler)
        with autocast(trainer.device, trainer.precision):
            tokens = self._tensor(data.clip_tokens, references)
            latents = self._tensor(data.latents, references)
            maps = [
                maps_to_float(self._tensor(array, self.targets))
                for array in (data.depth, data.normals, data.skeleton)
            ]
            drawn = denoise(
                model,
                scheduler,
                tokens,
                model.reference_features(latents, tokens),
                model.guiders(*maps),
                seeds,
                steps=sampling.steps,
                guidance=guidance,
            )
            return self.encoders.images(drawn).cpu().numpy()

    def _tensor(self, array: np.ndarray, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(array[rows])).to(self.trainer.device)
