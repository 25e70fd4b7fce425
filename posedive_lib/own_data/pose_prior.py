"""What motion files teach about bodies in images (ours).

A pose prior, joint limits, and views of poses to start a fit from.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from roma import rotvec_to_rotmat

from posedive_lib.body.kinematics import joint_positions
from posedive_lib.body.poses import PoseSource
from posedive_lib.errors import StudyError
from posedive_lib.own_data.keypoint_body import KeypointBody, rotations_of, view_rotation

STATURE = 1.85  # metres of a crop's height, for the perspective of the library's views
FREE = 63  # numbers of body_pose that a fit may change: joints 1-21; the hands stay at zero


@dataclass(frozen=True)
class PosePrior:
    """Gaussian pose prior and joint limits.

    Poses are rows of 66: tilt of the pelvis 3, joints 1-21 63; axis-angle, radians. mean (66,).
    basis (66, K): principal directions times their standard deviation, so that a pose is
    mean + basis z with z ~ N(0, 1). low, high (66,): the range in the motions, plus `MARGIN`.
    """

    mean: torch.Tensor
    basis: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    MARGIN = 0.1  # radians

    @classmethod
    def learn(cls, source: PoseSource, components: int = 32) -> "PosePrior":
        """From a source's poses and their mirror images."""
        rows = torch.from_numpy(pose_rows(with_mirrored(source))).float()
        mean = rows.mean(0)
        _, size, directions = torch.linalg.svd(rows - mean, full_matrices=False)
        kept = size > 1e-4 * size[0].clamp_min(1e-9)
        count = max(1, min(components, int(kept.sum())))
        basis = directions[:count].T * (size[:count] / max(1, len(rows) - 1) ** 0.5).clamp_min(1e-3)
        return cls(mean, basis, rows.amin(0) - cls.MARGIN, rows.amax(0) + cls.MARGIN)

    def encode(self, rows: torch.Tensor) -> torch.Tensor:
        """Coefficients z (N, K) of poses (N, 66)."""
        return (rows - self.mean) @ (self.basis / self.basis.square().sum(0))

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Poses (N, 66) of coefficients (N, K)."""
        return self.mean + z @ self.basis.T

    def beyond(self, rows: torch.Tensor) -> torch.Tensor:
        """How far poses (N, 66) are outside the joint limits: (N, 66) radians, 0 inside."""
        return (self.low - rows).clamp_min(0) + (rows - self.high).clamp_min(0)


def pose_rows(source: PoseSource) -> np.ndarray:
    """(N, 66): root tilt and joints 1-21."""
    return np.concatenate([source.root_tilt, source.body_pose[:, :FREE]], 1)


def mirrored(rows: np.ndarray) -> np.ndarray:
    """Poses (N, 66) of a person's mirror image, reflected in the sagittal plane."""
    # Left and right joints change places.
    swap = [0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20]
    return (rows.reshape(len(rows), 22, 3)[:, swap] * [1, -1, -1]).reshape(len(rows), 66)


def with_mirrored(source: PoseSource) -> PoseSource:
    """A source and its mirror image: nobody is left-handed by chance."""
    rows = mirrored(pose_rows(source))
    pose = np.pad(rows[:, 3:], ((0, 0), (0, 69 - FREE)))
    mirror = PoseSource(rows[:, :3], pose, source.domain, source.name, source.frame)
    pairs = ((getattr(source, f.name), getattr(mirror, f.name)) for f in fields(source))
    return PoseSource(*(np.concatenate(pair) for pair in pairs))


def spread(source: PoseSource, count: int) -> np.ndarray:
    """Rows of `count` poses that lie as far apart as possible, the most typical first.

    Farthest-point sampling on joint positions.
    """
    joints = joint_positions(source.root_tilt, source.body_pose).reshape(len(source), -1)
    chosen = [int(np.linalg.norm(joints - joints.mean(0), axis=1).argmin())]
    distance = np.linalg.norm(joints - joints[chosen[0]], axis=1)
    while len(chosen) < min(count, len(source)) and distance.max() > 1e-3:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(joints - joints[chosen[-1]], axis=1))
    return np.array(chosen)


@dataclass(frozen=True)
class Views:
    """Key points of library poses seen from all round: M = poses x views rows, views innermost.

    keypoints (M, 17, 2): for focal length 1, y down. pose (M, 66). azimuth, elevation (M,):
    radians.
    """

    keypoints: torch.Tensor
    pose: torch.Tensor
    azimuth: torch.Tensor
    elevation: torch.Tensor

    @classmethod
    @torch.no_grad()
    def take(
        cls,
        body: KeypointBody,
        source: PoseSource,
        *,
        distance: float,
        poses: int = 160,
        azimuths: int = 24,
        elevations: tuple[float, ...] = (2.0, 14.0, 27.0),
    ) -> "Views":
        """Views of `poses` spread-out poses of a source and its mirror image.

        distance: metres; elevations: degrees.
        """
        if not len(source):
            raise StudyError("the pose source is empty: give motions to start the fit from")
        source = with_mirrored(source)
        rows = torch.from_numpy(pose_rows(source.select(spread(source, poses)))).float()
        azimuth = torch.arange(azimuths) * (2 * torch.pi / azimuths) - torch.pi
        grid = torch.cartesian_prod(azimuth, torch.deg2rad(torch.tensor(elevations)))
        turn = view_rotation(grid[:, 0], grid[:, 1])
        keypoints = []
        for row in rows:  # one pose, all views: rotate its points instead of posing it again
            pose = torch.nn.functional.pad(row[3:], (0, 69 - FREE))[None]
            rotations = rotations_of(rotvec_to_rotmat(row[None, :3]), pose)
            points = body(rotations, torch.zeros(1, body.joint_shapes.shape[2]))
            points = (points[0] - points[0].mean(0)) @ turn.mT  # (views, 17, 3)
            points = points + torch.tensor([0.0, 0.0, distance])
            keypoints.append(points[..., :2] / points[..., 2:])
        return cls(
            torch.cat(keypoints), rows.repeat_interleave(len(grid), 0), *grid.repeat(len(rows), 1).T
        )

    def match(self, keypoints: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Weighted squared distance (N, M) of images' key points to every view.

        After the best scaling and shift, as a share of the key points' own variance: 0 alike,
        1 nothing in common. keypoints (N, 17, 2) pixels; weight (N, 17), at least 0.
        """
        # From products of moments, so that no (N, M, 17) is ever held.
        w = weight / weight.sum(1, keepdim=True).clamp_min(1e-9)
        x, y = self.keypoints, keypoints
        mean_y = (w[..., None] * y).sum(1)  # (N, 2)
        var_y = (w[..., None] * (y - mean_y[:, None]).square()).sum((1, 2))  # (N,)
        mean_x = torch.stack([w @ x[..., c].T for c in (0, 1)], -1)  # (N, M, 2)
        var_x = (w @ x.square().sum(-1).T - mean_x.square().sum(-1)).clamp_min(1e-12)
        cross = sum((w * y[..., c]) @ x[..., c].T for c in (0, 1))
        cross = cross - (mean_x * mean_y[:, None]).sum(-1)
        # A mirrored view, whose best scale is negative, explains nothing.
        explained = cross.clamp_min(0).square() / (var_x * var_y[:, None].clamp_min(1e-9))
        return (1 - explained).clamp_min(0)
