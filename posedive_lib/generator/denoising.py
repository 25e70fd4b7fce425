"""The reverse process (Eq. 1 read backwards): from pure noise to latents, by any scheduler."""

import inspect
from collections.abc import Sequence

import torch
from diffusers import SchedulerMixin
from torch import Tensor

from posedive_lib.generator.model import PoseDiveModel
from posedive_lib.generator.reference import Features


@torch.no_grad()
def denoise(
    model: PoseDiveModel,
    scheduler: SchedulerMixin,
    clip_tokens: Tensor,
    features: Features | None,
    guide: Tensor,
    seeds: Sequence[int],
    *,
    steps: int,
    guidance: float,
) -> Tensor:
    """Latents (B, C, h, w) of B samples.

    clip_tokens (B, T, D); features: see `ReferenceCall`; guide (B, width, h, w), the pose guiders'
    output. `scheduler` must be fresh, because some keep a history between steps.
    """
    scheduler.set_timesteps(steps, device=guide.device)
    # Each sample draws its noise from its own seed, on the CPU: neither batch nor device matters.
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    shape = (model.denoising_unet.config.in_channels, *guide.shape[2:])
    noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    latents = noise.to(guide.device) * scheduler.init_noise_sigma
    # Stochastic schedulers draw noise in each step, too.
    stochastic = "generator" in inspect.signature(scheduler.step).parameters
    extra = {"generator": generators} if stochastic else {}
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(latents, t)
        times = t.expand(len(latents))  # (B,)
        predicted = model.guided(scaled, times, clip_tokens, features, guide, guidance)
        latents = scheduler.step(predicted.float(), t, latents, **extra).prev_sample
    return latents
