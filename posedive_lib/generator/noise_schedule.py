"""Noise schedule and loss weights (Eq. 1).

The lineage's defaults are v-prediction, zero terminal SNR, min-SNR weights and trailing steps.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import diffusers
import torch
from diffusers import DDPMScheduler, SchedulerMixin
from diffusers.training_utils import compute_snr
from torch import Tensor

from posedive_lib.errors import StudyError, require_readable
from posedive_lib.intake.files import read_json
from posedive_lib.weights import first_line

if TYPE_CHECKING:
    from posedive_lib.params import GeneratorParams


def load_scheduler(
    stable_diffusion: Path,
    params: GeneratorParams,
    kind: type[SchedulerMixin] | str = "DDIMScheduler",
) -> SchedulerMixin:
    """A scheduler of any diffusers class (or its name), with the prediction type of `params`.

    Its betas are those of `scheduler/scheduler_config.json`. Training (`DDPMScheduler`) and
    sampling build theirs here, so they cannot disagree (they do in public relatives). StudyError
    where there is no such file, what it says gives no noise schedule, or the class would drop one
    of these settings without a word.
    """
    if params.prediction_type not in ("epsilon", "v_prediction"):
        raise StudyError(
            f"generator.prediction_type is {params.prediction_type!r}: "
            "choose epsilon or v_prediction."
        )
    if params.zero_snr and params.prediction_type == "epsilon":
        raise StudyError(
            "generator.zero_snr needs prediction_type v_prediction: "
            "at zero SNR epsilon says nothing about the image."
        )
    path = stable_diffusion / "scheduler" / "scheduler_config.json"
    require_readable(path.parent)
    if not path.is_file():
        raise StudyError(f"No {path}: give a folder in Stable Diffusion's diffusers layout.")
    kind = scheduler_class(kind) if isinstance(kind, str) else kind
    _check_settings(kind, params)
    config = read_json(path, "beta_schedule")
    try:
        scheduler = kind.from_config(
            config,
            prediction_type=params.prediction_type,
            rescale_betas_zero_snr=params.zero_snr,
            timestep_spacing="trailing",
            clip_sample=False,  # latents are not bounded by [-1, 1]
        )
        _check_schedule(scheduler)
    except Exception as error:  # of a wrong setting, each scheduler has errors of its own
        raise StudyError(
            f"{path} gives no noise schedule for {kind.__name__} ({first_line(error)}): fetch it "
            "again, or choose another generator.sampling.scheduler."
        ) from None
    return scheduler


def _check_settings(kind: type[SchedulerMixin], params: GeneratorParams) -> None:
    """StudyError for a scheduler that would pass over a setting of the training."""
    needed = {"prediction_type": True, "rescale_betas_zero_snr": params.zero_snr}
    known = inspect.signature(kind.__init__).parameters
    for name in needed:
        if needed[name] and name not in known:
            raise StudyError(
                f"{kind.__name__} has no {name}, so it would sample at other noise levels than the "
                "generator was trained for: choose another generator.sampling.scheduler, such as "
                "DDIMScheduler."
            )


def _check_schedule(scheduler: SchedulerMixin) -> None:
    """ValueError unless each step has a share of the image from 0 to 1, none more than before."""
    shares = getattr(scheduler, "alphas_cumprod", None)
    if shares is None:
        return
    steps = scheduler.config.num_train_timesteps
    if len(shares) != steps or not len(shares):
        raise ValueError(f"num_train_timesteps is {steps}, but there are betas for {len(shares)}")
    # A comparison with NaN is false.
    falling = bool((shares[1:] <= shares[:-1]).all())
    if not (falling and 0 <= float(shares[-1]) and float(shares[0]) <= 1):
        raise ValueError("its betas are not numbers from 0 to 1")


def scheduler_class(name: str) -> type[SchedulerMixin]:
    """The diffusers scheduler of that name, such as DDIMScheduler; StudyError if there is none."""
    kind = getattr(diffusers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, SchedulerMixin)):
        raise StudyError(
            f"generator.sampling.scheduler is {name!r}: name a scheduler of diffusers, "
            "such as DDIMScheduler or UniPCMultistepScheduler."
        )
    return kind


def target(scheduler: DDPMScheduler, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """What the U-Net predicts: epsilon (Eq. 1) or v = sqrt(abar) epsilon - sqrt(1 - abar) z."""
    if scheduler.config.prediction_type == "epsilon":
        return noise
    return scheduler.get_velocity(latents, noise, t)


def loss_weights(scheduler: DDPMScheduler, t: Tensor, snr_gamma: float) -> Tensor:
    """Min-SNR weight per sample (B,); gamma 0 turns it off.

    epsilon: min(SNR, gamma) / SNR. v: min(SNR + 1, gamma) / (SNR + 1), the lineage's form. It keeps
    weight at zero terminal SNR; min(SNR, gamma) / (SNR + 1) would give the step from pure noise
    none, and that step decides the colours.
    """
    if not snr_gamma:
        return torch.ones_like(t, dtype=torch.float32)
    snr = compute_snr(scheduler, t) + (scheduler.config.prediction_type == "v_prediction")
    return snr.clamp(max=snr_gamma) / snr
