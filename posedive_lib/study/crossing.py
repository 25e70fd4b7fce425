"""Every person in every pose: the crossing behind §I's two comparisons (Fig. 6), and what explains its variation."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from posedive_lib import datasets
from posedive_lib.augment.confidence import keypoint_subset
from posedive_lib.bench import figures
from posedive_lib.body.poses import load_poses
from posedive_lib.datasets.images import read as read_images
from posedive_lib.seeds import rng_for, seed_for
from posedive_lib.study import mini_world
from posedive_lib.study.mini_world import Shot
from posedive_lib.study.quality import identity_top1


@dataclass(frozen=True)
class Crossing:
    """references (I, H, W, 3); generated, truth, normals (I, J, H, W, 3) uint8 of I people in J poses; labels of the poses (J,)."""

    references: np.ndarray
    generated: np.ndarray
    truth: np.ndarray
    normals: np.ndarray
    labels: list[str]


def cross(
    P, generator, *, people: int, poses: int, name: str = "msmt17", seed: int | None = None
) -> Crossing:
    """Test identities of a data set, each drawn in the same poses and views; every second pose is out-of-domain. seed: of the draw (P.seed).

    Their references are photos of one camera, the one that has most, so that its colours tell nobody apart; the next one fills up.
    """
    seed = P.seed if seed is None else seed
    rng = rng_for("crossing", seed, name)
    dataset, source = datasets.load(name, P.paths.datasets), load_poses(P.paths.motions)
    mini_world.require_people(name, dataset.query, "people are crossed with poses")
    clear = dataset.query[~dataset.query["occluded"] & ~dataset.query["low_quality"]]
    shuffled = clear.sample(frac=1, random_state=int(rng.integers(1 << 31)))
    fullest_first = shuffled.iloc[
        shuffled["camid"]
        .map(clear["camid"].value_counts().rank(method="first", ascending=False))
        .argsort(kind="stable")
    ]
    chosen = fullest_first.drop_duplicates("pid").head(people).sort_values("pid", ignore_index=True)
    rows = [
        int(rng.choice(np.flatnonzero(source.domain == ("out" if j % 2 else "in"))))
        for j in range(poses)
    ]
    offset = float(rng.uniform(0, 360))
    azimuths = [(offset + 360 * j / poses + 180) % 360 - 180 for j in range(poses)]
    elevations = rng.uniform(*P.augment.elevation, poses)
    shots = [
        Shot(
            i,
            rows[j],
            azimuths[j],
            float(elevations[j]),
            row.camid,
            ("crossing", seed, name, row.pid, j),
        )
        for i, row in enumerate(chosen.itertuples())
        for j in range(poses)
    ]
    photos = mini_world.photographs(P, name, chosen["person"], shots)
    take = lambda key: np.stack([photo[key] for photo in photos])
    references = read_images(chosen["path"], P.image.height, P.image.width)
    seeds = np.array([seed_for("crossing-noise", *shot.key) for shot in shots])
    made = generator.generate(
        references,
        np.repeat(np.arange(people), poses),
        take("skeleton"),
        take("depth"),
        take("normals"),
        seeds,
        progress=False,
    )
    shape = (people, poses, *made.shape[1:])
    labels = [
        f"{figures.wrapped(str(source.name[rows[j]]))}\n{azimuths[j]:.0f}°" for j in range(poses)
    ]
    return Crossing(
        references,
        made.reshape(shape),
        take("image").reshape(shape),
        take("normals").reshape(shape),
        labels,
    )


def variance_shares(values: np.ndarray) -> dict[str, float]:
    """Two-way analysis of variance of (I, J, D) values: percent of the total sum of squares by identity, pose and interaction."""
    centred = values - values.mean((0, 1))
    identity, pose = centred.mean(1, keepdims=True), centred.mean(0, keepdims=True)
    total = (centred**2).sum()
    parts = {
        "identity": (identity**2).sum() * values.shape[1],
        "pose": (pose**2).sum() * values.shape[0],
        "interaction": ((centred - identity - pose) ** 2).sum(),
    }
    return {name: 100 * float(part / total) for name, part in parts.items()}


def _features(images: np.ndarray, reid) -> np.ndarray:
    """(I, J, D) Re-ID features of unit length of images (I, J, H, W, 3)."""
    features = reid.extract(images.reshape(-1, *images.shape[2:]))
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).reshape(
        *images.shape[:2], -1
    )


def right_person(crossing: Crossing, reid) -> pd.DataFrame:
    """images, right, of: how many generated images, and true ones, are nearest (cosine) to the right one of the I people.

    A person's place is the mean feature of their true renderings in the other poses, so that no image is compared with its own target.
    """
    truth, people = _features(crossing.truth, reid), np.arange(len(crossing.truth))
    rows = []
    for name, features in (("generated", _features(crossing.generated, reid)), ("truth", truth)):
        right = [
            identity_top1(
                features[:, j],
                people,
                np.concatenate(np.delete(truth, j, axis=1)),
                np.repeat(people, truth.shape[1] - 1),
            )
            for j in range(truth.shape[1])
        ]
        rows.append({"images": name, "right": int(np.sum(right)), "of": np.size(right)})
    return pd.DataFrame(rows)


def disentanglement(crossing: Crossing, reid, estimator) -> pd.DataFrame:
    """images, measured, identity, pose, interaction (percent) for generated images and the truth."""
    rows = []
    for name, images in (("generated", crossing.generated), ("truth", crossing.truth)):
        flat, shape = images.reshape(-1, *images.shape[2:]), images.shape[:2]
        features = _features(images, reid)
        keypoints = estimator.estimate(flat)[0][:, keypoint_subset("body")].reshape(len(flat), -1)
        for measured, values in (("Re-ID features", features), ("key points", keypoints)):
            rows.append(
                {
                    "images": name,
                    "measured": measured,
                    **variance_shares(values.reshape(*shape, -1)),
                }
            )
    return pd.DataFrame(rows)
