"""What a rasterised body is, whichever way it is drawn: on OpenGL (`render`) or, without it, in NumPy (`zbuffer`)."""

import logging
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse

from posedive_lib.body.opengl import check_libraries
from posedive_lib.errors import StudyError

SAMPLES = 3  # per side of a pixel; odd, so that one of them is its centre
NEAR = 0.3  # metres: what is nearer to the camera is not drawn
BACKENDS = ("auto", "opengl", "zbuffer")


@dataclass(frozen=True)
class Raster:
    """One rasterised body, float32: albedo (H, W, 3; None if it was drawn without) and cover (H, W) in [0, 1], means over the pixel;
    at the pixel's centre unit normals (H, W, 3) with OpenGL axes (x right, y up, z to the viewer) and depth (H, W) in metres, 0 where there is no body.
    Rim pixels whose centre the body misses have its mean normal, and depth 0."""

    albedo: np.ndarray | None
    cover: np.ndarray
    normals: np.ndarray
    depth: np.ndarray


class Mesh:
    """Faces (F, 3) that turn counter-clockwise seen from outside, with what their normals need once."""

    def __init__(self, faces: np.ndarray):
        self.faces = np.asarray(faces)
        self._corners = np.ascontiguousarray(self.faces.T, np.intp).ravel()
        columns = np.repeat(np.arange(len(self.faces), dtype=np.int32), 3)
        shape = int(self.faces.max(initial=-1)) + 1, len(self.faces)
        self._sums = sparse.csr_matrix(
            (np.ones(self.faces.size, np.float32), (self.faces.ravel(), columns)), shape
        )

    def normals(self, points: np.ndarray) -> np.ndarray:
        """(V, 3) float32 area-weighted unit normals of camera-frame points (V, 3) float32: OpenCV axes in, OpenGL axes out."""
        a, b, c = (
            np.ascontiguousarray(points.T)
            .take(self._corners, axis=1)
            .reshape(3, 3, -1)
            .transpose(1, 0, 2)
        )
        (ux, uy, uz), (vx, vy, vz) = b - a, c - a
        across = np.empty(
            (len(self.faces), 3), np.float32
        )  # the cross product, with y and z turned
        across[:, 0], across[:, 1], across[:, 2] = (
            uy * vz - uz * vy,
            ux * vz - uz * vx,
            uy * vx - ux * vy,
        )
        total = np.zeros((len(points), 3), np.float32)
        total[: self._sums.shape[0]] = self._sums @ across
        return total / np.maximum(np.sqrt(np.einsum("ij,ij->i", total, total)), 1e-20)[:, None]


def choose_backend(backend: str = "auto") -> str:
    """`opengl` or `zbuffer`. `auto` falls back to the z-buffer, and says so in one line, where off-screen OpenGL does not start.

    Raises StudyError for an unknown name, and for `opengl` where it does not start.
    """
    if backend not in BACKENDS:
        raise StudyError(f"backend is '{backend}': use one of {', '.join(BACKENDS)}")
    problem = _opengl_problem() if backend != "zbuffer" else None
    if backend == "opengl" and problem:
        raise StudyError(problem)
    return "zbuffer" if backend == "zbuffer" or problem else "opengl"


@lru_cache(maxsize=1)
def _opengl_problem() -> str | None:
    problem = check_libraries()
    if problem:
        logging.getLogger(__name__).warning(
            "%s. Bodies are drawn by the slower z-buffer meanwhile.", problem
        )
    return problem


def open_rasteriser(height: int, width: int, focal: float, backend: str = "auto"):
    """A callable (vertices (V, 3), faces (F, 3), albedo (V, 3) or None) → Raster; focal in pixels. See `choose_backend`."""
    if choose_backend(backend) == "zbuffer":
        from posedive_lib.body.zbuffer import ZBuffer

        return ZBuffer(height, width, focal)
    from posedive_lib.body.opengl_raster import Rasteriser

    return Rasteriser(height, width, focal)
