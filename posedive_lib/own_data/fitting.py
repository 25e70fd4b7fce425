"""Fit SMPL to 2-D key points: for images that nobody hands SMPL parameters for (ours; §B needs them for every Re-ID image).

Pose, shape and camera of a batch at once, by gradient descent. One view leaves depth open, front and back above all: a fit starts from
several views of library poses that resemble the key points (`library.Views`), their azimuths well apart, and the best end wins.
Depth is held by a pose prior and joint limits learned from the motions (`library.PosePrior`), the person's size by a prior on betas;
confidences add what they say about the side that is seen (`heading.Heading`).
Conventions of `body.camera`: pixels with centres at integers + 0.5, OpenCV axes, principal point at the image centre.
"""

from dataclasses import dataclass

import numpy as np
import torch
from roma import rotmat_to_rotvec, rotvec_to_rotmat
from smplx import SMPL
from tqdm import tqdm

from posedive_lib.body.poses import PoseSource
from posedive_lib.body.table import BodyTable
from posedive_lib.errors import StudyError
from posedive_lib.own_data.heading import Heading
from posedive_lib.own_data.keypoint_body import KeypointBody, rotations_of, view_rotation
from posedive_lib.own_data.pose_prior import FREE, STATURE, PosePrior, Views

ELEVATION = (
    -0.09,
    0.70,
)  # radians, -5 to 40 degrees: cameras look at people from about their height, or from above
SEEN, HIDDEN = (
    0.5,
    0.25,
)  # confidence from which on a key point counts as visible, and below which as hidden by something else


