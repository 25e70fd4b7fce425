"""Training of the generator (§B, Eq. 1) on pairs of one identity, resumable to the very same losses."""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import EMAModel
from torch import Tensor
from tqdm import tqdm

from posedive_lib.errors import StudyError
from posedive_lib.generator import folders, store
from posedive_lib.generator.arrays import TrainingArrays, check_size
from posedive_lib.generator.guiders import maps_to_float
from posedive_lib.generator.model import PoseDiveModel, plain
from posedive_lib.generator.pairs import Pairs
from posedive_lib.generator.progress import Losses, load_checkpoint, save_checkpoint
from posedive_lib.generator.schedule import load_scheduler, loss_weights, target
from posedive_lib.seeds import rng_for, seed_for


def train(
    stable_diffusion: str | Path, data: TrainingArrays, params, out_dir: str | Path, seed: int, *,
    init_from: str | Path | None = None, model: PoseDiveModel | None = None, progress: bool = True,
    device: str | torch.device = "cpu", gradient_checkpointing: bool = False, bf16: bool = False,
) -> Path:
    """Train `params.steps` steps and return the folder of the saved generator (EMA weights), `out_dir/generator`.

    Starts from `model`, else from the saved generator `init_from` (phase 2), else from `stable_diffusion` (phase 1). params: the
    `generator` section. Writes `out_dir/losses.csv`, and every `checkpoint_every` steps `out_dir/checkpoint.safetensors`; called again
    after a kill it goes on from there, called again when finished it returns at once. StudyError on a non-finite loss, naming the step.
    """
    folder = folders.resolve(stable_diffusion)
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    model = model or _start(folder, params, init_from, seed)
    key = _digest(model, data, params, seed)
    finished = out_dir / "generator"
    if (finished / store.SETTINGS).is_file() and store.read_settings(finished).get("training") == {"key": key, "steps": params.steps}:
        return finished
    if gradient_checkpointing:
        model.enable_gradient_checkpointing()
    trainer = Trainer(model.to(device).train(), data, params, load_scheduler(folder, params, DDPMScheduler), seed, device, bf16)
    trainer.run(out_dir, key, progress)
    trainer.ema.copy_to(model.trainable().values())
    store.save_model(model.eval(), finished, params, folder, {"key": key, "steps": params.steps})
    (out_dir / "checkpoint.safetensors").unlink(missing_ok=True)
    return finished


def _start(stable_diffusion: Path, params, init_from: str | Path | None, seed: int) -> PoseDiveModel:
    """The starting weights; fresh guiders come from the seed, so that a resumed run starts from the same ones."""
    if init_from is not None:
        return store.load_weights(folders.resolve(init_from), params, stable_diffusion)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("generator-guiders", seed))
        return PoseDiveModel.from_stable_diffusion(stable_diffusion, params)


