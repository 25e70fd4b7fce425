"""The bodies that a plan asks for, and their conditions (§B)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from posedive_lib.augment.training_set import Training
from posedive_lib.body.camera import orient
from posedive_lib.body.rendering import Rendering, render_fitted_later
from posedive_lib.body.table import BodyTable

if TYPE_CHECKING:
    from posedive_lib.body.conditions import Conditions
    from posedive_lib.body.poses import PoseSource
    from posedive_lib.params import Params


def rendering_of(P: Params) -> Rendering:
    """Size, camera and depth range of the conditions, from the parameters."""
    return Rendering(
        body=P.paths.body,
        height=P.image.height,
        width=P.image.width,
        near=P.conditions.depth_near,
        far=P.conditions.depth_far,
        focal=P.conditions.focal,
        workers=P.world.workers,
    )


def oriented(
    rows: pd.DataFrame, training: Training, source: PoseSource
) -> tuple[np.ndarray, np.ndarray]:
    """Orientation in the camera's frame (N, 3) and pose (N, 69), axis-angle, of a plan's rows.

    A training body keeps its orientation where its viewpoint is kept. Seen from a new viewpoint its
    pelvis is set upright: one image does not tell how much of its tilt was the camera's.
    """
    if not len(rows):
        return np.zeros((0, 3)), np.zeros((0, 69))
    pose_row = rows["pose_row"].to_numpy()
    from_source = (rows["pose_from"] == "source").to_numpy()
    tilt, body_pose = np.zeros((len(rows), 3)), np.zeros((len(rows), 69))
    tilt[from_source] = source.root_tilt[pose_row[from_source]]
    body_pose[from_source] = source.body_pose[pose_row[from_source]]
    body_pose[~from_source] = training.bodies.body_pose[pose_row[~from_source]]
    orientation = orient(tilt, rows["azimuth"].to_numpy(), rows["elevation"].to_numpy())
    kept = ~from_source & (rows["view_row"].to_numpy() == pose_row)
    # What is wholly a training image's keeps the tilt that its camera saw.
    orientation[kept] = training.bodies.global_orient[pose_row[kept]]
    # There and back: the same rotations, by angles of at most 180°.
    return Rotation.from_rotvec(orientation).as_rotvec(), body_pose


def start_rendering(
    rows: pd.DataFrame,
    training: Training,
    source: PoseSource,
    rendering: Rendering,
    pool: Executor | None = None,
) -> Callable[[], tuple[BodyTable, Conditions]]:
    """Begin to render a plan's rows in the processes of `pool`; call the result for what they give.

    Bodies have their reference person's shape, and are centred and scaled to the crop. The result
    is their table (path = the reference) and their conditions.
    """
    orientation, body_pose = oriented(rows, training, source)
    references = rows["reference"].to_numpy(str)
    betas = training.bodies.select(references.tolist()).betas
    drawn = render_fitted_later(orientation, body_pose, betas, rendering, pool=pool)

    def finish() -> tuple[BodyTable, Conditions]:
        cam_t, conditions = drawn()
        bodies = BodyTable(
            path=references,
            global_orient=orientation,
            body_pose=body_pose,
            betas=betas,
            cam_t=cam_t,
            focal=np.full(len(rows), rendering.focal * rendering.height),
            keypoints=conditions.keypoints,
            visible=conditions.visible,
        )
        return bodies, conditions

    return finish
