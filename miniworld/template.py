"""A body's T-pose template, measured for its clothes: heights, widths, regions and sides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from smplx import SMPL

# joints of SMPL
PELVIS, L_HIP, R_HIP, L_KNEE, L_ANKLE, R_ANKLE, SPINE3 = 0, 1, 2, 4, 7, 8, 9
L_FOOT, R_FOOT, NECK, HEAD, SHOULDER, WRIST = 10, 11, 12, 15, 16, 20
ARMS = [16, 17, 18, 19, 20, 21, 22, 23]


class Template:
    """Measures of a template's V vertices, by the body's own joints.

    template (V, 3) and joints (24, 3): metres, y up, facing +z, T-pose. owner: (V,) the joint that
    moves a vertex most. normals: (V, 3). facing: (V,) how much the surface faces forward.

    Places, (V,) each: side (0 in the middle, +-1 at the shoulders), up (0 pelvis, 1 neck),
    leg (0 ankle, 1 hip), arm (0 shoulder, 1 wrist), face (0 head joint, 1 crown).
    Regions, (V,) bool each: is_arm, is_head, is_foot, is_leg, is_torso, behind.
    """

    def __init__(self, model: SMPL):
        v = self.template = model.v_template.numpy().astype(float)
        joints = self.joints = model.J_regressor.numpy().astype(float) @ v
        self.faces = np.asarray(model.faces).astype(int)
        self.owner = owner = model.lbs_weights.numpy().argmax(1)
        x, y = v[:, 0], v[:, 1]
        pelvis, neck, head = (joints[joint, 1] for joint in (PELVIS, NECK, HEAD))
        ankle, hip = joints[L_ANKLE, 1], joints[L_HIP, 1]
        shoulder, wrist = joints[SHOULDER, 0], joints[WRIST, 0]
        crown = v[owner == HEAD, 1].max()
        self.side = x / abs(shoulder)
        self.up = (y - pelvis) / (neck - pelvis)
        self.leg = (y - ankle) / (hip - ankle)
        self.arm = (abs(x) - shoulder) / (wrist - shoulder)
        self.face = (y - head) / (crown - head)
        self.is_arm = np.isin(owner, ARMS) & (self.arm > 0.02)
        self.is_head = np.isin(owner, [NECK, HEAD]) & (self.up > 1.02)
        self.is_foot = np.isin(owner, [L_ANKLE, R_ANKLE, L_FOOT, R_FOOT]) & (self.leg < 0.03)
        self.is_leg = (self.up < -0.02) & ~self.is_foot & ~self.is_arm
        self.is_torso = ~(self.is_arm | self.is_head | self.is_foot | self.is_leg)
        self.normals = self._normals()
        self.facing = self.normals[:, 2]
        self.behind = self._is_behind()

    def _normals(self) -> np.ndarray:
        corner = self.template[self.faces]  # (F, 3, 3)
        cross = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        normals = np.zeros_like(self.template)
        for k in range(3):
            np.add.at(normals, self.faces[:, k], cross)
        return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)

    def _is_behind(self) -> np.ndarray:
        """(V,) bool: the rear half of trunk and arms, cut where the surface turns away."""
        shoulder = self.joints[SHOULDER, 2]
        seam = np.where(self.is_arm, shoulder, 0.5 * (self.joints[SPINE3, 2] + shoulder))
        return self.template[:, 2] < seam

    def surface_z(self, height: float, sign: int, half_width: float = 0.06) -> float:
        """Frontmost (sign 1) or rearmost (-1) z of the trunk at a height, metres."""
        level = abs(self.template[:, 1] - height) < 0.05
        middle = abs(self.template[:, 0]) < half_width
        near = level & middle & ~self.is_arm
        return float((sign * self.template[near, 2]).max() * sign)
