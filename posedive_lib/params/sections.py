"""Sections of params.yaml about data, the generator and the filter.

Each parameter's meaning, unit and source stand beside it in params.yaml.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from posedive_lib.params.kinds import (
    BelowOne,
    Count,
    CountOrNone,
    Fraction,
    NotNegative,
    Pixels,
    Positive,
    Range,
    Section,
    Text,
    distinct,
)

WRITTEN = ("bodies", "splits", "reports")  # of `paths`; all others are read
Azimuth = Annotated[float, Field(gt=0, lt=180)]
Aspect = Annotated[float, Field(ge=1.5, le=3.5)]


def apart(written: dict[str, str], others: dict[str, str | None]) -> None:
    """ValueError where one of the written folders and one of the others lie one in the other.

    As they are named, or where their links lead.
    """
    for name, folder in written.items():
        for other, place in others.items():
            if other == name or place is None:
                continue
            for plain in (Path.absolute, Path.resolve):
                try:
                    there, kept = plain(Path(folder)), plain(Path(place))
                except (OSError, RuntimeError):
                    raise ValueError(f"has links that lead in a circle: {folder} or {place}")  # noqa: B904
                if there.is_relative_to(kept) or kept.is_relative_to(there):
                    raise ValueError(f"must have {name}, which is written, apart from {other}")


class Paths(Section):
    """Files and folders, relative to the repository root; models may be named by their hub id."""

    body: Text
    motions: Text
    world: Text
    stable_diffusion: Text
    clip: Text
    resnet: Text | None
    pose_estimator: Text
    phase1: Text | None
    datasets: Text
    bodies: Text
    splits: Text
    reports: Text

    @property
    def written(self) -> dict[str, str]:
        """The folders that the study writes."""
        return {name: getattr(self, name) for name in WRITTEN}

    @model_validator(mode="after")
    def _apart(self) -> Self:
        read = {name: path for name, path in self.model_dump().items() if name not in WRITTEN}
        apart(self.written, read)
        apart(self.written, {**self.written})  # one that is replaced would take the other along
        return self


class Bodies(Section):
    """§B: where the SMPL bodies of photos come from."""

    source: Literal["truth", "fit", "hmr2"]
    hmr2: Text | None

    @model_validator(mode="after")
    def _results(self) -> Self:
        if self.source == "hmr2" and self.hmr2 is None:
            raise ValueError("must have hmr2, the folder of its results, with source: hmr2")
        return self


class Image(Section):
    """Pixels of every image that the study reads, renders or generates."""

    height: Pixels
    width: Pixels


class Scale(Section):
    """Who computes independent pieces of work: this machine, or the workers of a Dask scheduler.

    No result depends on it, so it is in no key of a record.
    """

    scheduler: str


class MSMT17World(Section):
    """Size of the mini world's MSMT17."""

    train_pids: Count
    test_pids: Count
    images_per_train_pid: Count
    images_per_test_pid: Count


class MarketWorld(MSMT17World):
    """Size of the mini world's Market-1501, which has distractors and junk besides."""

    distractors: CountOrNone
    junk: CountOrNone


class CUHK03World(Section):
    """Size of the mini world's CUHK03."""

    train_pids: Count
    test_pids: Count
    images_per_pid: Count


class World(Section):
    """Sizes of the mini world's data sets, and the proportions of their photos.

    aspects: height over width, drawn equally for each photo; None: all as in `image`.
    """

    workers: Count
    aspects: Annotated[list[Aspect], Field(min_length=1)] | None
    market1501: MarketWorld
    msmt17: MSMT17World
    cuhk03: CUHK03World


class CamSplit(Section):
    """MSMT17-S (Cam), §A: largest absolute azimuth in training, smallest in test, in degrees."""

    train_max_azimuth: Azimuth
    test_min_azimuth: Azimuth

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        if self.train_max_azimuth > self.test_min_azimuth:
            raise ValueError(
                "must not have train_max_azimuth above test_min_azimuth, or the viewpoints overlap"
            )
        return self


class PoseSplit(Section):
    """MSMT17-S (Pose), §A: clusters of poses; the `train_clusters` most common ones train."""

    clusters: Annotated[int, Field(ge=2)]
    train_clusters: Count

    @model_validator(mode="after")
    def _some_left_to_test(self) -> Self:
        if self.train_clusters >= self.clusters:
            raise ValueError("must have train_clusters below clusters, or no pose is left to test")
        return self


class Splits(Section):
    """§A: the rules of MSMT17-S."""

    cam: CamSplit
    pose: PoseSplit


class Conditions(Section):
    """§B, §H: depth range in metres, focal length in image heights."""

    depth_near: Positive
    depth_far: Positive
    focal: Positive

    @model_validator(mode="after")
    def _near_before_far(self) -> Self:
        if self.depth_near >= self.depth_far:
            raise ValueError("must have depth_near below depth_far")
        return self


class GuiderWidths(Section):
    """Output channels of the three pose guiders."""

    depth: Count
    normals: Count
    skeleton: Count


class Sampling(Section):
    """How images are drawn: scheduler, steps and scale of classifier-free guidance."""

    scheduler: Text
    steps: Count
    guidance: Annotated[float, Field(ge=1)]
    batch_size: Count


class PairParams(Section):
    """§B: which two photos of a person train the generator."""

    camera: Literal["same", "other"]
    same_photo: Fraction
    largest_turn: Annotated[float, Field(gt=0, le=180)]
    targets_per_reference: Count


class GeneratorParams(Section):
    """§B: the diffusion model, its training and its sampling."""

    prediction_type: Literal["epsilon", "v_prediction"]
    zero_snr: bool
    snr_gamma: NotNegative
    noise_offset: Fraction
    guider_widths: GuiderWidths
    # Four widths, joined by three steps of stride 2.
    guider_channels: Annotated[list[Count], Field(min_length=4, max_length=4)]
    conditions: Annotated[
        list[Literal["depth", "normals", "skeleton"]],
        Field(min_length=1),
        AfterValidator(distinct),
    ]
    reference_attention: bool
    pretrained: bool
    revision: Text | None
    vae: Text | None
    image_encoder: Text | None
    clip_tokens: Literal["pooled", "patch"]
    condition_dropout: Fraction
    token_dropout: Fraction
    pairs: PairParams
    timestep_power: Positive
    person_weight: Positive
    learning_rate: Positive
    weight_decay: NotNegative
    batch_size: Count
    gradient_accumulation: Count
    gradient_checkpointing: bool
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    steps: Count
    decay_steps: CountOrNone
    ema_decay: BelowOne
    log_every: Count
    checkpoint_every: Count
    sample_every: CountOrNone
    sampling: Sampling

    @model_validator(mode="after")
    def _decays_within_its_length(self) -> Self:
        if self.decay_steps > self.steps:
            raise ValueError("must have decay_steps at most steps")
        return self

    @model_validator(mode="after")
    def _zero_snr_needs_v(self) -> Self:
        # At zero SNR the input is pure noise: predicting the noise says nothing about the image.
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
    def _enough_candidates(self) -> Self:
        if self.images_per_pid > self.candidates_per_pid:
            raise ValueError("must have images_per_pid at most candidates_per_pid")
        return self
