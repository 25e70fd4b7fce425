"""How the mini world's body bends (ours): skinning weights and pose correctives, as SMPL has them.

Linear blend skinning loses volume where a joint bends or twists: points half-way between two bones
are averaged towards the joint. The correctives give that volume back. Let a joint rotate by R about
its centre. A point that follows the joint with share m should *turn* by m of R's angle, as in
dual-quaternion skinning, which keeps distances to the joint.
"""

import numpy as np
from scipy.spatial.transform import Rotation

from miniworld.smoothstep import smoothstep
from posedive_lib.body.kinematics import PARENTS

GRAIN = 2.0**-12  # metres; correctives are rounded to it (0.24 mm), which compresses well


def _shares(points: np.ndarray) -> dict[int, np.ndarray]:
    """Share (N,) of each joint in what its parent moves: 0 before the joint, 1 beyond it."""
    x, y, z = points.T
    centre = smoothstep(abs(x), 0.30, 0.20)
    out = {
        3: smoothstep(y, -0.20, -0.05) * centre + (1 - centre),
        6: smoothstep(y, -0.05, 0.08),
        9: smoothstep(y, 0.02, 0.15),
    }
    out[12] = smoothstep(y - 0.25 * abs(z), 0.225, 0.33) * smoothstep(abs(x), 0.16, 0.06)
    out[15] = smoothstep(y + 0.55 * z, 0.345, 0.425)
    left, right = _side_shares(x, y, z), _side_shares(-x, y, z)
    out |= left | {joint + 1: share for joint, share in right.items()}  # right joints follow left
    return out


def _side_shares(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> dict[int, np.ndarray]:
    """Shares of the left-side joints, at points mirrored for the right side."""
    inner = np.minimum(x - 0.06, 0)  # the crotch stays with the pelvis
    buttock = 0.25 * np.clip(-z - 0.03, 0, 0.1)
    thigh = smoothstep(-y - buttock + 0.12 * (x - 0.085) + 1.3 * inner, 0.225, 0.385)
    below_head = smoothstep(y, 0.36, 0.30)
    girdle = smoothstep(x, 0.035, 0.15) * smoothstep(y, 0.06, 0.20) * below_head
    return {
        1: thigh * smoothstep(x, -0.022, 0.022),
        4: smoothstep(-y, 0.71 - 0.068, 0.71 + 0.068),
        7: smoothstep(-y + 0.35 * np.maximum(z + 0.03, 0), 1.06, 1.135),
        10: smoothstep(z, 0.055, 0.125),
        13: girdle,
        16: smoothstep(x + 0.45 * (y - 0.235), 0.105, 0.235),
        18: smoothstep(x, 0.44 - 0.055, 0.44 + 0.055),
        20: smoothstep(x, 0.655, 0.725),
        22: smoothstep(x, 0.755, 0.80),
    }


def skinning_weights(points: np.ndarray) -> np.ndarray:
    """(V, 24) weights, at least 0 and with sum 1.

    Each is a joint's share of its parent's share, smooth along the limb.
    """
    share = _shares(points)
    moved = np.ones((len(points), 24))  # by a joint or anything beyond it
    for joint in range(1, 24):
        moved[:, joint] = moved[:, PARENTS[joint]] * share[joint]
    weights = moved.copy()
    for joint in range(1, 24):
        weights[:, PARENTS[joint]] -= moved[:, joint]
    weights = np.round(np.clip(weights, 0, None) * 4096) / 4096
    weights /= weights.sum(1, keepdims=True)
    return weights


def moved_share(weights: np.ndarray, joint: int) -> np.ndarray:
    """(V,) share of each point that turns when only this joint turns.

    It is the sum of the weights of the joint and of all joints beyond it.
    """
    beyond = np.zeros(24, bool)
    beyond[joint] = True
    for child in range(joint + 1, 24):
        beyond[child] |= beyond[PARENTS[child]]
    return weights[:, beyond].sum(1)


# The axis about which a joint usually bends, and the axis along its limb, left and right.
HINGES = {
    1: (-1, 0, 0),
    2: (-1, 0, 0),
    4: (1, 0, 0),
    5: (1, 0, 0),
    16: (0, 0, -1),
    17: (0, 0, 1),
    18: (0, -1, 0),
    19: (0, 1, 0),
}
LIMBS = dict.fromkeys((1, 2, 4, 5), (0, 1, 0)) | dict.fromkeys((16, 17, 18, 19), (1, 0, 0))
# How much of a bend's loss to give back; all of it would make far points around the hips swell.
BULGE = {1: 0.35, 2: 0.35}


def _training_rotations(joint: int) -> Rotation:
    """Rotations that a joint is corrected for.

    About every axis; for limbs the usual bend and the twist about the limb more often.
    """
    rng = np.random.default_rng(joint)
    axes, angles = rng.normal(size=(60, 3)), rng.uniform(10, 85, 60)
    if joint in HINGES:
        twists = np.array(LIMBS[joint]) * np.where(np.arange(40) % 2, 1, -1)[:, None]
        axes = np.vstack([axes, np.tile(HINGES[joint], (60, 1)), twists])
        furthest = 95 if joint in (16, 17) else 130  # shoulders; hips, knees and elbows
        bends, turns = rng.uniform(10, furthest, 60), rng.uniform(20, 100, 40)
        angles = np.concatenate([angles, bends, turns])
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    return Rotation.from_rotvec(axes * np.radians(angles)[:, None])


def _wanted_offsets(points: np.ndarray, share: np.ndarray, rotation: Rotation) -> np.ndarray:
    """(V, 3) to add in the rest pose, so that blending turns each point by its share.

    One rotation about the origin; points (V, 3), share (V,).
    """
    blend = (1 - share)[:, None, None] * np.eye(3) + share[:, None, None] * rotation.as_matrix()
    target = Rotation.from_rotvec(share[:, None] * rotation.as_rotvec()).apply(points)
    return np.linalg.solve(blend, target[..., None])[..., 0] - points


def _dose(joint: int, rotation: Rotation) -> float:
    """Part of the wanted offset that is used: all of it in a twist, `BULGE` in a bend."""
    axis = rotation.as_rotvec() / rotation.magnitude()
    least = BULGE.get(joint, 1.0)
    return least + (1 - least) * float(axis @ LIMBS.get(joint, (0, 0, 0))) ** 2


def pose_directions(
    points: np.ndarray, joints: np.ndarray, weights: np.ndarray, ridge: float = 0.004
) -> np.ndarray:
    """(V, 3, 207) metres per unit of R - I, zero where a joint bends nothing.

    Ridge regression of the wanted offsets, joint by joint.
    """
    out = np.zeros((len(points), 3, 207), np.float32)
    for joint in range(1, 24):
        share = moved_share(weights, joint)
        mixed = np.flatnonzero((share > 0.01) & (share < 0.99))
        rotations = _training_rotations(joint)
        features = (rotations.as_matrix() - np.eye(3)).reshape(len(rotations), 9)
        place = points[mixed] - joints[joint]
        wanted = np.stack(
            [_dose(joint, turn) * _wanted_offsets(place, share[mixed], turn) for turn in rotations]
        )  # (rotations, mixed, 3)
        normal = features.T @ features + ridge * len(rotations) * np.eye(9)
        right = features.T @ wanted.reshape(len(rotations), -1)
        found = np.linalg.solve(normal, right).reshape(9, len(mixed), 3)
        out[mixed, :, 9 * (joint - 1) : 9 * joint] = np.moveaxis(found, 0, 2)
    return np.round(out / GRAIN) * np.float32(GRAIN)
