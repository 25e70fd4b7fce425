"""What a set of images shows, §B: viewpoints and poses as points, their densities, and how far from uniform they are.

Viewpoints are azimuth and elevation of the camera in the body's own frame (`posedive_lib.body.camera.viewpoint`); poses are
root-relative joints. Each has one number for its coverage: the Jensen–Shannon divergence of its histogram from the uniform one.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial.distance import jensenshannon
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors

from posedive_lib.body.kinematics import joint_positions
from posedive_lib.body.table import BodyTable
from posedive_lib.errors import StudyError

AZIMUTH_BINS, ELEVATION_BINS, ELEVATION_RANGE = 12, 3, (0.0, 30.0)
NEIGHBOURS = 10  # k of the k-NN density
CELLS = 24  # of pose space


@dataclass(frozen=True)
class Training:
    """What a training set shows: its bodies and viewpoints, row by row. azimuth and elevation (N,) in degrees."""

    bodies: BodyTable
    azimuth: np.ndarray
    elevation: np.ndarray

    def __post_init__(self):
        if not len(self.bodies) == len(self.azimuth) == len(self.elevation) > 0:
            raise StudyError(
                "A training set needs a body, an azimuth and an elevation for every image, and at least one image"
            )


def pose_features(body_pose: np.ndarray) -> np.ndarray:
    """Root-relative joints (N, 72) in metres of poses (N, 69), in the body's own frame and with average proportions."""
    body_pose = np.asarray(body_pose, float)
    return joint_positions(np.zeros((len(body_pose), 3)), body_pose).reshape(len(body_pose), 72)


def neighbour_distance(points: np.ndarray, among: np.ndarray, itself: bool = False) -> np.ndarray:
    """Distance (N,) to the k-th nearest of `among`: large where it is sparse (k-NN density). itself: points are among them."""
    k = min(NEIGHBOURS + itself, len(among))
    return NearestNeighbors(n_neighbors=k).fit(among).kneighbors(points)[0][:, -1]


