"""Sampling: one person (reference image) like that (skeleton, depth, normals)."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from diffusers import DDIMScheduler, SchedulerMixin
from torch import Tensor
from tqdm import tqdm

from posedive_lib.errors import StudyError
from posedive_lib.generator import store
from posedive_lib.generator.arrays import Encoders, check_images, check_size
from posedive_lib.generator.guiders import maps_to_float
from posedive_lib.generator.model import PoseDiveModel
from posedive_lib.generator.schedule import load_scheduler


@dataclass
class Generator:
    """A model with its frozen encoders; `params`: the `generator` section it was trained with."""

    model: PoseDiveModel
    encoders: Encoders
    params: SimpleNamespace
    stable_diffusion: Path
    device: torch.device
    bf16: bool = False

    @classmethod
    def load(
        cls, path_or_hub_id: str | Path, stable_diffusion: str | Path | None = None, *,
        params=None, device: str | torch.device = "cpu", bf16: bool = False, revision: str | None = None,
    ) -> "Generator":
        """Our saved generator, or a Stable Diffusion layout (a fresh model that knows no conditions yet; `params` for its guiders).

        stable_diffusion: where VAE, CLIP and scheduler are, if they moved since saving. bf16: compute in bfloat16 by autocast.
        """
        model, params, frozen = store.load_model(path_or_hub_id, stable_diffusion, params, revision)
        encoders = Encoders.load(frozen, device)
        if encoders.clip.dimension != model.denoising_unet.config.cross_attention_dim:
            raise StudyError(
                f"{frozen}: CLIP embeddings have length {encoders.clip.dimension}, but the U-Net's cross-attention takes "
                f"{model.denoising_unet.config.cross_attention_dim}: use the image encoder that belongs to this Stable Diffusion."
            )
        return cls(model.to(device).eval(), encoders, params, frozen, torch.device(device), bf16)

    def save(self, folder: str | Path) -> Path:
        """Write the trained parts; see `store`."""
        return store.save_model(self.model, folder, self.params, self.stable_diffusion)

    @torch.inference_mode()
    def generate(
        self, references, reference_index, skeleton, depth, normals, seeds, *, steps: int | None = None, guidance: float | None = None,
        batch_size: int | None = None, progress: bool = True, scheduler: type[SchedulerMixin] = DDIMScheduler,
    ) -> np.ndarray:
        """uint8 references (R, H, W, 3), reference_index (N,) into them, maps (N, H, W, 3 / 1 / 3), seeds (N,) -> uint8 (N, H, W, 3).

        Each image depends on its own seed only, not on the batch it is in. The reference U-Net runs once per person, however many
        poses, steps and guidance branches use its features. Defaults of steps, guidance and batch_size: `params.sampling`.
        """
        sampling = self.params.sampling
        steps, batch_size = steps or sampling.steps, batch_size or sampling.batch_size
        guidance = sampling.guidance if guidance is None else guidance
        references, reference_index = np.asarray(references), np.asarray(reference_index)
        self._check(references, reference_index, skeleton, depth, normals, seeds)
        images = np.empty((len(seeds), *references.shape[1:]), dtype=np.uint8)
        order = np.argsort(reference_index, kind="stable")  # images of one person side by side, so that features are made once
        known: dict[int, dict[str, Tensor]] = {}
        with tqdm(total=len(seeds), desc="generate", unit="image", disable=not progress) as bar, self._autocast():
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                known = self._remember(references, reference_index[rows], known)
                features = _stack([known[person] for person in reference_index[rows]])
                maps = [self._tensor(array, rows) for array in (depth, normals, skeleton)]
                guide = self.model.guiders(*map(maps_to_float, maps))
                latents = self._denoise(features, guide, np.asarray(seeds)[rows], references.shape[1:3], steps, guidance, scheduler)
                images[rows] = self.encoders.images(latents).cpu().numpy()
                bar.update(len(rows))
        return images

    def _denoise(self, features, guide, seeds, size, steps: int, guidance: float, kind: type[SchedulerMixin]) -> Tensor:
        """Latents (B, C, h, w) from pure noise. A fresh scheduler per batch: some keep history between steps."""
        scheduler = load_scheduler(self.stable_diffusion, self.params, kind)
        scheduler.set_timesteps(steps, device=self.device)
        generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        shape = (self.model.denoising_unet.config.in_channels, *(side // self.encoders.factor for side in size))
        latents = torch.stack([torch.randn(shape, generator=generator) for generator in generators]).to(self.device) * scheduler.init_noise_sigma
        extra = {"generator": generators} if "generator" in inspect.signature(scheduler.step).parameters else {}
        clip_tokens = features.pop("clip_tokens")
        for t in scheduler.timesteps:
            scaled = scheduler.scale_model_input(latents, t)
            predicted = self.model.guided(scaled, t.expand(len(latents)), clip_tokens, features, guide, guidance)
            latents = scheduler.step(predicted.float(), t, latents, **extra).prev_sample
        return latents

    def _remember(self, references: np.ndarray, people: np.ndarray, known: dict) -> dict[int, dict[str, Tensor]]:
        """Reference features of the people in this batch: name -> (n, c), and their CLIP tokens (T, D) as `clip_tokens`."""
        wanted = np.unique(people)
        missing = [person for person in wanted if person not in known]
        kept = {person: known[person] for person in wanted if person in known}
        if missing:
            images = self._tensor(references, missing)
            tokens = self.encoders.clip.tokens(images, self.params.clip_tokens)
            features = self.model.reference_features(self.encoders.latents(images), tokens)
            features["clip_tokens"] = tokens
            kept |= {person: {name: rows[i] for name, rows in features.items()} for i, person in enumerate(missing)}
        return kept

    def _check(self, references, reference_index, skeleton, depth, normals, seeds) -> None:
        check_images(references, "reference image", 3)
        size = references.shape[1:3]
        check_size(*size, self.encoders.factor, self.model.denoising_unet)
        for name, maps, channels in (("skeleton", skeleton, 3), ("depth map", depth, 1), ("normal map", normals, 3)):
            check_images(np.asarray(maps), name, channels, size)
        counts = {len(reference_index), len(skeleton), len(depth), len(normals), len(seeds)}
        if len(counts) != 1:
            raise StudyError("reference_index, skeleton, depth, normals and seeds must have one entry per image to generate.")
        if len(reference_index) and not 0 <= reference_index.min() <= reference_index.max() < len(references):
            raise StudyError(f"reference_index must lie in 0..{len(references) - 1}, the number of references less one.")

    def _autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def _tensor(self, array, rows) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(np.asarray(array)[rows])).to(self.device)


def _stack(people: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([features[name] for features in people]) for name in people[0]}
