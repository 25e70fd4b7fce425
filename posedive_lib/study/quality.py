"""How good the generated images are, measured on people the generator never saw (§B, §I; `generator_quality.csv`)."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from skimage.metrics import structural_similarity

from posedive_lib import datasets
from posedive_lib.augment.confidence import keypoint_subset
from posedive_lib.bench.statistics import bootstrap_interval
from posedive_lib.body.poses import load_poses
from posedive_lib.datasets.images import read as read_images
from posedive_lib.seeds import rng_for, seed_for
from posedive_lib.study import mini_world
from posedive_lib.study.mini_world import Shot

COLUMNS = ["method", "metric", "value", "ci_low", "ci_high", "n"]


@dataclass(frozen=True)
class Targets:
    """People in poses and views drawn uniformly: (N,) rows of one reference photo, the conditions and the truth each.

    references (N, H, W, 3), truth (N, H, W, 3), skeleton (N, H, W, 3), depth (N, H, W, 1), normals (N, H, W, 3) uint8;
    mask (N, H, W) bool; keypoints (N, 17, 2) pixels; visible (N, 17); pids, seeds (N,).
    """

    references: np.ndarray
    truth: np.ndarray
    skeleton: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    mask: np.ndarray
    keypoints: np.ndarray
    visible: np.ndarray
    pids: np.ndarray
    seeds: np.ndarray

    @classmethod
    def of(
        cls, references: np.ndarray, photos: list[dict], pids: np.ndarray, keys: list[tuple]
    ) -> "Targets":
        """From reference photos and true photos with conditions, a pid and a key for the noise each."""
        take = lambda name: np.stack([photo[name] for photo in photos])
        return cls(
            references,
            take("image"),
            take("skeleton"),
            take("depth"),
            take("normals"),
            take("mask"),
            take("keypoints"),
            take("visible"),
            np.asarray(pids),
            np.array([seed_for("unseen-noise", *key) for key in keys]),
        )


def unseen_targets(
    P, name: str = "msmt17", people: int = 100, per_person: int = 3
) -> Targets | None:
    """The first `people` test identities of a data set in `per_person` poses and views, each drawn uniformly; None where the data set has no truth."""
    dataset = datasets.load(name, P.paths.datasets)
    if not mini_world.has_people(dataset.query):
        return None
    poses = load_poses(P.paths.motions)
    clear = dataset.query[~dataset.query["occluded"] & ~dataset.query["low_quality"]]
    references = (
        clear.sort_values(["pid", "rel"]).groupby("pid").head(1).head(people).reset_index(drop=True)
    )
    rows, shots = [], []
    for row in references.itertuples():
        for index in range(per_person):
            rng = rng_for("unseen", P.seed, name, row.pid, index)
            rows.append(row.Index)
            shots.append(
                Shot(
                    row.Index,
                    int(rng.integers(len(poses.frame))),
                    float(rng.uniform(*P.augment.azimuth)),
                    float(rng.uniform(*P.augment.elevation)),
                    row.camid,
                    ("unseen-photo", P.seed, name, row.pid, index),
                )
            )
    photos = mini_world.photographs(P, name, references["person"], shots, progress="true renders")
    images = read_images(references["path"], P.image.height, P.image.width)
    return Targets.of(
        images[rows], photos, references["pid"].to_numpy()[rows], [s.key for s in shots]
    )


def through_vae(generator, images: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """uint8 images (N, H, W, 3) after the generator's VAE has encoded and decoded them: the best that it could draw."""
    encoders = generator.encoders
    parts = [
        encoders.images(encoders.latents(torch.from_numpy(images[i : i + batch_size]))).numpy()
        for i in range(0, len(images), batch_size)
    ]
    return np.concatenate(parts)


def pck(
    estimated: np.ndarray,
    truth: np.ndarray,
    visible: np.ndarray,
    mask: np.ndarray,
    *,
    share: float = 0.1,
    keypoints: str = "body",
) -> np.ndarray:
    """(N,) share of visible key points within `share` of the person's height in the image; NaN where none is visible."""
    subset = keypoint_subset(keypoints)
    rows = mask.any(2)
    height = mask.shape[1] - rows.argmax(1) - rows[:, ::-1].argmax(1)
    near = (
        np.linalg.norm(estimated[:, subset] - truth[:, subset], axis=-1) <= share * height[:, None]
    )
    seen = visible[:, subset] == 2
    return np.where(seen.any(1), (near & seen).sum(1) / np.maximum(seen.sum(1), 1), np.nan)


