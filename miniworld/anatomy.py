"""Anatomical angles, their limits, and the way to SMPL rotations and AMASS arrays (ours).

A motion is a track of angles in degrees (hip flexion, arm raise, ...), so limits and symmetry are
stated once. Body axes: x to the person's left, y up, z forward; the rest pose is the T-pose. AMASS
is z-up: the body's own orientation is followed by +90 degrees about x and a heading about z.
"""

import numpy as np
from scipy.spatial.transform import Rotation

from posedive_lib.body.kinematics import JOINT_NAMES, joint_positions

FPS = 30.0
# Anatomical limits in degrees. Zero everywhere is a person standing upright with hanging arms.
SIDED_LIMITS = {
    "hip_flex": (-30, 110),  # thigh forward
    "hip_abduct": (-10, 45),  # thigh outward
    "hip_turn": (-20, 35),  # toes outward
    "knee": (0, 135),  # heel backward
    "ankle": (-40, 32),  # toes up
    "arm_raise": (4, 175),  # 0 hanging, 90 T-pose, 175 overhead
    "arm_swing": (-50, 120),  # hanging arm forward
    "arm_across": (-30, 110),  # T-pose arm forward
    "arm_twist": (-80, 60),  # T-pose forearm downward
    "elbow": (2, 145),
}
CENTRE_LIMITS = {
    "spine_flex": (-20, 75),  # forward, over three joints
    "spine_side": (-30, 30),  # to the person's right
    "spine_twist": (-45, 45),  # to the person's left
    "neck_flex": (-30, 45),  # looking down
    "neck_turn": (-65, 65),  # looking left
    "root_pitch": (-25, 60),  # pelvis tipped forward
    "root_roll": (-25, 25),
    "heading": (-np.inf, np.inf),
    "lift": (0, 50),  # centimetres between the ground and the lower foot, in a jump
}
LIMITS = {
    f"{name}_{side}": limit for name, limit in SIDED_LIMITS.items() for side in "lr"
} | CENTRE_LIMITS
Track = dict[str, np.ndarray]


def _euler(track: Track, axes: str, *channels: tuple[str, float]) -> Rotation:
    """Product of rotations, leftmost first: each channel in degrees times its sign."""
    return Rotation.from_euler(
        axes, np.stack([sign * track[name] for name, sign in channels], axis=1), degrees=True
    )


def _rotations(track: Track) -> dict[str, Rotation]:
    """SMPL joint rotations.

    The right side mirrors the left: rotations about y and z change sign, those about x do not.
    """
    track = {name: np.clip(values, *LIMITS[name]) for name, values in track.items()}
    spine = {name: track[f"spine_{name}"] / 3 for name in ("flex", "side", "twist")}
    half = {name: track[f"neck_{name}"] / 2 for name in ("turn", "flex")}
    out = {
        "pelvis": _euler(track, "YXZ", ("heading", 1), ("root_pitch", 1), ("root_roll", 1)),
        "neck": _euler(half, "YX", ("turn", 1), ("flex", 1)),
    }
    out["head"] = out["neck"]
    for name in ("spine1", "spine2", "spine3"):
        out[name] = _euler(spine, "YXZ", ("twist", 1), ("flex", 1), ("side", 1))
    for side, name, mirror in (("l", "left", 1), ("r", "right", -1)):
        one = {key[:-2]: value for key, value in track.items() if key.endswith(f"_{side}")}
        # the shoulder girdle rises and sinks with the arm
        one["collar"] = 0.18 * (one["arm_raise"] - 60)
        one["arm"] = one["arm_raise"] - 90 - one["collar"]
        out[f"{name}_hip"] = _euler(
            one, "XZY", ("hip_flex", -1), ("hip_abduct", mirror), ("hip_turn", mirror)
        )
        out[f"{name}_knee"] = _euler(one, "X", ("knee", 1))
        out[f"{name}_ankle"] = _euler(one, "X", ("ankle", -1))
        out[f"{name}_collar"] = _euler(one, "Z", ("collar", mirror))
        shoulder = _euler(one, "XYZ", ("arm_swing", -1), ("arm_across", -mirror), ("arm", mirror))
        out[f"{name}_shoulder"] = shoulder * _euler(one, "X", ("arm_twist", 1))
        out[f"{name}_elbow"] = _euler(one, "Y", ("elbow", -mirror))
    return out


def amass(track: Track, heading: float, betas: np.ndarray) -> dict[str, np.ndarray]:
    """AMASS arrays of a track of T frames.

    poses (T, 156) axis-angle, betas (16,), trans (T, 3) metres, z-up, with the lower foot on the
    ground or `lift` above it. heading: degrees.
    """
    rotations = _rotations(track)
    frames = len(track["heading"])
    rotvec = np.zeros((frames, 24, 3))
    for name, rotation in rotations.items():
        rotvec[:, JOINT_NAMES.index(name)] = rotation.as_rotvec()
    joints = joint_positions(rotvec[:, 0], rotvec[:, 1:].reshape(frames, 69))
    z_up = Rotation.from_euler("x", 90, degrees=True)
    world = Rotation.from_euler("z", heading, degrees=True) * z_up
    root = world * Rotation.from_rotvec(rotvec[:, 0])
    poses = np.zeros((frames, 156), np.float32)  # hands (66–155) stay at zero
    poses[:, :3] = root.as_rotvec()
    poses[:, 3:66] = rotvec[:, 1:22].reshape(frames, 63)
    trans = np.zeros((frames, 3), np.float32)
    trans[:, 2] = np.clip(track["lift"], *LIMITS["lift"]) / 100 - joints[..., 1].min(axis=1)
    trans[:, :2] = _path(joints @ world.as_matrix().T, grounded=track["lift"] < 1)
    return {
        "poses": poses.round(5),
        "betas": np.asarray(betas, np.float32),
        "trans": trans.round(4),
        "gender": np.array("neutral"),
        "mocap_framerate": np.array(FPS),
    }


def _path(joints: np.ndarray, grounded: np.ndarray) -> np.ndarray:
    """Ground path (T, 2) of joints (T, 24, 3) in z-up axes.

    The pelvis moves so that the lower foot stays where it is while grounded (T,) bool.
    """
    feet = joints[:, [10, 11]]
    frames = np.arange(1, len(joints))
    lower = feet[1:, :, 2].argmin(axis=1)
    steps = feet[frames - 1, lower, :2] - feet[frames, lower, :2]
    return np.concatenate([np.zeros((1, 2)), np.cumsum(steps * grounded[1:, None], axis=0)])
