"""What to generate (§B): poses and viewpoints, as a plan with one row per candidate.

Viewpoint and pose each have a policy of their own, and an arm of the study is a pair of policies
(`ARMS`). `pose-dive` diversifies both, `viewpoint` and `pose` one of them, `same-distribution`
neither. `uniform` draws both plainly, as the paper does. Every draw comes from the key (seed, data
set, identity, index). So asking for more candidates only appends. Policies share references and
noise, so that arms differ in nothing but pose and viewpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from posedive_lib.augment.distribution import (
    nearest_cell,
    neighbour_distance,
    pose_cells,
    pose_features,
    viewpoint_bins,
    viewpoint_histogram,
)
from posedive_lib.augment.training_set import Training
from posedive_lib.body.poses import PoseSource
from posedive_lib.errors import StudyError
from posedive_lib.seeds import rng_for, seed_for

if TYPE_CHECKING:
    from posedive_lib.params.sections import Policy

SAME = "same-distribution"
VIEWPOINT_POLICIES = ("uniform", "inverse-density", SAME)
POSE_POLICIES = ("uniform", "balanced", "inverse-density", SAME)
ARMS = {  # what is diversified: viewpoint, pose
    "pose-dive": (True, True),
    "viewpoint": (True, False),
    "pose": (False, True),
    SAME: (False, False),
    "uniform": (True, True),
}
CONTROLS = tuple(arm for arm in ARMS if arm != "pose-dive")  # what else is generated, to compare
GRID = 240  # steps of azimuth and of elevation between which `inverse-density` chooses
COLUMNS = [
    "dataset",
    "policy",
    "viewpoint_policy",
    "pose_policy",
    "pid",
    "index",
    "reference",
    "reference_passed",
    "reference_min",
    "camid",
    "pose_from",
    "pose_row",
    "pose",
    "frame",
    "domain",
    "view_row",
    "azimuth",
    "elevation",
    "seed",
]


def policies_of(arm: str, policy: Policy) -> dict[str, str]:
    """The policies of an arm of the study, as keyword arguments of `plan`.

    What the arm diversifies follows `policy` (params.augment.policy), or in `uniform` the paper's
    plain draw; the rest is drawn as the training set has it.
    """
    if arm not in ARMS:
        raise StudyError(f"The arm is '{arm}': use one of {', '.join(ARMS)}")
    if arm == "uniform":
        return {"viewpoint_policy": "uniform", "pose_policy": "uniform"}
    viewpoint, pose = ARMS[arm]
    return {
        "viewpoint_policy": policy.viewpoint if viewpoint else SAME,
        "pose_policy": policy.pose if pose else SAME,
    }


def pose_weights(
    source: PoseSource, training_pose: np.ndarray, policy: str = "inverse-density"
) -> np.ndarray:
    """Probability (N,) of drawing each pose of the source.

    uniform: every frame alike, as in the paper; long motions of one kind dominate.
    balanced: every cell of `pose_cells` alike, whatever the training set holds.
    inverse-density: in proportion to the distance from the training set's poses times the distance
    from the source's own. It goes where the training set is sparse, mostly out-of-domain.
    Distances, because 1 / density in 72 dimensions would put all weight on a single outlier.
    """
    if policy not in POSE_POLICIES or policy == SAME:
        raise StudyError(
            f"augment.policy.pose is '{policy}': use one of {', '.join(POSE_POLICIES)}"
        )
    weights = np.ones(len(source))
    if policy == "balanced":
        cell = nearest_cell(source.body_pose, pose_cells(source.body_pose))
        weights = 1 / np.bincount(cell)[cell]
    if policy == "inverse-density":
        poses, known = pose_features(source.body_pose), pose_features(training_pose)
        weights = neighbour_distance(poses, known) * neighbour_distance(poses, poses, itself=True)
    return weights / weights.sum() if weights.sum() > 0 else np.full(len(source), 1 / len(source))


class _Poses:
    """Draws poses: of the source by the policy's weights, or with `same-distribution` any row."""

    def __init__(self, source: PoseSource, training: Training, policy: str):
        self.source, self.kept = source, policy == SAME
        if not self.kept:
            self.steps = np.cumsum(pose_weights(source, training.bodies.body_pose, policy))

    def draw(self, first: float, row: int) -> tuple[str, int, str, int, str]:
        """pose_from, pose_row, pose, frame and domain, by a number in [0, 1) and a training row."""
        if self.kept:
            return "training", row, "training", -1, "training"
        # The inverse of the cumulative distribution. The product may round up to its end.
        place = np.searchsorted(self.steps, first * self.steps[-1], side="right")
        pose = int(min(place, len(self.steps) - 1))
        source = self.source
        return "source", pose, source.name[pose], int(source.frame[pose]), source.domain[pose]


