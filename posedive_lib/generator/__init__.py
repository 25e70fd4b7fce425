"""The paper's generator (§B): pose guiders, reference attention, training and sampling.

generator = load("build/generator")                      # or a Stable Diffusion folder
images = generator.generate(photo[None], [0], skeleton[None], depth[None], normals[None], seeds=[0])
"""

from posedive_lib.generator.arrays import TrainingArrays, encode
from posedive_lib.generator.model import PoseDiveModel
from posedive_lib.generator.sampling import Generator, load
from posedive_lib.generator.training import train

__all__ = ["Generator", "PoseDiveModel", "TrainingArrays", "encode", "load", "train"]
