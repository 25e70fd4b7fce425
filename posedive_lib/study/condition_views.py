"""Pictures of conditions (§H, Fig. 5): what the generator is asked to draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from posedive_lib.augment.training_set import Training
from posedive_lib.bench import figures
from posedive_lib.body.camera import stretch_of
from posedive_lib.body.conditions import ConditionRenderer
from posedive_lib.datasets.images import read_one, read_sizes

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from posedive_lib.body.conditions import Conditions
    from posedive_lib.body.poses import PoseSource
    from posedive_lib.datasets import ReIDDataset
    from posedive_lib.params import Params

Strip = list[np.ndarray]  # pictures of one body, side by side


def renderer(P: Params) -> ConditionRenderer:
    """The study's condition renderer, from its parameters."""
    c = P.conditions
    return ConditionRenderer(
        P.paths.body,
        P.image.height,
        P.image.width,
        near=c.depth_near,
        far=c.depth_far,
        focal=c.focal,
    )


def strip(drawn: Conditions) -> Strip:
    """The pictures of Fig. 5 in order: SMPL rendering, skeleton, depth, normals."""
    return [drawn.neutral, drawn.skeleton, drawn.depth, drawn.normals]


def stretched(depth: np.ndarray) -> np.ndarray:
    """A depth map (H, W, 1) uint8 with its body's range spread over all greys, for the eye only."""
    body = depth[depth > 0].astype(float)
    if not len(body):
        return depth
    # From 55, so that the farthest point still differs from the background
    spread = 55 + 200 * (depth - body.min()) / max(np.ptp(body), 1)
    return np.where(depth > 0, np.clip(spread, 0, 255), 0).astype(np.uint8)


def grey_levels(depth: np.ndarray) -> int:
    """How many different greys a body gets in a depth map (H, W, 1) uint8."""
    return len(np.unique(depth[depth > 0]))


def training_strips(
    draw: ConditionRenderer, dataset: ReIDDataset, rows: Iterable[int]
) -> list[Strip]:
    """Photo and conditions of training images, in their own cameras."""
    body = Training.of(dataset).bodies
    strips = []
    for row in rows:
        photo = read_one(dataset.train["path"].iloc[row], draw.height, draw.width)
        size = read_sizes([dataset.train["path"].iloc[row]])
        drawn = draw.render(
            body.global_orient[row],
            body.body_pose[row],
            body.betas[row],
            body.cam_t[row],
            *stretch_of(size, draw.height, draw.width),
        )
        strips.append([photo, *strip(drawn)])
    return strips


def source_strips(
    draw: ConditionRenderer, source: PoseSource, rows: pd.DataFrame
) -> tuple[list[Strip], list[str]]:
    """Conditions of planned poses in planned viewpoints, and a label for each.

    rows: pose (its name), pose_row, azimuth, elevation.
    """
    strips, labels = [], []
    for row in rows.to_dict("records"):
        azimuth, elevation = row["azimuth"], row["elevation"]
        # Average proportions: a source of poses has no people.
        tilt, body_pose = source.root_tilt[row["pose_row"]], source.body_pose[row["pose_row"]]
        _, _, vertices, joints = draw.place(tilt, body_pose, np.zeros(10), azimuth, elevation)
        strips.append(strip(draw.draw(vertices, joints)))
        labels.append(f"{figures.wrapped(row['pose'])}\naz {azimuth:.0f}°\nel {elevation:.0f}°")
    return strips, labels
