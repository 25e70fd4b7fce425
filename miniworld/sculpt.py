"""The mini world's body surface (ours): a smooth union of lofts, meshed by marching cubes.

A loft has given cross-sections along an axis. Metres, y up, facing +z, left = +x, T pose. The grid
is finer at the head and the hands. Afterwards the vertices are relaxed along the surface, so that
faces are well-shaped.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.interpolate import PchipInterpolator
from skimage.measure import marching_cubes

SOLE = -1.19  # height of the ground under the feet


@dataclass(frozen=True)
class Loft:
    """Cross-sections along one axis.

    table: rows of a place on the axis, two half-widths and two centres, in the order of the other
    axes. power: 2 gives ellipses, more gives rounder boxes. cap: rounding beyond the ends, metres.
    """

    axis: int
    table: tuple
    power: float = 2.0
    cap: float = 0.02

    def centre(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 3) of the centre line beside the given ones."""
        rows = np.array(self.table)
        place = np.clip(points[:, self.axis], rows[0, 0], rows[-1, 0])
        sides = PchipInterpolator(rows[:, 0], rows[:, 3:5])(place)
        return np.insert(sides, self.axis, place, axis=1)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Approximate signed distance (N,), below 0 inside."""
        rows = np.array(self.table)
        place = np.clip(points[:, self.axis], rows[0, 0], rows[-1, 0])
        section = PchipInterpolator(rows[:, 0], rows[:, 1:5])(place)
        others = np.delete(points, self.axis, axis=1)
        scaled = np.abs(others - section[:, 2:]) / section[:, :2]
        beyond = np.abs(points[:, self.axis] - place) / self.cap
        level = (scaled**self.power).sum(1) + beyond**self.power
        return (level ** (1 / self.power) - 1) * np.sqrt(section[:, 0] * section[:, 1])


@dataclass(frozen=True)
class Capsule:
    """Round cone between two points, `squash` divides distances along x, y, z."""

    start: tuple
    end: tuple
    radii: tuple
    squash: tuple = (1.0, 1.0, 1.0)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        start, axis = np.array(self.start), np.subtract(self.end, self.start)
        along = np.clip((points - start) @ axis / max(axis @ axis, 1e-12), 0, 1)
        away = (points - start - along[:, None] * axis) / np.array(self.squash)
        return np.linalg.norm(away, axis=1) - (
            self.radii[0] + along * (self.radii[1] - self.radii[0])
        )


TORSO = Loft(
    1,
    (
        (-0.385, 0.070, 0.060, 0, -0.010),
        (-0.34, 0.140, 0.098, 0, -0.014),
        (-0.285, 0.163, 0.110, 0, -0.018),
        (-0.21, 0.158, 0.104, 0, -0.012),
        (-0.13, 0.138, 0.094, 0, -0.004),
        (-0.055, 0.127, 0.090, 0, 0.002),
        (0.03, 0.135, 0.096, 0, 0.003),
        (0.11, 0.150, 0.108, 0, 0.0),
        (0.165, 0.156, 0.104, 0, -0.008),
        (0.21, 0.140, 0.086, 0, -0.018),
        (0.25, 0.116, 0.064, 0, -0.025),
        (0.29, 0.064, 0.052, 0, -0.024),
    ),
    power=2.35,
)
NECK = Loft(
    1,
    (
        (0.20, 0.085, 0.056, 0, -0.026),
        (0.27, 0.065, 0.058, 0, -0.024),
        (0.33, 0.059, 0.061, 0, -0.012),
        (0.42, 0.057, 0.062, 0, 0.0),
    ),
)
SKULL = Loft(
    1,
    (
        (0.455, 0.071, 0.090, 0, -0.004),
        (0.49, 0.077, 0.098, 0, -0.006),
        (0.505, 0.077, 0.097, 0, -0.008),
    ),
    cap=0.080,
)
FACE = Loft(
    1,
    (
        (0.378, 0.030, 0.026, 0, 0.064),
        (0.395, 0.046, 0.042, 0, 0.050),
        (0.42, 0.057, 0.058, 0, 0.036),
        (0.45, 0.064, 0.068, 0, 0.026),
        (0.49, 0.067, 0.070, 0, 0.024),
    ),
    power=2.2,
    cap=0.012,
)
# Left-side lofts; the right side is evaluated at mirrored points.
ARM = Loft(
    0,
    (
        (0.09, 0.048, 0.056, 0.210, -0.018),
        (0.15, 0.054, 0.059, 0.219, -0.02),
        (0.19, 0.054, 0.058, 0.227, -0.02),
        (0.25, 0.050, 0.053, 0.233, -0.022),
        (0.32, 0.046, 0.049, 0.234, -0.024),
        (0.40, 0.039, 0.042, 0.235, -0.028),
        (0.44, 0.038, 0.040, 0.235, -0.03),
        (0.50, 0.040, 0.042, 0.235, -0.029),
        (0.58, 0.034, 0.037, 0.235, -0.03),
        (0.66, 0.024, 0.029, 0.235, -0.03),
        (0.70, 0.021, 0.029, 0.235, -0.03),
    ),
)
PALM = Loft(
    0,
    (
        (0.69, 0.020, 0.029, 0.235, -0.03),
        (0.73, 0.018, 0.037, 0.234, -0.028),
        (0.785, 0.016, 0.043, 0.231, -0.030),
    ),
    power=2.4,
    cap=0.012,
)
THUMB = (
    Capsule((0.715, 0.228, -0.005), (0.755, 0.224, 0.030), (0.019, 0.015)),
    Capsule((0.755, 0.224, 0.030), (0.790, 0.221, 0.042), (0.015, 0.012)),
)
FINGERS = Loft(
    0,
    (
        (0.775, 0.0165, 0.043, 0.2315, -0.030),
        (0.82, 0.0145, 0.040, 0.228, -0.031),
        (0.852, 0.012, 0.032, 0.223, -0.029),
    ),
    power=2.4,
    cap=0.022,
)
LEG = Loft(
    1,
    (
        (-1.15, 0.033, 0.040, 0.095, -0.030),
        (-1.11, 0.034, 0.040, 0.095, -0.030),
        (-1.06, 0.035, 0.039, 0.095, -0.030),
        (-0.98, 0.043, 0.046, 0.096, -0.027),
        (-0.90, 0.054, 0.058, 0.098, -0.024),
        (-0.84, 0.057, 0.061, 0.099, -0.018),
        (-0.78, 0.052, 0.055, 0.100, -0.008),
        (-0.71, 0.053, 0.058, 0.100, 0.004),
        (-0.65, 0.059, 0.064, 0.100, 0.005),
        (-0.55, 0.073, 0.078, 0.098, 0.004),
        (-0.45, 0.085, 0.091, 0.096, 0.0),
        (-0.37, 0.090, 0.100, 0.092, -0.006),
        (-0.30, 0.082, 0.094, 0.086, -0.010),
    ),
    cap=0.12,
)
FOOT = Loft(
    2,
    (
        (-0.075, 0.030, 0.034, 0.095, -1.156),
        (-0.03, 0.036, 0.052, 0.096, -1.142),
        (0.02, 0.036, 0.050, 0.099, -1.144),
        (0.07, 0.042, 0.038, 0.106, -1.155),
        (0.12, 0.047, 0.028, 0.111, -1.165),
        (0.165, 0.043, 0.022, 0.113, -1.170),
        (0.185, 0.034, 0.018, 0.112, -1.173),
    ),
    power=2.4,
    cap=0.014,
)
GLUTE = Capsule((0.072, -0.275, -0.062), (0.078, -0.325, -0.058), (0.066, 0.064))
CHEST = Capsule((0.062, 0.120, 0.052), (0.082, 0.130, 0.045), (0.054, 0.048))
KNEECAP = Capsule((0.100, -0.695, 0.036), (0.100, -0.73, 0.036), (0.026, 0.024))
EAR = Capsule((0.079, 0.434, -0.004), (0.082, 0.462, -0.010), (0.016, 0.021), squash=(0.5, 1, 1))
BROW = Capsule((0.014, 0.484, 0.088), (0.046, 0.482, 0.072), (0.013, 0.011))
CHEEK = Capsule((0.040, 0.436, 0.068), (0.044, 0.444, 0.060), (0.021, 0.021))
SOCKET = Capsule((0.029, 0.463, 0.106), (0.036, 0.463, 0.103), (0.014, 0.013))
NOSE = Capsule((0, 0.474, 0.092), (0, 0.438, 0.109), (0.008, 0.0135))
LIPS = Capsule((-0.018, 0.410, 0.088), (0.018, 0.410, 0.088), (0.010, 0.010))
CHIN = Capsule((-0.006, 0.383, 0.079), (0.006, 0.383, 0.079), (0.015, 0.015))


# Grid spacing along each axis, (place, units of the step): half as wide at the head and the hands.
GRID_X = [
    (0.0, 0.75),
    (0.10, 0.8),
    (0.17, 1.0),
    (0.25, 1.3),
    (0.62, 1.3),
    (0.70, 0.62),
    (0.92, 0.55),
]
GRID_Y = [
    (SOLE - 0.04, 0.7),
    (-1.13, 0.8),
    (-1.0, 1.35),
    (-0.5, 1.35),
    (-0.3, 1.1),
    (0.1, 1.1),
    (0.17, 0.66),
    (0.29, 0.66),
    (0.37, 0.6),
    (0.50, 0.62),
    (0.62, 0.8),
]
GRID_Z = [(-0.2, 1.0), (-0.06, 0.75), (0.05, 0.75), (0.13, 0.7), (0.24, 1.0)]


def _melt(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    """Union of two fields; the parts melt together where they are within `width` metres."""
    near = np.maximum(width - np.abs(a - b), 0) / width
    return np.minimum(a, b) - near**2 * width / 4


def _on_the_left(points: np.ndarray) -> np.ndarray:
    """Points (N, 3) with those of the right side mirrored: every side part is the left one."""
    return np.abs(points) * [1, 0, 0] + points * [0, 1, 1]


def field(points: np.ndarray) -> np.ndarray:
    """(N,) below 0 inside the body."""
    left = _on_the_left(points)
    gap = np.abs(points[:, 0])
    torso = _melt(TORSO(points), GLUTE(left), 0.05)
    torso = _melt(torso, CHEST(left), 0.05)
    leg = _melt(_melt(LEG(left), KNEECAP(left), 0.03), FOOT(left), 0.03)
    leg = -_melt(-leg, gap - 0.005, 0.012)  # daylight between the legs
    body = _melt(torso, leg, 0.045)
    arm = _melt(ARM(left), PALM(left), 0.02)
    for thumb in THUMB:
        arm = _melt(arm, thumb(left), 0.014)
    arm = _melt(arm, FINGERS(left), 0.01)
    body = _melt(body, arm, 0.06)
    body = _melt(body, NECK(points), 0.06)
    head = _melt(SKULL(points), FACE(points), 0.03)
    for part, width in ((BROW, 0.02), (CHEEK, 0.025), (NOSE, 0.014), (LIPS, 0.012), (CHIN, 0.02)):
        head = _melt(head, part(left), width)
    head = -_melt(-head, SOCKET(left), 0.012)
    head = _melt(head, EAR(left), 0.010)
    body = _melt(body, head, 0.02)
    return -_melt(-body, points[:, 1] - SOLE, 0.012)


def centre_line(points: np.ndarray) -> np.ndarray:
    """(N, 3) the place on the skeleton's centre lines beside each point.

    It changes smoothly from part to part.
    """
    left = _on_the_left(points)
    lofts = (TORSO, NECK, SKULL, ARM, PALM, LEG, FOOT)
    nearness = np.stack([np.exp(-np.clip(loft(left), -0.2, 0.6) / 0.02) for loft in lofts])
    centres = np.stack([loft.centre(left) for loft in lofts])
    middle = (nearness[..., None] * centres).sum(0) / nearness.sum(0)[:, None]
    return middle * np.where(points[:, :1] < 0, [-1, 1, 1], [1, 1, 1])


def _axis(knots: list[tuple[float, float]], step: float) -> np.ndarray:
    """Grid places between the first and last knot; the spacing changes linearly.

    knots: (place, spacing in units of `step`).
    """
    places, spacing = np.array(knots).T
    out = [places[0]]
    while out[-1] < places[-1]:
        out.append(out[-1] + step * np.interp(out[-1], places, spacing))
    return np.array(out)


def surface(step: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and faces (F, 3), outward, on a grid of about `step` metres."""
    x = _axis(GRID_X, step) + step * 0.375
    y, z = _axis(GRID_Y, step), _axis(GRID_Z, step)
    axes = [np.concatenate([-x[::-1], x]), y, z]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    values = field(points.reshape(-1, 3)).reshape(points.shape[:3])
    vertices, faces, _, _ = marching_cubes(values, 0.0)
    places = [np.interp(vertices[:, k], np.arange(len(axes[k])), axes[k]) for k in range(3)]
    vertices = np.stack(places, axis=1)  # from grid numbers to metres
    return _relax(vertices, faces), faces.astype(np.int64)


