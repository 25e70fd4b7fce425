"""Fit SMPL to 2-D key points: for images that nobody hands SMPL parameters for (ours, for §B).

Pose, shape and camera of a batch at once, by gradient descent. One view leaves depth open, front
and back above all. So a fit starts from several views of library poses that resemble the key
points (`pose_prior.Views`), their azimuths well apart, and the best end wins. Depth is held by a
pose prior and joint limits learned from the motions (`pose_prior.PosePrior`), the person's size by
a prior on betas. Confidences add what they say about the side that is seen (`heading.Heading`).
Conventions of `body.camera`: pixels with centres at integers + 0.5, OpenCV axes, principal point
at the image centre.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from roma import rotmat_to_rotvec, rotvec_to_rotmat
from smplx import SMPL
from tqdm import tqdm

from posedive_lib.body.poses import PoseSource
from posedive_lib.body.table import BodyTable
from posedive_lib.errors import StudyError
from posedive_lib.own_data.heading import Heading
from posedive_lib.own_data.keypoint_body import KeypointBody, rotations_of, view_rotation
from posedive_lib.own_data.pose_prior import FREE, STATURE, PosePrior, Views

# Radians, -5 to 40 degrees: cameras look at people from about their height, or from above.
ELEVATION = (-0.09, 0.70)
# Confidence from which on a key point is visible, and below which something else hides it.
SEEN, HIDDEN = 0.5, 0.25


@dataclass(frozen=True)
class FitSettings:
    """Weights of the energy and the work spent on it.

    starts: views that a fit starts from, `apart` degrees of azimuth from each other.
    steps, rate: of Adam. scale: residual in person heights at which the loss (Geman-McClure,
    confidence-weighted mean, in [0, 1]) is 1/2. The other weights are of what is added to it:
    pose, anchor: squares of the prior's coefficients, and of their distance to the library pose;
    betas: mean square; limits, elevation: squared radians outside; facing, match: the heading's
    negative log-likelihood, at the end and when starts are chosen.
    """

    starts: int = 4
    apart: float = 40.0
    steps: int = 50
    rate: float = 0.06
    scale: float = 0.1
    pose: float = 0.0015
    anchor: float = 0.003
    betas: float = 0.02
    limits: float = 1.0
    elevation: float = 1.0
    facing: float = 0.08
    match: float = 0.005


@dataclass(frozen=True)
class Target:
    """Key points to fit, one row per image and start: R rows."""

    offset: torch.Tensor  # (R, 17, 2) pixels from the image centre
    share: torch.Tensor  # (R, 17) of the confidence
    size: torch.Tensor  # (R,) of the person, pixels
    focal: torch.Tensor  # (R,) pixels
    anchor: torch.Tensor  # (R, K) coefficients of the library pose


@dataclass(frozen=True)
class Posed:
    """What a set of variables stands for, row by row."""

    pixels: torch.Tensor  # (R, 17, 2) from the image centre
    rows: torch.Tensor  # (R, 66) tilt and pose
    root: torch.Tensor  # (R, 3, 3) body to camera
    cam_t: torch.Tensor  # (R, 3) metres


class Fitter:
    """Fits with one body, one source of poses and one focal length (in image heights).

    StudyError for an empty source.
    """

    def __init__(
        self,
        model: SMPL,
        source: PoseSource,
        *,
        focal: float = 2.5,
        settings: FitSettings | None = None,
    ):
        self.settings, self.focal = settings or FitSettings(), focal
        self.body = KeypointBody(model)
        self.views = Views.take(self.body, source, distance=focal * STATURE)
        self.prior = PosePrior.learn(source)
        self.codes = self.prior.encode(self.views.pose)

    @torch.no_grad()
    def heading(
        self, keypoints: np.ndarray, confidence: np.ndarray, batch_size: int = 64
    ) -> Heading | None:
        """The heading cue of a whole data set; None for few images.

        keypoints (N, 17, 2): pixels; confidence (N, 17).
        """
        points, weight = torch.from_numpy(keypoints).float(), torch.from_numpy(confidence).float()
        batches = zip(points.split(batch_size), weight.split(batch_size), strict=True)
        best = [self.views.match(*batch).argmin(1) for batch in batches] if len(points) else []
        return Heading.learn(weight, self.views.azimuth[torch.cat(best)]) if best else None

    def fit(
        self,
        keypoints: np.ndarray,
        confidence: np.ndarray,
        height: np.ndarray,
        width: np.ndarray,
        heading: Heading | None = None,
    ) -> dict[str, np.ndarray]:
        """Columns global_orient to keypoints of a `BodyTable` for one batch.

        height, width: (N,) pixels.
        """
        points = torch.from_numpy(keypoints).float()
        weight = torch.from_numpy(confidence).float().clamp(0, 1)
        height, width = torch.as_tensor(height).float(), torch.as_tensor(width).float()
        centre = torch.stack([width, height], 1) / 2
        chosen = self._starts(points, weight, heading)  # (N, S)
        count, starts = chosen.shape
        share = weight / weight.sum(1, keepdim=True).clamp_min(1e-6)
        image = torch.arange(count).repeat_interleave(starts)  # of each row
        target = Target(
            (points - centre[:, None])[image],
            share[image],
            person_size(points, share)[image],
            (self.focal * height)[image],
            self.codes[chosen.flatten()],
        )
        variables = self._descend(self._begin(chosen.flatten(), target), target)
        with torch.no_grad():
            energy = self._energy(variables, target).view(count, starts)
            if heading is not None:
                azimuth = variables["azimuth"].view(count, starts)
                energy = energy + self.settings.facing * heading.cost(azimuth)
            best = energy.argmin(1) + torch.arange(count) * starts
            variables = {name: value[best] for name, value in variables.items()}
            focal = target.focal[best]
            body = self._pose(variables, focal)
            columns = {
                "global_orient": rotmat_to_rotvec(body.root),
                "body_pose": torch.nn.functional.pad(body.rows[:, 3:], (0, 69 - FREE)),
                "betas": variables["betas"],
                "cam_t": body.cam_t,
                "focal": focal,
                "keypoints": body.pixels + centre[:, None],
            }
        return {name: column.numpy() for name, column in columns.items()}

    def _starts(
        self, keypoints: torch.Tensor, weight: torch.Tensor, heading: Heading | None
    ) -> torch.Tensor:
        """Rows of `views` (N, S): the most alike first, each `apart` from the earlier ones."""
        cost, azimuth = self.views.match(keypoints, weight), self.views.azimuth[None]
        if heading is not None:
            cost = cost + self.settings.match * heading.cost(azimuth.expand(len(cost), -1))
        chosen: list[torch.Tensor] = []
        for _ in range(self.settings.starts):
            chosen.append(cost.argmin(1))
            apart = azimuth - self.views.azimuth[chosen[-1]][:, None]
            gap = (apart + torch.pi) % (2 * torch.pi) - torch.pi
            cost = cost + 1e3 * (gap.abs() < np.radians(self.settings.apart))
        return torch.stack(chosen, 1)

    @torch.no_grad()
    def _begin(self, rows: torch.Tensor, target: Target) -> dict[str, torch.Tensor]:
        """Variables at library views `rows` (R,), moved and scaled onto the key points.

        By least squares.
        """
        share = target.share[..., None]

        def mean(points: torch.Tensor) -> torch.Tensor:
            return (share * points).sum(1)

        variables = {
            "z": target.anchor.clone(),
            "azimuth": self.views.azimuth[rows],
            "elevation": self.views.elevation[rows],
            "betas": torch.zeros(len(rows), self.body.joint_shapes.shape[2]),
            "shift": torch.zeros(len(rows), 2),
            "depth": torch.full((len(rows),), float(np.log(self.focal * STATURE))),
        }
        for _ in range(2):  # the second time for the perspective
            pixels = self._pose(variables, target.focal).pixels
            x, y = pixels - mean(pixels)[:, None], target.offset - mean(target.offset)[:, None]
            scale = (share * x * y).sum((1, 2)) / (share * x * x).sum((1, 2)).clamp_min(1e-6)
            scale = scale.clamp(0.2, 5)[:, None]
            variables["depth"] = variables["depth"] - scale[:, 0].log()
            moved = (mean(target.offset) - mean(pixels) * scale) / target.focal[:, None]
            variables["shift"] = variables["shift"] * scale + moved
        return variables

    def _descend(
        self, variables: dict[str, torch.Tensor], target: Target
    ) -> dict[str, torch.Tensor]:
        s = self.settings
        for value in variables.values():
            value.requires_grad_()
        optimizer = torch.optim.Adam(variables.values(), lr=s.rate, betas=(0.8, 0.95))
        for step in range(s.steps):
            optimizer.param_groups[0]["lr"] = s.rate * (1 - step / s.steps) ** 0.5
            # Far key points pull at first; outliers are let go later.
            loosen = 1 + 2 * max(0.0, 1 - 2 * step / s.steps)
            optimizer.zero_grad(set_to_none=True)
            self._energy(variables, target, loosen).sum().backward()
            optimizer.step()
        return {name: value.detach() for name, value in variables.items()}

    def _pose(self, v: dict[str, torch.Tensor], focal: torch.Tensor) -> Posed:
        rows, depth = self.prior.decode(v["z"]), v["depth"].exp()[:, None]
        root = view_rotation(v["azimuth"], v["elevation"]) @ rotvec_to_rotmat(rows[:, :3])
        body_pose = torch.nn.functional.pad(rows[:, 3:], (0, 69 - FREE))
        cam_t = torch.cat([v["shift"] * depth, depth], 1)
        points = self.body(rotations_of(root, body_pose), v["betas"]) + cam_t[:, None]
        pixels = points[..., :2] / points[..., 2:].clamp_min(0.1) * focal[:, None, None]
        return Posed(pixels, rows, root, cam_t)

    def _energy(
        self, v: dict[str, torch.Tensor], target: Target, loosen: float = 1.0
    ) -> torch.Tensor:
        """(R,) as `FitSettings` describes it."""
        s, body = self.settings, self._pose(v, target.focal)
        scale = (loosen * s.scale * target.size)[:, None, None]
        square = ((body.pixels - target.offset) / scale).square().sum(-1)
        below = (ELEVATION[0] - v["elevation"]).clamp_min(0)
        above = (v["elevation"] - ELEVATION[1]).clamp_min(0)
        return (
            (target.share * square / (1 + square)).sum(1)  # Geman-McClure
            + s.pose * v["z"].square().sum(1)
            + s.anchor * (v["z"] - target.anchor).square().sum(1)
            + s.betas * v["betas"].square().mean(1)
            + s.limits * self.prior.beyond(body.rows).square().sum(1)
            + s.elevation * (below + above).square()
        )


def person_size(keypoints: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """About the height of a person in pixels (N,); share (N, 17): weights with sum 1."""
    mean = (share[..., None] * keypoints).sum(1, keepdim=True)
    variance = (share[..., None] * (keypoints - mean).square()).sum(1)
    return (3.3 * variance.sqrt().amax(-1)).clamp_min(1.0)  # 3.3 standard deviations


def visibility(
    keypoints: np.ndarray, confidence: np.ndarray, height: np.ndarray, width: np.ndarray
) -> np.ndarray:
    """(N, 17) as in `BodyTable`: 2 from `SEEN` on, 1 from `HIDDEN` on, 0 below or outside."""
    size = np.stack([width, height], 1)[:, None]
    inside = ((keypoints >= 0) & (keypoints < size)).all(-1)
    level = (confidence >= HIDDEN).astype(np.int8) + (confidence >= SEEN)
    return np.where(inside, level, 0).astype(np.int8)


def check(keypoints: np.ndarray, confidence: np.ndarray) -> None:
    """StudyError for key points that are no COCO-17 or not finite, or odd confidences."""
    coco = keypoints.ndim == 3 and keypoints.shape[1:] == (17, 2)
    if not coco or confidence.shape != keypoints.shape[:2]:
        raise StudyError(
            f"key points are {keypoints.shape} and confidences {confidence.shape}: "
            "give COCO's (N, 17, 2) and (N, 17)"
        )
    bad = ~(np.isfinite(keypoints).all((1, 2)) & np.isfinite(confidence).all(1))
    if bad.any():
        raise StudyError(
            f"key points of row {int(bad.argmax())} are not finite: "
            "leave the image out or estimate it again"
        )
    if len(confidence) and not (confidence.min() >= 0 and confidence.max() <= 1):
        raise StudyError(
            f"confidences lie in [{confidence.min():.2f}, {confidence.max():.2f}], "
            "expected [0, 1]: rescale them"
        )


def fit_keypoints(
    keypoints: np.ndarray,
    confidence: np.ndarray,
    model: SMPL,
    source: PoseSource,
    *,
    height: ArrayLike,
    width: ArrayLike,
    path: np.ndarray | None = None,
    focal: float = 2.5,
    settings: FitSettings | None = None,
    batch_size: int = 64,
    progress: str | None = None,
) -> BodyTable:
    """SMPL bodies for images of people, from their key points.

    keypoints: (N, 17, 2) COCO, pixels; confidence: (N, 17) in [0, 1]. source: poses to learn from
    and start at. height, width: of the images in pixels, numbers or (N,). path: (N,) for the table
    (default: row numbers). focal: image heights.

    The table's key points are the fitted body's. StudyError for key points that are not COCO-17 or
    not finite, and for an empty source.
    """
    keypoints, confidence = np.asarray(keypoints, float), np.asarray(confidence, float)
    check(keypoints, confidence)
    count = len(keypoints)
    if not count:
        raise StudyError("there are no key points to fit: give at least one image")
    height, width = np.broadcast_to(height, count), np.broadcast_to(width, count)
    names = np.arange(count).astype(str) if path is None else np.asarray(path)
    fitter = Fitter(model, source, focal=focal, settings=settings)
    heading, parts = fitter.heading(keypoints, confidence, batch_size), []
    with tqdm(total=count, desc=progress, unit="image", disable=progress is None) as bar:
        for start in range(0, count, batch_size):
            rows = slice(start, start + batch_size)
            table = fit_rows(
                fitter,
                keypoints[rows],
                confidence[rows],
                height[rows],
                width[rows],
                names[rows],
                None if heading is None else heading[rows],
            )
            parts.append(table)
            bar.update(len(parts[-1]))
    return BodyTable.joined(parts)


def fit_rows(
    fitter: Fitter,
    keypoints: np.ndarray,
    confidence: np.ndarray,
    height: np.ndarray,
    width: np.ndarray,
    path: np.ndarray,
    heading: Heading | None,
) -> BodyTable:
    """One batch as a table."""
    columns = fitter.fit(keypoints, confidence, height.copy(), width.copy(), heading)
    seen = visibility(columns["keypoints"], confidence, height, width)
    return BodyTable(path=path, **columns, visible=seen)