class _Viewpoints:
    """Draws azimuth and elevation in degrees.

    `inverse-density` draws from a fine grid, where each bin weighs in inverse proportion to the
    training images in it.
    """

    def __init__(
        self,
        azimuth: Sequence[float],
        elevation: Sequence[float],
        training: Training,
        policy: str,
    ):
        for name, (low, high) in {"azimuth": azimuth, "elevation": elevation}.items():
            if not low <= high:
                raise StudyError(f"augment.{name} is [{low}, {high}]: give the lower bound first")
        self.azimuth, self.elevation = azimuth, elevation
        self.training, self.policy = training, policy
        if policy == "inverse-density":
            middles = [
                np.linspace(low, high, GRID + 1)[:-1] + (high - low) / (2 * GRID)
                for low, high in (azimuth, elevation)
            ]
            self.grid = np.array(np.meshgrid(*middles, indexing="ij")).reshape(2, -1)
            # 1 more in each bin, so that an empty one has a finite weight.
            seen = viewpoint_histogram(training.azimuth, training.elevation)
            self.steps = np.cumsum((1 / (1 + seen))[viewpoint_bins(*self.grid)])

    def draw(self, rng: np.random.Generator, row: int) -> tuple[int, float, float]:
        """view_row, azimuth and elevation; `row`: the training row to take them from, if any."""
        if self.policy == SAME:
            return row, float(self.training.azimuth[row]), float(self.training.elevation[row])
        first, second = rng.uniform(size=2)
        if self.policy == "inverse-density":
            place = np.searchsorted(self.steps, first * self.steps[-1], side="right")
            azimuth, elevation = self.grid[:, place]
        else:
            azimuth = self.azimuth[0] + first * (self.azimuth[1] - self.azimuth[0])
            elevation = self.elevation[0] + second * (self.elevation[1] - self.elevation[0])
        return -1, float(180 - (180 - azimuth) % 360), float(elevation)  # in (-180, 180]


def plan(
    dataset_name: str,
    references: pd.DataFrame,
    training: Training,
    source: PoseSource,
    *,
    n_per_pid: int,
    viewpoint_policy: str = "uniform",
    pose_policy: str = "inverse-density",
    azimuth: Sequence[float] = (0.0, 360.0),
    elevation: Sequence[float] = (0.0, 30.0),
    seed: int = 0,
) -> pd.DataFrame:
    """One row per candidate (COLUMNS), ordered by index and then identity.

    references: usable reference images (pid, rel, camid; optionally reference_passed and
    reference_min, Eq. 3). An identity's references take turns, in an order that its key decides.
    pose_row counts in `source` or in `training.bodies`, as pose_from says. view_row is the training
    row whose viewpoint is used, -1 where it is sampled. The camera is the reference's.
    """
    _check(references, n_per_pid, viewpoint_policy, pose_policy)
    diversified = viewpoint_policy != SAME, pose_policy != SAME
    arm = next(name for name, pair in ARMS.items() if pair == diversified)
    poses = _Poses(source, training, pose_policy)
    cameras = _Viewpoints(azimuth, elevation, training, viewpoint_policy)
    last = len(training.bodies) - 1
    # Where Eq. 3 was not asked, every image passes.
    assumed = {"reference_passed": True, "reference_min": 1.0}
    references = references.assign(**{k: v for k, v in assumed.items() if k not in references})
    references = references.astype({"reference_passed": bool, "reference_min": float})
    rows = []
    for pid, own in references.sort_values("rel").groupby("pid"):
        order = rng_for("reference", seed, dataset_name, pid).permutation(len(own))
        columns = ["rel", "reference_passed", "reference_min", "camid"]
        images = list(own[columns].itertuples(index=False, name=None))
        for index in range(n_per_pid):
            key = (seed, dataset_name, pid, index)
            # Drawn for every policy, so that arms which keep the pose or the view share the row.
            pose_draw, row_draw = rng_for("pose", *key).uniform(size=2)
            row = min(int(row_draw * (last + 1)), last)
            rows.append(
                (
                    *(dataset_name, arm, viewpoint_policy, pose_policy, pid, index),
                    *images[order[index % len(own)]],
                    *poses.draw(pose_draw, row),
                    *cameras.draw(rng_for("view", *key), row),
                    seed_for("noise", *key),
                )
            )
    return pd.DataFrame(rows, columns=COLUMNS).sort_values(["index", "pid"], ignore_index=True)


def _check(
    references: pd.DataFrame, n_per_pid: int, viewpoint_policy: str, pose_policy: str
) -> None:
    for name, value, known in (
        ("viewpoint", viewpoint_policy, VIEWPOINT_POLICIES),
        ("pose", pose_policy, POSE_POLICIES),
    ):
        if value not in known:
            raise StudyError(f"augment.policy.{name} is '{value}': use one of {', '.join(known)}")
    if n_per_pid < 0 or not len(references):
        raise StudyError(
            "A plan needs references and n_per_pid ≥ 0, "
            f"got {len(references)} references and {n_per_pid}"
        )
