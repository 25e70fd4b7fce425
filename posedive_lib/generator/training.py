"""Training of the generator (§B, Eq. 1), from its starting weights to the saved generator."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler

from posedive_lib.errors import StudyError
from posedive_lib.generator import saved
from posedive_lib.generator.arrays import TrainingArrays
from posedive_lib.generator.model import PoseDiveModel
from posedive_lib.generator.noise_schedule import load_scheduler
from posedive_lib.generator.trainer import Trainer
from posedive_lib.generator.training_pictures import TrainingPictures
from posedive_lib.seeds import seed_for
from posedive_lib.weights import local_folder, plain
from posedive_lib.writing import alone_in, writing

if TYPE_CHECKING:
    from posedive_lib.params import GeneratorParams

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
    params: GeneratorParams,
    out_dir: str | Path,
    seed: int,
    *,
    init_from: str | Path | None = None,
    model: PoseDiveModel | None = None,
    held_out: TrainingArrays | None = None,
    progress: bool = True,
    cpu: bool = False,
) -> Path:
    """Train `params.steps` steps; returns the folder of the saved generator, `out_dir/generator`.

    It holds the EMA weights. Training starts from `model`, else from the saved generator
    `init_from` (phase 2), else from `stable_diffusion` (phase 1). params: the section `generator`.

    Runs on the GPUs that there are (cpu: on none). Under `accelerate launch` every process takes
    its part of each batch, and the batches stay the same.

    Writes `out_dir/losses.csv`, every `checkpoint_every` steps `out_dir/checkpoint.safetensors`,
    every `sample_every` steps a picture and gauges in `out_dir/samples` (of `held_out`, if given).
    Called again after a kill it goes on
    from the checkpoint; called again when finished it returns at once.
    StudyError on a non-finite loss, naming the step, on a checkpoint of more steps, and where
    another run trains in `out_dir`.
    """
    folder = local_folder(stable_diffusion, params.revision)
    out_dir = Path(out_dir)
    with writing(out_dir):
        out_dir.mkdir(parents=True, exist_ok=True)
    model = model or starting_model(folder, params, init_from, seed)
    key = _digest(model, data, params, seed)
    about = {"key": key, "steps": params.steps}
    finished = out_dir / "generator"
    if (finished / saved.SETTINGS).is_file():
        if saved.read_settings(finished).get("training") == about:
            return finished
    if params.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    # Mixed precision is the trainer's own: the same with and without several processes.
    accelerator = Accelerator(cpu=cpu or not torch.cuda.is_available(), mixed_precision="no")
    scheduler = load_scheduler(folder, params, DDPMScheduler)
    trainer = Trainer(model.train(), data, params, scheduler, seed, accelerator)
    main, pictures = accelerator.is_main_process, None
    if params.sample_every and main:
        pictures = TrainingPictures.of(trainer, folder, out_dir / "samples", held_out)
    with alone_in(out_dir, "training", first=main):
        trainer.run(out_dir, key, progress and main, pictures)
        trainer.ema.copy_to(model.trainable().values())
        if main:
            saved.save_model(model.eval(), finished, params, folder, about)
            (out_dir / "checkpoint.safetensors").unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    return finished


def starting_model(
    stable_diffusion: Path, params: GeneratorParams, init_from: str | Path | None, seed: int
) -> PoseDiveModel:
    """The model that training starts from: `init_from`'s, else one from `stable_diffusion`.

    Fresh weights come from the seed, so that a resumed run starts from the same ones.
    """
    if init_from is not None:
        if not params.pretrained:
            raise StudyError(
                "generator.pretrained is false, but a phase-1 generator is given: "
                "set paths.phase1 to null."
            )
        return saved.load_weights(local_folder(init_from), params, stable_diffusion)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("generator-guiders", seed))
        return PoseDiveModel.from_stable_diffusion(stable_diffusion, params)


def _digest(model: PoseDiveModel, data: TrainingArrays, params: GeneratorParams, seed: int) -> str:
    """Identifies a training run but for its length: no other run's checkpoint may be resumed."""
    # The length of a run whose learning rate falls decides its weights as well.
    pace = [name for name in PACE if not (name == "steps" and params.decay_steps)]
    settings = {name: value for name, value in plain(params).items() if name not in pace}
    digest = hashlib.sha256(json.dumps([settings, seed], sort_keys=True).encode())
    for name, parameter in model.named_parameters():
        # bytes, for a sum differs in its last bits with the number of threads
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().flatten().view(torch.uint8).numpy().data)
    for array in vars(data).values():
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]
