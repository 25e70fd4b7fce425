"""Viewpoints and poses as points, and where they are dense (§B).

Viewpoints are azimuth and elevation of the camera in the body's own frame
(`posedive_lib.body.camera.viewpoint`). Poses are root-relative joints.

scikit-learn takes seconds to import, and most processes that import this module need nothing of it.
So its functions are imported where they are used.
"""

import numpy as np

from posedive_lib.body.kinematics import joint_positions

AZIMUTH_BINS, ELEVATION_BINS, ELEVATION_RANGE = 12, 3, (0.0, 30.0)
NEIGHBOURS = 10  # k of the k-NN density
CELLS = 24  # of pose space


def pose_features(body_pose: np.ndarray) -> np.ndarray:
    """Root-relative joints (N, 72) in metres of poses (N, 69).

    They are in the body's own frame, with average proportions.
    """
    body_pose = np.asarray(body_pose, float)
    return joint_positions(np.zeros((len(body_pose), 3)), body_pose).reshape(len(body_pose), 72)


def neighbour_distance(points: np.ndarray, among: np.ndarray, itself: bool = False) -> np.ndarray:
    """Distance (N,) to the k-th nearest of `among`: large where it is sparse (k-NN density).

    itself: the points are among them.
    """
    from sklearn.neighbors import NearestNeighbors

    k = min(NEIGHBOURS + itself, len(among))
    return NearestNeighbors(n_neighbors=k).fit(among).kneighbors(points)[0][:, -1]


def viewpoint_bins(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """Number of the 12 × 3 viewpoint bin; elevations outside 0–30° count in the nearest bin."""
    turn = np.mod(np.asarray(azimuth, float), 360) / (360 / AZIMUTH_BINS)
    column = np.floor(turn).astype(int) % AZIMUTH_BINS
    low, high = ELEVATION_RANGE
    row = np.floor((np.asarray(elevation, float) - low) / (high - low) * ELEVATION_BINS).astype(int)
    return column * ELEVATION_BINS + np.clip(row, 0, ELEVATION_BINS - 1)


def viewpoint_histogram(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """Images (36,) in each viewpoint bin."""
    bins = viewpoint_bins(azimuth, elevation)
    return np.bincount(bins, minlength=AZIMUTH_BINS * ELEVATION_BINS)


def pose_cells(body_pose: np.ndarray, cells: int = CELLS, seed: int = 0) -> np.ndarray:
    """Centres (cells, 72) that divide pose space, by k-means on the poses (N, 69) of a source."""
    from sklearn.cluster import KMeans

    features = pose_features(body_pose)
    means = KMeans(min(cells, len(features)), n_init=4, random_state=seed).fit(features)
    return means.cluster_centers_


def nearest_cell(body_pose: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Which of the cells (C, 72) of pose space each pose (N, 69) falls into."""
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=1).fit(cells).kneighbors(pose_features(body_pose))[1][:, 0]
