"""Confidence of many photos (Eq. 2), block by block."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from posedive_lib.augment.confidence import KEYPOINTS
from posedive_lib.cluster import spread
from posedive_lib.datasets.images import BLOCK
from posedive_lib.datasets.images import read as read_images

if TYPE_CHECKING:
    from posedive_lib.augment.confidence import PoseEstimator


def confidence_of(
    estimator: PoseEstimator,
    paths: Sequence[str],
    height: int,
    width: int,
    *,
    scheduler: str = "",
    progress: str | None = None,
) -> np.ndarray:
    """σ (N, 17) of image files, by this process or by the workers of a scheduler.

    A process holds one block of photos at a time. progress: a bar's label.
    """
    parts = [paths[start : start + BLOCK] for start in range(0, len(paths), BLOCK)]
    found = {-1: np.zeros((0, len(KEYPOINTS)), np.float32)}
    jobs = [(part, height, width) for part in parts]
    with tqdm(total=len(paths), desc=progress, unit="image", disable=progress is None) as bar:
        for i, sigma in spread(scheduler, partial(_score, estimator), jobs):
            found[i] = sigma
            bar.update(len(sigma))
    return np.concatenate([found[i] for i in sorted(found)])


def _score(estimator: PoseEstimator, paths: list[str], height: int, width: int) -> np.ndarray:
    return estimator.estimate(read_images(paths, height, width))[1]
