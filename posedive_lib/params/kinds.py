"""The kinds of values in params.yaml, and the base class of its sections."""

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

DatasetName = Literal[
    "market1501",
    "msmt17",
    "cuhk03-labeled",
    "cuhk03-detected",
    "msmt17-s-cam",
    "msmt17-s-pose",
    "folder",
]
StudyArm = Literal[
    "real",
    "repeat",
    "same-distribution",
    "viewpoint",
    "pose",
    "uniform",
    "unfiltered",
    "with-bags",
    "without-bags",
    "pose-dive",
    "oracle",
    "oracle-same",
]
ReIDModel = Literal["clip-reid", "resnet"]


def increasing(values: list[Any]) -> list[Any]:
    """The values; ValueError unless each is larger than the one before it."""
    if any(first >= second for first, second in pairwise(values)):
        raise ValueError("must increase from item to item")
    return values


def low_to_high(values: list[Any]) -> list[Any]:
    """The two ends of a range; ValueError unless the lower one comes first."""
    if values[0] > values[-1]:
        raise ValueError("must be written as [lowest, highest]")
    return values


def distinct(values: list[Any]) -> list[Any]:
    """The values; ValueError if two are equal."""
    if len(set(values)) < len(values):
        raise ValueError("must not name anything twice")
    return values


Text = Annotated[str, StringConstraints(min_length=1)]
Count = Annotated[int, Field(ge=1)]  # 1, 2, …
CountOrNone = Annotated[int, Field(ge=0)]  # 0, 1, …
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Pixels = Annotated[int, Field(gt=0, multiple_of=16)]  # the VAE divides by 8, ViT patches by 16
Range = Annotated[list[float], Field(min_length=2, max_length=2), AfterValidator(low_to_high)]
Seeds = Annotated[list[CountOrNone], AfterValidator(distinct)]
DatasetNames = Annotated[list[DatasetName], AfterValidator(distinct)]


class Section(BaseModel):
    """One mapping of params.yaml. Unknown keys and wrong types are errors; values are fixed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
