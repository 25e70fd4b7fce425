"""Training of the generator (§B, Eq. 1) on pairs of one identity, resumable to the very same losses."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import DDPMScheduler
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from tqdm import tqdm

from posedive_lib.errors import StudyError
from posedive_lib.generator import folders, saved
from posedive_lib.generator.arrays import TrainingArrays, check_size
from posedive_lib.generator.guiders import maps_to_float
from posedive_lib.generator.model import PoseDiveModel, plain
from posedive_lib.generator.noise_schedule import load_scheduler, loss_weights, target
from posedive_lib.generator.pairs import Pairs
from posedive_lib.generator.precision import autocast
from posedive_lib.generator.progress import Losses, load_checkpoint, save_checkpoint
from posedive_lib.generator.training_pictures import TrainingSamples
from posedive_lib.seeds import rng_for, seed_for
from posedive_lib.writing import writing

# Parameters that change no weight but by rounding: a checkpoint stays valid when they change.
PACE = (
    "steps",
    "log_every",
    "checkpoint_every",
    "sample_every",
    "sampling",
    "gradient_accumulation",
    "gradient_checkpointing",
)


def train(
    stable_diffusion: str | Path,
    data: TrainingArrays,
    params,
    out_dir: str | Path,
    seed: int,
    *,
    init_from: str | Path | None = None,
    model: PoseDiveModel | None = None,
    progress: bool = True,
    cpu: bool = False,
) -> Path:
    """Train `params.steps` steps and return the folder of the saved generator (EMA weights), `out_dir/generator`.

    Starts from `model`, else from the saved generator `init_from` (phase 2), else from `stable_diffusion` (phase 1). params: the
    `generator` section. Runs on the GPUs that there are (cpu: on none); under `accelerate launch` every process takes its part of each
    batch, and the batches stay the same. Writes `out_dir/losses.csv`, every `checkpoint_every` steps `out_dir/checkpoint.safetensors`,
    every `sample_every` steps a picture in `out_dir/samples`; called again after a kill it goes on from the checkpoint, called again
    when finished it returns at once. StudyError on a non-finite loss, naming the step, and on a checkpoint of more steps.
    """
    folder = folders.resolve(stable_diffusion, params.revision)
    out_dir = Path(out_dir)
    with writing(out_dir):
        out_dir.mkdir(parents=True, exist_ok=True)
    model = model or _start(folder, params, init_from, seed)
    key = _digest(model, data, params, seed)
    finished = out_dir / "generator"
    if (finished / saved.SETTINGS).is_file() and saved.read_settings(finished).get("training") == {
        "key": key,
        "steps": params.steps,
    }:
        return finished
    if params.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    accelerator = Accelerator(cpu=cpu or not torch.cuda.is_available(), mixed_precision="no")
    trainer = Trainer(
        model.train(),
        data,
        params,
        load_scheduler(folder, params, DDPMScheduler),
        seed,
        accelerator,
    )
    samples = (
        TrainingSamples.of(trainer, folder, out_dir / "samples")
        if params.sample_every and accelerator.is_main_process
        else None
    )
    trainer.run(out_dir, key, progress and accelerator.is_main_process, samples)
    trainer.ema.copy_to(model.trainable().values())
    if accelerator.is_main_process:
        saved.save_model(
            model.eval(), finished, params, folder, {"key": key, "steps": params.steps}
        )
        (out_dir / "checkpoint.safetensors").unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    return finished


def _start(
    stable_diffusion: Path, params, init_from: str | Path | None, seed: int
) -> PoseDiveModel:
    """The starting weights; fresh ones come from the seed, so that a resumed run starts from the same ones."""
    if init_from is not None and not params.pretrained:
        raise StudyError(
            "generator.pretrained is false, but a phase-1 generator is given: set paths.phase1 to null."
        )
    if init_from is not None:
        return saved.load_weights(folders.resolve(init_from), params, stable_diffusion)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("generator-guiders", seed))
        return PoseDiveModel.from_stable_diffusion(stable_diffusion, params)


class Errors(nn.Module):
    """One forward of both U-Nets and the guiders, so that several processes can wrap it as a whole."""

    def __init__(self, model: PoseDiveModel, person_weight: float):
        super().__init__()
        self.model, self.person_weight = model, person_weight

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Squared error of the prediction (B,), a mean over channels and latent pixels that weights those of the person."""
        tokens = self.model.tokens_kept(batch["clip_tokens"], batch["token_keep"])
        features = self.model.reference_features(batch["reference"], tokens)
        maps = (batch[name] for name in ("depth", "normals", "skeleton"))
        predicted = self.model(
            batch["noisy"], batch["t"], tokens, features, *maps, keep=batch["keep"]
        )
        errors = (predicted.float() - batch["target"]).square().mean(dim=1)
        weights = 1.0 + (self.person_weight - 1.0) * person_mask(batch["normals"], errors.shape[1:])
        return (errors * weights).sum(dim=(1, 2)) / weights.sum(dim=(1, 2))


