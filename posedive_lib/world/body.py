"""The mini world's body: an SMPL-format file made from a smooth union of round cones (ours).

24 joints in SMPL's order and rest pose, ten shape directions with visible effects, and smplx's landmark
vertices (nose, eyes, ears, fingers, toes) in the places where the published body has them.
"""

from pathlib import Path

import numpy as np
from scipy import sparse
from skimage.measure import marching_cubes
from smplx.vertex_ids import vertex_ids

PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]


def _mirror(points):
    """Left-side points and their right-side twins."""
    return [p for x, y, z in points for p in ((x, y, z), (-x, y, z))]


def rest_joints() -> np.ndarray:
    """(24, 3) rest joints, metres, y up, facing +z, left = +x; T pose."""
    left = {1: (0.085, -0.31, 0.0), 4: (0.10, -0.71, 0.005), 7: (0.095, -1.10, -0.03), 10: (0.115, -1.155, 0.09),
            13: (0.07, 0.21, -0.01), 16: (0.175, 0.235, -0.02), 18: (0.44, 0.235, -0.03), 20: (0.69, 0.235, -0.03),
            22: (0.775, 0.23, -0.03)}
    centre = {0: (0, -0.22, 0), 3: (0, -0.11, -0.01), 6: (0, 0.02, -0.005), 9: (0, 0.09, -0.005),
              12: (0, 0.30, -0.02), 15: (0, 0.385, 0.0)}
    joints = np.zeros((24, 3))
    for index, point in centre.items():
        joints[index] = point
    for index, (x, y, z) in left.items():
        joints[index], joints[index + 1] = (x, y, z), (-x, y, z)
    return joints


def _cones() -> list[tuple]:
    """Round cones (start, end, start radius, end radius, squash in z, joint that moves them), left side mirrored."""
    J = rest_joints()
    middle = [
        ((0, -0.26, 0), (0, -0.18, 0), 0.125, 0.125, 0.80, 0), ((0, -0.17, 0), (0, -0.05, 0), 0.120, 0.118, 0.78, 3),
        ((0, -0.03, 0), (0, 0.05, 0), 0.120, 0.132, 0.74, 6), ((0, 0.07, 0), (0, 0.17, -0.005), 0.138, 0.128, 0.72, 9),
        ((0, 0.20, -0.015), (0, 0.34, -0.01), 0.058, 0.054, 1.0, 12),
        ((0, 0.42, 0.005), (0, 0.49, -0.005), 0.078, 0.088, 1.10, 15), ((0, 0.415, 0.088), (0, 0.44, 0.085), 0.016, 0.010, 1.0, 15),
    ]
    left = [
        ((0.05, 0.17, -0.01), J[16], 0.075, 0.066, 0.85, 13), (J[16], J[18], 0.062, 0.044, 1.0, 16),
        (J[18], J[20], 0.043, 0.030, 1.0, 18), (J[20] + [0.01, 0, 0], J[22], 0.030, 0.038, 0.9, 20),
        (J[22], J[22] + [0.085, -0.005, 0.0], 0.036, 0.018, 0.8, 22), (J[20] + [0.03, 0, 0.02], J[22] + [0.005, 0, 0.055], 0.017, 0.013, 1.0, 20),
        ((0.075, -0.29, -0.01), J[4], 0.100, 0.058, 1.0, 1), (J[4], J[7], 0.057, 0.040, 1.0, 4),
        (J[4] + [0.0, -0.12, -0.025], J[4] + [0, -0.2, -0.03], 0.042, 0.036, 1.0, 4),
        (J[7] + [0.0, -0.035, -0.015], J[10] + [0, 0.0, 0.0], 0.043, 0.038, 1.0, 7), (J[10] + [0, -0.005, 0], J[10] + [0.005, -0.01, 0.085], 0.036, 0.028, 1.0, 10),
        ((0.065, -0.25, -0.055), (0.07, -0.29, -0.06), 0.075, 0.075, 1.0, 0),
    ]
    cones = [(np.array(a, float), np.array(b, float), ra, rb, q, j) for a, b, ra, rb, q, j in middle]
    flip = np.array([-1.0, 1, 1])
    for a, b, ra, rb, q, j in left:
        a, b = np.array(a, float), np.array(b, float)
        cones += [(a, b, ra, rb, q, j), (a * flip, b * flip, ra, rb, q, j if j == 0 else j + 1)]
    return cones


