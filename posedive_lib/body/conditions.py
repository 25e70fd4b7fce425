"""Conditions of the generator (§B, §H): skeleton, depth and normals of a posed SMPL body, and a neutral rendering.

Normals are camera-space n·0.5 + 0.5 with z towards the viewer; depth is metric over a fixed range, near = white,
so that the scale cue survives; the skeleton uses OpenPose's colours.
"""

import signal
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from multiprocessing.context import SpawnContext, SpawnProcess

import numpy as np
import torch
from PIL import Image, ImageDraw
from tqdm import tqdm

from posedive_lib.body import camera
from posedive_lib.body.raster import choose_backend, open_rasteriser
from posedive_lib.body.smpl import COCO_FROM_SMPL, cached_smpl, pose
from posedive_lib.errors import StudyError

# Limbs of the OpenPose-18 skeleton as pairs of COCO-17 indices; 17 is the neck, between the shoulders.
LIMBS = [
    (17, 6),
    (17, 5),
    (6, 8),
    (8, 10),
    (5, 7),
    (7, 9),
    (17, 12),
    (12, 14),
    (14, 16),
    (17, 11),
    (11, 13),
    (13, 15),
    (17, 0),
    (0, 2),
    (2, 4),
    (0, 1),
    (1, 3),
]
COLOURS = [
    (255, 0, 0),
    (255, 85, 0),
    (255, 170, 0),
    (255, 255, 0),
    (170, 255, 0),
    (85, 255, 0),
    (0, 255, 0),
    (0, 255, 85),
    (0, 255, 170),
    (0, 255, 255),
    (0, 170, 255),
    (0, 85, 255),
    (0, 0, 255),
    (85, 0, 255),
    (170, 0, 255),
    (255, 0, 255),
    (255, 0, 170),
]

GREY = 0.72  # albedo of the neutral rendering
LIGHT = np.array(
    [0.3, 0.5, 0.81], np.float32
)  # direction to the light of the neutral rendering, OpenGL axes


