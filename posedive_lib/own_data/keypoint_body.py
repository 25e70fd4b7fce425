"""COCO key points of SMPL bodies, batched and differentiable, without the surface (ours).

Used to fit SMPL to images. Twelve of COCO's 17 key points are SMPL joints; nose, eyes and ears are
five vertices. So the regressor is folded into 24 joints that are linear in the shape, and only
those five rows of the surface are skinned: about a hundredth of the work of a full pose.
"""

import torch
from roma import rotvec_to_rotmat
from smplx import SMPL

from posedive_lib.body.smpl import COCO_FROM_SMPL

FACE = 5  # the first COCO key points: nose, left eye, right eye, left ear, right ear


class KeypointBody:
    """COCO-17 key points of an SMPL body as a function of pose and shape.

    model: as `load_smpl` returns it. The joints follow `smplx` to rounding, pose blend shapes of
    the five vertices included.
    """

    def __init__(self, model: SMPL):
        marks = model.vertex_joint_selector.extra_joints_idxs
        rows = marks[[i - 24 for i in COCO_FROM_SMPL[:FACE]]]
        template, shapes = model.v_template.detach(), model.shapedirs.detach()
        self.joints = model.J_regressor @ template  # (24, 3)
        self.joint_shapes = torch.einsum("jv,vcs->jcs", model.J_regressor, shapes)  # (24, 3, S)
        self.face, self.face_shapes = template[rows], shapes[rows]
        self.face_weights = model.lbs_weights[rows]
        columns = (3 * rows[:, None] + torch.arange(3)).flatten()
        self.face_bends = model.posedirs[:, columns]
        self.parents = model.parents.tolist()
        self.levels = _levels(self.parents)
        self.body_points = torch.tensor(COCO_FROM_SMPL[FACE:])

    def __call__(self, rotations: torch.Tensor, betas: torch.Tensor) -> torch.Tensor:
        """Key points (N, 17, 3) in metres, before translation.

        rotations: (N, 24, 3, 3), the root's first; betas: (N, S).
        """
        rest = self.joints + torch.einsum("jcs,ns->njc", self.joint_shapes, betas)
        world, place = self._chain(rotations, rest)
        face = self.face + torch.einsum("fcs,ns->nfc", self.face_shapes, betas)
        bends = (rotations[:, 1:] - torch.eye(3)).reshape(len(rotations), -1)  # (N, 207)
        face = face + (bends @ self.face_bends).reshape(len(rotations), FACE, 3)
        shift = place - (world @ rest[..., None])[..., 0]  # of each bone's transform
        turn = torch.einsum("fj,njab->nfab", self.face_weights, world)
        move = torch.einsum("fj,njc->nfc", self.face_weights, shift)
        face = (turn @ face[..., None])[..., 0] + move
        return torch.cat([face, place[:, self.body_points]], 1)

    def _chain(
        self, rotations: torch.Tensor, rest: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Forward kinematics: rotations (N, 24, 3, 3) to the root's frame, and places (N, 24, 3).

        Joints of one depth go at a time: nine small products instead of 23, there and back.
        """
        world, place = [rotations[:, 0]] * 24, [rest[:, 0]] * 24
        for level in self.levels:
            parents = [self.parents[joint] for joint in level]
            above = torch.stack([world[parent] for parent in parents], 1)
            turned = above @ rotations[:, level]
            bones = (above @ (rest[:, level] - rest[:, parents])[..., None])[..., 0]
            moved = torch.stack([place[parent] for parent in parents], 1) + bones
            for i, joint in enumerate(level):
                world[joint], place[joint] = turned[:, i], moved[:, i]
        return torch.stack(world, 1), torch.stack(place, 1)


def rotations_of(root: torch.Tensor, body_pose: torch.Tensor) -> torch.Tensor:
    """Rotations (N, 24, 3, 3) of root rotations (N, 3, 3) and body poses (N, 69) in axis-angle."""
    return torch.cat([root[:, None], rotvec_to_rotmat(body_pose.reshape(len(body_pose), -1, 3))], 1)


def view_rotation(azimuth: torch.Tensor, elevation: torch.Tensor) -> torch.Tensor:
    """Rotation (N, 3, 3) from y-up axes facing +z to a camera: `camera.orient` in torch.

    azimuth, elevation: (N,) radians.
    """
    ca, sa, ce, se = azimuth.cos(), azimuth.sin(), elevation.cos(), elevation.sin()
    across = torch.stack([ca, torch.zeros_like(ca), -sa], -1)
    down = torch.stack([se * sa, -ce, se * ca], -1)
    away = torch.stack([-ce * sa, -se, -ce * ca], -1)
    return torch.stack([across, down, away], -2)


def _levels(parents: list[int]) -> list[list[int]]:
    """The joints at each depth of the tree, but for the root."""
    depth = [0] * len(parents)
    for joint, parent in enumerate(parents[1:], start=1):
        depth[joint] = depth[parent] + 1
    return [
        [joint for joint, d in enumerate(depth) if d == level] for level in range(1, max(depth) + 1)
    ]
