"""Rasterise posed bodies in NumPy: the fallback where there is no OpenGL, and the oracle that OpenGL is tested against.

Sampled as in `posedive_lib.body.opengl_raster`: SAMPLES × SAMPLES points per pixel, the middle one of which is its centre; interpolation is
linear in the camera frame, that is, in 1 / z on the picture.
"""

from collections import OrderedDict

import numpy as np

from posedive_lib.body.raster import NEAR, SAMPLES, Mesh, Raster

PAIRS = 1 << 21  # triangle–sample pairs looked at together, which bounds the memory
KEPT = 64  # meshes remembered


class ZBuffer:
    """Draws meshes at one size; `focal` in pixels, principal point at the centre."""

    def __init__(self, height: int, width: int, focal: float):
        self.height, self.width, self.focal = height, width, focal
        self.meshes: OrderedDict[int, Mesh] = OrderedDict()

    def __call__(
        self, vertices: np.ndarray, faces: np.ndarray, albedo: np.ndarray | None = None
    ) -> Raster:
        """Rasterise camera-frame vertices (V, 3) in metres (OpenCV axes) with per-vertex albedo (V, 3) in [0, 1], or without."""
        mesh = self._mesh(faces)
        normals = mesh.normals(np.ascontiguousarray(vertices, np.float32))
        points = np.asarray(vertices, float)
        depth, face, weight = self._nearest(points, mesh.faces)
        hit = face >= 0
        corners = mesh.faces[face[hit]]
        blend = lambda values: np.einsum("nk,nkd->nd", weight[hit], values[corners])
        colour, direction = (
            None if albedo is None else np.zeros((*hit.shape, 3)),
            np.zeros((*hit.shape, 3)),
        )
        direction[hit] = blend(normals)
        if colour is not None:
            colour[hit] = blend(np.asarray(albedo, float))
        direction[hit] /= np.maximum(np.linalg.norm(direction[hit], axis=1, keepdims=True), 1e-12)
        return self._reduced(hit, depth, colour, direction)

    def _mesh(self, faces: np.ndarray) -> Mesh:
        if id(faces) not in self.meshes or self.meshes[id(faces)].faces is not faces:
            if len(self.meshes) >= KEPT:
                self.meshes.popitem(last=False)
            self.meshes[id(faces)] = Mesh(faces)
        return self.meshes[id(faces)]

    def _nearest(
        self, points: np.ndarray, faces: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Per sample (H S, W S): depth, the nearest face (-1: none) and the weights (…, 3) of its corners."""
        rows, columns = self.height * SAMPLES, self.width * SAMPLES
        depth, face = np.full(rows * columns, np.inf), np.full(rows * columns, -1)
        weight = np.zeros((rows * columns, 3))
        z = points[:, 2]
        pixel = points[:, :2] / np.where(z > NEAR, z, np.inf)[:, None] * self.focal + [
            self.width / 2,
            self.height / 2,
        ]
        corner = pixel[faces] * SAMPLES - 0.5  # (F, 3, 2) in samples, whose centres are integers
        low, high = (
            np.ceil(corner.min(1)).clip(0).astype(int),
            np.floor(corner.max(1)).clip(max=[columns - 1, rows - 1]).astype(int),
        )
        (ux, uy), (vx, vy) = (corner[:, 1] - corner[:, 0]).T, (corner[:, 2] - corner[:, 0]).T
        area = ux * vy - uy * vx  # negative where the outside is seen: y points down
        drawn = np.flatnonzero((area < 0) & (z[faces] > NEAR).all(1) & (low <= high).all(1))
        size = high[drawn] - low[drawn] + 1
        for some in np.split(drawn, np.flatnonzero(np.diff(np.cumsum(size.prod(1)) // PAIRS)) + 1):
            self._draw(some, faces, z, corner, area, low, high, (depth, face, weight))
        return (
            depth.reshape(rows, columns),
            face.reshape(rows, columns),
            weight.reshape(rows, columns, 3),
        )

    def _draw(self, some, faces, z, corner, area, low, high, buffers) -> None:
        """All samples in the boxes of some triangles at once; keeps the nearest hit of each sample, in place."""
        depth, face, weight = buffers
        size = high[some] - low[some] + 1
        count = size.prod(1)
        which = np.repeat(np.arange(len(some)), count)
        place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        number = some[which]
        x, y = low[number, 0] + place % size[which, 0], low[number, 1] + place // size[which, 0]
        (ax, ay), (bx, by), (cx, cy) = (corner[number, k].T for k in range(3))
        v = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / area[number]
        w = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / area[number]
        inside = np.flatnonzero((v >= 0) & (w >= 0) & (v + w <= 1))
        number, v, w = number[inside], v[inside], w[inside]
        share = np.stack([1 - v - w, v, w], axis=1) / z[faces[number]]
        here = 1 / share.sum(1)
        sample = y[inside] * self.width * SAMPLES + x[inside]
        order = np.lexsort((here, sample))
        first = order[np.r_[True, np.diff(sample[order]) > 0]] if len(order) else order
        first = first[here[first] < depth[sample[first]]]
        depth[sample[first]], face[sample[first]] = here[first], number[first]
        weight[sample[first]] = share[first] * here[first, None]

    def _reduced(self, hit, depth, colour, direction) -> Raster:
        """From samples to pixels: means of colour and cover, the centre's depth and normal."""
        blocks = lambda some: some.reshape(
            self.height, SAMPLES, self.width, SAMPLES, *some.shape[2:]
        )
        covered = blocks(hit).sum((1, 3))
        mean = blocks(direction).sum((1, 3))
        mean /= np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)
        centre = lambda some: blocks(some)[:, SAMPLES // 2, :, SAMPLES // 2]
        on = centre(hit)
        return Raster(
            None
            if colour is None
            else (blocks(colour).sum((1, 3)) / np.maximum(covered, 1)[..., None]).astype(
                np.float32
            ),
            (covered / SAMPLES**2).astype(np.float32),
            np.where(on[..., None], centre(direction), mean).astype(np.float32),
            np.where(on, centre(depth), 0).astype(np.float32),
        )
