"""Typed, validated view of params.yaml: every parameter of the study by attribute, wrong ones refused in one sentence.

`load("params.yaml").generator.sampling.steps` is an int; a mistyped key, a value out of its range or `1e-5` (text, to YAML)
raises `StudyError` before anything starts. The meaning, unit and source of each parameter stand beside it in params.yaml.
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from posedive_lib.errors import StudyError

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
    "real", "repeat", "same-distribution", "viewpoint", "pose", "pose-dive", "oracle", "oracle-same"
]
ReIDModel = Literal["clip-reid", "resnet"]


def _increasing(values: list) -> list:
    if any(first >= second for first, second in zip(values, values[1:])):
        raise ValueError("must increase from item to item")
    return values


def _low_to_high(values: list) -> list:
    if values[0] > values[-1]:
        raise ValueError("must be written as [lowest, highest]")
    return values


def _distinct(values: list) -> list:
    if len(set(values)) < len(values):
        raise ValueError("must not name anything twice")
    return values


Text = Annotated[str, StringConstraints(min_length=1)]
Count = Annotated[int, Field(ge=1)]  # 1, 2, …
CountOrNone = Annotated[int, Field(ge=0)]  # 0, 1, …
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Pixels = Annotated[int, Field(gt=0, multiple_of=16)]  # the VAE divides by 8, ViT patches by 16
Range = Annotated[list[float], Field(min_length=2, max_length=2), AfterValidator(_low_to_high)]


class Section(BaseModel):
    """One mapping of params.yaml: unknown keys and wrong types are errors, values cannot be changed afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Paths(Section):
    """Files and folders, relative to the repository root; models may also be named by their hub id."""

    body: Text
    motions: Text
    world: Text
    stable_diffusion: Text
    clip: Text
    resnet: Text | None
    pose_estimator: Text
    phase1: Text | None
    datasets: Text


class Image(Section):
    """Pixels of every image that the study reads, renders or generates."""

    height: Pixels
    width: Pixels


class MarketWorld(Section):
    train_pids: Count
    test_pids: Count
    images_per_train_pid: Count
    images_per_test_pid: Count
    distractors: CountOrNone
    junk: CountOrNone


class MSMT17World(Section):
    train_pids: Count
    test_pids: Count
    images_per_train_pid: Count
    images_per_test_pid: Count


class CUHK03World(Section):
    train_pids: Count
    test_pids: Count
    images_per_pid: Count


class World(Section):
    """Sizes of the mini world's data sets."""

    workers: Count
    market1501: MarketWorld
    msmt17: MSMT17World
    cuhk03: CUHK03World


class CamSplit(Section):
    """MSMT17-S (Cam), §A: absolute azimuth of training images at most, of test images at least, in degrees."""

    train_max_azimuth: Annotated[float, Field(gt=0, lt=180)]
    test_min_azimuth: Annotated[float, Field(gt=0, lt=180)]

    @model_validator(mode="after")
    def _disjoint(self):
        if self.train_max_azimuth > self.test_min_azimuth:
            raise ValueError(
                "must not have train_max_azimuth above test_min_azimuth, or the viewpoints overlap"
            )
        return self


class PoseSplit(Section):
    """MSMT17-S (Pose), §A: clusters of poses, and how many of them (the most common ones) train."""

    clusters: Annotated[int, Field(ge=2)]
    train_clusters: Count

    @model_validator(mode="after")
    def _some_left_to_test(self):
        if self.train_clusters >= self.clusters:
            raise ValueError("must have train_clusters below clusters, or no pose is left to test")
        return self


class Splits(Section):
    cam: CamSplit
    pose: PoseSplit


class Conditions(Section):
    """§B, §H: depth range in metres, focal length in image heights."""

    depth_near: Positive
    depth_far: Positive
    focal: Positive

    @model_validator(mode="after")
    def _near_before_far(self):
        if self.depth_near >= self.depth_far:
            raise ValueError("must have depth_near below depth_far")
        return self


