"""Rasterise posed bodies in NumPy: where there is no OpenGL, and what OpenGL is tested against.

Sampled as in `posedive_lib.body.opengl_raster`: SAMPLES x SAMPLES points per pixel, the middle one
of which is its centre. Interpolation is linear in the camera frame, that is, in 1 / z on the
picture.
"""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from posedive_lib.body.raster import NEAR, SAMPLES, Mesh, Raster

PAIRS = 1 << 21  # triangle-sample pairs looked at together, which bounds the memory
KEPT = 64  # meshes remembered


@dataclass(frozen=True)
class _Triangles:
    """Faces (F, 3) on the picture.

    z (V,): depth of the vertices. corner (F, 3, 2): in samples, whose centres are integers.
    area (F,): twice the signed area. low, high (F, 2): the samples' box around each face.
    """

    faces: np.ndarray
    z: np.ndarray
    corner: np.ndarray
    area: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class _Hits:
    """What each of S samples shows: depth (S,), face (S,) or -1, weights (S, 3) of its corners."""

    depth: np.ndarray
    face: np.ndarray
    weight: np.ndarray


class ZBuffer:
    """Draws meshes at one size; `focal` in pixels, principal point at the centre."""

    def __init__(self, height: int, width: int, focal: float):
        self.height, self.width, self.focal = height, width, focal
        self.meshes: OrderedDict[int, Mesh] = OrderedDict()

    def __call__(
        self,
        vertices: np.ndarray,
        faces: np.ndarray,
        albedo: np.ndarray | None = None,
        stretch: float = 1.0,
    ) -> Raster:
        """Rasterise camera-frame vertices (V, 3) in metres (OpenCV axes).

        albedo: (V, 3) in [0, 1], or None. stretch: of the picture, across.
        """
        mesh = self._mesh(faces)
        normals = mesh.normals(np.ascontiguousarray(vertices, np.float32))
        found = self._nearest(np.asarray(vertices, float), mesh.faces, stretch)
        hit = found.face >= 0
        corners, weight = mesh.faces[found.face[hit]], found.weight[hit]

        def blended(values: np.ndarray) -> np.ndarray:
            """(S, 3) of values (V, 3) at the vertices; 0 where there is no body."""
            samples = np.zeros((len(hit), 3))
            samples[hit] = np.einsum("nk,nkd->nd", weight, values[corners])
            return samples

        direction = blended(normals)
        direction[hit] /= np.maximum(np.linalg.norm(direction[hit], axis=1, keepdims=True), 1e-12)
        colour = None if albedo is None else blended(np.asarray(albedo, float))
        return self._reduced(hit, found.depth, colour, direction)

    def _mesh(self, faces: np.ndarray) -> Mesh:
        if id(faces) not in self.meshes or self.meshes[id(faces)].faces is not faces:
            if len(self.meshes) >= KEPT:
                self.meshes.popitem(last=False)
            self.meshes[id(faces)] = Mesh(faces)
        return self.meshes[id(faces)]

    def _nearest(self, points: np.ndarray, faces: np.ndarray, stretch: float) -> _Hits:
        """The nearest face behind each sample, row by row."""
        rows, columns = self.height * SAMPLES, self.width * SAMPLES
        count = rows * columns
        hits = _Hits(np.full(count, np.inf), np.full(count, -1), np.zeros((count, 3)))
        z = points[:, 2]
        centre = [self.width / 2, self.height / 2]
        focal = np.array([self.focal * stretch, self.focal])
        pixel = points[:, :2] / np.where(z > NEAR, z, np.inf)[:, None] * focal + centre
        corner = pixel[faces] * SAMPLES - 0.5
        low = np.ceil(corner.min(1)).clip(0).astype(int)
        high = np.floor(corner.max(1)).clip(max=[columns - 1, rows - 1]).astype(int)
        ux, uy = (corner[:, 1] - corner[:, 0]).T
        vx, vy = (corner[:, 2] - corner[:, 0]).T
        area = ux * vy - uy * vx  # negative where the outside is seen: y points down
        drawn = np.flatnonzero((area < 0) & (z[faces] > NEAR).all(1) & (low <= high).all(1))
        pairs = (high[drawn] - low[drawn] + 1).prod(1)
        triangles = _Triangles(faces, z, corner, area, low, high)
        for some in np.split(drawn, np.flatnonzero(np.diff(np.cumsum(pairs) // PAIRS)) + 1):
            self._draw(some, triangles, hits)
        return hits

    def _draw(self, some: np.ndarray, triangles: _Triangles, hits: _Hits) -> None:
        """All samples in the boxes of some triangles at once; keeps the nearest hits, in place."""
        t = triangles
        size = t.high[some] - t.low[some] + 1
        count = size.prod(1)
        # One row per pair of a triangle and a sample of its box.
        which = np.repeat(np.arange(len(some)), count)
        place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        number = some[which]
        x = t.low[number, 0] + place % size[which, 0]
        y = t.low[number, 1] + place // size[which, 0]
        (ax, ay), (bx, by), (cx, cy) = (t.corner[number, k].T for k in range(3))
        # Barycentric coordinates of the sample
        v = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / t.area[number]
        w = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / t.area[number]
        inside = np.flatnonzero((v >= 0) & (w >= 0) & (v + w <= 1))
        number, v, w = number[inside], v[inside], w[inside]
        share = np.stack([1 - v - w, v, w], axis=1) / t.z[t.faces[number]]
        here = 1 / share.sum(1)  # depth
        sample = y[inside] * self.width * SAMPLES + x[inside]
        # The nearest of each sample's hits, where it is nearer than what earlier triangles left.
        order = np.lexsort((here, sample))
        first = order[np.r_[True, np.diff(sample[order]) > 0]] if len(order) else order
        first = first[here[first] < hits.depth[sample[first]]]
        hits.depth[sample[first]], hits.face[sample[first]] = here[first], number[first]
        hits.weight[sample[first]] = share[first] * here[first, None]

    def _reduced(
        self, hit: np.ndarray, depth: np.ndarray, colour: np.ndarray | None, direction: np.ndarray
    ) -> Raster:
        """From samples to pixels: means of colour and cover, the centre's depth and normal."""

        def blocks(some: np.ndarray) -> np.ndarray:
            """(H, S, W, S, ...): the samples of each pixel."""
            shape = self.height, SAMPLES, self.width, SAMPLES, *some.shape[1:]
            return some.reshape(shape)

        def centre(some: np.ndarray) -> np.ndarray:
            return blocks(some)[:, SAMPLES // 2, :, SAMPLES // 2]

        covered = blocks(hit).sum((1, 3))
        mean = blocks(direction).sum((1, 3))
        mean /= np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)
        albedo = None
        if colour is not None:
            albedo = blocks(colour).sum((1, 3)) / np.maximum(covered, 1)[..., None]
            albedo = albedo.astype(np.float32)
        on = centre(hit)
        return Raster(
            albedo,
            (covered / SAMPLES**2).astype(np.float32),
            np.where(on[..., None], centre(direction), mean).astype(np.float32),
            np.where(on, centre(depth), 0).astype(np.float32),
        )
