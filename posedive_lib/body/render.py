"""Rasterise posed bodies with pyrender on off-screen OpenGL (EGL).

Two flat passes give albedo, normals and metric depth; light is added afterwards in NumPy, so every image of
the study comes from the same few lines and does not depend on a shader.
"""

import os

os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
os.environ.setdefault("LP_NUM_THREADS", "0")  # software OpenGL: the worker processes are the parallelism

from dataclasses import dataclass

import numpy as np
import pyrender
from scipy import sparse

FLAGS = pyrender.RenderFlags.FLAT | pyrender.RenderFlags.RGBA | pyrender.RenderFlags.SKIP_CULL_FACES


@dataclass(frozen=True)
class Raster:
    """One rasterised body: albedo (H, W, 3) and cover (H, W) in [0, 1], unit normals (H, W, 3) with OpenGL axes
    (x right, y up, z to the viewer), depth (H, W) in metres, 0 where there is no body."""

    albedo: np.ndarray
    cover: np.ndarray
    normals: np.ndarray
    depth: np.ndarray


class Rasteriser:
    """Keeps one OpenGL context and one scene; `focal` in pixels, principal point at the centre."""

    def __init__(self, height: int, width: int, focal: float):
        self.height, self.width, self.focal = height, width, focal
        self.renderer = pyrender.OffscreenRenderer(width, height)
        self.scene = pyrender.Scene(bg_color=[0, 0, 0, 0], ambient_light=[1, 1, 1])
        camera = pyrender.IntrinsicsCamera(focal, focal, width / 2, height / 2, znear=0.3, zfar=30)
        self.scene.add(camera, pose=np.eye(4))

    def _draw(self, points, faces, colours):
        primitive = pyrender.Primitive(positions=points, indices=faces, color_0=colours)
        node = self.scene.add(pyrender.Mesh([primitive]))
        colour, depth = self.renderer.render(self.scene, flags=FLAGS)
        self.scene.remove_node(node)
        return colour, depth

    def __call__(self, vertices: np.ndarray, faces: np.ndarray, albedo: np.ndarray) -> Raster:
        """Rasterise camera-frame vertices (V, 3) in metres with per-vertex albedo (V, 3) in [0, 1]."""
        points = vertices * np.array([1, -1, -1])  # OpenCV to OpenGL
        normals = vertex_normals(points, faces)
        opaque = np.ones((len(points), 1))
        colour, depth = self._draw(points, faces, np.hstack([albedo, opaque]))
        direction, _ = self._draw(points, faces, np.hstack([normals * 0.5 + 0.5, opaque]))
        cover = colour[..., 3] / 255.0
        inside = cover[..., None] > 0
        scale = np.where(inside, np.maximum(cover[..., None], 1 / 255), 1)  # edge pixels are mixed with the empty background
        unit = direction[..., :3] / 255.0 / scale * 2 - 1
        unit = np.where(inside, unit / np.maximum(np.linalg.norm(unit, axis=-1, keepdims=True), 1e-6), 0)
        return Raster(np.clip(colour[..., :3] / 255.0 / scale, 0, 1), cover, unit, depth)

    def close(self) -> None:
        self.renderer.delete()


_INCIDENCE: dict[tuple, sparse.csr_matrix] = {}


def vertex_normals(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) area-weighted unit normals of a mesh whose faces turn counter-clockwise seen from outside."""
    key = (id(faces), len(points), faces.shape[0])
    if key not in _INCIDENCE:
        _INCIDENCE.clear()
        columns = np.repeat(np.arange(len(faces)), 3)
        _INCIDENCE[key] = sparse.csr_matrix((np.ones(faces.size), (faces.ravel(), columns)), (len(points), len(faces)))
    a, b, c = points[faces[:, 0]], points[faces[:, 1]], points[faces[:, 2]]
    normals = _INCIDENCE[key] @ np.cross(b - a, c - a)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