@dataclass(frozen=True)
class Conditions:
    """Rendered conditions, of one body or stacked over N of them (leading axis).

    skeleton (H, W, 3), depth (H, W, 1), normals (H, W, 3), neutral (H, W, 3) uint8; mask (H, W) bool;
    keypoints (17, 2) pixels; visible (17,) 2 visible, 1 hidden by the own body, 0 outside the image.
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
    points = np.vstack([keypoints, (keypoints[5] + keypoints[6]) / 2]) * scale
    image = Image.new("RGB", (width * scale, height * scale))
    draw = ImageDraw.Draw(image)
    thickness = max(1, round(height * scale / 48))
    for (a, b), colour in zip(LIMBS, COLOURS):
        draw.line([tuple(points[a]), tuple(points[b])], fill=colour, width=thickness)
        for point in (points[a], points[b]):
            r = thickness / 2
            draw.ellipse([point[0] - r, point[1] - r, point[0] + r, point[1] + r], fill=colour)
    return np.asarray(image.resize((width, height), Image.Resampling.BOX))


def joint_tolerances(model) -> np.ndarray:
    """(17,) metres a COCO key point may lie behind the visible surface and still count as visible."""
    template = model.v_template.numpy()
    rest = model.J_regressor.numpy() @ template
    points = np.vstack([rest, template[model.vertex_joint_selector.extra_joints_idxs.numpy()]])[
        COCO_FROM_SMPL
    ]
    return np.array([np.linalg.norm(template - p, axis=1).min() for p in points]) * 1.6 + 0.035


def visibility(
    points: np.ndarray, pixels: np.ndarray, depth: np.ndarray, tolerance: np.ndarray
) -> np.ndarray:
    """(17,) 2 visible, 1 behind the own body, 0 outside, for camera-frame key points (17, 3) and a depth map (H, W)."""
    height, width = depth.shape
    column, row = np.floor(pixels).astype(int).T
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    surface = depth[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
    hidden = (surface > 0) & (points[:, 2] > surface + tolerance)
    return np.where(inside, np.where(hidden, 1, 2), 0)


def place(
    model,
    focal: float,
    height: int,
    width: int,
    root_tilt,
    body_pose,
    betas,
    azimuth: float,
    elevation: float,
    fill=0.86,
    shift=(0.0, 0.0),
):
    """A body seen from a viewpoint, re-centred and scaled to the crop; focal in pixels, the rest as in `camera.orient` and `camera.fit_to_crop`.

    Returns:
        orientation (3,), translation (3,), and in the camera frame vertices (V, 3) and joints (45, 3).
    """
    global_orient = camera.orient(root_tilt, azimuth, elevation)[0]
    vertices, joints = pose(model, global_orient, body_pose, betas)
    cam_t = camera.fit_to_crop(vertices, focal, height, width, fill, shift)
    return global_orient, cam_t, vertices + cam_t.astype(np.float32), joints + cam_t


class ConditionRenderer:
    """Renders conditions of any SMPL parameters; keeps the OpenGL context and the body's triangles between calls.

    Args:
        body: path of the SMPL file. height, width: pixels. near, far: metres of the depth map's white and black.
        focal: focal length in image heights. backend: opengl, zbuffer (NumPy, slower) or auto; see `posedive_lib.body.raster`.
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
                f"near, far and focal are {near}, {far} and {focal}: give 0 ≤ near < far in metres, and a focal length above 0 in image heights."
            )
        self.model = cached_smpl(str(body))
        self.faces = np.asarray(self.model.faces).astype(int)
        self.height, self.width, self.near, self.far = height, width, near, far
        self.focal = focal * height
        self.rasterise = open_rasteriser(height, width, self.focal, backend)
        self.tolerance = joint_tolerances(self.model)

    def place(self, *view, **crop):
        """`place` of root_tilt, body_pose, betas, azimuth, elevation, … with this body, lens and size; its last two are what `draw` takes."""
        return place(self.model, self.focal, self.height, self.width, *view, **crop)

    def render(self, global_orient, body_pose, betas, cam_t) -> Conditions:
        """Conditions of one body: axis-angle (3,), (69,), shape (10,) and translation (3,) in the camera frame."""
        vertices, joints = pose(self.model, global_orient, body_pose, betas)
        return self.draw(vertices + np.asarray(cam_t, np.float32), joints + cam_t)

    def render_fitted(
        self, global_orient, body_pose, betas, fill: float
    ) -> tuple[np.ndarray, Conditions]:
        """Translation (3,) that centres a body and scales it to `fill` of the crop, and its conditions there; posed once for both."""
        vertices, joints = pose(self.model, global_orient, body_pose, betas)
        cam_t = camera.fit_to_crop(vertices, self.focal, self.height, self.width, fill)
        return cam_t, self.draw(vertices + cam_t.astype(np.float32), joints + cam_t)

    def draw(self, vertices: np.ndarray, joints: np.ndarray) -> Conditions:
        """Conditions of a posed body: camera-frame vertices (V, 3) and joints (45, 3) in smplx's order, metres."""
        raster = self.rasterise(vertices, self.faces)
        points = joints[COCO_FROM_SMPL]
        keypoints = camera.project(points, self.focal, self.height, self.width)
        mask, cover = raster.depth > 0, raster.cover[..., None]
        depth = np.where(mask, np.clip((self.far - raster.depth) / (self.far - self.near), 0, 1), 0)
        # in this order on every processor; the libraries behind @ choose one by processor, and with it some pixels' rounding
        facing = sum(raster.normals[..., axis] * LIGHT[axis] for axis in range(3))
        light = 0.45 + 0.55 * np.clip(facing, 0, 1)[..., None]
        neutral = np.repeat(cover * GREY * light + (1 - cover) * 0.35, 3, axis=-1)
        byte = lambda x: np.round(x * 255).astype(np.uint8)
        return Conditions(
            draw_skeleton(keypoints, self.height, self.width),
            byte(depth)[..., None],
            byte((raster.normals * 0.5 + 0.5) * cover),
            byte(neutral),
            mask,
            keypoints.astype(np.float32),
            visibility(points, keypoints, raster.depth, self.tolerance).astype(np.int8),
        )


