"""SMPL's joint tree with average proportions: joints from a pose alone, without a body file.

For what depends on the pose and not on the person: pose density, ground contact, checks.
Rendering and fitting use the body model. Body axes: x to the person's left, y up, z forward;
metres. The rest pose is the T-pose.
"""

import numpy as np
from scipy.spatial.transform import Rotation

# Each joint: its name, its parent, and its offset from the parent in the rest pose. Right joints
# follow their left ones and mirror them.
_TREE = (
    ("pelvis", -1, (0.0, 0.0, 0.0)),
    ("left_hip", 0, (0.065, -0.085, 0.0)),
    ("right_hip", 0, None),
    ("spine1", 0, (0.0, 0.11, -0.02)),
    ("left_knee", 1, (0.04, -0.38, 0.0)),
    ("right_knee", 2, None),
    ("spine2", 3, (0.0, 0.135, 0.01)),
    ("left_ankle", 4, (-0.01, -0.41, -0.03)),
    ("right_ankle", 5, None),
    ("spine3", 6, (0.0, 0.055, 0.0)),
    ("left_foot", 7, (0.03, -0.06, 0.12)),
    ("right_foot", 8, None),
    ("neck", 9, (0.0, 0.21, -0.03)),
    ("left_collar", 9, (0.075, 0.115, -0.02)),
    ("right_collar", 9, None),
    ("head", 12, (0.0, 0.09, 0.05)),
    ("left_shoulder", 13, (0.11, 0.045, -0.01)),
    ("right_shoulder", 14, None),
    ("left_elbow", 16, (0.26, -0.01, -0.02)),
    ("right_elbow", 17, None),
    ("left_wrist", 18, (0.25, 0.01, 0.0)),
    ("right_wrist", 19, None),
    ("left_hand", 20, (0.085, -0.01, -0.01)),
    ("right_hand", 21, None),
)
JOINT_NAMES = tuple(name for name, _, _ in _TREE)
PARENTS = np.array([parent for _, parent, _ in _TREE])


def _offsets() -> np.ndarray:
    rows = np.zeros((24, 3))
    for joint, (_, _, offset) in enumerate(_TREE):
        rows[joint] = rows[joint - 1] * [-1.0, 1.0, 1.0] if offset is None else offset
    return rows


OFFSETS = _offsets()


def joint_positions(root: np.ndarray, body_pose: np.ndarray) -> np.ndarray:
    """Joints (N, 24, 3) in metres relative to the pelvis, by forward kinematics.

    root: axis-angle (N, 3); body_pose: axis-angle (N, 69), joints 1-23 relative to their parents.
    """
    root = np.asarray(root, float).reshape(-1, 3)
    body_pose = np.asarray(body_pose, float).reshape(-1, 23, 3)
    local = np.concatenate([root[:, None], body_pose], axis=1)
    rotations = Rotation.from_rotvec(local.reshape(-1, 3)).as_matrix().reshape(len(root), 24, 3, 3)
    world, joints = rotations.copy(), np.zeros((len(root), 24, 3))
    for joint, parent in enumerate(PARENTS[1:], start=1):  # a parent comes before its children
        joints[:, joint] = joints[:, parent] + world[:, parent] @ OFFSETS[joint]
        world[:, joint] = world[:, parent] @ rotations[:, joint]
    return joints