@dataclass(frozen=True)
class FitSettings:
    """Weights of the energy and the work spent on it.

    starts: views that a fit starts from, `apart` degrees of azimuth from each other; steps: of Adam; rate: its step size.
    scale: residual in person heights at which the loss (Geman-McClure, confidence-weighted mean, in [0, 1]) is 1/2; the rest is added
    to it: pose, anchor: squares of the prior's coefficients and of their distance to the library pose; betas: mean square; limits,
    elevation: squared radians outside; facing, match: the heading's negative log-likelihood, at the end and when starts are chosen.
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
    """Key points to fit, once per start: offset (R, 17, 2) pixels from the image centre; share (R, 17) of the confidence; size (R,)
    of the person and focal (R,) in pixels; anchor (R, K): coefficients of the library pose."""

    offset: torch.Tensor
    share: torch.Tensor
    size: torch.Tensor
    focal: torch.Tensor
    anchor: torch.Tensor


@dataclass(frozen=True)
class Posed:
    """What a set of variables stands for, row by row."""

    pixels: torch.Tensor  # (R, 17, 2) from the image centre
    rows: torch.Tensor  # (R, 66) tilt and pose
    root: torch.Tensor  # (R, 3, 3) body to camera
    cam_t: torch.Tensor  # (R, 3) metres


class Fitter:
    """What all fits with one body, one source of poses and one focal length (in image heights) share.

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
        """The heading cue of a whole data set: key points (N, 17, 2) pixels, confidence (N, 17); None for few images."""
        points, weight = torch.from_numpy(keypoints).float(), torch.from_numpy(confidence).float()
        batches = zip(points.split(batch_size), weight.split(batch_size), strict=True)
        best = [self.views.match(*batch).argmin(1) for batch in batches] if len(points) else []
        return Heading.learn(weight, self.views.azimuth[torch.cat(best)]) if best else None

    def fit(
        self,
        keypoints: np.ndarray,
        confidence: np.ndarray,
        height,
        width,
        heading: Heading | None = None,
    ) -> dict[str, np.ndarray]:
        """Columns global_orient … keypoints of a `BodyTable` for one batch; height, width: (N,) pixels."""
        points, weight = (
            torch.from_numpy(keypoints).float(),
            torch.from_numpy(confidence).float().clamp(0, 1),
        )
        height, width = torch.as_tensor(height).float(), torch.as_tensor(width).float()
        centre = torch.stack([width, height], 1) / 2
        chosen, count, starts = (
            self._starts(points, weight, heading),
            len(points),
            self.settings.starts,
        )
        share = weight / weight.sum(1, keepdim=True).clamp_min(1e-6)
        again = lambda value: value.repeat_interleave(starts, 0)
        target = Target(
            again(points - centre[:, None]),
            again(share),
            again(person_size(points, share)),
            again(self.focal * height),
            self.codes[chosen.flatten()],
        )
        variables = self._descend(self._begin(chosen.flatten(), target), target)
        with torch.no_grad():
            energy = self._energy(variables, target).view(count, starts)
            if heading is not None:
                energy = energy + self.settings.facing * heading.cost(
                    variables["azimuth"].view(count, starts)
                )
            best = energy.argmin(1) + torch.arange(count) * starts
            variables = {name: value[best] for name, value in variables.items()}
            body = self._pose(variables, target.focal[best])
            pose = torch.nn.functional.pad(body.rows[:, 3:], (0, 69 - FREE))
            columns = (
                rotmat_to_rotvec(body.root),
                pose,
                variables["betas"],
                body.cam_t,
                target.focal[best],
                body.pixels + centre[:, None],
            )
        names = ("global_orient", "body_pose", "betas", "cam_t", "focal", "keypoints")
        return dict(zip(names, (column.numpy() for column in columns), strict=True))

    def _starts(
        self, keypoints: torch.Tensor, weight: torch.Tensor, heading: Heading | None
    ) -> torch.Tensor:
        """Rows of `views` (N, S): the most alike first, each `apart` from the earlier ones."""
        cost, chosen = self.views.match(keypoints, weight), []
        if heading is not None:
            cost = cost + self.settings.match * heading.cost(
                self.views.azimuth[None].expand(len(cost), -1)
            )
        for _ in range(self.settings.starts):
            chosen.append(cost.argmin(1))
            gap = (
                self.views.azimuth[None] - self.views.azimuth[chosen[-1]][:, None] + torch.pi
            ) % (2 * torch.pi) - torch.pi
            cost = cost + 1e3 * (gap.abs() < np.radians(self.settings.apart))
        return torch.stack(chosen, 1)

    @torch.no_grad()
    def _begin(self, rows: torch.Tensor, target: Target) -> dict[str, torch.Tensor]:
        """Variables at library views `rows` (R,), moved and scaled onto the key points by least squares."""
        variables = {
            "z": target.anchor.clone(),
            "azimuth": self.views.azimuth[rows],
            "elevation": self.views.elevation[rows],
            "betas": torch.zeros(len(rows), self.body.joint_shapes.shape[2]),
            "shift": torch.zeros(len(rows), 2),
            "depth": torch.full((len(rows),), float(np.log(self.focal * STATURE))),
        }
        share, mean = (
            target.share[..., None],
            lambda value: (target.share[..., None] * value).sum(1),
        )
        for _ in range(2):  # the second time for the perspective
            pixels = self._pose(variables, target.focal).pixels
            x, y = pixels - mean(pixels)[:, None], target.offset - mean(target.offset)[:, None]
            scale = (
                (share * x * y).sum((1, 2)) / (share * x * x).sum((1, 2)).clamp_min(1e-6)
            ).clamp(0.2, 5)[:, None]
            variables["depth"] = variables["depth"] - scale[:, 0].log()
            variables["shift"] = (
                variables["shift"] * scale
                + (mean(target.offset) - mean(pixels) * scale) / target.focal[:, None]
            )
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
            loosen = 1 + 2 * max(
                0.0, 1 - 2 * step / s.steps
            )  # far key points pull at first, outliers are let go later
            optimizer.zero_grad(set_to_none=True)
            self._energy(variables, target, loosen).sum().backward()
            optimizer.step()
        return {name: value.detach() for name, value in variables.items()}

    def _pose(self, v: dict[str, torch.Tensor], focal: torch.Tensor) -> Posed:
        rows, depth = self.prior.decode(v["z"]), v["depth"].exp()[:, None]
        root = view_rotation(v["azimuth"], v["elevation"]) @ rotvec_to_rotmat(rows[:, :3])
        points = self.body(
            rotations_of(root, torch.nn.functional.pad(rows[:, 3:], (0, 69 - FREE))), v["betas"]
        )
        cam_t = torch.cat([v["shift"] * depth, depth], 1)
        points = points + cam_t[:, None]
        return Posed(
            points[..., :2] / points[..., 2:].clamp_min(0.1) * focal[:, None, None],
            rows,
            root,
            cam_t,
        )

    def _energy(
        self, v: dict[str, torch.Tensor], target: Target, loosen: float = 1.0
    ) -> torch.Tensor:
        """(R,) as `FitSettings` describes it."""
        s, body = self.settings, self._pose(v, target.focal)
        square = (
            ((body.pixels - target.offset) / (loosen * s.scale * target.size)[:, None, None])
            .square()
            .sum(-1)
        )
        outside = (ELEVATION[0] - v["elevation"]).clamp_min(0) + (
            v["elevation"] - ELEVATION[1]
        ).clamp_min(0)
        return (
            (target.share * square / (1 + square)).sum(1)
            + s.pose * v["z"].square().sum(1)
            + s.anchor * (v["z"] - target.anchor).square().sum(1)
            + s.betas * v["betas"].square().mean(1)
            + s.limits * self.prior.beyond(body.rows).square().sum(1)
            + s.elevation * outside.square()
        )


