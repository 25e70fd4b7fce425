"""Every person in every pose: the crossing behind §I's two comparisons (Fig. 6)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from posedive_lib import datasets
from posedive_lib.augment.confidence import keypoint_subset
from posedive_lib.augment.measures import identity_top1
from posedive_lib.bench import figures
from posedive_lib.bench.statistics import t_interval
from posedive_lib.body.poses import load_poses
from posedive_lib.datasets.images import read as read_images
from posedive_lib.seeds import rng_for, seed_for
from posedive_lib.study import mini_world

if TYPE_CHECKING:
    from posedive_lib.augment.confidence import PoseEstimator
    from posedive_lib.generator.sampling import Generator
    from posedive_lib.params import Params
    from posedive_lib.study.quality import Extractor


@dataclass(frozen=True)
class Crossing:
    """I people in J poses.

    references (I, H, W, 3); generated, truth, normals (I, J, H, W, 3) uint8; labels (J,) of poses.
    Without the truth it is None, and there are real photos (M, H, W, 3) of the people, numbered by
    `shown` (M,).
    """

    references: np.ndarray
    generated: np.ndarray
    truth: np.ndarray | None
    normals: np.ndarray
    labels: list[str]
    photos: np.ndarray | None = None
    shown: np.ndarray | None = None

    def images(self) -> dict[str, np.ndarray]:
        """What is measured: the generated images, and the truth if there is one."""
        truth = {} if self.truth is None else {"truth": self.truth}
        return {"generated": self.generated, **truth}


def cross(
    P: Params, generator: Generator, *, people: int, poses: int, name: str = "msmt17"
) -> Crossing:
    """Test identities of a data set, each drawn in the same poses and views.

    Every second pose is out-of-domain.
    """
    rng = rng_for("crossing", P.seed, name)
    dataset, source = datasets.of_study(name, P.paths), load_poses(P.paths.motions)
    chosen = _of_one_camera(dataset.query, people, int(rng.integers(1 << 31)))
    people = len(chosen)
    rows = [
        int(rng.choice(np.flatnonzero(source.domain == ("out" if j % 2 else "in"))))
        for j in range(poses)
    ]
    offset = float(rng.uniform(0, 360))
    azimuths = [(offset + 360 * j / poses + 180) % 360 - 180 for j in range(poses)]
    low, high = P.augment.elevation
    elevations = rng.uniform(low, high, poses)
    shots = []
    for i, (pid, camid) in enumerate(zip(chosen["pid"], chosen["camid"], strict=True)):
        for j in range(poses):
            key = ("crossing", P.seed, name, pid, j)
            view = (azimuths[j], float(elevations[j]))
            shots.append(mini_world.Shot(i, rows[j], *view, camid, key))
    found = mini_world.asked(P, dataset, chosen, shots)
    skeleton, depth, normals = (
        np.stack([photo[kind] for photo in found]) for kind in ("skeleton", "depth", "normals")
    )
    size = P.image.height, P.image.width
    references = read_images(chosen["path"].tolist(), *size)
    made = generator.generate(
        references,
        np.repeat(np.arange(people), poses),
        skeleton,
        depth,
        normals,
        np.array([seed_for("crossing-noise", *shot.key) for shot in shots]),
        progress=False,
        **P.generator.sampling.model_dump(),
    )
    shape = (people, poses, *made.shape[1:])
    names = [figures.wrapped(str(source.name[row]), 11) for row in rows]
    labels = [f"{named}\n{azimuth:.0f}°" for named, azimuth in zip(names, azimuths, strict=True)]
    crossed = Crossing(references, made.reshape(shape), None, normals.reshape(shape), labels)
    if "image" in found[0]:
        return replace(crossed, truth=np.stack([photo["image"] for photo in found]).reshape(shape))
    known = dataset.gallery[dataset.gallery["pid"].isin(chosen["pid"])]
    shown = np.searchsorted(chosen["pid"], known["pid"])
    return replace(crossed, photos=read_images(known["path"].tolist(), *size), shown=shown)


def _of_one_camera(query: pd.DataFrame, people: int, seed: int) -> pd.DataFrame:
    """One clear photo each of `people` identities, by pid.

    All are of the camera that has most, so that its colours tell nobody apart; the camera with the
    next most fills up.
    """
    clear = mini_world.clear(query)
    shuffled = clear.sample(frac=1, random_state=seed)
    rank = clear["camid"].value_counts().rank(method="first", ascending=False)
    fullest_first = shuffled.iloc[shuffled["camid"].map(rank).argsort(kind="stable")]
    return fullest_first.drop_duplicates("pid").head(people).sort_values("pid", ignore_index=True)


def variance_shares(values: np.ndarray) -> dict[str, float]:
    """Two-way analysis of variance of (I, J, D) values by identity, pose and interaction.

    In percent of the total sum of squares.
    """
    centred = values - values.mean((0, 1))
    identity, pose = centred.mean(1, keepdims=True), centred.mean(0, keepdims=True)
    total = (centred**2).sum()
    parts = {
        "identity": (identity**2).sum() * values.shape[1],
        "pose": (pose**2).sum() * values.shape[0],
        "interaction": ((centred - identity - pose) ** 2).sum(),
    }
    return {name: 100 * float(part / total) for name, part in parts.items()}


def gaps_to_truth(generated: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """`variance_shares` of generated values (I, J, D) minus those of the truth, with intervals.

    In percentage points, keys factor_gap, factor_gap_low and factor_gap_high. The interval is a
    jackknife over the I people, with Student's t, and ends where a share would leave 0 to 100.
    """
    people, known = len(generated), variance_shares(truth)

    def gap(rows: np.ndarray) -> np.ndarray:
        own, of_truth = (variance_shares(values[rows]) for values in (generated, truth))
        return np.array([own[name] - of_truth[name] for name in own])

    whole = gap(np.arange(people))
    without = np.stack([gap(np.delete(np.arange(people), i)) for i in range(people)])
    pseudo = people * whole - (people - 1) * without  # (I, 3)
    found: dict[str, float] = {}
    for name, value, own in zip(("identity", "pose", "interaction"), whole, pseudo.T, strict=True):
        interval = t_interval(own)
        half = (interval.high - interval.low) / 2
        low, high = max(value - half, -known[name]), min(value + half, 100 - known[name])
        ends = {f"{name}_gap_low": low, f"{name}_gap_high": high}
        found |= {f"{name}_gap": float(value), **ends}
    return found


def _features(images: np.ndarray, reid: Extractor) -> np.ndarray:
    """(…, D) Re-ID features of unit length of images (…, H, W, 3)."""
    features = reid.extract(images.reshape(-1, *images.shape[-3:]))
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    return features.reshape(*images.shape[:-3], -1)


def right_person(crossing: Crossing, reid: Extractor) -> pd.DataFrame:
    """How many generated images, and true ones, are nearest (cosine) to the right person.

    Columns: images, right, of. A person is the mean feature of their true renderings in the other
    poses, so no image is compared with its own target. Without the truth it is that of the
    person's real photos.
    """
    features = {name: _features(images, reid) for name, images in crossing.images().items()}
    people, rows, real = np.arange(len(crossing.references)), [], None
    if crossing.photos is not None and crossing.shown is not None:
        real = _features(crossing.photos, reid), crossing.shown
    for name, own in features.items():
        right = []
        for pose in range(own.shape[1]):
            if real is not None:
                known, pids = real
            else:
                others = np.delete(features["truth"], pose, axis=1)  # (I, J - 1, D)
                known, pids = np.concatenate(others), np.repeat(people, others.shape[1])
            right.append(identity_top1(own[:, pose], people, known, pids))
        rows.append({"images": name, "right": int(np.sum(right)), "of": np.size(right)})
    return pd.DataFrame(rows)


def disentanglement(crossing: Crossing, reid: Extractor, estimator: PoseEstimator) -> pd.DataFrame:
    """`variance_shares` of generated images and, where it is known, of the truth.

    Columns: images, measured (Re-ID features or key points), identity, pose, interaction; of
    generated images also `gaps_to_truth`.
    """
    values: dict[tuple[str, str], np.ndarray] = {}
    for name, images in crossing.images().items():
        estimated, _ = estimator.estimate(images.reshape(-1, *images.shape[2:]))
        keypoints = estimated[:, keypoint_subset("body")].reshape(*images.shape[:2], -1)
        values[name, "Re-ID features"] = _features(images, reid)
        values[name, "key points"] = keypoints
    rows = []
    for (name, measured), own in values.items():
        row = {"images": name, "measured": measured, **variance_shares(own)}
        if name == "generated" and ("truth", measured) in values:
            row |= gaps_to_truth(own, values["truth", measured])
        rows.append(row)
    return pd.DataFrame(rows)
