"""Conditions of the generator (§B, §H): skeleton, depth and normals of a posed SMPL body.

With a neutral rendering, for the pose estimator. Normals are camera-space n * 0.5 + 0.5 with z
towards the viewer. Depth is metric over a fixed range, near = white, so that the scale cue
survives. The skeleton uses OpenPose's colours.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw
from smplx import SMPL

from posedive_lib.body import camera
from posedive_lib.body.backend import open_rasteriser
from posedive_lib.body.camera import Lens
from posedive_lib.body.smpl import COCO_FROM_SMPL, cached_smpl, pose
from posedive_lib.errors import StudyError

# Channels of each map that the generator takes, in the order in which it joins them.
CONDITIONS = {"depth": 1, "normals": 3, "skeleton": 3}

# OpenPose's limbs as pairs of COCO-17 indices, and their colours in the order of drawing.
# 17 is the neck, between the shoulders.
LIMBS = {
    (17, 6): (255, 0, 0),
    (17, 5): (255, 85, 0),
    (6, 8): (255, 170, 0),
    (8, 10): (255, 255, 0),
    (5, 7): (170, 255, 0),
    (7, 9): (85, 255, 0),
    (17, 12): (0, 255, 0),
    (12, 14): (0, 255, 85),
    (14, 16): (0, 255, 170),
    (17, 11): (0, 255, 255),
    (11, 13): (0, 170, 255),
    (13, 15): (0, 85, 255),
    (17, 0): (0, 0, 255),
    (0, 2): (85, 0, 255),
    (2, 4): (170, 0, 255),
    (0, 1): (255, 0, 255),
    (1, 3): (255, 0, 170),
}

# The neutral rendering: albedo, grey of the background, direction to the light in OpenGL axes.
GREY, BACKGROUND = 0.72, 0.35
LIGHT = np.array([0.3, 0.5, 0.81], np.float32)


@dataclass(frozen=True)
class Conditions:
    """Rendered conditions, of one body or stacked over N of them (leading axis).

    skeleton (H, W, 3), depth (H, W, 1), normals (H, W, 3), neutral (H, W, 3): uint8.
    mask (H, W): bool. keypoints (17, 2): pixels. visible (17,): 2 visible, 1 hidden by the own
    body, 0 outside the image.
    """

    skeleton: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    neutral: np.ndarray
    mask: np.ndarray
    keypoints: np.ndarray
    visible: np.ndarray


def draw_skeleton(keypoints: np.ndarray, height: int, width: int) -> np.ndarray:
    """OpenPose drawing (H, W, 3) uint8 of COCO key points (17, 2) in pixels."""
    scale = 4  # drawn large and reduced, for smooth lines
    points = np.vstack([keypoints, (keypoints[5] + keypoints[6]) / 2]) * scale  # with the neck
    image = Image.new("RGB", (width * scale, height * scale))
    draw = ImageDraw.Draw(image)
    thickness = max(1, round(height * scale / 48))
    r = thickness / 2
    for (a, b), colour in LIMBS.items():
        draw.line([tuple(points[a]), tuple(points[b])], fill=colour, width=thickness)
        for x, y in (points[a], points[b]):
            draw.ellipse([x - r, y - r, x + r, y + r], fill=colour)
    return np.asarray(image.resize((width, height), Image.Resampling.BOX))


def joint_tolerances(model: SMPL) -> np.ndarray:
    """(17,) metres that a COCO key point may lie behind the surface and still count as visible."""
    template = model.v_template.numpy()
    rest = model.J_regressor.numpy() @ template
    landmarks = template[model.vertex_joint_selector.extra_joints_idxs.numpy()]
    points = np.vstack([rest, landmarks])[COCO_FROM_SMPL]
    return np.array([np.linalg.norm(template - p, axis=1).min() for p in points]) * 1.6 + 0.035


def visibility(
    points: np.ndarray, pixels: np.ndarray, depth: np.ndarray, tolerance: np.ndarray
) -> np.ndarray:
    """(17,) 2 visible, 1 behind the own body, 0 outside the image.

    points (17, 3): key points in the camera frame; pixels (17, 2): the same, projected;
    depth (H, W): metres, 0 outside the body; tolerance (17,): metres.
    """
    height, width = depth.shape
    column, row = np.floor(pixels).astype(int).T
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    surface = depth[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
    hidden = (surface > 0) & (points[:, 2] > surface + tolerance)
    return np.where(inside, np.where(hidden, 1, 2), 0)


# Orientation (3,), translation (3,), and in the camera frame vertices (V, 3) and joints (45, 3).
Placed = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def place(
    model: SMPL,
    lens: Lens,
    root_tilt: ArrayLike,
    body_pose: ArrayLike,
    betas: ArrayLike,
    azimuth: float,
    elevation: float,
    fill: float = 0.86,
    shift: tuple[float, float] = (0.0, 0.0),
) -> Placed:
    """A body seen from a viewpoint, centred and scaled to the crop.

    Arguments as in `camera.orient` and `camera.fit_to_crop`.
    """
    global_orient = camera.orient(root_tilt, azimuth, elevation)[0]
    vertices, joints = pose(model, global_orient, body_pose, betas)
    cam_t = camera.fit_to_crop(vertices, *lens, fill, shift)
    return global_orient, cam_t, vertices + cam_t.astype(np.float32), joints + cam_t


class ConditionRenderer:
    """Renders conditions of any SMPL parameters; keeps the OpenGL context and the triangles.

    body: path of the SMPL file. height, width: pixels. near, far: metres of the depth map's white
    and black. focal: focal length in image heights. backend: opengl, zbuffer (NumPy, slower) or
    auto; see `posedive_lib.body.backend`.
    """

    def __init__(
        self,
        body: str,
        height: int,
        width: int,
        *,
        near: float,
        far: float,
        focal: float,
        backend: str = "auto",
    ):
        if not (0 <= near < far < np.inf and 0 < focal < np.inf):
            raise StudyError(
                f"near, far and focal are {near}, {far} and {focal}: give 0 ≤ near < far in "
                "metres, and a focal length above 0 in image heights."
            )
        self.model = cached_smpl(str(body))
        self.faces = np.asarray(self.model.faces).astype(int)
        self.height, self.width, self.near, self.far = height, width, near, far
        self.lens = Lens(focal * height, height, width)
        self.rasterise = open_rasteriser(height, width, self.lens.focal, backend)
        self.tolerance = joint_tolerances(self.model)

    def place(self, *view: Any, **crop: Any) -> Placed:
        """`place` with this body and lens; the last two results are what `draw` takes."""
        return place(self.model, self.lens, *view, **crop)

    def render(
        self,
        global_orient: ArrayLike,
        body_pose: ArrayLike,
        betas: ArrayLike,
        cam_t: np.ndarray,
        stretch: float = 1.0,
    ) -> Conditions:
        """Conditions of one body: axis-angle (3,) and (69,), shape (10,), translation (3,).

        stretch: see `camera.stretch_of`.
        """
        vertices, joints = pose(self.model, global_orient, body_pose, betas)
        return self.draw(vertices + np.asarray(cam_t, np.float32), joints + cam_t, stretch)

    def render_fitted(
        self, global_orient: ArrayLike, body_pose: ArrayLike, betas: ArrayLike, fill: float
    ) -> tuple[np.ndarray, Conditions]:
        """Translation (3,) that scales a body to `fill` of the crop, and its conditions there.

        The body is posed once for both.
        """
        vertices, joints = pose(self.model, global_orient, body_pose, betas)
        cam_t = camera.fit_to_crop(vertices, *self.lens, fill)
        return cam_t, self.draw(vertices + cam_t.astype(np.float32), joints + cam_t)

    def draw(self, vertices: np.ndarray, joints: np.ndarray, stretch: float = 1.0) -> Conditions:
        """Conditions of a posed body: camera-frame vertices (V, 3), joints (45, 3), metres.

        Depth and normals stay those of the body; only where they are seen is stretched.
        """
        raster = self.rasterise(vertices, self.faces, stretch=stretch)
        points = joints[COCO_FROM_SMPL]
        keypoints = camera.project(points * np.array([stretch, 1, 1], points.dtype), *self.lens)
        mask, cover = raster.depth > 0, raster.cover[..., None]
        depth = np.where(mask, np.clip((self.far - raster.depth) / (self.far - self.near), 0, 1), 0)
        # Summed by hand: the libraries behind @ choose their order, and with it some pixels'
        # rounding, by processor.
        facing = sum(raster.normals[..., axis] * LIGHT[axis] for axis in range(3))
        light = 0.45 + 0.55 * np.clip(facing, 0, 1)[..., None]
        neutral = np.repeat(cover * GREY * light + (1 - cover) * BACKGROUND, 3, axis=-1)
        return Conditions(
            draw_skeleton(keypoints, self.height, self.width),
            _bytes(depth)[..., None],
            _bytes((raster.normals * 0.5 + 0.5) * cover),
            _bytes(neutral),
            mask,
            keypoints.astype(np.float32),
            visibility(points, keypoints, raster.depth, self.tolerance).astype(np.int8),
        )


def _bytes(picture: np.ndarray) -> np.ndarray:
    return np.round(picture * 255).astype(np.uint8)