class GuiderWidths(Section):
    """Output channels of the three pose guiders."""

    depth: Count
    normals: Count
    skeleton: Count


class Sampling(Section):
    scheduler: Text
    steps: Count
    guidance: Annotated[float, Field(ge=1)]
    batch_size: Count


class GeneratorParams(Section):
    """§B: the diffusion model, its training and its sampling."""

    prediction_type: Literal["epsilon", "v_prediction"]
    zero_snr: bool
    snr_gamma: NotNegative
    noise_offset: Fraction
    guider_widths: GuiderWidths
    guider_channels: Annotated[
        list[Count], Field(min_length=4, max_length=4)
    ]  # three stride-2 steps join four widths
    conditions: Annotated[
        list[Literal["depth", "normals", "skeleton"]],
        Field(min_length=1),
        AfterValidator(_distinct),
    ]
    reference_attention: bool
    pretrained: bool
    revision: Text | None
    vae: Text | None
    image_encoder: Text | None
    clip_tokens: Literal["pooled", "patch"]
    condition_dropout: Fraction
    token_dropout: Fraction
    same_photo: Fraction
    timestep_power: Positive
    person_weight: Positive
    learning_rate: Positive
    weight_decay: NotNegative
    batch_size: Count
    gradient_accumulation: Count
    gradient_checkpointing: bool
    mixed_precision: Literal["no", "bf16", "auto"]
    steps: Count
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    log_every: Count
    checkpoint_every: Count
    sample_every: CountOrNone
    sampling: Sampling

    @model_validator(mode="after")
    def _zero_snr_needs_v(self):
        # At zero SNR the input is pure noise, so that predicting the noise says nothing about the image.
        if self.zero_snr and self.prediction_type == "epsilon":
            raise ValueError("must have zero_snr: false with prediction_type: epsilon")
        return self


class Policy(Section):
    """§B: how viewpoints and poses of generated images are drawn."""

    viewpoint: Literal["uniform", "inverse-density", "same-distribution"]
    pose: Literal["uniform", "balanced", "inverse-density", "same-distribution"]


class Augment(Section):
    """§B, §E: what is generated and what the filter keeps (Eq. 3 to 6)."""

    elevation: Range
    azimuth: Range
    policy: Policy
    candidates_per_pid: Count
    images_per_pid: Count
    keypoints: Literal["body", "all"]
    tau_ref: Fraction
    tau_tar: Fraction
    epsilon_gen: Fraction
    tau_gen: Fraction

    @model_validator(mode="after")
    def _enough_candidates(self):
        if self.images_per_pid > self.candidates_per_pid:
            raise ValueError("must have images_per_pid at most candidates_per_pid")
        return self


class PromptStage(Section):
    """Stage 1 of CLIP-ReID: linear warm-up, then a cosine, per epoch. `steps: null` passes once through the images per epoch."""

    epochs: Count
    steps: Count | None
    learning_rate: Positive
    weight_decay: NotNegative
    warmup_epochs: CountOrNone
    warmup_rate: Positive
    final_rate: NotNegative

    @model_validator(mode="after")
    def _warmup_within(self):
        if self.warmup_epochs >= self.epochs:
            raise ValueError("must have warmup_epochs below epochs")
        return self


class StepStage(Section):
    """Linear warm-up, then a learning rate in steps, per epoch. `steps: null` passes once through the images per epoch."""

    epochs: Count
    steps: Count | None
    learning_rate: Positive
    weight_decay: NotNegative
    warmup_epochs: CountOrNone
    warmup_factor: Fraction
    milestones: Annotated[list[Count], AfterValidator(_increasing)]
    gamma: Fraction

    @model_validator(mode="after")
    def _within(self):
        if max([self.warmup_epochs, *self.milestones]) > self.epochs:
            raise ValueError("must have warmup_epochs and milestones within epochs")
        return self


