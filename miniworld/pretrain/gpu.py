"""The text-to-image U-Net and the generator's first phase, on a GPU.

    python -m miniworld.pretrain.gpu                    # with the values of gpu.yaml
    python -m miniworld.pretrain.gpu my_values.yaml     # or of another file

The VAE and the text and image encoders are those of `data/pretrained`. People are rendered first,
if they are not there. A stopped call goes on where it was. Time and peak memory are printed.
Without a GPU it does the same on the processor, slowly.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import torch

from miniworld.pretrain import phase1, render, unet
from miniworld.pretrain.common import HERE, settings, use
from miniworld.pretrain.publish import MODELS, TARGET


def lay_out(published: Path, output: Path) -> None:
    """Copy the published models that `output` lacks: what is not trained here, and the rest."""
    for name in MODELS:
        if not (output / name).exists():
            shutil.copytree(published / name, output / name)


def timed(name: str, work: Callable[[], None]) -> None:
    """Do the work, and print what it took."""
    begun = perf_counter()
    work()
    memory = ""
    if torch.cuda.is_available():
        memory = f", at most {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of the GPU"
        torch.cuda.reset_peak_memory_stats()
    print(f"{name}: {perf_counter() - begun:.0f} s{memory}", flush=True)


def main(values: Path = HERE / "gpu.yaml") -> None:
    """Render people and train both models with these values in place of params.yaml's."""
    use(values)
    lay_out(TARGET, Path(settings()["output"]))
    timed("people", render.main)
    timed("U-Net", unet.main)
    timed("phase 1", phase1.main)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
