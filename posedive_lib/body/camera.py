"""Cameras and viewpoints.

Every posed body lives in the frame of its camera: OpenCV axes (x right, y down, z forward),
identity extrinsics, pinhole with the principal point at the image centre. HMR2 writes the same.
The viewpoint is where the camera stands in the *body's* frame (x to the person's left, y up,
z forward).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation


class Lens(NamedTuple):
    """Focal length and size of an image, all in pixels."""

    focal: float
    height: int
    width: int


def viewpoint(global_orient: np.ndarray, cam_t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Azimuth and elevation (N,) of the camera as seen from the body, degrees.

    Azimuth lies in (-180, 180]: 0 = the camera faces the person's front, +90 = it stands at the
    person's left. Elevation is positive when the camera is above.

    global_orient: (N, 3) axis-angle, body to camera. cam_t: (N, 3) body position, metres.
    """
    cam_t = np.asarray(cam_t, float).reshape(-1, 3)
    towards = -cam_t / np.linalg.norm(cam_t, axis=1, keepdims=True)
    d = Rotation.from_rotvec(np.asarray(global_orient, float).reshape(-1, 3)).inv().apply(towards)
    return np.degrees(np.arctan2(d[:, 0], d[:, 2])), np.degrees(np.arcsin(np.clip(d[:, 1], -1, 1)))


def orient(root_tilt: ArrayLike, azimuth: ArrayLike, elevation: ArrayLike) -> np.ndarray:
    """Global orientation (N, 3) that shows a body from a viewpoint.

    root_tilt: (N, 3) axis-angle of the pelvis in a y-up frame, heading removed (facing +z).
    azimuth, elevation: (N,) degrees.
    """
    azimuth, elevation = np.atleast_1d(azimuth), np.atleast_1d(elevation)
    n = len(azimuth)
    flip = Rotation.from_euler("x", 180, degrees=True)  # y-up facing the viewer -> OpenCV
    lift = Rotation.from_euler("x", elevation.reshape(n, 1), degrees=True)
    turn = Rotation.from_euler("y", -azimuth.reshape(n, 1), degrees=True)
    tilt = Rotation.from_rotvec(np.asarray(root_tilt, float).reshape(n, 3))
    return (flip * lift * turn * tilt).as_rotvec()


def project(points: np.ndarray, focal: float, height: int, width: int) -> np.ndarray:
    """Pixels (..., 2) of camera-frame points (..., 3); pixel centres at integers + 0.5."""
    xy = points[..., :2] / points[..., 2:3] * focal
    return xy + np.array([width / 2, height / 2])


def stretch_of(sizes: np.ndarray, height: int, width: int) -> np.ndarray:
    """(N,) how much wider photos become, relative to their height, when resized to height x width.

    sizes: (N, 2) width and height of the photos. Exactly 1 where the proportions are equal. The
    principal point stays in the centre, so the resized photo's focal lengths are `focal * stretch`
    across and `focal` down, with `focal` in its heights.
    """
    sizes = np.asarray(sizes)
    return sizes[:, 1] * width / (sizes[:, 0] * height)


def fit_to_crop(
    points: np.ndarray,
    focal: float,
    height: int,
    width: int,
    fill: float = 0.86,
    shift: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """Translation (3,) that centres a posed body in the crop and scales it to fill it.

    points: (V, 3) oriented body vertices before translation, metres. focal: pixels.
    fill: fraction of the crop that the tighter side of the body's box takes.
    shift: offset of the box centre from the crop centre, in crop heights (x, y).
    """

    def taken(low: np.ndarray, high: np.ndarray) -> float:
        """The box's size over the size that it should have; the tighter side counts."""
        return max((high[1] - low[1]) / (fill * height), (high[0] - low[0]) / (0.96 * width))

    x, y, z = np.ascontiguousarray(np.asarray(points, float).T)
    low, high = np.array([x.min(), y.min(), z.min()]), np.array([x.max(), y.max(), z.max()])
    centre = (low + high) / 2
    depth = focal * taken(low, high)
    translation = np.array([-centre[0], -centre[1], depth - centre[2]])
    middle = np.array([width, height]) / 2
    target = np.array([width / 2 + shift[0] * height, height / 2 + shift[1] * height])
    for _ in range(3):  # perspective: near parts look larger, so correct the box after projecting
        scale = focal / (z + translation[2])
        column, row = (x + translation[0]) * scale, (y + translation[1]) * scale
        low, high = np.array([column.min(), row.min()]), np.array([column.max(), row.max()])
        translation[2] = (translation[2] + centre[2]) * taken(low, high) - centre[2]
        miss = target - middle - (low + high) / 2  # pixels
        translation[:2] += miss * (translation[2] + centre[2]) / focal
    return translation
