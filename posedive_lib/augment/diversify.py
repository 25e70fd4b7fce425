"""What to generate, §B: poses and viewpoints drawn where the training set is sparse, as a plan with one row per candidate.

Policies (the study's arms): `pose-dive` changes both, `viewpoint` and `pose` one of them, `same-distribution` neither. The paper draws
elevation uniformly from 0–30°, azimuth from 0–360° and poses uniformly from an external source; `sparse` sampling (ours) prefers what the
training set lacks. Every draw comes from the key (seed, data set, identity, index): asking for more candidates only appends, and the
policies share references and noise, so that arms differ in nothing but pose and viewpoint.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial.distance import jensenshannon
from scipy.spatial.transform import Rotation
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors

from posedive_lib.body.camera import orient
from posedive_lib.body.kinematics import joint_positions
from posedive_lib.body.poses import PoseSource
from posedive_lib.body.table import BodyTable
from posedive_lib.errors import StudyError
from posedive_lib.seeds import rng_for, seed_for

POLICIES = {  # where pose and viewpoint come from
    "pose-dive": ("source", "sampled"),
    "viewpoint": ("training", "sampled"),
    "pose": ("source", "training"),
    "same-distribution": ("training", "training"),
}
AZIMUTH_BINS, ELEVATION_BINS, ELEVATION_RANGE = 12, 3, (0.0, 30.0)
NEIGHBOURS = 10  # k of the k-NN density
COLUMNS = [
    "dataset", "policy", "pid", "index", "reference", "reference_passed", "camid", "pose_from", "pose_row", "pose", "frame", "domain",
    "view_row", "azimuth", "elevation", "seed",
]  # fmt: skip


@dataclass(frozen=True)
class Training:
    """What a training set shows: its bodies and viewpoints, row by row. azimuth and elevation (N,) in degrees."""

    bodies: BodyTable
    azimuth: np.ndarray
    elevation: np.ndarray

    def __post_init__(self):
        if not len(self.bodies) == len(self.azimuth) == len(self.elevation) > 0:
            raise StudyError("A training set needs a body, an azimuth and an elevation for every image, and at least one image")


def pose_features(body_pose: np.ndarray) -> np.ndarray:
    """Root-relative joints (N, 72) in metres of poses (N, 69), in the body's own frame and with average proportions."""
    body_pose = np.asarray(body_pose, float)
    return joint_positions(np.zeros((len(body_pose), 3)), body_pose).reshape(len(body_pose), 72)


def neighbour_distance(points: np.ndarray, among: np.ndarray, itself: bool = False) -> np.ndarray:
    """Distance (N,) to the k-th nearest of `among`: large where it is sparse (k-NN density). itself: points are among them."""
    k = min(NEIGHBOURS + itself, len(among))
    return NearestNeighbors(n_neighbors=k).fit(among).kneighbors(points)[0][:, -1]


def pose_weights(source: PoseSource, training_pose: np.ndarray, sampling: str = "sparse") -> np.ndarray:
    """Probability (N,) of drawing each pose of the source.

    `uniform`: as the paper. `sparse`: proportional to the distance from the training set's poses and to the distance from the source's
    own, so that neither common training poses nor long motions of one kind dominate. Distances, not densities, because a density in
    72 dimensions would put all weight on a single outlier.
    """
    if sampling not in ("sparse", "uniform"):
        raise StudyError(f"sampling is '{sampling}': use sparse or uniform")
    if sampling == "uniform":
        return np.full(len(source), 1 / len(source))
    poses, known = pose_features(source.body_pose), pose_features(training_pose)
    weights = neighbour_distance(poses, known) * neighbour_distance(poses, poses, itself=True)
    return weights / weights.sum() if weights.sum() > 0 else np.full(len(source), 1 / len(source))