class Generated(Section):
    """How generated images take part in training."""

    weight: NotNegative
    max_share: Fraction
    camera: Literal["inherit", "generated", "none"]


class ResNetArchitecture(Section):
    layer: Literal["basic", "bottleneck"]
    stem: Count
    widths: Annotated[list[Count], Field(min_length=1)]
    depths: Annotated[list[Count], Field(min_length=1)]

    @model_validator(mode="after")
    def _as_many(self):
        if len(self.widths) != len(self.depths):
            raise ValueError("must have as many widths as depths")
        return self


class ResNetParams(StepStage):
    """The ResNet baseline's schedule, and its architecture where paths.resnet is null."""

    architecture: ResNetArchitecture


class ReID(Section):
    """§D, §F: CLIP-ReID and the ResNet baseline."""

    model: ReIDModel
    seeds: Annotated[list[CountOrNone], Field(min_length=1), AfterValidator(_distinct)]
    image: Image
    instances: Annotated[int, Field(ge=2)]
    batch_size: Count
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    checkpoint_every: CountOrNone
    generated: Generated
    random_erasing: Fraction
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
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
    def _whole_identities(self):
        if self.batch_size % self.instances or self.batch_size < 2 * self.instances:
            raise ValueError(
                "must have batch_size a multiple of instances with at least two identities"
            )
        return self


class Ablation(Section):
    """The generator's variants of notebook 03."""

    seeds: Annotated[list[CountOrNone], AfterValidator(_distinct)]
    steps: Count
    people: Count


class Study(Section):
    """Which experiments the notebooks run."""

    datasets: Annotated[list[DatasetName], Field(min_length=1), AfterValidator(_distinct)]
    arms: Annotated[
        list[Literal["real", "repeat", "pose-dive"]], Field(min_length=1), AfterValidator(_distinct)
    ]
    control_arms: Annotated[
        list[Literal["same-distribution", "viewpoint", "pose", "oracle", "oracle-same"]],
        AfterValidator(_distinct),
    ]
    control_datasets: Annotated[list[DatasetName], AfterValidator(_distinct)]
    generated_control_datasets: Annotated[list[DatasetName], AfterValidator(_distinct)]
    resnet_datasets: Annotated[list[DatasetName], AfterValidator(_distinct)]
    resnet_arms: Annotated[list[StudyArm], AfterValidator(_distinct)]
    azimuth_dataset: DatasetName
    generator_dataset: DatasetName
    workers: Count
    count_dataset: DatasetName
    counts: Annotated[list[CountOrNone], Field(min_length=1), AfterValidator(_increasing)]
    threshold_dataset: DatasetName
    thresholds: Annotated[list[Fraction], Field(min_length=1), AfterValidator(_increasing)]
    failure_samples: Count
    ablation: Ablation

    @model_validator(mode="after")
    def _within_the_comparison(self):
        for inner, outer in (
            ("control_datasets", "datasets"),
            ("generated_control_datasets", "control_datasets"),
            ("resnet_datasets", "datasets"),
        ):
            if beyond := set(getattr(self, inner)) - set(getattr(self, outer)):
                raise ValueError(
                    f"must name in {inner} only what {outer} names, and {min(beyond)} is not there"
                )
        if beyond := set(self.resnet_arms) - {*self.arms, *self.control_arms}:
            raise ValueError(
                f"must name in resnet_arms only arms and control_arms, and {min(beyond)} is neither"
            )
        for name in ("azimuth_dataset", "generator_dataset"):
            if getattr(self, name) not in self.datasets:
                raise ValueError(f"must have {name} among its datasets")
        return self


class Params(Section):
    """All of params.yaml."""

    seed: CountOrNone
    paths: Paths
    image: Image
    world: World
    splits: Splits
    conditions: Conditions
    generator: GeneratorParams
    augment: Augment
    reid: ReID
    study: Study

    def pick(self, *keys: str) -> dict[str, Any]:
        """Dotted key → plain value, for run records: ``pick("seed", "generator.sampling")``."""
        return {key: _follow(self.model_dump(), key) for key in keys}