def _cone_distance(points: np.ndarray, cone) -> np.ndarray:
    """Signed distance (N,) to a cone with linearly changing radius, squashed along z around its axis."""
    a, b, ra, rb, squash, _ = cone
    axis = b - a
    t = np.clip(((points - a) @ axis) / (axis @ axis), 0, 1)
    away = points - (a + t[:, None] * axis)
    away[:, 2] /= squash
    return np.linalg.norm(away, axis=1) - (ra + t * (rb - ra))


def _surface(step: float) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.array([-0.95, -1.28, -0.22]), np.array([0.95, 0.64, 0.26])
    axes = [np.arange(l, h, step) for l, h in zip(low, high)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    blend = 0.022  # metres over which neighbouring parts melt together
    total = np.zeros(len(points))
    for cone in _cones():
        total += np.exp(-np.clip(_cone_distance(points, cone), -0.3, 0.6) / blend)
    field = -blend * np.log(total)
    vertices, faces, _, _ = marching_cubes(field.reshape([len(a) for a in axes]), 0.0, spacing=(step,) * 3)
    return vertices + low, faces


def _neighbours(faces: np.ndarray, count: int) -> sparse.csr_matrix:
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    graph = sparse.csr_matrix((np.ones(len(edges)), edges.T), (count, count))
    graph.data[:] = 1
    graph = graph + sparse.eye(count)
    return sparse.diags(1 / np.asarray(graph.sum(1)).ravel()) @ graph


def _skinning(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 24) weights: nearest part, diffused over the surface so that joints bend smoothly."""
    cones = _cones()
    distance = np.stack([_cone_distance(vertices, c) for c in cones], 1)
    owner = np.array([c[5] for c in cones])[distance.argmin(1)]
    weights = np.eye(24)[owner]
    average = _neighbours(faces, len(vertices))
    for _ in range(14):
        weights = average @ weights
    weights[weights < 0.01] = 0
    return weights / weights.sum(1, keepdims=True)


def _regressor(vertices: np.ndarray, joints: np.ndarray, nearest: int = 90) -> np.ndarray:
    """(24, V) smallest weights on the nearest vertices that average to each joint."""
    regressor = np.zeros((24, len(vertices)))
    for j, joint in enumerate(joints):
        close = np.argsort(np.linalg.norm(vertices - joint, axis=1))[:nearest]
        system = np.vstack([vertices[close].T, np.ones(nearest)])
        start = np.full(nearest, 1 / nearest)
        regressor[j, close] = start + np.linalg.pinv(system) @ (np.append(joint, 1) - system @ start)
    return regressor


def _smoothstep(x, low, high):
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _shape_directions(v: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(V, 3, 10) metres per unit beta: height, girth, shoulders, hips, legs, arms, torso, head, belly, chest."""
    x, y, z = v.T
    side = np.sign(x)
    arm = _smoothstep(abs(x), 0.05, 0.17) * _smoothstep(y, 0.05, 0.15)
    leg = weights[:, [1, 2, 4, 5, 7, 8, 10, 11]].sum(1)
    head = weights[:, 15]
    cones = _cones()
    nearest = np.stack([_cone_distance(v, c) for c in cones], 1).argmin(1)
    radial = np.zeros_like(v)
    for i, (a, b, *_rest) in enumerate(cones):
        mine = nearest == i
        t = np.clip(((v[mine] - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)
        away = v[mine] - (a + t[:, None] * (b - a))
        radial[mine] = away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6)
    soft = 1 - weights[:, [10, 11, 15, 20, 21, 22, 23]].sum(1)
    trunk = np.clip(1 - arm - _smoothstep(-y, 0.3, 0.5), 0, 1)
    d = np.zeros((len(v), 3, 10))
    d[:, :, 0] = 0.035 * v
    d[:, :, 1] = radial * (0.012 * soft)[:, None]
    d[:, 0, 2] = 0.014 * side * arm
    d[:, 0, 3] = 0.010 * side * _smoothstep(abs(x), 0, 0.08) * _smoothstep(-y, 0.12, 0.3)
    d[:, 1, 4] = -0.030 * np.clip((-0.31 - y) / 0.8, 0, 1.1) * leg
    d[:, 0, 5] = 0.022 * side * np.clip((abs(x) - 0.175) / 0.5, 0, 1.4)
    d[:, 1, 6] = 0.022 * np.clip((y + 0.22) / 0.5, 0, 1)
    d[:, :, 7] = (v - rest_joints()[15]) * (0.07 * head)[:, None]
    d[:, 2, 8] = 0.022 * np.exp(-(((y + 0.08) / 0.11) ** 2)) * _smoothstep(z, 0, 0.08) * trunk
    d[:, 2, 9] = 0.012 * np.exp(-(((y - 0.12) / 0.09) ** 2)) * np.sign(z) * trunk
    return d


def _landmarks() -> dict[str, tuple]:
    """Template positions of the landmark vertices that smplx reads by number."""
    marks = {"nose": (0, 0.42, 0.12), "leye": (0.032, 0.465, 0.1), "lear": (0.09, 0.45, 0.0),
             "lthumb": (0.785, 0.23, 0.04), "lindex": (0.88, 0.225, 0.0), "lmiddle": (0.88, 0.225, -0.02),
             "lring": (0.875, 0.225, -0.035), "lpinky": (0.86, 0.225, -0.055), "LBigToe": (0.10, -1.18, 0.2),
             "LSmallToe": (0.15, -1.18, 0.15), "LHeel": (0.095, -1.17, -0.09)}
    twins = {("R" + k[1:] if k[0] == "L" else "r" + k[1:]): (-p[0], *p[1:]) for k, p in marks.items() if k != "nose"}
    return marks | twins


def _number_landmarks(vertices: np.ndarray) -> np.ndarray:
    """Permutation that puts each landmark's nearest vertex at the number smplx expects."""
    order = np.arange(len(vertices))
    done = np.zeros(len(vertices), bool)
    for name, point in _landmarks().items():
        wanted = vertex_ids["smplh"][name]
        distance = np.linalg.norm(vertices[order] - np.array(point), axis=1)
        here = int(np.where(done, np.inf, distance).argmin())
        order[[wanted, here]] = order[[here, wanted]]
        done[wanted] = True
    return order


def build_body(step: float = 0.016) -> dict[str, np.ndarray]:
    """All arrays of an SMPL file; `step` is the surface grid in metres (16 mm gives about 10,000 vertices)."""
    vertices, faces = _surface(step)
    order = _number_landmarks(vertices)
    vertices, faces = vertices[order], np.argsort(order)[faces]
    weights = _skinning(vertices, faces)
    return {
        "v_template": vertices, "f": faces.astype(np.uint32), "weights": weights,
        "shapedirs": _shape_directions(vertices, weights), "posedirs": np.zeros((len(vertices), 3, 207), np.float32),
        "J_regressor": _regressor(vertices, rest_joints()),
        "kintree_table": np.array([[2**32 - 1, *PARENTS[1:]], range(24)], np.int64),
    }


def write_body(path: str | Path) -> None:
    """Write the body as a compressed `.npz` in float32."""
    arrays = {k: v.astype(np.float32) if v.dtype == float else v for k, v in build_body().items()}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