def foreground_psnr(images: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(N,) PSNR in dB over the person's pixels."""
    error = ((images.astype(float) - truth.astype(float)) ** 2).mean(-1)
    mse = (error * mask).sum((1, 2)) / np.maximum(mask.sum((1, 2)), 1)
    return 10 * np.log10(255**2 / np.maximum(mse, 1e-6))


def foreground_ssim(images: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(N,) structural similarity (scikit-image, 7 × 7 window) averaged over the person's pixels."""
    values = []
    for image, true, inside in zip(images, truth, mask):
        similarity = structural_similarity(image, true, channel_axis=-1, data_range=255, full=True)[
            1
        ].mean(-1)
        values.append(similarity[inside].mean())
    return np.array(values)


def identity_top1(
    features: np.ndarray, pids: np.ndarray, gallery: np.ndarray, gallery_pids: np.ndarray
) -> np.ndarray:
    """(N,) whether the nearest gallery person (mean feature of their true photos, cosine) is the right one."""
    names = np.unique(gallery_pids)
    unit = lambda x: x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    people = unit(np.stack([unit(gallery)[gallery_pids == pid].mean(0) for pid in names]))
    return names[(unit(features) @ people.T).argmax(1)] == pids


def per_person(
    images: np.ndarray, targets: Targets, estimator, reid, known: np.ndarray, known_pids: np.ndarray
) -> dict[str, np.ndarray]:
    """pck, identity_top1, psnr and ssim of images of the targets, each as (people,) means over a person's targets, people by pid.

    known, known_pids: features and pids of the true people. PCK leaves out targets without a visible key point.
    """
    estimated, _ = estimator.estimate(images)
    values = {
        "pck": pck(estimated, targets.keypoints, targets.visible, targets.mask),
        "identity_top1": identity_top1(
            reid.extract(images), targets.pids, known, known_pids
        ).astype(float),
        "psnr": foreground_psnr(images, targets.truth, targets.mask),
        "ssim": foreground_ssim(images, targets.truth, targets.mask),
    }
    return {
        metric: pd.Series(value).groupby(targets.pids).mean().dropna().to_numpy()
        for metric, value in values.items()
    }


def quality_table(
    methods: dict[str, np.ndarray], targets: Targets, estimator, reid, gallery, *, seed: int
) -> pd.DataFrame:
    """Long table method, metric, value, ci_low, ci_high, n; intervals by resampling people.

    methods: name -> images (N, H, W, 3). reid: an object with `extract`. gallery: (images, pids) of the true people.
    """
    known = reid.extract(gallery[0])
    rows = []
    for method, images in methods.items():
        for metric, value in per_person(
            images, targets, estimator, reid, known, gallery[1]
        ).items():
            if method == "true-render" and metric in ("psnr", "ssim"):
                continue  # compared with itself
            interval = bootstrap_interval(value, seed=seed)
            rows.append((method, metric, value.mean(), interval.low, interval.high, len(value)))
    return pd.DataFrame(rows, columns=COLUMNS)


def compared(
    P,
    generator,
    targets: Targets | None,
    generated: np.ndarray | None,
    estimator,
    reid,
    name: str = "msmt17",
) -> pd.DataFrame:
    """`quality_table` of generated images of `unseen_targets` beside the truth, the truth after the VAE, the reference photo as it is and the mean
    training image; empty where there are no targets."""
    if targets is None:
        return pd.DataFrame(columns=COLUMNS)
    dataset, size = datasets.load(name, P.paths.datasets), (P.image.height, P.image.width)
    known = dataset.gallery[dataset.gallery["pid"].isin(targets.pids)]
    mean = read_images(dataset.train["path"], *size).mean(0, keepdims=True).round().astype(np.uint8)
    methods = {
        "generated": generated,
        "true-render": targets.truth,
        "true-through-vae": through_vae(generator, targets.truth),
        "copy-reference": targets.references,
        "mean-image": np.repeat(mean, len(generated), 0),
    }
    return quality_table(
        methods,
        targets,
        estimator,
        reid,
        (read_images(known["path"], *size), known["pid"].to_numpy()),
        seed=P.seed,
    )
