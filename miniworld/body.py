"""The mini world's body as an SMPL-format file (ours).

24 joints in SMPL's order and rest pose, ten shape directions with visible effects, pose
correctives, and smplx's landmark vertices (nose, eyes, ears, fingers, toes) where the published
body has them.
"""

from pathlib import Path
from typing import Any

import numpy as np
from smplx.vertex_ids import vertex_ids

from miniworld.sculpt import centre_line, surface
from miniworld.skinning import moved_share, pose_directions, skinning_weights
from miniworld.smoothstep import smoothstep
from posedive_lib.body.kinematics import PARENTS


def rest_joints() -> np.ndarray:
    """(24, 3) rest joints, metres, y up, facing +z, left = +x; T pose."""
    left = {
        1: (0.085, -0.31, 0.0),
        4: (0.10, -0.71, 0.005),
        7: (0.095, -1.10, -0.03),
        10: (0.115, -1.155, 0.09),
        13: (0.07, 0.21, -0.01),
        16: (0.175, 0.235, -0.02),
        18: (0.44, 0.235, -0.03),
        20: (0.69, 0.235, -0.03),
        22: (0.775, 0.23, -0.03),
    }
    centre = {
        0: (0, -0.22, 0),
        3: (0, -0.11, -0.01),
        6: (0, 0.02, -0.005),
        9: (0, 0.09, -0.005),
        12: (0, 0.30, -0.02),
        15: (0, 0.385, 0.0),
    }
    joints = np.zeros((24, 3))
    for index, point in centre.items():
        joints[index] = point
    for index, (x, y, z) in left.items():
        joints[index], joints[index + 1] = (x, y, z), (-x, y, z)
    return joints


def _regressor(vertices: np.ndarray, joints: np.ndarray, nearest: int = 90) -> np.ndarray:
    """(24, V) smallest weights on the nearest vertices that average to each joint."""
    regressor = np.zeros((24, len(vertices)))
    for j, joint in enumerate(joints):
        close = np.argsort(np.linalg.norm(vertices - joint, axis=1))[:nearest]
        system = np.vstack([vertices[close].T, np.ones(nearest)])
        start = np.full(nearest, 1 / nearest)
        missing = np.append(joint, 1) - system @ start
        regressor[j, close] = start + np.linalg.pinv(system) @ missing
    return regressor


def _shape_directions(v: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(V, 3, 10) metres per unit beta.

    Height, girth, shoulders, hips, legs, arms, torso, head, belly, chest.
    """
    x, y, z = v.T
    side, wide = np.sign(x), abs(x)
    arm = moved_share(weights, 16) + moved_share(weights, 17)
    girdle = moved_share(weights, 13) + moved_share(weights, 14)
    leg = moved_share(weights, 1) + moved_share(weights, 2)
    head = weights[:, 15]
    neck = smoothstep(y, 0.24, 0.30) * (1 - girdle)
    ends = weights[:, [7, 8, 10, 11, 20, 21, 22, 23]].sum(1)  # hands and feet stay as they are
    away = v - centre_line(v)
    flat = np.array([1.0, 0.0, 1.0])  # limbs get thicker across, not longer
    trunk = (1 - arm) * (1 - leg) * (1 - neck)
    d = np.zeros((len(v), 3, 10))
    d[:, :, 0] = 0.035 * (v + [0, 0.2, 0])
    d[:, :, 1] = 0.125 * away * ((1 - head) * (1 - ends) * (1 - 0.4 * neck))[:, None]
    upper = np.maximum(girdle, smoothstep(y, 0.02, 0.14) * (1 - neck))
    d[:, 0, 2] = side * (0.016 * upper * smoothstep(wide, 0.0, 0.13))
    below_waist, to_knee = smoothstep(-y, 0.06, 0.24), 1 - 0.45 * smoothstep(-y, 0.45, 0.9)
    hips = side * 0.014 * smoothstep(wide, 0.0, 0.09) * below_waist * to_knee
    d[:, 0, 3] = hips * (1 - girdle)
    d[:, 2, 3] = 0.008 * away[:, 2] / 0.1 * below_waist * (1 - smoothstep(-y, 0.4, 0.6))
    d[:, 1, 4] = -0.036 * np.clip((-0.31 - y) / 0.8, 0, 1) * leg
    d[:, 0, 5] = 0.030 * side * np.clip((wide - 0.175) / 0.515, 0, 1)
    d[:, 1, 6] = 0.026 * np.clip((y + 0.22) / 0.45, 0, 1)
    skull = 0.085 * (v - rest_joints()[15] + [0, 0.02, 0]) * head[:, None]
    d[:, :, 7] = skull + 0.05 * away * flat * (neck * (1 - head))[:, None]
    belly = np.exp(-(((y + 0.09) / 0.12) ** 2)) * trunk
    d[:, 2, 8] = 0.030 * belly * smoothstep(z, -0.02, 0.09)
    d[:, 0, 8] = 0.012 * side * belly * smoothstep(wide, 0, 0.12)
    chest = np.exp(-(((y - 0.125) / 0.085) ** 2)) * (1 - arm) * (1 - neck)
    d[:, 2, 9] = chest * (0.022 * smoothstep(z, 0.0, 0.09) - 0.008 * smoothstep(-z, 0.02, 0.09))
    d[:, 0, 9] = 0.006 * side * chest * smoothstep(wide, 0.05, 0.14) * (1 - girdle)
    between_thighs = smoothstep(-y, 0.29, 0.37) * (1 - smoothstep(wide, 0.0, 0.06))
    d[:, 0] *= (1 - between_thighs)[:, None]  # they never grow into each other
    return d


def _landmarks() -> dict[str, tuple]:
    """Template positions of the landmark vertices that smplx reads by number."""
    marks = {
        "nose": (0, 0.438, 0.122),
        "leye": (0.033, 0.463, 0.092),
        "lear": (0.088, 0.452, -0.008),
        "lthumb": (0.80, 0.221, 0.048),
        "lindex": (0.87, 0.222, -0.005),
        "lmiddle": (0.875, 0.222, -0.028),
        "lring": (0.87, 0.222, -0.043),
        "lpinky": (0.858, 0.222, -0.058),
        "LBigToe": (0.098, -1.178, 0.197),
        "LSmallToe": (0.145, -1.178, 0.165),
        "LHeel": (0.095, -1.17, -0.089),
    }
    twins = {}
    for name, (x, y, z) in marks.items():
        if name != "nose":
            twins[("R" if name[0] == "L" else "r") + name[1:]] = (-x, y, z)
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


def build_body(step: float = 0.0185) -> dict[str, np.ndarray]:
    """All arrays of an SMPL file.

    step: of the surface grid, metres; 18.5 mm gives about 9,700 vertices.
    """
    vertices, faces = surface(step)
    order = _number_landmarks(vertices)
    vertices, faces = vertices[order], np.argsort(order)[faces]
    weights = skinning_weights(vertices)
    return {
        "v_template": np.round(vertices, 5),
        "f": faces.astype(np.uint32),
        "weights": weights,
        "shapedirs": np.round(_shape_directions(vertices, weights) * 2**14) / 2**14,
        "posedirs": pose_directions(vertices, rest_joints(), weights),
        "J_regressor": _regressor(vertices, rest_joints()),
        "kintree_table": np.array([[2**32 - 1, *PARENTS[1:]], range(24)], np.int64),
    }


def write_body(path: str | Path) -> None:
    """Write the body as a compressed `.npz` in float32."""
    arrays: dict[str, Any] = {
        k: v.astype(np.float32) if v.dtype == float else v for k, v in build_body().items()
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
