"""The paper's generator (§B): pose guiders, reference attention, training and sampling.

generator = load("build/generator")                      # or a Stable Diffusion folder
images = generator.generate(photo[None], [0], skeleton[None], depth[None], normals[None], seeds=[0])
"""

from posedive_lib.generator.arrays import TrainingArrays, encode
from posedive_lib.generator.files import generate_files
from posedive_lib.generator.model import PoseDiveModel
from posedive_lib.generator.sampling import Generator
from posedive_lib.generator.train import train

load = Generator.load

__all__ = [
    "Generator",
    "PoseDiveModel",
    "TrainingArrays",
    "encode",
    "generate_files",
    "load",
    "train",
]
