"""How good the generated images are, measured on people the generator never saw (§B, §I)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
import torch
from skimage.metrics import structural_similarity

from posedive_lib import datasets
from posedive_lib.augment.measures import height_by_mask, identity_top1, kernel_distance, pck
from posedive_lib.bench.statistics import bootstrap_interval
from posedive_lib.body.poses import load_poses
from posedive_lib.datasets.images import read as read_images
from posedive_lib.datasets.images import read_blocks
from posedive_lib.generator.likeness import detail, psnr
from posedive_lib.seeds import rng_for, seed_for
from posedive_lib.study import mini_world

if TYPE_CHECKING:
    from posedive_lib.augment.confidence import PoseEstimator
    from posedive_lib.generator.sampling import Generator
    from posedive_lib.params import Params

# To the truth.
LIKENESS = ("psnr", "psnr_same_side", "psnr_other_side", "ssim", "detail", "detail_background")
SAME_SIDE, OTHER_SIDE = 45.0, 120.0  # degrees between reference and target: at most, at least
COLUMNS = ["method", "metric", "value", "ci_low", "ci_high", "n"]
RESAMPLES = 500  # of people, for the interval of the kernel distance


class Extractor(Protocol):
    """A trained Re-ID model."""

    def extract(self, images: np.ndarray) -> np.ndarray:
        """Features (N, D) of images (N, H, W, 3)."""


@dataclass(frozen=True)
class Targets:
    """People in poses and views drawn uniformly: a reference photo, the conditions and the truth.

    references (N, H, W, 3), truth (N, H, W, 3) or None, skeleton (N, H, W, 3), depth (N, H, W, 1),
    normals (N, H, W, 3) uint8; mask (N, H, W) bool; keypoints (N, 17, 2) pixels; visible (N, 17);
    pids, seeds (N,); turn (N,) degrees between the views of reference and target, NaN if unknown.
    """

    references: np.ndarray
    truth: np.ndarray | None
    skeleton: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    mask: np.ndarray
    keypoints: np.ndarray
    visible: np.ndarray
    pids: np.ndarray
    seeds: np.ndarray
    turn: np.ndarray

    @classmethod
    def of(
        cls,
        references: np.ndarray,
        photos: list[dict[str, Any]],
        pids: np.ndarray,
        keys: list[tuple],
        turn: np.ndarray | None = None,
    ) -> Targets:
        """From what `mini_world.asked` finds; each has a reference, a pid, a key for its noise."""
        columns = ("skeleton", "depth", "normals", "mask", "keypoints", "visible")
        return cls(
            references=references,
            truth=np.stack([p["image"] for p in photos]) if "image" in photos[0] else None,
            pids=np.asarray(pids),
            turn=np.full(len(photos), np.nan) if turn is None else turn,
            seeds=np.array([seed_for("unseen-noise", *key) for key in keys]),
            **{name: np.stack([photo[name] for photo in photos]) for name in columns},
        )


def unseen_targets(
    P: Params, name: str = "msmt17", people: int = 100, per_person: int = 3
) -> Targets:
    """The first `people` test identities of a data set, in `per_person` poses and views each.

    Poses and views are drawn uniformly.
    """
    dataset = datasets.of_study(name, P.paths)
    poses = load_poses(P.paths.motions)
    clear = mini_world.clear(dataset.query)
    first = clear.sort_values(["pid", "rel"]).groupby("pid").head(1).head(people)
    pids, camids = first["pid"].to_numpy(), first["camid"].tolist()
    shots = []
    for row, (pid, camid) in enumerate(zip(pids.tolist(), camids, strict=True)):
        for index in range(per_person):
            rng = rng_for("unseen", P.seed, name, pid, index)
            pose = int(rng.integers(len(poses.frame)))
            key = ("unseen-photo", P.seed, name, pid, index)
            shots.append(mini_world.Shot(row, pose, *random_view(P, rng), camid, key))
    photos = mini_world.asked(P, dataset, first, shots, progress="true renders")
    references = read_images(first["path"].tolist(), P.image.height, P.image.width)
    owner = [shot.person for shot in shots]
    turn = None
    if "azimuth" in first:
        asked = np.array([shot.azimuth for shot in shots])
        turn = np.abs((asked - first["azimuth"].to_numpy()[owner] + 180) % 360 - 180)
    keys = [shot.key for shot in shots]
    return Targets.of(references[owner], photos, pids[owner], keys, turn)


def faces(targets: Targets, most: int) -> np.ndarray:
    """Rows of the first targets, at most `most`, that show nose and both eyes."""
    shown: np.ndarray = np.flatnonzero((targets.visible[:, :3] == 2).all(axis=1))
    return shown[:most]


def heads(images: np.ndarray, targets: Targets, rows: np.ndarray) -> list[np.ndarray]:
    """Squares of images (N, H, W, 3) around nose and eyes, for rows of the targets.

    As wide as a sixth of the image's height: a head with some air at this focal length.
    """
    half = images.shape[1] // 12
    wide = np.pad(images, ((0, 0), (half, half), (half, half), (0, 0)), mode="edge")
    centres = targets.keypoints[rows, :3].mean(axis=1).round().astype(int)
    limits = np.array([images.shape[2], images.shape[1]]) - 1
    found = zip(rows, np.clip(centres, 0, limits), strict=True)
    return [wide[row, y : y + 2 * half, x : x + 2 * half] for row, (x, y) in found]


def random_view(P: Params, rng: np.random.Generator) -> tuple[float, float]:
    """Azimuth and elevation (degrees), drawn uniformly from those of the study."""
    (left, right), (low, high) = P.augment.azimuth, P.augment.elevation
    return float(rng.uniform(left, right)), float(rng.uniform(low, high))


def through_vae(generator: Generator, images: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """uint8 images (N, H, W, 3) encoded and decoded by the VAE: the best that could be drawn."""
    encoders = generator.encoders
    parts = []
    for start in range(0, len(images), batch_size):
        latents = encoders.latents(torch.from_numpy(images[start : start + batch_size]))
        parts.append(encoders.images(latents).cpu().numpy())
    return np.concatenate(parts)


def foreground_ssim(images: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(N,) structural similarity (scikit-image, 7 × 7 window), mean over the person's pixels."""
    values = []
    for image, true, inside in zip(images, truth, mask, strict=True):
        _, similarity = structural_similarity(
            image, true, channel_axis=-1, data_range=255, full=True
        )
        values.append(similarity.mean(-1)[inside].mean())
    return np.array(values)


