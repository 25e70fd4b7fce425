"""How far viewpoints and poses are from uniform (§B), and maps of them.

Each has one number for its coverage: the Jensen–Shannon divergence (in bits, 0 to 1) of its
histogram from the uniform one. 0 is uniform; towards 1 images are ever more concentrated.
"""

import numpy as np
import pandas as pd
from scipy.spatial.distance import jensenshannon
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from posedive_lib.augment.distribution import nearest_cell, viewpoint_histogram
from posedive_lib.augment.training_set import Training
from posedive_lib.errors import StudyError


def _divergence(counts: np.ndarray) -> float:
    """Jensen–Shannon divergence of a histogram from the uniform one; NaN for an empty one."""
    if not counts.sum():
        return float("nan")
    uniform = np.full(len(counts), 1 / len(counts))
    return float(jensenshannon(counts / counts.sum(), uniform, base=2) ** 2)


def coverage(azimuth: np.ndarray, elevation: np.ndarray) -> float:
    """Divergence of viewpoints from uniform over azimuth 0–360° and elevation 0–30°."""
    return _divergence(viewpoint_histogram(azimuth, elevation))


def pose_coverage(body_pose: np.ndarray, cells: np.ndarray) -> float:
    """Divergence of poses (N, 69) from uniform over the cells of `distribution.pose_cells`."""
    if not len(body_pose):
        return float("nan")
    return _divergence(np.bincount(nearest_cell(body_pose, cells), minlength=len(cells)))


def coverage_table(real: Training, generated: Training | None, cells: np.ndarray) -> pd.DataFrame:
    """Both divergences of real, generated and combined images.

    Columns: images_of, images, viewpoint, pose.
    """
    new = [generated] if generated else []
    rows = []
    for name, parts in (("real", [real]), ("generated", new), ("combined", [real, *new])):
        if not parts:
            rows.append((name, 0, np.nan, np.nan))
            continue
        azimuth = np.concatenate([part.azimuth for part in parts])
        elevation = np.concatenate([part.elevation for part in parts])
        poses = np.concatenate([part.bodies.body_pose for part in parts])
        divergences = coverage(azimuth, elevation), pose_coverage(poses, cells)
        rows.append((name, len(poses), *divergences))
    return pd.DataFrame(rows, columns=["images_of", "images", "viewpoint", "pose"])


def pose_map(
    groups: dict[str, np.ndarray], seed: int = 0, method: str = "tsne"
) -> dict[str, np.ndarray]:
    """A map (N, 2) of each group's pose features (N, D), all embedded together.

    method: tsne (started from PCA, so that only `seed` decides) or pca.
    """
    if method not in ("tsne", "pca"):
        raise StudyError(f"method is '{method}': use tsne or pca")
    features = np.concatenate(list(groups.values()))
    if method == "tsne":
        perplexity = min(30, (len(features) - 1) / 3)
        embedding = TSNE(init="pca", perplexity=perplexity, random_state=seed)
    else:
        embedding = PCA(2, svd_solver="full")
    # One embedding of all groups, cut at their ends.
    ends = np.cumsum([len(group) for group in groups.values()])
    flat = np.split(embedding.fit_transform(features), ends[:-1])
    return dict(zip(groups, flat, strict=True))
