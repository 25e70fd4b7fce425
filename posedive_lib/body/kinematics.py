"""SMPL's joint tree with average proportions: joints from pose alone, without a body file.

Good for what depends on the pose and not on the person (pose density, ground contact, checks); rendering and fitting use the body model.
Body axes: x to the person's left, y up, z forward; metres. The rest pose is the T-pose.
"""

import numpy as np
from scipy.spatial.transform import Rotation

JOINT_NAMES = (
    "pelvis",
    "left_hip",
    "right_hip",
    "spine1",
    "left_knee",
    "right_knee",
    "spine2",
    "left_ankle",
    "right_ankle",
    "spine3",
    "left_foot",
    "right_foot",
    "neck",
    "left_collar",
    "right_collar",
    "head",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hand",
    "right_hand",
)
PARENTS = np.array(
    [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]
)
# Offset of every joint from its parent in the rest pose, left side; the right side is its mirror image.
_OFFSETS = {
    "left_hip": (0.065, -0.085, 0.0),
    "left_knee": (0.04, -0.38, 0.0),
    "left_ankle": (-0.01, -0.41, -0.03),
    "left_foot": (0.03, -0.06, 0.12),
    "spine1": (0.0, 0.11, -0.02),
    "spine2": (0.0, 0.135, 0.01),
    "spine3": (0.0, 0.055, 0.0),
    "neck": (0.0, 0.21, -0.03),
    "left_collar": (0.075, 0.115, -0.02),
    "head": (0.0, 0.09, 0.05),
    "left_shoulder": (0.11, 0.045, -0.01),
    "left_elbow": (0.26, -0.01, -0.02),
    "left_wrist": (0.25, 0.01, 0.0),
    "left_hand": (0.085, -0.01, -0.01),
}


def _offsets() -> np.ndarray:
    rows = []
    for name in JOINT_NAMES:
        mirror = np.array([-1.0, 1.0, 1.0]) if name.startswith("right_") else np.ones(3)
        rows.append(
            mirror * np.array(_OFFSETS.get(name.replace("right_", "left_"), (0.0, 0.0, 0.0)))
        )
    return np.array(rows)


OFFSETS = _offsets()


def joint_positions(root: np.ndarray, body_pose: np.ndarray) -> np.ndarray:
    """Joints (N, 24, 3) in metres relative to the pelvis.

    root: axis-angle (N, 3); body_pose: axis-angle (N, 69), joints 1–23 relative to their parents.
    """
    root, body_pose = (
        np.asarray(root, float).reshape(-1, 3),
        np.asarray(body_pose, float).reshape(-1, 23, 3),
    )
    local = np.concatenate([root[:, None], body_pose], axis=1)
    rotations = Rotation.from_rotvec(local.reshape(-1, 3)).as_matrix().reshape(len(root), 24, 3, 3)
    world, joints = rotations.copy(), np.zeros((len(root), 24, 3))
    for joint, parent in enumerate(PARENTS[1:], start=1):
        joints[:, joint] = joints[:, parent] + world[:, parent] @ OFFSETS[joint]
        world[:, joint] = world[:, parent] @ rotations[:, joint]
    return joints