class Trainer:
    """Model, optimiser and EMA, advanced one step at a time; everything random in a step comes from (seed, step)."""

    def __init__(self, model: PoseDiveModel, data: TrainingArrays, params, scheduler: DDPMScheduler, seed: int, device, bf16: bool):
        self.model, self.data, self.params, self.scheduler = model, data, params, scheduler
        self.seed, self.device, self.bf16 = seed, torch.device(device), bf16
        check_data(model, data, params)
        self.pairs = Pairs.of(data)
        self.trainable = model.trainable()
        self.optimizer = torch.optim.AdamW(
            self.trainable.values(), lr=params.learning_rate, weight_decay=params.weight_decay, betas=(0.9, 0.999), eps=1e-8, fused=True
        )
        self.ema = EMAModel(self.trainable.values(), decay=params.ema_decay, foreach=True)

    def run(self, out_dir: Path, key: str, progress: bool) -> None:
        """All steps that are still to do."""
        path = out_dir / "checkpoint.safetensors"
        losses = Losses(out_dir / "losses.csv", self.params.log_every, self.scheduler.config.num_train_timesteps)
        first = load_checkpoint(path, self, losses, key) if path.is_file() else losses.restart()
        with tqdm(total=self.params.steps, initial=first, desc="train generator", disable=not progress, mininterval=1.0) as bar:
            for step in range(first, self.params.steps):
                t, loss, total = self.step(step)
                losses.add(step + 1, t, loss, total)
                bar.set_postfix(loss=f"{losses.latest:.4f}", refresh=False)
                bar.update()
                if (step + 1) % self.params.checkpoint_every == 0:
                    save_checkpoint(path, self, losses, key, step + 1)

    def step(self, step: int) -> tuple[np.ndarray, np.ndarray, float]:
        """One update. Returns timesteps (B,), unweighted squared errors (B,) and the weighted loss."""
        batch = self.batch(step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            features = self.model.reference_features(batch["reference"], batch["clip_tokens"])
            maps = (batch[name] for name in ("depth", "normals", "skeleton"))
            predicted = self.model(batch["noisy"], batch["t"], batch["clip_tokens"], features, *maps, keep=batch["keep"])
        errors = (predicted.float() - batch["target"]).square().mean(dim=(1, 2, 3))
        loss = (errors * batch["weights"]).mean()
        if not torch.isfinite(loss):
            raise StudyError(f"The generator's loss is not finite at step {step + 1}: lower generator.learning_rate; the last checkpoint is intact.")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trainable.values(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.step(self.trainable.values())
        return batch["t"].cpu().numpy(), errors.detach().cpu().numpy(), loss.item()

    def batch(self, step: int) -> dict[str, Tensor]:
        """Pairs, timesteps, noise and condition dropout of one step (all drawn on the CPU, so that the device changes nothing)."""
        rng = rng_for("generator-training", self.seed, step)
        size, steps = self.params.batch_size, self.scheduler.config.num_train_timesteps
        targets, references = self.pairs.draw(rng, size)
        # One timestep per stratum: each is uniform, and every batch covers all noise levels.
        t = torch.from_numpy(((np.arange(size) + rng.random(size)) * steps / size).astype(np.int64))
        keep = torch.from_numpy(rng.random(size) >= self.params.condition_dropout)
        latents = torch.from_numpy(self.data.latents[targets])
        generator = torch.Generator().manual_seed(seed_for("generator-noise", self.seed, step))
        noise = torch.randn(latents.shape, generator=generator)
        if self.params.noise_offset:
            noise += self.params.noise_offset * torch.randn(*latents.shape[:2], 1, 1, generator=generator)
        batch = {
            "t": t, "keep": keep,
            "noisy": self.scheduler.add_noise(latents, noise, t),
            "target": target(self.scheduler, latents, noise, t),
            "weights": loss_weights(self.scheduler, t, self.params.snr_gamma),
            "reference": torch.from_numpy(self.data.latents[references]),
            "clip_tokens": torch.from_numpy(self.data.clip_tokens[references]),
        }
        batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        for name in ("depth", "normals", "skeleton"):
            batch[name] = maps_to_float(torch.from_numpy(getattr(self.data, name)[targets]).to(self.device))
        return batch


def check_data(model: PoseDiveModel, data: TrainingArrays, params) -> None:
    """StudyError unless the arrays fit the model."""
    config = model.denoising_unet.config
    if data.latents.shape[1] != config.in_channels:
        raise StudyError(f"The latents have {data.latents.shape[1]} channels, but the U-Net takes {config.in_channels}: encode them with its own VAE.")
    if data.clip_tokens.shape[2] != config.cross_attention_dim:
        raise StudyError(
            f"CLIP tokens have length {data.clip_tokens.shape[2]}, but the U-Net's cross-attention takes {config.cross_attention_dim}: "
            "use the image encoder that belongs to this Stable Diffusion."
        )
    height, width = data.skeleton.shape[1:3]
    check_size(height, width, height // data.latents.shape[2], model.denoising_unet)


def _digest(model: PoseDiveModel, data: TrainingArrays, params, seed: int) -> str:
    """Identifies a training run but for its length: a checkpoint of another run must not be resumed."""
    settings = {name: value for name, value in plain(params).items() if name not in ("steps", "log_every", "checkpoint_every", "sampling")}
    digest = hashlib.sha256(json.dumps([settings, seed], sort_keys=True).encode())
    for name, parameter in model.named_parameters():
        digest.update(f"{name}{parameter.detach().double().sum().item():.17g}".encode())
    for array in (data.latents, data.clip_tokens, data.pid, data.camid, data.depth, data.normals, data.skeleton, data.reference_ok, data.target_ok):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]
