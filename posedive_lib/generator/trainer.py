"""One step of the generator's training after another (§B, Eq. 1), resumable exactly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import DDPMScheduler
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from tqdm import tqdm

from posedive_lib.checkpoints import load_checkpoint, save_checkpoint
from posedive_lib.devices import autocast, chosen_precision
from posedive_lib.errors import StudyError
from posedive_lib.generator.arrays import TrainingArrays
from posedive_lib.generator.encoders import check_size
from posedive_lib.generator.guiders import maps_to_float
from posedive_lib.generator.loss_log import LossLog
from posedive_lib.generator.model import PoseDiveModel
from posedive_lib.generator.noise_schedule import loss_weights, target
from posedive_lib.generator.pairs import Pairs
from posedive_lib.seeds import rng_for, seed_for

if TYPE_CHECKING:
    from posedive_lib.generator.training_pictures import TrainingPictures
    from posedive_lib.params import GeneratorParams

MAPS = ("depth", "normals", "skeleton")


class Errors(nn.Module):
    """One forward of both U-Nets and the guiders, which several processes can wrap as a whole."""

    def __init__(self, model: PoseDiveModel, person_weight: float, shared: int = 1):
        super().__init__()
        self.model, self.person_weight, self.shared = model, person_weight, shared

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Squared error of the prediction (B,): a mean over channels and latent pixels.

        Latent pixels of the person weigh `person_weight` times as much as those of the background.
        Each `shared` samples in a row have one reference: its U-Net runs once for all of them.
        """
        once = slice(None, None, self.shared)
        tokens = self.model.tokens_kept(batch["clip_tokens"][once], batch["token_keep"][once])
        features = self.model.reference_features(batch["reference"][once], tokens)
        predicted = self.model(
            batch["noisy"],
            batch["t"],
            tokens.repeat_interleave(self.shared, dim=0),
            features,
            *(batch[name] for name in MAPS),
            keep=batch["keep"],
            shared=self.shared,
        )
        errors = (predicted.float() - batch["target"]).square().mean(dim=1)  # (B, h, w)
        weights = 1.0 + (self.person_weight - 1.0) * person_mask(batch["normals"], errors.shape[1:])
        return (errors * weights).sum(dim=(1, 2)) / weights.sum(dim=(1, 2))


def person_mask(normals: Tensor, size: tuple[int, int]) -> Tensor:
    """Share of each latent pixel that the target's body covers (B, height, width).

    Normals (B, 3, H, W) are black outside the body.
    """
    return F.adaptive_avg_pool2d((normals.amax(dim=1) > 0).float(), size)


