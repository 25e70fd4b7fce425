"""What a rasterised body is, whichever backend draws it (`posedive_lib.body.backend`)."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

SAMPLES = 3  # per side of a pixel; odd, so that one of them is its centre
NEAR = 0.3  # metres: what is nearer to the camera is not drawn


@dataclass(frozen=True)
class Raster:
    """One rasterised body, float32.

    albedo (H, W, 3) and cover (H, W): means over the pixel, in [0, 1]; albedo is None for a body
    drawn without it. normals (H, W, 3): unit, OpenGL axes (x right, y up, z to the viewer).
    depth (H, W): metres, 0 where there is no body. Normals and depth are those at the pixel's
    centre. Rim pixels whose centre misses the body have its mean normal, and depth 0.
    """

    albedo: np.ndarray | None
    cover: np.ndarray
    normals: np.ndarray
    depth: np.ndarray


class Mesh:
    """Faces (F, 3), counter-clockwise seen from outside, and what their normals need once."""

    def __init__(self, faces: np.ndarray):
        self.faces = np.asarray(faces)
        self._corners = np.ascontiguousarray(self.faces.T, np.intp).ravel()
        # (V, F) matrix that adds up the faces around each vertex
        columns = np.repeat(np.arange(len(self.faces), dtype=np.int32), 3)
        shape = int(self.faces.max(initial=-1)) + 1, len(self.faces)
        ones = np.ones(self.faces.size, np.float32)
        self._sums = sparse.csr_matrix((ones, (self.faces.ravel(), columns)), shape)

    def normals(self, points: np.ndarray) -> np.ndarray:
        """(V, 3) float32 unit normals, weighted by area; OpenCV axes in, OpenGL axes out.

        points: (V, 3) float32 in the camera frame.
        """
        corners = np.ascontiguousarray(points.T).take(self._corners, axis=1)  # (3, 3 F)
        a, b, c = corners.reshape(3, 3, -1).transpose(1, 0, 2)  # corner -> (axis, F)
        ux, uy, uz = b - a
        vx, vy, vz = c - a
        # The cross product, with y and z turned from OpenCV to OpenGL.
        across = np.empty((len(self.faces), 3), np.float32)
        across[:, 0] = uy * vz - uz * vy
        across[:, 1] = ux * vz - uz * vx
        across[:, 2] = uy * vx - ux * vy
        total = np.zeros((len(points), 3), np.float32)
        total[: self._sums.shape[0]] = self._sums @ across
        return total / np.maximum(np.sqrt(np.einsum("ij,ij->i", total, total)), 1e-20)[:, None]