CHUNK = 64  # bodies that a process gets at a time
_renderers: dict[tuple, ConditionRenderer] = {}


def _renderer(settings: tuple) -> ConditionRenderer:
    """This process's renderer, kept between calls."""
    if settings not in _renderers:
        body, height, width, near, far, focal, backend = settings
        _renderers[settings] = ConditionRenderer(
            body, height, width, near=near, far=far, focal=focal, backend=backend
        )
    return _renderers[settings]


def _render_chunk(settings: tuple, rows: list[tuple]) -> list[Conditions]:
    return [_renderer(settings).render(*row) for row in rows]


def _render_fitted_chunk(settings: tuple, rows: list[tuple]) -> list[tuple[np.ndarray, Conditions]]:
    return [_renderer(settings).render_fitted(*row) for row in rows]


class _Process(SpawnProcess):
    """Ctrl-C reaches every process of a terminal; these leave it, from their first moment, to the one that started them."""

    def start(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which a child inherits
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Processes(SpawnContext):
    Process = _Process


@contextmanager
def rendering_processes(workers: int):
    """Processes that render; they start with the first bodies they get, and an exception leaves no more to them than they have begun."""
    # One thread each: the processes are the parallelism, and threads that wait for each other would halve it.
    pool = ProcessPoolExecutor(
        workers, mp_context=_Processes(), initializer=torch.set_num_threads, initargs=(1,)
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _stacked(parts: list[Conditions]) -> Conditions:
    return Conditions(*(np.stack([getattr(p, f.name) for p in parts]) for f in fields(Conditions)))


def render_many(
    global_orient,
    body_pose,
    betas,
    cam_t,
    *,
    body: str,
    height: int,
    width: int,
    near: float,
    far: float,
    focal: float,
    workers: int = 2,
    progress: str | None = None,
    backend: str = "auto",
) -> Conditions:
    """Conditions of N bodies, stacked, in order; rendered by `workers` processes, up to 64 bodies in this one (arrays as in `BodyTable`)."""
    rows = list(zip(global_orient, body_pose, betas, cam_t))
    settings = (str(body), height, width, near, far, focal, choose_backend(backend))
    chunks = [rows[i : i + CHUNK] for i in range(0, len(rows), CHUNK)]
    parts: list[Conditions] = []
    processes = max(1, min(workers, len(chunks)))
    bar = tqdm(total=len(rows), desc=progress, unit="img", disable=progress is None)
    with bar, rendering_processes(processes) if processes > 1 else nullcontext() as pool:
        for part in (pool.map if pool else map)(_render_chunk, [settings] * len(chunks), chunks):
            parts += part
            bar.update(len(part))
    return _stacked(parts)


def render_fitted_later(
    global_orient,
    body_pose,
    betas,
    fill: float,
    *,
    body: str,
    height: int,
    width: int,
    near: float,
    far: float,
    focal: float,
    backend: str = "auto",
    pool: Executor | None = None,
) -> Callable[[], tuple[np.ndarray, Conditions]]:
    """As `ConditionRenderer.render_fitted` for N bodies, while the caller does something else: call the result for the translations (N, 3)
    and the stacked conditions. The processes of `pool` begin at once; up to 64 bodies, or all without a pool, wait for that call."""
    rows = [(*body_, fill) for body_ in zip(global_orient, body_pose, betas)]
    settings = (str(body), height, width, near, far, focal, choose_backend(backend))
    chunks = [rows[i : i + CHUNK] for i in range(0, len(rows), CHUNK)]
    begun = (
        [pool.submit(_render_fitted_chunk, settings, chunk) for chunk in chunks]
        if pool and len(chunks) > 1
        else None
    )

    def finish() -> tuple[np.ndarray, Conditions]:
        done = (
            [future.result() for future in begun]
            if begun
            else [_render_fitted_chunk(settings, chunk) for chunk in chunks]
        )
        cam_t, parts = zip(*(pair for part in done for pair in part))
        return np.stack(cam_t), _stacked(parts)

    return finish
