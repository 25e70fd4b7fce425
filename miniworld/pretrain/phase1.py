"""The generator's first phase (§B): pairs of general people, before it sees a Re-ID data set.

Run: python -m miniworld.pretrain.phase1   (after unet)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm import tqdm

from miniworld.pretrain.common import (
    HERE,
    People,
    batches,
    people,
    settings,
    warm_start,
    weights_digest,
)
from miniworld.pretrain.unet import encode_people
from posedive_lib import params as parameters
from posedive_lib.devices import processes
from posedive_lib.generator.arrays import TrainingArrays
from posedive_lib.generator.clip import ClipImageEncoder
from posedive_lib.generator.sampling import load
from posedive_lib.generator.training import train
from posedive_lib.weights import plain

if TYPE_CHECKING:
    from posedive_lib.params import GeneratorParams


def encode_tokens(data: People, stable_diffusion: Path, kind: str) -> np.ndarray:
    """CLIP tokens of every row, float16 (N,T,D), kept on disk beside the checkpoints."""
    digest = weights_digest(stable_diffusion / "image_encoder")
    cache = HERE / f"runs/phase1/tokens-{kind}-{digest}.npy"
    if not cache.exists():
        clip = ClipImageEncoder.from_stable_diffusion(stable_diffusion)
        clip.model.to(processes().device)
        parts = tqdm(list(batches(np.arange(len(data.images)), 256)), desc="tokens", mininterval=5)
        images = (torch.from_numpy(data.images[part]) for part in parts)
        tokens = torch.cat([clip.tokens(part, kind).half().cpu() for part in images])
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.save(cache, tokens.numpy())
    return np.load(cache, mmap_mode="r", allow_pickle=False)


def training_arrays(data: People, stable_diffusion: Path) -> TrainingArrays:
    """Latents (those the U-Net was trained on), CLIP tokens and condition maps of one split.

    A person's images are one clip, so any two have one camera. Maps stay on the disk.
    """
    # the rows of a split lie side by side, and a slice of a memory map is no copy
    rows = slice(int(data.rows[0]), int(data.rows[-1]) + 1)
    person = np.asarray(data.person[rows])
    kind = parameters.load().generator.clip_tokens
    return TrainingArrays(
        encode_people(data, stable_diffusion / "vae")[rows].astype(np.float32),
        encode_tokens(data, stable_diffusion, kind)[rows].astype(np.float32),
        pid=person,
        camid=person,
        depth=data.depth[rows],
        normals=data.normals[rows],
        skeleton=data.skeleton[rows],
        azimuth=np.asarray(data.azimuth[rows]),
    )


def begin(initial: str | None, stable_diffusion: Path, params: GeneratorParams) -> Path | None:
    """A saved generator that has an earlier release's weights, of what fits, to train from.

    The layers that touch the latents are those of the text-to-image U-Net. None: so are all.
    """
    if initial is None:
        return None
    generator = load(stable_diffusion, params=params)
    model = generator.model
    warm_start(model.guiders, initial)
    warm_start(model.denoising_unet, f"{initial}/denoising_unet")
    if model.reference_unet is not None:
        warm_start(model.reference_unet, f"{initial}/reference_unet")
    folder = HERE / "runs/phase1-0"
    generator.save(folder)
    return folder


def main() -> None:
    """Train all parts of the first phase, each from where the part before ended."""
    everything = settings()
    output = Path(everything["output"])
    stable_diffusion = output / "stable-diffusion"
    data, held_out = (training_arrays(people(s), stable_diffusion) for s in ("train", "held-out"))
    # Architecture and objective are the study's; length and pace are this phase's own.
    own = dict(everything["phase1"])
    initial, parts = own.pop("initial"), own.pop("parts")
    study = parameters.load().generator
    trained = begin(initial, stable_diffusion, study)
    for number, part in enumerate(parts, 1):
        # no part sees the pairs and the noise of another
        trained = train(
            stable_diffusion,
            data,
            type(study).model_validate(plain(study) | own | part),
            HERE / f"runs/phase1-{number}",
            everything["seed"] + number - 1,
            init_from=trained,
            held_out=held_out,
        )
    generator = load(trained)
    generator.model.half()
    generator.save(output / "phase1")


if __name__ == "__main__":
    torch.set_num_threads(settings()["threads"])
    main()
