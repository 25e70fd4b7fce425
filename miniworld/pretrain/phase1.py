"""The generator's first phase (§B): pairs of general people, before it sees a Re-ID data set.

Run: python -m miniworld.pretrain.phase1   (after unet)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from miniworld.pretrain.common import HERE, People, people, settings
from miniworld.pretrain.unet import encode_people
from posedive_lib import params as parameters
from posedive_lib.generator import TrainingArrays, load, saved, train
from posedive_lib.generator.clip import ClipImageEncoder
from posedive_lib.generator.model import PoseDiveModel, build_guiders, vae_factor
from posedive_lib.seeds import seed_for

if TYPE_CHECKING:
    from posedive_lib.params.sections import GeneratorParams


def training_arrays(data: People, stable_diffusion: Path) -> TrainingArrays:
    """Latents (those the U-Net was trained on), CLIP tokens and condition maps.

    Every image may be the reference of any other of the same person.
    """
    rows = data.rows
    latents = encode_people(data, stable_diffusion / "vae")[rows].astype(np.float32)
    tokens = (
        ClipImageEncoder.from_stable_diffusion(stable_diffusion)
        .tokens(torch.from_numpy(data.images[rows]), parameters.load().generator.clip_tokens)
        .numpy()
    )
    return TrainingArrays(
        latents,
        tokens,
        pid=np.asarray(data.person[rows]),
        camid=np.arange(len(rows)),
        depth=data.depth[rows],
        normals=data.normals[rows],
        skeleton=data.skeleton[rows],
    )


def continued(
    folder: Path,
    params: GeneratorParams,
    stable_diffusion: Path,
    seed: int,
    *,
    new_guiders: bool,
) -> PoseDiveModel:
    """A saved generator with a guider for each of `params.conditions`.

    Its own one, or a new one where it has none or where `new_guiders` asks for it.
    """
    known = saved.read_settings(folder)["generator"]["conditions"]
    before = params.model_copy(update={"conditions": known})
    model = saved.load_weights(folder, before, stable_diffusion)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("generator-guiders", seed))
        guiders = build_guiders(params, model.denoising_unet, vae_factor(stable_diffusion, params))
    for name in params.conditions:
        if name in known and not new_guiders:
            guiders.guiders[name].load_state_dict(model.guiders.guiders[name].state_dict())
    model.guiders = guiders
    return model


def main() -> None:
    """Train all parts of the first phase, each from where the part before ended."""
    everything = settings()
    output = Path(everything["output"])
    stable_diffusion = output / "stable-diffusion"
    data = training_arrays(people("train"), stable_diffusion)
    # Architecture and objective are the study's; length and pace are this phase's own.
    own = dict(everything["phase1"])
    trained, new_guiders, parts = own.pop("initial"), own.pop("new_guiders"), own.pop("parts")
    for number, part in enumerate(parts, 1):
        params = parameters.load().generator.model_copy(update=own | part)
        # no part sees the pairs and the noise of another
        seed = everything["seed"] + number - 1
        model = None
        if trained:
            fresh = new_guiders and number == 1
            model = continued(Path(trained), params, stable_diffusion, seed, new_guiders=fresh)
        folder = HERE / f"runs/phase1-{number}"
        trained = train(stable_diffusion, data, params, folder, seed, model=model)
    generator = load(trained)
    generator.model.half()
    generator.save(output / "phase1")


if __name__ == "__main__":
    torch.set_num_threads(settings()["threads"])
    main()