def per_person(
    images: np.ndarray,
    targets: Targets,
    estimator: PoseEstimator,
    reid: Extractor,
    known: np.ndarray,
    known_pids: np.ndarray,
) -> dict[str, np.ndarray]:
    """Measures of images of the targets, each (people,) in order of pid.

    pck and identity_top1, and where the truth is known psnr, ssim and detail, of the person, and
    detail_background. psnr_same_side and psnr_other_side: of targets whose reference shows the side
    that is asked for, or the other. A person's value is a mean over their targets; PCK leaves out
    targets without a visible key point. known, known_pids: features and pids of the true people.
    """
    estimated, _ = estimator.estimate(images)
    height = height_by_mask(targets.mask)
    right = identity_top1(reid.extract(images), targets.pids, known, known_pids)
    values = {
        "pck": pck(estimated, targets.keypoints, targets.visible, height),
        "identity_top1": right.astype(float),
    }
    if targets.truth is not None:
        values["psnr"] = psnr(images, targets.truth, targets.mask)
        # where the reference shows the side that is asked for, and where it shows the other
        values["psnr_same_side"] = np.where(targets.turn <= SAME_SIDE, values["psnr"], np.nan)
        values["psnr_other_side"] = np.where(targets.turn >= OTHER_SIDE, values["psnr"], np.nan)
        values["detail"] = detail(images, targets.truth, targets.mask)
        values["detail_background"] = detail(images, targets.truth, ~targets.mask)
        values["ssim"] = foreground_ssim(images, targets.truth, targets.mask)
    return {
        metric: pd.Series(value).groupby(targets.pids).mean().dropna().to_numpy()
        for metric, value in values.items()
    }


def compared(
    P: Params,
    generator: Generator,
    targets: Targets,
    generated: np.ndarray,
    estimator: PoseEstimator,
    reid: Extractor,
    name: str = "msmt17",
) -> pd.DataFrame:
    """`generator_quality.csv`: images of `unseen_targets` beside what they can be compared with.

    These are the truth, the truth after the VAE, the reference photo as it is and the mean training
    image; without the truth the last two alone. Intervals by resampling people.
    """
    size = (P.image.height, P.image.width)
    dataset = datasets.of_study(name, P.paths)
    sums = [
        block.sum(0, dtype=float) for block in read_blocks(dataset.train["path"].tolist(), *size)
    ]
    mean = (sum(sums) / len(dataset.train)).round().astype(np.uint8)
    methods = {"generated": generated}
    if targets.truth is not None:
        methods["true-render"] = targets.truth
        methods["true-through-vae"] = through_vae(generator, targets.truth)
    methods["copy-reference"] = targets.references
    methods["mean-image"] = np.repeat(mean[None], len(generated), 0)
    people = dataset.gallery[dataset.gallery["pid"].isin(targets.pids)]
    known = reid.extract(read_images(people["path"].tolist(), *size))
    pids = people["pid"].to_numpy()
    true = None if targets.truth is None else reid.extract(targets.truth)
    rows = []
    for method, images in methods.items():
        measured = per_person(images, targets, estimator, reid, known, pids)
        for metric, values in measured.items():
            if not len(values) or (method == "true-render" and metric in LIKENESS):
                continue  # no such target, or compared with itself
            rows.append((method, metric, *over_people(values, seed=P.seed)))
        if true is not None and method != "true-render":
            features = reid.extract(images)
            rows.append((method, "kid", *distance(features, true, targets.pids, seed=P.seed)))
    return pd.DataFrame(rows, columns=COLUMNS)


def over_people(values: np.ndarray, *, seed: int) -> tuple[float, float, float, int]:
    """Mean of values (people,), its 95 % interval by resampling people, and their number."""
    ends = bootstrap_interval(values, seed=seed)
    return float(values.mean()), ends.low, ends.high, len(values)


def distance(
    features: np.ndarray, true: np.ndarray, pids: np.ndarray, *, seed: int
) -> tuple[float, float, float, int]:
    """Kernel distance to the truth, its 95 % interval by resampling people, and their number.

    features, true (N, D): of the images and of the truth of each; pids (N,).
    """
    _, owner = np.unique(pids, return_inverse=True)
    people, rng = int(owner.max()) + 1, rng_for("kernel-distance", seed)
    drawn = rng.multinomial(people, np.full(people, 1 / people), size=RESAMPLES)
    low, high = np.percentile(kernel_distance(features, true, drawn[:, owner]), (2.5, 97.5))
    return float(kernel_distance(features, true)), float(low), float(high), people
