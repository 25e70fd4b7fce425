"""Sections of params.yaml about Re-ID training and the experiments, and the whole file."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from posedive_lib.params.kinds import (
    BelowOne,
    Count,
    CountOrNone,
    DatasetName,
    DatasetNames,
    Fraction,
    NotNegative,
    Positive,
    ReIDModel,
    Section,
    Seeds,
    StudyArm,
    distinct,
    increasing,
)
from posedive_lib.params.sections import (
    Augment,
    Bodies,
    Conditions,
    GeneratorParams,
    Image,
    Paths,
    Scale,
    Splits,
    World,
    apart,
)


class PromptStage(Section):
    """Stage 1 of CLIP-ReID: linear warm-up, then a cosine, per epoch.

    `steps: null` passes once through the images per epoch.
    """

    epochs: Count
    steps: Count | None
    learning_rate: Positive
    weight_decay: NotNegative
    warmup_epochs: CountOrNone
    warmup_rate: Positive
    final_rate: NotNegative

    @model_validator(mode="after")
    def _warmup_within(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError("must have warmup_epochs below epochs")
        return self


class StepStage(Section):
    """Linear warm-up, then a learning rate in steps, per epoch.

    `steps: null` passes once through the images per epoch.
    """

    epochs: Count
    steps: Count | None
    learning_rate: Positive
    weight_decay: NotNegative
    warmup_epochs: CountOrNone
    warmup_factor: Fraction
    milestones: Annotated[list[Count], AfterValidator(increasing)]
    gamma: Fraction

    @model_validator(mode="after")
    def _within(self) -> Self:
        if max([self.warmup_epochs, *self.milestones]) > self.epochs:
            raise ValueError("must have warmup_epochs and milestones within epochs")
        return self


class Generated(Section):
    """How generated images take part in training."""

    weight: NotNegative
    max_share: Fraction
    camera: Literal["inherit", "generated", "none"]


class ResNetArchitecture(Section):
    """Blocks, channels of the stem, and channels and blocks of each stage."""

    layer: Literal["basic", "bottleneck"]
    stem: Count
    widths: Annotated[list[Count], Field(min_length=1)]
    depths: Annotated[list[Count], Field(min_length=1)]

    @model_validator(mode="after")
    def _as_many(self) -> Self:
        if len(self.widths) != len(self.depths):
            raise ValueError("must have as many widths as depths")
        return self


class ResNetParams(StepStage):
    """The ResNet baseline's schedule, and its architecture where paths.resnet is null."""

    architecture: ResNetArchitecture


class ReID(Section):
    """§D, §F: CLIP-ReID and the ResNet baseline."""

    model: ReIDModel
    seeds: Annotated[Seeds, Field(min_length=1)]
    image: Image
    instances: Annotated[int, Field(ge=2)]
    batch_size: Count
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    checkpoint_every: CountOrNone
    generated: Generated
    random_erasing: Fraction
    label_smoothing: BelowOne
    margin: NotNegative
    stage1: PromptStage
    stage2: StepStage
    head_factor: Positive
    id_weight: NotNegative
    triplet_weight: NotNegative
    i2t_weight: NotNegative
    camera_weight: NotNegative
    patch_stride: Count | None
    resnet: ResNetParams

    @model_validator(mode="after")
    def _whole_identities(self) -> Self:
        if self.batch_size % self.instances or self.batch_size < 2 * self.instances:
            raise ValueError(
                "must have batch_size a multiple of instances with at least two identities"
            )
        return self


class Longer(Section):
    """Runs that train so many times as long, and where."""

    factor: Annotated[int, Field(ge=2)]
    datasets: DatasetNames
    arms: Annotated[list[StudyArm], AfterValidator(distinct)]
    seeds: Seeds


class Study(Section):
    """Which experiments the notebooks run.

    Of the data sets that an entry names, those count that are among `datasets`.
    """

    datasets: Annotated[DatasetNames, Field(min_length=1)]
    arms: Annotated[dict[StudyArm, DatasetNames], Field(min_length=1)]
    control_budget: Count
    resnet_datasets: DatasetNames
    resnet_arms: Annotated[list[StudyArm], AfterValidator(distinct)]
    azimuth_dataset: DatasetName
    generator_dataset: DatasetName
    workers: Count
    count_dataset: DatasetName
    counts: Annotated[list[CountOrNone], Field(min_length=1), AfterValidator(increasing)]
    threshold_dataset: DatasetName
    thresholds: Annotated[list[Fraction], Field(min_length=1), AfterValidator(increasing)]
    quantiles: Annotated[list[BelowOne], AfterValidator(increasing)]
    borders: Annotated[list[Annotated[float, Field(ge=0, lt=180)]], AfterValidator(increasing)]
    longer: Longer
    graded_steps: Annotated[list[Count], AfterValidator(increasing)]
    failure_samples: Count
    poor_references: CountOrNone

    @field_validator("arms", mode="before")
    @classmethod
    def _everywhere(cls, arms: Any, info: ValidationInfo) -> Any:
        """The word "all" stands for every data set of the study."""
        if not isinstance(arms, dict):
            return arms
        every = info.data.get("datasets", [])
        return {arm: every if where == "all" else where for arm, where in arms.items()}

    @model_validator(mode="after")
    def _within_the_comparison(self) -> Self:
        unknown = set(self.resnet_arms) - set(self.arms)
        if unknown:
            raise ValueError(
                f"must name in resnet_arms only arms, and {min(unknown)} is not among them"
            )
        for kind in ("azimuth", "generator", "count", "threshold"):
            if getattr(self, f"{kind}_dataset") not in self.datasets:
                raise ValueError(f"must have {kind}_dataset among its datasets")
        parts = [name for name in self.datasets if name not in self.whole]
        if parts and "msmt17" not in self.datasets:
            raise ValueError(f"must have msmt17 among its datasets, for {parts[0]} is a part of it")
        return self

    @property
    def whole(self) -> list[str]:
        """The data sets without the splits of MSMT17."""
        return [name for name in self.datasets if not name.startswith("msmt17-s-")]

    @property
    def main_dataset(self) -> str:
        """Where notebooks 02, 03 and 08 look closer: MSMT17, or else the first data set."""
        return "msmt17" if "msmt17" in self.datasets else self.datasets[0]


class Params(Section):
    """All of params.yaml."""

    seed: CountOrNone
    paths: Paths
    bodies: Bodies
    image: Image
    scale: Scale
    world: World
    splits: Splits
    conditions: Conditions
    generator: GeneratorParams
    augment: Augment
    reid: ReID
    study: Study

    @model_validator(mode="after")
    def _apart(self) -> Self:
        written = {f"paths.{name}": folder for name, folder in self.paths.written.items()}
        others = {f"generator.{p}": getattr(self.generator, p) for p in ("vae", "image_encoder")}
        apart(written, others | {"bodies.hmr2": self.bodies.hmr2})
        return self

    def alone(self) -> "Params":
        """The same study for a worker that starts no processes of its own."""
        world, study = (part.model_copy(update={"workers": 1}) for part in (self.world, self.study))
        scale = self.scale.model_copy(update={"scheduler": ""})
        return self.model_copy(update={"world": world, "study": study, "scale": scale})

    def pick(self, *keys: str) -> dict[str, Any]:
        """Dotted key → plain value, for run records: ``pick("seed", "generator.sampling")``."""
        values = self.model_dump()
        return {key: value_at(values, key) for key in keys}


def value_at(values: Any, key: str) -> Any:
    """The value under a dotted key of nested mappings; "" is the whole. KeyError if absent."""
    for part in filter(None, key.split(".")):
        values = values[part]
    return values