def average_of_neighbours(faces: np.ndarray, count: int) -> sparse.csr_matrix:
    """(V, V) row-stochastic matrix over each vertex's ring."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    graph = sparse.csr_matrix((np.ones(len(edges)), edges.T), (count, count))
    graph.data[:] = 1
    return sparse.diags(1 / np.asarray(graph.sum(1)).ravel()) @ graph


def _relax(vertices: np.ndarray, faces: np.ndarray, rounds: int = 12) -> np.ndarray:
    """Vertices moved to the middle of their ring and back onto the surface: even faces."""
    average = average_of_neighbours(faces, len(vertices))
    for _ in range(rounds):
        vertices = vertices + 0.6 * (average @ vertices - vertices)
        vertices = _project(vertices)
    return vertices


def _project(points: np.ndarray, delta: float = 5e-4) -> np.ndarray:
    """One Newton step onto the surface, at most 6 mm."""
    level = field(points)
    rise = [field(points + delta * axis) - field(points - delta * axis) for axis in np.eye(3)]
    slope = np.stack(rise, 1) / (2 * delta)
    step = level[:, None] * slope / np.maximum((slope**2).sum(1, keepdims=True), 0.05)
    size = np.linalg.norm(step, axis=1, keepdims=True)
    return points - step * np.minimum(1, 0.006 / np.maximum(size, 1e-9))