class Trainer:
    """Model, optimiser and EMA, advanced one step at a time.

    Everything random in a step comes from (seed, step).
    """

    def __init__(
        self,
        model: PoseDiveModel,
        data: TrainingArrays,
        params: GeneratorParams,
        scheduler: DDPMScheduler,
        seed: int,
        accelerator: Accelerator,
    ):
        self.model, self.data, self.params, self.scheduler = model, data, params, scheduler
        self.seed, self.accelerator = seed, accelerator
        self.precision = chosen_precision(self.device, params.precision, "generator.precision")
        check_data(model, data)
        check_batch(params, accelerator.num_processes)
        self.pairs = Pairs.of(data, params.pairs)
        self.shared = params.pairs.targets_per_reference
        errors = Errors(model, params.person_weight, self.shared)
        self.network = accelerator.prepare_model(errors)
        self.trainable = model.trainable()
        self.optimizer = torch.optim.AdamW(
            self.trainable.values(),
            lr=params.learning_rate,
            weight_decay=params.weight_decay,
            betas=(0.9, 0.999),
            eps=1e-8,
            fused=True,
        )
        # Gradients of fp16 are scaled so that small ones do not vanish.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.ema = EMAModel(self.trainable.values(), decay=params.ema_decay, foreach=True)

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    def run(
        self, out_dir: Path, key: str, progress: bool, pictures: TrainingPictures | None = None
    ) -> None:
        """All steps that are still to do."""
        path, main = out_dir / "checkpoint.safetensors", self.accelerator.is_main_process
        steps, timesteps = self.params.steps, self.scheduler.config.num_train_timesteps
        log = LossLog(out_dir / "losses.csv", self.params.log_every, timesteps, writes=main)
        first = self._resume(path, log, key)
        if first > steps:
            raise StudyError(
                f"{path} has {first} steps behind it, more than generator.steps ({steps}): "
                "raise generator.steps, or delete the file to train anew."
            )
        label = "train generator"
        with tqdm(
            total=steps, initial=first, desc=label, disable=not progress, mininterval=1.0
        ) as bar:
            for done in range(first + 1, steps + 1):
                log.add(done, *self.step(done - 1))
                bar.set_postfix(loss=f"{log.latest:.4f}", refresh=False)
                bar.update()
                if done % self.params.checkpoint_every == 0:
                    if main:
                        self._save(path, log, key, done)
                    self.accelerator.wait_for_everyone()
                if pictures is not None and done % self.params.sample_every == 0:
                    pictures.save(done)

    def step(self, step: int) -> tuple[np.ndarray, np.ndarray, float]:
        """One update.

        Returns timesteps (B,), unweighted squared errors (B,) and the weighted loss of the whole
        batch.
        """
        parts = list(self.parts(self.batch(step)))
        part_errors = []
        for number, part in enumerate(parts, start=1):
            # Gradients travel between processes once per update, with the last part.
            last = number == len(parts)
            with nullcontext() if last else self.accelerator.no_sync(self.network):
                with autocast(self.device, self.precision):
                    part_errors.append(self.network(part))
                loss = (part_errors[-1] * part["weights"]).mean() / len(parts)
                self.accelerator.backward(self.scaler.scale(loss))
        columns = [torch.cat([part[name].float() for part in parts]) for name in ("t", "weights")]
        own = torch.stack([*columns, torch.cat(part_errors).detach()], dim=1)  # (B / processes, 3)
        t, weights, errors = self.accelerator.gather(own).cpu().unbind(dim=1)
        total = (errors * weights).mean().item()
        if not np.isfinite(total):
            raise StudyError(
                f"The generator's loss is not finite at step {step + 1}: "
                "lower generator.learning_rate; the last checkpoint is intact."
            )
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.trainable.values(), 1.0, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.params, step)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.step(self.trainable.values())
        return t.long().numpy(), errors.numpy(), total

    def parts(self, batch: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """This process's share of a batch, cut for gradient accumulation.

        It lies on the device, with maps as floats. Pairs that share a reference stay together.
        """
        world, pieces = self.accelerator.num_processes, self.params.gradient_accumulation
        groups = torch.arange(self.params.batch_size).view(-1, self.shared)
        for piece in range(pieces):
            first = piece * world + self.accelerator.process_index
            rows = groups[first :: pieces * world].flatten()
            part = {name: tensor[rows].to(self.device) for name, tensor in batch.items()}
            yield part | {name: maps_to_float(part[name]) for name in MAPS}

    def batch(self, step: int) -> dict[str, Tensor]:
        """Pairs, timesteps, noise and condition dropout of one step.

        They are drawn on the CPU, so that neither device nor number of processes changes them.
        """
        rng = rng_for("generator-training", self.seed, step)
        size, steps = self.params.batch_size, self.scheduler.config.num_train_timesteps
        targets, references = self.pairs.draw(rng, size)
        # One timestep per stratum, so that every batch covers all noise levels; each is uniform
        # where timestep_power is 1.
        spread = ((np.arange(size) + rng.random(size)) / size) ** self.params.timestep_power
        t = torch.from_numpy((spread * steps).astype(np.int64))
        keep = torch.from_numpy(rng.random(size) >= self.params.condition_dropout)
        # Pairs that share a reference keep or lose its tokens together.
        lucky = rng.random(size // self.shared).repeat(self.shared)
        token_keep = torch.from_numpy(lucky >= self.params.token_dropout)
        latents = torch.from_numpy(self.data.latents[targets])
        generator = torch.Generator().manual_seed(seed_for("generator-noise", self.seed, step))
        noise = torch.randn(latents.shape, generator=generator)
        if self.params.noise_offset:
            # The same offset for all pixels of a channel: (B, C, 1, 1).
            offset = torch.randn(*latents.shape[:2], 1, 1, generator=generator)
            noise += self.params.noise_offset * offset
        maps = {name: torch.from_numpy(getattr(self.data, name)[targets]) for name in MAPS}
        return {
            "t": t,
            "keep": keep,
            "token_keep": token_keep,
            "noisy": self.scheduler.add_noise(latents, noise, t),
            "target": target(self.scheduler, latents, noise, t),
            "weights": loss_weights(self.scheduler, t, self.params.snr_gamma),
            "reference": torch.from_numpy(self.data.latents[references]),
            "clip_tokens": torch.from_numpy(self.data.clip_tokens[references]),
            **maps,
        }

    def _save(self, path: Path, log: LossLog, key: str, step: int) -> None:
        tensors = {}
        shadows = self.ema.shadow_params
        for (name, value), shadow in zip(self.trainable.items(), shadows, strict=True):
            tensors[f"model.{name}"], tensors[f"ema.{name}"] = value, shadow
            for part, state in self.optimizer.state[value].items():
                tensors[f"optimizer.{part}.{name}"] = state
        about = {
            "key": key,
            "step": step,
            "ema_step": self.ema.optimization_step,
            "scaler": self.scaler.state_dict(),
            "window": log.window,
            "totals": log.totals,
        }
        save_checkpoint(path, tensors, about)

    def _resume(self, path: Path, log: LossLog, key: str) -> int:
        """The number of steps done before, after their state is put back."""
        if not path.is_file():
            log.restart()
            return 0
        tensors, about = load_checkpoint(path, key)
        shadows = self.ema.shadow_params
        with torch.no_grad():
            for (name, value), shadow in zip(self.trainable.items(), shadows, strict=True):
                value.copy_(tensors[f"model.{name}"])
                shadow.copy_(tensors[f"ema.{name}"])
                self.optimizer.state[value] = {
                    part: tensors[f"optimizer.{part}.{name}"].to(value.device)
                    for part in ("step", "exp_avg", "exp_avg_sq")
                }
        self.ema.optimization_step = about["ema_step"]
        if about["scaler"]:
            self.scaler.load_state_dict(about["scaler"])
        log.resume(about["step"], about["window"], about["totals"])
        return about["step"]


def learning_rate(params: GeneratorParams, step: int) -> float:
    """Of step `step` (from 0): constant, then linear to 0 over the last `decay_steps` steps."""
    if not params.decay_steps:
        return params.learning_rate
    return params.learning_rate * min(1.0, (params.steps - step) / params.decay_steps)


def check_batch(params: GeneratorParams, processes: int) -> None:
    """StudyError unless the batch divides into equal parts."""
    shared = params.pairs.targets_per_reference
    parts = params.gradient_accumulation * processes * shared
    if params.batch_size % parts:
        raise StudyError(
            f"generator.batch_size is {params.batch_size}, which {processes} process(es) with "
            f"gradient_accumulation {params.gradient_accumulation} and {shared} target(s) per "
            f"reference cannot share equally: choose a multiple of {parts}."
        )


def check_data(model: PoseDiveModel, data: TrainingArrays) -> None:
    """StudyError unless the arrays fit the model."""
    config = model.denoising_unet.config
    if data.latents.shape[1] != config.in_channels:
        raise StudyError(
            f"The latents have {data.latents.shape[1]} channels, but the U-Net takes "
            f"{config.in_channels}: encode them with its own VAE."
        )
    if data.clip_tokens.shape[2] != config.cross_attention_dim:
        raise StudyError(
            f"CLIP tokens have length {data.clip_tokens.shape[2]}, but the U-Net's "
            f"cross-attention takes {config.cross_attention_dim}: "
            "use the image encoder that belongs to this Stable Diffusion."
        )
    height, width = data.skeleton.shape[1:3]
    check_size(height, width, height // data.latents.shape[2], model.denoising_unet)
