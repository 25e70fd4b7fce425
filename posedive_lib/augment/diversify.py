"""What to generate, §B: poses and viewpoints, as a plan with one row per candidate.

Viewpoint and pose each have a policy of their own (VIEWPOINT_POLICIES, POSE_POLICIES), and the study's arms are pairs of them (`ARMS`):
`pose-dive` diversifies both, `viewpoint` and `pose` one of them, `same-distribution` neither. Every draw comes from the key (seed, data
set, identity, index): asking for more candidates only appends, and the policies share references and noise, so that arms differ in
nothing but pose and viewpoint.
"""

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from posedive_lib.augment.distribution import (
    AZIMUTH_BINS,
    ELEVATION_BINS,
    Training,
    nearest_cell,
    neighbour_distance,
    pose_cells,
    pose_features,
    viewpoint_bins,
)
from posedive_lib.body.camera import orient
from posedive_lib.body.poses import PoseSource
from posedive_lib.errors import StudyError
from posedive_lib.seeds import rng_for, seed_for

SAME = "same-distribution"
VIEWPOINT_POLICIES = ("uniform", "inverse-density", SAME)
POSE_POLICIES = ("uniform", "balanced", "inverse-density", SAME)
ARMS = {
    "pose-dive": (True, True),
    "viewpoint": (True, False),
    "pose": (False, True),
    SAME: (False, False),
}  # diversified: viewpoint, pose
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


def policies_of(arm: str, policy) -> dict[str, str]:
    """Keyword arguments of `plan` for an arm of the study: what the arm diversifies follows `policy` (viewpoint, pose: params.augment.policy),
    the rest is drawn as the training set has it."""
    if arm not in ARMS:
        raise StudyError(f"The arm is '{arm}': use one of {', '.join(ARMS)}")
    viewpoint, pose = ARMS[arm]
    return {
        "viewpoint_policy": policy.viewpoint if viewpoint else SAME,
        "pose_policy": policy.pose if pose else SAME,
    }


