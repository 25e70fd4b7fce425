"""The paper's generator (§B): pose guiders, reference attention, training and sampling.

generator = load("build/generator")                      # or a Stable Diffusion folder
images = generator.generate(photo[None], [0], skeleton[None], depth[None], normals[None], seeds=[0])

The names are loaded when they are asked for, because diffusers takes seconds. The study's own code
imports them from their modules, which the keys of its records follow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from posedive_lib.generator.arrays import TrainingArrays, encode
    from posedive_lib.generator.model import PoseDiveModel
    from posedive_lib.generator.sampling import Generator, load
    from posedive_lib.generator.training import train

__all__ = ["Generator", "PoseDiveModel", "TrainingArrays", "encode", "load", "train"]

MODULES = {
    "Generator": "sampling",
    "PoseDiveModel": "model",
    "TrainingArrays": "arrays",
    "encode": "arrays",
    "load": "sampling",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