def person_mask(normals: Tensor, size: tuple[int, int]) -> Tensor:
    """Share of each latent pixel that the target's body covers (B, *size): normals are black outside the body."""
    return F.adaptive_avg_pool2d((normals.amax(dim=1) > 0).float(), size)


class Trainer:
    """Model, optimiser and EMA, advanced one step at a time; everything random in a step comes from (seed, step)."""

    def __init__(
        self,
        model: PoseDiveModel,
        data: TrainingArrays,
        params,
        scheduler: DDPMScheduler,
        seed: int,
        accelerator: Accelerator,
    ):
        self.model, self.data, self.params, self.scheduler = model, data, params, scheduler
        self.seed, self.accelerator = seed, accelerator
        check_data(model, data, params)
        check_batch(params, accelerator.num_processes)
        self.pairs = Pairs.of(data)
        self.network = accelerator.prepare_model(Errors(model, params.person_weight))
        self.trainable = model.trainable()
        self.optimizer = torch.optim.AdamW(
            self.trainable.values(),
            lr=params.learning_rate,
            weight_decay=params.weight_decay,
            betas=(0.9, 0.999),
            eps=1e-8,
            fused=True,
        )
        self.ema = EMAModel(self.trainable.values(), decay=params.ema_decay, foreach=True)

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    def run(
        self, out_dir: Path, key: str, progress: bool, samples: TrainingSamples | None = None
    ) -> None:
        """All steps that are still to do."""
        path, main = out_dir / "checkpoint.safetensors", self.accelerator.is_main_process
        losses = Losses(
            out_dir / "losses.csv",
            self.params.log_every,
            self.scheduler.config.num_train_timesteps,
            writes=main,
        )
        first = load_checkpoint(path, self, losses, key) if path.is_file() else losses.restart()
        if first > self.params.steps:
            raise StudyError(
                f"{path} has {first} steps behind it, more than generator.steps ({self.params.steps}): raise generator.steps, or delete the file to train anew."
            )
        with tqdm(
            total=self.params.steps,
            initial=first,
            desc="train generator",
            disable=not progress,
            mininterval=1.0,
        ) as bar:
            for step in range(first, self.params.steps):
                t, errors, total = self.step(step)
                losses.add(step + 1, t, errors, total)
                bar.set_postfix(loss=f"{losses.latest:.4f}", refresh=False)
                bar.update()
                if (step + 1) % self.params.checkpoint_every == 0:
                    if main:
                        save_checkpoint(path, self, losses, key, step + 1)
                    self.accelerator.wait_for_everyone()
                if samples is not None and (step + 1) % self.params.sample_every == 0:
                    samples.save(step + 1)

    def step(self, step: int) -> tuple[np.ndarray, np.ndarray, float]:
        """One update. Returns timesteps (B,), unweighted squared errors (B,) and the weighted loss of the whole batch."""
        parts = list(self.parts(self.batch(step)))
        errors = []
        for number, part in enumerate(parts, start=1):
            # Gradients travel between processes once per update, with the last part.
            with nullcontext() if number == len(parts) else self.accelerator.no_sync(self.network):
                with autocast(self.device, self.params.mixed_precision):
                    errors.append(self.network(part))
                self.accelerator.backward((errors[-1] * part["weights"]).mean() / len(parts))
        own = torch.stack(
            [torch.cat([part[name].float() for part in parts]) for name in ("t", "weights")]
            + [torch.cat(errors).detach()],
            dim=1,
        )
        t, weights, errors = self.accelerator.gather(own).cpu().unbind(dim=1)
        total = (errors * weights).mean().item()
        if not np.isfinite(total):
            raise StudyError(
                f"The generator's loss is not finite at step {step + 1}: lower generator.learning_rate; the last checkpoint is intact."
            )
        torch.nn.utils.clip_grad_norm_(self.trainable.values(), 1.0, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.step(self.trainable.values())
        return t.long().numpy(), errors.numpy(), total

    def parts(self, batch: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """This process's share of a batch, cut for gradient accumulation, on its device and with maps as floats."""
        world, pieces = self.accelerator.num_processes, self.params.gradient_accumulation
        for piece in range(pieces):
            part = {
                name: tensor[piece * world + self.accelerator.process_index :: pieces * world].to(
                    self.device
                )
                for name, tensor in batch.items()
            }
            yield part | {
                name: maps_to_float(part[name]) for name in ("depth", "normals", "skeleton")
            }

    def batch(self, step: int) -> dict[str, Tensor]:
        """Pairs, timesteps, noise and condition dropout of one step, drawn on the CPU: neither device nor processes change them."""
        rng = rng_for("generator-training", self.seed, step)
        size, steps = self.params.batch_size, self.scheduler.config.num_train_timesteps
        targets, references = self.pairs.draw(rng, size, self.params.same_photo)
        # One timestep per stratum, so that every batch covers all noise levels; each is uniform where timestep_power is 1.
        spread = ((np.arange(size) + rng.random(size)) / size) ** self.params.timestep_power
        t = torch.from_numpy((spread * steps).astype(np.int64))
        keep = torch.from_numpy(rng.random(size) >= self.params.condition_dropout)
        token_keep = torch.from_numpy(rng.random(size) >= self.params.token_dropout)
        latents = torch.from_numpy(self.data.latents[targets])
        generator = torch.Generator().manual_seed(seed_for("generator-noise", self.seed, step))
        noise = torch.randn(latents.shape, generator=generator)
        if self.params.noise_offset:
            noise += self.params.noise_offset * torch.randn(
                *latents.shape[:2], 1, 1, generator=generator
            )
        return {
            "t": t,
            "keep": keep,
            "token_keep": token_keep,
            "noisy": self.scheduler.add_noise(latents, noise, t),
            "target": target(self.scheduler, latents, noise, t),
            "weights": loss_weights(self.scheduler, t, self.params.snr_gamma),
            "reference": torch.from_numpy(self.data.latents[references]),
            "clip_tokens": torch.from_numpy(self.data.clip_tokens[references]),
            **{
                name: torch.from_numpy(getattr(self.data, name)[targets])
                for name in ("depth", "normals", "skeleton")
            },
        }


def check_batch(params, processes: int) -> None:
    """StudyError unless the batch divides into equal parts."""
    parts = params.gradient_accumulation * processes
    if params.batch_size % parts:
        raise StudyError(
            f"generator.batch_size is {params.batch_size}, which {processes} process(es) with gradient_accumulation "
            f"{params.gradient_accumulation} cannot share equally: choose a multiple of {parts}."
        )


def check_data(model: PoseDiveModel, data: TrainingArrays, params) -> None:
    """StudyError unless the arrays fit the model."""
    config = model.denoising_unet.config
    if data.latents.shape[1] != config.in_channels:
        raise StudyError(
            f"The latents have {data.latents.shape[1]} channels, but the U-Net takes {config.in_channels}: encode them with its own VAE."
        )
    if data.clip_tokens.shape[2] != config.cross_attention_dim:
        raise StudyError(
            f"CLIP tokens have length {data.clip_tokens.shape[2]}, but the U-Net's cross-attention takes {config.cross_attention_dim}: "
            "use the image encoder that belongs to this Stable Diffusion."
        )
    height, width = data.skeleton.shape[1:3]
    check_size(height, width, height // data.latents.shape[2], model.denoising_unet)


def _digest(model: PoseDiveModel, data: TrainingArrays, params, seed: int) -> str:
    """Identifies a training run but for its length: a checkpoint of another run must not be resumed."""
    settings = {name: value for name, value in plain(params).items() if name not in PACE}
    digest = hashlib.sha256(json.dumps([settings, seed], sort_keys=True).encode())
    for name, parameter in model.named_parameters():
        digest.update(f"{name}{parameter.detach().double().sum().item():.17g}".encode())
    for array in (
        data.latents,
        data.clip_tokens,
        data.pid,
        data.camid,
        data.depth,
        data.normals,
        data.skeleton,
        data.reference_ok,
        data.target_ok,
    ):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]