def _bins(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """Number of the 12 × 3 viewpoint bin; elevations outside 0–30° count in the nearest bin."""
    column = np.floor(np.mod(np.asarray(azimuth, float), 360) / (360 / AZIMUTH_BINS)).astype(int) % AZIMUTH_BINS
    low, high = ELEVATION_RANGE
    row = np.floor((np.asarray(elevation, float) - low) / (high - low) * ELEVATION_BINS).astype(int)
    return column * ELEVATION_BINS + np.clip(row, 0, ELEVATION_BINS - 1)


def _divergence(counts: np.ndarray) -> float:
    """Jensen–Shannon divergence (bits, 0–1) of a histogram from the uniform distribution; NaN for an empty one."""
    if not counts.sum():
        return float("nan")
    return float(jensenshannon(counts / counts.sum(), np.full(len(counts), 1 / len(counts)), base=2) ** 2)


def coverage(azimuth: np.ndarray, elevation: np.ndarray) -> float:
    """How far viewpoints are from uniform over azimuth 0–360° × elevation 0–30°: 0 uniform, towards 1 ever more concentrated."""
    return _divergence(np.bincount(_bins(azimuth, elevation), minlength=AZIMUTH_BINS * ELEVATION_BINS))


def pose_cells(body_pose: np.ndarray, cells: int = 24, seed: int = 0) -> np.ndarray:
    """Centres (cells, 72) that divide pose space into cells, by k-means on the poses (N, 69) of the whole source."""
    features = pose_features(body_pose)
    return KMeans(min(cells, len(features)), n_init=4, random_state=seed).fit(features).cluster_centers_


def pose_coverage(body_pose: np.ndarray, cells: np.ndarray) -> float:
    """How far poses (N, 69) are from uniform over the cells of `pose_cells`: 0 uniform, towards 1 ever more concentrated."""
    if not len(body_pose):
        return float("nan")
    nearest = NearestNeighbors(n_neighbors=1).fit(cells).kneighbors(pose_features(body_pose))[1][:, 0]
    return _divergence(np.bincount(nearest, minlength=len(cells)))


class _Viewpoints:
    """Draws azimuth and elevation in degrees; `sparse` first picks a bin, in inverse proportion to the training images in it."""

    def __init__(self, azimuth: tuple[float, float], elevation: tuple[float, float], training: Training, sampling: str):
        for name, (low, high) in {"azimuth": azimuth, "elevation": elevation}.items():
            if not low <= high:
                raise StudyError(f"augment.{name} is [{low}, {high}]: give the lower bound first")
        if sampling not in ("uniform", "sparse"):
            raise StudyError(f"viewpoints is '{sampling}': use uniform or sparse")
        self.azimuth, self.elevation = azimuth, elevation
        fine = [np.linspace(low, high, 241)[:-1] + (high - low) / 480 for low, high in (azimuth, elevation)]
        self.grid = np.array(np.meshgrid(*fine, indexing="ij")).reshape(2, -1) if sampling == "sparse" else None
        if self.grid is not None:
            size = AZIMUTH_BINS * ELEVATION_BINS
            seen = np.bincount(_bins(training.azimuth, training.elevation), minlength=size)
            self.steps = np.cumsum((1 / (1 + seen))[_bins(*self.grid)])

    def draw(self, rng: np.random.Generator) -> tuple[float, float]:
        first, second = rng.uniform(size=2)
        if self.grid is not None:
            azimuth, elevation = self.grid[:, np.searchsorted(self.steps, first * self.steps[-1], side="right")]
        else:
            azimuth = self.azimuth[0] + first * (self.azimuth[1] - self.azimuth[0])
            elevation = self.elevation[0] + second * (self.elevation[1] - self.elevation[0])
        return 180 - (180 - azimuth) % 360, elevation  # (-180, 180]


def plan(
    dataset_name: str, references: pd.DataFrame, training: Training, source: PoseSource, *, n_per_pid: int, policy: str = "pose-dive",
    azimuth: tuple[float, float] = (0.0, 360.0), elevation: tuple[float, float] = (0.0, 30.0), sampling: str = "sparse",
    viewpoints: str = "uniform", seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """One row per candidate (COLUMNS), ordered by index and then identity.

    references: usable reference images (pid, rel, camid; optionally reference_passed); an identity's references take turns, in an order
    that its key decides. pose_row counts in `source` or in `training.bodies`, as pose_from says; view_row is the training row whose
    viewpoint is used, -1 where it is sampled. The candidate's camera is its reference's.
    """
    if policy not in POLICIES:
        raise StudyError(f"policy is '{policy}': use one of {', '.join(POLICIES)}")
    if n_per_pid < 0 or not len(references):
        raise StudyError(f"A plan needs references and n_per_pid ≥ 0, got {len(references)} references and {n_per_pid}")
    pose_from, view_from = POLICIES[policy]
    steps = np.cumsum(pose_weights(source, training.bodies.body_pose, sampling)) if pose_from == "source" else None
    cameras = _Viewpoints(tuple(azimuth), tuple(elevation), training, viewpoints)
    rows = []
    for pid, own in references.sort_values("rel").groupby("pid"):
        order = rng_for("reference", seed, dataset_name, pid).permutation(len(own))
        passed = own["reference_passed"].to_numpy() if "reference_passed" in own else np.ones(len(own), bool)
        rels, camids = own["rel"].to_numpy(), own["camid"].to_numpy()
        for index in range(n_per_pid):
            key = (seed, dataset_name, pid, index)
            reference = order[index % len(own)]
            pose_draw, row_draw = rng_for("pose", *key).uniform(size=2)
            row = min(int(row_draw * len(training.bodies)), len(training.bodies) - 1)
            view = cameras.draw(rng_for("view", *key)) if view_from == "sampled" else (training.azimuth[row], training.elevation[row])
            pose = row if steps is None else int(min(np.searchsorted(steps, pose_draw * steps[-1], side="right"), len(steps) - 1))
            named = ("training", -1, "training") if steps is None else (source.name[pose], int(source.frame[pose]), source.domain[pose])
            rows.append((
                dataset_name, policy, pid, index, rels[reference], bool(passed[reference]), camids[reference], pose_from, pose, *named,
                row if view_from == "training" else -1, float(view[0]), float(view[1]), seed_for("noise", *key),
            ))  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS).sort_values(["index", "pid"], ignore_index=True)


def oriented(rows: pd.DataFrame, training: Training, source: PoseSource) -> tuple[np.ndarray, np.ndarray]:
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
    tilt[from_source], body_pose[from_source] = source.root_tilt[pose_row[from_source]], source.body_pose[pose_row[from_source]]
    body_pose[~from_source] = training.bodies.body_pose[pose_row[~from_source]]
    orientation = orient(tilt, rows["azimuth"].to_numpy(), rows["elevation"].to_numpy())
    orientation[kept] = training.bodies.global_orient[pose_row[kept]]
    return Rotation.from_rotvec(orientation).as_rotvec(), body_pose