def load(path: str | Path = "params.yaml", *, overrides: dict[str, Any] | None = None) -> Params:
    """Parameters of the YAML file `path`, after `overrides` (dotted key → value, for tests and trials).

    Raises `StudyError` naming the file, the dotted key, the value and what is allowed instead.
    """
    values = _read(path)
    for key, value in (overrides or {}).items():
        *parents, last = key.split(".")
        _follow(values, ".".join(parents))[last] = value
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise StudyError(_sentence(path, values, error)) from None


def _read(path: str | Path) -> dict[str, Any]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise StudyError(
            f"{path} cannot be read ({reason}); copy params/mini.yaml there to start again."
        ) from None
    try:
        values = yaml.load(text, Loader=_NoRepeats)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" on line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "unreadable"
        raise StudyError(f"{path} is not valid YAML{place}: {problem}.") from None
    if not isinstance(values, dict):
        raise StudyError(
            f"{path} holds no parameters; copy params/mini.yaml over it to start again."
        )
    return values


class _NoRepeats(yaml.SafeLoader):
    """YAML takes the last of two equal keys in silence; here that is an error."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands there twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _follow(values: dict[str, Any], key: str) -> Any:
    for part in filter(None, key.split(".")):
        values = values[part]
    return values


def _known_keys(model: type[BaseModel] = Params, prefix: str = "") -> list[str]:
    """Every dotted key, sections included."""
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += _known_keys(field.annotation, f"{prefix}{name}.")
    return keys


def _nearest(key: str) -> str:
    """The known key that `key` was probably meant to be: by its last name first, wherever that stands."""
    known = _known_keys()
    siblings = [name for name in known if name.rpartition(".")[0] == key.rpartition(".")[0]]
    near = difflib.get_close_matches(key, siblings, 1, 0.6) or difflib.get_close_matches(
        key, known, 1, 0.0
    )
    same_name = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
    return (same_name or near)[0]


def _sentence(path: str | Path, values: dict[str, Any], error: ValidationError) -> str:
    """One sentence for the first problem; a misspelt key goes before the key that is missing because of it."""
    problems = sorted(
        error.errors(include_url=False), key=lambda item: item["type"] != "extra_forbidden"
    )
    first, key = problems[0], ".".join(map(str, problems[0]["loc"]))
    more = f" ({len(problems) - 1} more after this one)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        more = ""  # the others follow from it more often than not
        return f"{path}: {key} is not a parameter; did you mean {_nearest(key)}?"
    if first["type"] == "missing":
        return f"{path}: {key} is missing; params/mini.yaml shows every parameter{more}."
    value = first["input"]
    if isinstance(value, str) and first["type"] in {"float_type", "int_type"} and _is_number(value):
        return (
            f"{path}: {key} is the text {value!r}, not a number; write {_yaml_number(value)}{more}."
        )
    allowed = (
        first["msg"]
        .removeprefix("Value error, ")
        .removeprefix("Input ")
        .removeprefix("List ")
        .removeprefix("String ")
    )
    allowed = (
        allowed.replace("should", "must")
        .replace(" after validation", "")
        .replace("dictionary or instance of", "section")
    )
    if isinstance(value, dict):
        return f"{path}: {key or 'the file'} {allowed}{more}."
    return f"{path}: {key} is {value!r}, but it {allowed}{more}."


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _yaml_number(text: str) -> str:
    """The same number as YAML reads it: 1e-5 → 1.0e-5."""
    mantissa, _, exponent = text.lower().partition("e")
    if not exponent:
        return text
    mantissa = mantissa if "." in mantissa else mantissa + ".0"
    return f"{mantissa}e{exponent if exponent[0] in '+-' else '+' + exponent}"