def viewpoint_bins(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """Number of the 12 × 3 viewpoint bin; elevations outside 0–30° count in the nearest bin."""
    column = (
        np.floor(np.mod(np.asarray(azimuth, float), 360) / (360 / AZIMUTH_BINS)).astype(int)
        % AZIMUTH_BINS
    )
    low, high = ELEVATION_RANGE
    row = np.floor((np.asarray(elevation, float) - low) / (high - low) * ELEVATION_BINS).astype(int)
    return column * ELEVATION_BINS + np.clip(row, 0, ELEVATION_BINS - 1)


def _divergence(counts: np.ndarray) -> float:
    """Jensen–Shannon divergence (bits, 0–1) of a histogram from the uniform distribution; NaN for an empty one."""
    if not counts.sum():
        return float("nan")
    return float(
        jensenshannon(counts / counts.sum(), np.full(len(counts), 1 / len(counts)), base=2) ** 2
    )


def coverage(azimuth: np.ndarray, elevation: np.ndarray) -> float:
    """How far viewpoints are from uniform over azimuth 0–360° × elevation 0–30°: 0 uniform, towards 1 ever more concentrated."""
    return _divergence(
        np.bincount(viewpoint_bins(azimuth, elevation), minlength=AZIMUTH_BINS * ELEVATION_BINS)
    )


def pose_cells(body_pose: np.ndarray, cells: int = CELLS, seed: int = 0) -> np.ndarray:
    """Centres (cells, 72) that divide pose space into cells, by k-means on the poses (N, 69) of the whole source."""
    features = pose_features(body_pose)
    return (
        KMeans(min(cells, len(features)), n_init=4, random_state=seed)
        .fit(features)
        .cluster_centers_
    )


def nearest_cell(body_pose: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Which of the cells (C, 72) of pose space each pose (N, 69) falls into."""
    return NearestNeighbors(n_neighbors=1).fit(cells).kneighbors(pose_features(body_pose))[1][:, 0]


def pose_coverage(body_pose: np.ndarray, cells: np.ndarray) -> float:
    """How far poses (N, 69) are from uniform over the cells of `pose_cells`: 0 uniform, towards 1 ever more concentrated."""
    if not len(body_pose):
        return float("nan")
    return _divergence(np.bincount(nearest_cell(body_pose, cells), minlength=len(cells)))


def viewpoint_density(
    azimuth: np.ndarray,
    elevation: np.ndarray,
    at: tuple[np.ndarray, np.ndarray],
    bandwidth: float = 15.0,
) -> np.ndarray:
    """Density (M,) per steradian at viewpoints `at` = (azimuth, elevation), from the images' (N,), all in degrees.

    A kernel estimate on the sphere: the mean of von Mises–Fisher kernels whose concentration is 1 / bandwidth², in radians.
    """
    kappa = 1 / np.radians(bandwidth) ** 2
    cosine = sphere_points(*at) @ sphere_points(azimuth, elevation).T
    return (kappa / (2 * np.pi * -np.expm1(-2 * kappa)) * np.exp(kappa * (cosine - 1))).mean(axis=1)


def sphere_points(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """Where the cameras stand on the unit sphere around the person (N, 3): x to the person's left, y up, z to the front."""
    a, e = np.radians(np.asarray(azimuth, float)), np.radians(np.asarray(elevation, float))
    return np.stack([np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)], axis=-1)


def sphere_table(groups: dict[str, tuple[np.ndarray, np.ndarray]]) -> pd.DataFrame:
    """The paper's sphere of cameras as numbers: group, azimuth, elevation, x, y, z and the group's own density there, a row per image."""
    parts = []
    for name, (azimuth, elevation) in groups.items():
        place = dict(zip("xyz", sphere_points(azimuth, elevation).T))
        density = (
            viewpoint_density(azimuth, elevation, (azimuth, elevation))
            if len(azimuth)
            else np.zeros(0)
        )
        parts.append(
            pd.DataFrame(
                {
                    "group": name,
                    "azimuth": azimuth,
                    "elevation": elevation,
                    **place,
                    "density": density,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def pose_map(
    groups: dict[str, np.ndarray], seed: int = 0, method: str = "tsne"
) -> dict[str, np.ndarray]:
    """A map (N, 2) of each group's pose features (N, D), all embedded together, such as training, in-domain and out-of-domain poses.

    method: tsne (started from PCA, so that only `seed` decides) or pca.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if method not in ("tsne", "pca"):
        raise StudyError(f"method is '{method}': use tsne or pca")
    features = np.concatenate(list(groups.values()))
    perplexity = min(30, (len(features) - 1) / 3)
    make = (
        TSNE(init="pca", perplexity=perplexity, random_state=seed)
        if method == "tsne"
        else PCA(2, svd_solver="full")
    )
    flat = make.fit_transform(features)
    return dict(zip(groups, np.split(flat, np.cumsum([len(g) for g in groups.values()])[:-1])))


def coverage_table(real: Training, generated: Training | None, cells: np.ndarray) -> pd.DataFrame:
    """How far real, generated and combined images are from uniform: images_of, images, viewpoint, pose (divergences, 0–1)."""
    sets = {
        "real": [real],
        "generated": [generated] if generated else [],
        "combined": [real, generated] if generated else [real],
    }
    rows = []
    for name, some in sets.items():
        join = lambda get: (
            np.concatenate([get(part) for part in some]) if some else np.zeros((0, 69))
        )
        azimuth, elevation, poses = (
            join(get)
            for get in (lambda s: s.azimuth, lambda s: s.elevation, lambda s: s.bodies.body_pose)
        )
        viewpoint = coverage(azimuth, elevation) if some else np.nan
        rows.append((name, len(poses), viewpoint, pose_coverage(poses, cells)))
    return pd.DataFrame(rows, columns=["images_of", "images", "viewpoint", "pose"])