def pose_weights(
    source: PoseSource, training_pose: np.ndarray, policy: str = "inverse-density"
) -> np.ndarray:
    """Probability (N,) of drawing each pose of the source.

    `uniform`: every frame alike, as the paper; long motions of one kind dominate. `balanced`: uniform over pose space, every one of the
    cells of `pose_cells` alike, whatever the training set holds. `inverse-density`: proportional to the distance from the training set's
    poses and to the distance from the source's own; goes where the training set is sparse, which is mostly out-of-domain. Distances, not
    densities, because a density in 72 dimensions would put all weight on a single outlier.
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


class _Viewpoints:
    """Draws azimuth and elevation in degrees; `inverse-density` first picks a bin, in inverse proportion to the training images in it."""

    def __init__(
        self,
        azimuth: tuple[float, float],
        elevation: tuple[float, float],
        training: Training,
        policy: str,
    ):
        for name, (low, high) in {"azimuth": azimuth, "elevation": elevation}.items():
            if not low <= high:
                raise StudyError(f"augment.{name} is [{low}, {high}]: give the lower bound first")
        self.azimuth, self.elevation = azimuth, elevation
        fine = [
            np.linspace(low, high, 241)[:-1] + (high - low) / 480
            for low, high in (azimuth, elevation)
        ]
        self.grid = (
            np.array(np.meshgrid(*fine, indexing="ij")).reshape(2, -1)
            if policy == "inverse-density"
            else None
        )
        if self.grid is not None:
            seen = np.bincount(
                viewpoint_bins(training.azimuth, training.elevation),
                minlength=AZIMUTH_BINS * ELEVATION_BINS,
            )
            self.steps = np.cumsum((1 / (1 + seen))[viewpoint_bins(*self.grid)])

    def draw(self, rng: np.random.Generator) -> tuple[float, float]:
        first, second = rng.uniform(size=2)
        if self.grid is not None:
            azimuth, elevation = self.grid[
                :, np.searchsorted(self.steps, first * self.steps[-1], side="right")
            ]
        else:
            azimuth = self.azimuth[0] + first * (self.azimuth[1] - self.azimuth[0])
            elevation = self.elevation[0] + second * (self.elevation[1] - self.elevation[0])
        return 180 - (180 - azimuth) % 360, elevation  # (-180, 180]


def plan(
    dataset_name: str,
    references: pd.DataFrame,
    training: Training,
    source: PoseSource,
    *,
    n_per_pid: int,
    viewpoint_policy: str = "uniform",
    pose_policy: str = "inverse-density",
    azimuth: tuple[float, float] = (0.0, 360.0),
    elevation: tuple[float, float] = (0.0, 30.0),
    seed: int = 0,
) -> pd.DataFrame:
    """One row per candidate (COLUMNS), ordered by index and then identity.

    references: usable reference images (pid, rel, camid; optionally reference_passed and reference_min, Eq. 3); an identity's references take turns, in an order
    that its key decides. pose_row counts in `source` or in `training.bodies`, as pose_from says; view_row is the training row whose
    viewpoint is used, -1 where it is sampled. The candidate's camera is its reference's.
    """
    for name, value, known in (
        ("viewpoint", viewpoint_policy, VIEWPOINT_POLICIES),
        ("pose", pose_policy, POSE_POLICIES),
    ):
        if value not in known:
            raise StudyError(f"augment.policy.{name} is '{value}': use one of {', '.join(known)}")
    if n_per_pid < 0 or not len(references):
        raise StudyError(
            f"A plan needs references and n_per_pid ≥ 0, got {len(references)} references and {n_per_pid}"
        )
    arm = next(
        name
        for name, diversified in ARMS.items()
        if diversified == (viewpoint_policy != SAME, pose_policy != SAME)
    )
    pose_from = "training" if pose_policy == SAME else "source"
    steps = (
        np.cumsum(pose_weights(source, training.bodies.body_pose, pose_policy))
        if pose_from == "source"
        else None
    )
    cameras = _Viewpoints(tuple(azimuth), tuple(elevation), training, viewpoint_policy)
    rows = []
    for pid, own in references.sort_values("rel").groupby("pid"):
        order = rng_for("reference", seed, dataset_name, pid).permutation(len(own))
        passed = (
            own["reference_passed"].to_numpy()
            if "reference_passed" in own
            else np.ones(len(own), bool)
        )
        least = (
            own["reference_min"].to_numpy(float) if "reference_min" in own else np.ones(len(own))
        )
        rels, camids = own["rel"].to_numpy(), own["camid"].to_numpy()
        for index in range(n_per_pid):
            key = (seed, dataset_name, pid, index)
            reference = order[index % len(own)]
            pose_draw, row_draw = rng_for("pose", *key).uniform(size=2)
            row = min(int(row_draw * len(training.bodies)), len(training.bodies) - 1)
            view = (
                cameras.draw(rng_for("view", *key))
                if viewpoint_policy != SAME
                else (training.azimuth[row], training.elevation[row])
            )
            pose = (
                row
                if steps is None
                else int(
                    min(np.searchsorted(steps, pose_draw * steps[-1], side="right"), len(steps) - 1)
                )
            )
            named = (
                ("training", -1, "training")
                if steps is None
                else (source.name[pose], int(source.frame[pose]), source.domain[pose])
            )
            rows.append(
                (
                    dataset_name,
                    arm,
                    viewpoint_policy,
                    pose_policy,
                    pid,
                    index,
                    rels[reference],
                    bool(passed[reference]),
                    float(least[reference]),
                    camids[reference],
                    pose_from,
                    pose,
                    *named,
                    row if viewpoint_policy == SAME else -1,
                    float(view[0]),
                    float(view[1]),
                    seed_for("noise", *key),
                )
            )
    return pd.DataFrame(rows, columns=COLUMNS).sort_values(["index", "pid"], ignore_index=True)


def oriented(
    rows: pd.DataFrame, training: Training, source: PoseSource
) -> tuple[np.ndarray, np.ndarray]:
    """Orientation in the camera's frame (N, 3) and pose (N, 69), axis-angle, of a plan's rows.

    A training body keeps its orientation where its viewpoint is kept. Seen from a new viewpoint its pelvis is set upright, because one
    image does not tell how much of its tilt was the camera's.
    """
    pose_row = rows["pose_row"].to_numpy()
    if not len(rows):
        return np.zeros((0, 3)), np.zeros((0, 69))
    from_source = (rows["pose_from"] == "source").to_numpy()
    kept = ~from_source & (rows["view_row"].to_numpy() == pose_row)
    tilt, body_pose = np.zeros((len(rows), 3)), np.zeros((len(rows), 69))
    tilt[from_source], body_pose[from_source] = (
        source.root_tilt[pose_row[from_source]],
        source.body_pose[pose_row[from_source]],
    )
    body_pose[~from_source] = training.bodies.body_pose[pose_row[~from_source]]
    orientation = orient(tilt, rows["azimuth"].to_numpy(), rows["elevation"].to_numpy())
    orientation[kept] = training.bodies.global_orient[pose_row[kept]]
    return Rotation.from_rotvec(orientation).as_rotvec(), body_pose