def person_size(keypoints: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Height of a person in pixels (N,), about: 3.3 standard deviations of the key points (weights `share` sum to 1)."""
    mean = (share[..., None] * keypoints).sum(1, keepdim=True)
    return (
        3.3 * (share[..., None] * (keypoints - mean).square()).sum(1).sqrt().amax(-1)
    ).clamp_min(1.0)


def visibility(keypoints: np.ndarray, confidence: np.ndarray, height, width) -> np.ndarray:
    """(N, 17) as in `BodyTable`, from confidences: 2 from `SEEN` on, 1 from `HIDDEN` on, 0 below it or outside the image."""
    size = np.stack([width, height], 1)[:, None]
    inside = ((keypoints >= 0) & (keypoints < size)).all(-1)
    return np.where(
        inside, (confidence >= HIDDEN).astype(np.int8) + (confidence >= SEEN), 0
    ).astype(np.int8)


def check(keypoints: np.ndarray, confidence: np.ndarray) -> None:
    """StudyError for key points that are no COCO-17, or not finite, or confidences outside [0, 1]."""
    if (
        keypoints.ndim != 3
        or keypoints.shape[1:] != (17, 2)
        or confidence.shape != keypoints.shape[:2]
    ):
        raise StudyError(
            f"key points are {keypoints.shape} and confidences {confidence.shape}: give COCO's (N, 17, 2) and (N, 17)"
        )
    bad = ~(np.isfinite(keypoints).all((1, 2)) & np.isfinite(confidence).all(1))
    if bad.any():
        raise StudyError(
            f"key points of row {int(bad.argmax())} are not finite: leave the image out or estimate it again"
        )
    if len(confidence) and not (confidence.min() >= 0 and confidence.max() <= 1):
        raise StudyError(
            f"confidences lie in [{confidence.min():.2f}, {confidence.max():.2f}], expected [0, 1]: rescale them"
        )


def fit_keypoints(
    keypoints: np.ndarray,
    confidence: np.ndarray,
    model: SMPL,
    source: PoseSource,
    *,
    height,
    width,
    path: np.ndarray | None = None,
    focal: float = 2.5,
    settings: FitSettings | None = None,
    batch_size: int = 64,
    progress: str | None = None,
) -> BodyTable:
    """SMPL bodies for images of people, from their key points.

    keypoints: (N, 17, 2) COCO, pixels; confidence: (N, 17) in [0, 1]; source: poses to learn from and start at.
    height, width: of the images in pixels, numbers or (N,); path: (N,) for the table (default: row numbers); focal: image heights.
    The table's key points are the fitted body's. StudyError for key points that are not COCO-17, not finite, or an empty source.
    """
    keypoints, confidence = np.asarray(keypoints, float), np.asarray(confidence, float)
    check(keypoints, confidence)
    count = len(keypoints)
    height, width = np.broadcast_to(height, count), np.broadcast_to(width, count)
    fitter = Fitter(model, source, focal=focal, settings=settings)
    heading, parts = fitter.heading(keypoints, confidence, batch_size), []
    with tqdm(total=count, desc=progress, unit="image", disable=progress is None) as bar:
        for start in range(0, count, batch_size):
            rows = slice(start, start + batch_size)
            parts.append(
                fit_rows(
                    fitter,
                    keypoints[rows],
                    confidence[rows],
                    height[rows],
                    width[rows],
                    np.arange(count).astype(str)[rows] if path is None else np.asarray(path)[rows],
                    None if heading is None else heading[rows],
                )
            )
            bar.update(len(parts[-1]))
    if not parts:
        raise StudyError("there are no key points to fit: give at least one image")
    return BodyTable.joined(parts)


def fit_rows(
    fitter: Fitter, keypoints, confidence, height, width, path: np.ndarray, heading: Heading | None
) -> BodyTable:
    """One batch as a table."""
    columns = fitter.fit(keypoints, confidence, height.copy(), width.copy(), heading)
    return BodyTable(
        path=path, **columns, visible=visibility(columns["keypoints"], confidence, height, width)
    )
