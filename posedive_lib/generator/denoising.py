"""The reverse process (Eq. 1 read backwards): from pure noise to latents, with any diffusers scheduler."""

import inspect
from collections.abc import Sequence

import torch
from diffusers import SchedulerMixin
from torch import Tensor

from posedive_lib.generator.model import PoseDiveModel


@torch.no_grad()
def denoise(
    model: PoseDiveModel,
    scheduler: SchedulerMixin,
    clip_tokens: Tensor,
    features: dict | None,
    guide: Tensor,
    seeds: Sequence[int],
    *,
    steps: int,
    guidance: float,
) -> Tensor:
    """Latents (B, C, h, w) of B samples; each draws its noise from its own seed, on the CPU, so that neither batch nor device matters.

    clip_tokens (B, T, D), features name -> (B, n, c) or keys and values, guide (B, width, h, w). `scheduler` must be fresh: some keep
    history between steps.
    """
    scheduler.set_timesteps(steps, device=guide.device)
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    shape = (model.denoising_unet.config.in_channels, *guide.shape[2:])
    latents = (
        torch.stack([torch.randn(shape, generator=generator) for generator in generators]).to(
            guide.device
        )
        * scheduler.init_noise_sigma
    )
    extra = (
        {"generator": generators}
        if "generator" in inspect.signature(scheduler.step).parameters
        else {}
    )
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(latents, t)
        predicted = model.guided(
            scaled, t.expand(len(latents)), clip_tokens, features, guide, guidance
        )
        latents = scheduler.step(predicted.float(), t, latents, **extra).prev_sample
    return latents
