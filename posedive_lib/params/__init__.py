"""Typed, validated view of params.yaml: every parameter of the study by attribute.

`load("params.yaml").generator.sampling.steps` is an int. A mistyped key, a value out of its range
or `1e-5` (text, to YAML) raises `StudyError` before anything starts. The meaning, unit and source
of each parameter stand beside it in params.yaml.
"""

from posedive_lib.params.ablation import Ablation
from posedive_lib.params.experiments import Params, PromptStage, ReID, StepStage
from posedive_lib.params.reading import load, load_ablation, load_replication
from posedive_lib.params.replication import Replication
from posedive_lib.params.sections import (
    Augment,
    GeneratorParams,
    Image,
    PairParams,
    Sampling,
    Splits,
)

__all__ = [
    "Ablation",
    "Augment",
    "GeneratorParams",
    "Image",
    "Params",
    "PromptStage",
    "ReID",
    "Replication",
    "PairParams",
    "Sampling",
    "Splits",
    "StepStage",
    "load",
    "load_ablation",
    "load_replication",
]
