"""What each part of the generator is worth: the choices that the paper leaves open (§B, §H).

All variants train alike and are measured on the same people. These are in no data set, so choosing
by this table does not touch what notebook 03 reports as test.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tqdm import tqdm

from posedive_lib.bench.processes import in_processes
from posedive_lib.bench.runs import RunStore
from posedive_lib.bench.statistics import bootstrap_interval
from posedive_lib.body.poses import load_poses
from posedive_lib.digests import array_digest
from posedive_lib.errors import StudyError
from posedive_lib.generator.guiders import CONDITIONS
from posedive_lib.seeds import rng_for
from posedive_lib.study import mini_world, quality
from posedive_lib.study.ablation_work import Changes, draw_variant, train_variant, variant_of

if TYPE_CHECKING:
    from posedive_lib.augment.confidence import PoseEstimator
    from posedive_lib.params import Params

STORE = RunStore("runs/ablation")
SPARE = ("msmt17", "market1501", "cuhk03")  # families, whose training people the world leaves over
WORLD = "msmt17"  # whose cameras see them
GALLERY_VIEWS, TARGETS = 6, 2  # true photos and targets of each person
# Least difference that counts (ours; PSNR in dB).
RELEVANT = {"pck": 0.01, "identity_top1": 0.01, "psnr": 0.1, "ssim": 0.01}
COLUMNS = [
    "variant",
    "metric",
    "value",
    "difference",
    "ci_low",
    "ci_high",
    "seed_low",
    "seed_high",
    "seeds",
    "n",
]
Drawn = dict[tuple[str, int], np.ndarray]  # variant, seed -> images (N, H, W, 3)


def variants(P: Params) -> dict[str, Changes]:
    """Name -> what differs from the parameters, for every open choice; first: nothing."""
    generator = P.generator
    found: dict[str, Changes] = {"as trained": {}}
    if P.paths.phase1:
        found["without phase 1"] = {"paths": {"phase1": None}}
    found["from nothing"] = {"generator": {"pretrained": False}, "paths": {"phase1": None}}
    if generator.prediction_type == "v_prediction":
        objective = {"prediction_type": "epsilon", "zero_snr": False}
    else:
        objective = {"prediction_type": "v_prediction", "zero_snr": True}
    found[f"{objective['prediction_type']} objective"] = {"generator": objective}
    for name in generator.conditions:
        others = [other for other in generator.conditions if other != name]
        found[f"without {name}"] = {"generator": {"conditions": others}}
    found["without reference attention"] = {"generator": {"reference_attention": False}}
    if generator.token_dropout:
        found["without token dropout"] = {"generator": {"token_dropout": 0.0}}
    tokens = "patch" if generator.clip_tokens == "pooled" else "pooled"
    found[f"{tokens} CLIP tokens"] = {"generator": {"clip_tokens": tokens}}
    return found


def spare_people(P: Params) -> list[str]:
    """Persons of the mini world that its data sets leave over, at most `study.ablation.people`."""
    people = pd.read_csv(Path(P.paths.world) / "identities.csv", keep_default_na=False)
    names: list[str] = []
    for family in SPARE:
        own = people.loc[people["role"] == f"{family}-train", "person"].tolist()
        names += own[getattr(P.world, family).train_pids :]
    if not names:
        raise StudyError(
            f"{P.paths.world}/identities.csv has no person beyond those of the data sets: "
            "lower world.*.train_pids, or set study.ablation.seeds to []."
        )
    return names[: P.study.ablation.people]


def spare_targets(
    P: Params, persons: Sequence[str]
) -> tuple[quality.Targets, np.ndarray, np.ndarray]:
    """Targets of the spare people, and true photos of them with their pids.

    Each person has one reference photo; poses and views are drawn uniformly.
    """
    poses = load_poses(P.paths.motions)
    cameras = len(mini_world.cameras(P, WORLD))

    def shot(pid: int, what: str, index: int, pool: np.ndarray) -> mini_world.Shot:
        key = ("spare", P.seed, what, pid, index)
        rng = rng_for(*key)
        pose, view = int(rng.choice(pool)), quality.random_view(P, rng)
        return mini_world.Shot(pid, pose, *view, int(rng.integers(cameras)), key)

    every, ordinary = np.arange(len(poses)), np.flatnonzero(poses.domain == "in")
    pids = range(len(persons))
    references = [shot(pid, "reference", 0, ordinary) for pid in pids]
    gallery = [shot(pid, "gallery", i, every) for pid in pids for i in range(GALLERY_VIEWS)]
    aims = [shot(pid, "target", i, every) for pid in pids for i in range(TARGETS)]
    taken = mini_world.photographs(
        P, WORLD, persons, references + gallery, progress="spare people", conditions=False
    )
    photos = np.stack([photo["image"] for photo in taken])
    owner = np.repeat(pids, TARGETS)
    targets = quality.Targets.of(
        photos[: len(pids)][owner],
        mini_world.photographs(P, WORLD, persons, aims),
        owner,
        [aim.key for aim in aims],
    )
    return targets, photos[len(pids) :], np.repeat(pids, GALLERY_VIEWS)


def trained(P: Params, images: pd.DataFrame, changed: Changes, seed: int) -> Path:
    """Folder of one variant's generator, trained, or found where that was done before."""
    variant = variant_of(P, images, changed)
    folder = STORE.folder({**variant.spec, "seed": seed})
    in_processes(train_variant, [(variant, seed, folder)], 1)  # of one thread, as all variants
    return train_variant(variant, seed, folder)


def draw_all(P: Params, images: pd.DataFrame, targets: quality.Targets) -> Drawn:
    """Images of the targets by every variant and seed.

    Every training has a process of one thread. One that was made before is found again.
    """
    files, waiting = {}, []
    drawn_by = STORE.key(
        {
            "sampling": P.generator.sampling.model_dump(),
            "targets": [array_digest(array) for array in vars(targets).values()],
        }
    )
    for name, changed in variants(P).items():
        variant = variant_of(P, images, changed)
        for seed in P.study.ablation.seeds:
            folder = STORE.folder({**variant.spec, "seed": seed})
            file = files[name, seed] = folder / f"unseen-{drawn_by}.npy"
            if not file.is_file():
                waiting.append((variant, seed, folder, targets, file))
    done = len(files) - len(waiting)
    with tqdm(total=len(files), initial=done, desc="ablation", unit="training") as bar:
        if waiting:
            in_processes(draw_variant, waiting, P.study.workers, bar)
    return {key: np.load(file, allow_pickle=False) for key, file in files.items()}


def table(
    drawn: Drawn,
    targets: quality.Targets,
    estimator: PoseEstimator,
    reid: quality.Extractor,
    gallery: tuple[np.ndarray, np.ndarray],
    *,
    seed: int,
) -> pd.DataFrame:
    """Every variant and metric, with its difference to the first variant: COLUMNS.

    A person's value is a mean over the seeds. ci_low, ci_high: interval of the difference, by
    resampling people. seed_low, seed_high: least and greatest difference of the seeds.
    gallery: photos and pids of the true people.
    """
    photos, pids = gallery
    known = reid.extract(photos)
    per_person = {
        key: quality.per_person(images, targets, estimator, reid, known, pids)
        for key, images in drawn.items()
    }
    names = list(dict.fromkeys(name for name, _ in drawn))
    seeds = sorted({seed for _, seed in drawn})
    rows = []
    for name in names:
        for metric in (m for m in RELEVANT if m in per_person[name, seeds[0]]):
            own = np.stack([per_person[name, s][metric] for s in seeds])  # (seeds, people)
            difference = own - np.stack([per_person[names[0], s][metric] for s in seeds])
            interval = bootstrap_interval(difference.mean(0), seed=seed)
            by_seed = difference.mean(1)
            rows.append(
                {
                    "variant": name,
                    "metric": metric,
                    "value": own.mean(),
                    "difference": interval.mean,
                    "ci_low": interval.low,
                    "ci_high": interval.high,
                    "seed_low": by_seed.min(),
                    "seed_high": by_seed.max(),
                    "seeds": len(seeds),
                    "n": own.shape[1],
                }
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def run(
    P: Params, images: pd.DataFrame, estimator: PoseEstimator, reid: quality.Extractor
) -> pd.DataFrame:
    """The whole comparison as one `table`.

    Without rows where `study.ablation.seeds` is empty, and on data without the truth: its cameras
    see nobody else. images: of phase 2. reid: tells who is shown.
    """
    if not P.study.ablation.seeds or not mini_world.has_people(images):
        return pd.DataFrame(columns=COLUMNS)
    targets, photos, pids = spare_targets(P, spare_people(P))
    drawn = draw_all(P, images, targets)
    return table(drawn, targets, estimator, reid, (photos, pids), seed=P.seed)


def verdict(result: pd.DataFrame) -> str:
    """One sentence: which variants beat the parameters as they are by at least RELEVANT."""
    if result.empty:
        return (
            "The variants are switched off (`study.ablation.seeds`), or the data lack the truth "
            "that they are measured by."
        )
    sure = (result["ci_low"] > 0) & (result["seed_low"] > 0)
    better = result[sure & (result["difference"] >= result["metric"].map(RELEVANT))]
    if better.empty:
        return (
            "No variant is shown to beat the parameters as they are by as much as is worth a word, "
            "in any measure."
        )
    found = ", ".join(
        f"{row.variant} in {row.metric} (+{row.difference:.3f})" for row in better.itertuples()
    )
    return (
        f"The default is not the best in everything: {found}, by the interval over people and in "
        "every seed."
    )


def spare_conditions(result: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Conditions that training can do without, and those whose absence is not shown to cost much.

    The first: the interval of every measure's change lies within ±RELEVANT. The second: the mean of
    every change is above -RELEVANT, although intervals reach further.
    """
    without = result[result["variant"].isin([f"without {name}" for name in CONDITIONS])]
    names = without["variant"].str.removeprefix("without ")
    relevant = without["metric"].map(RELEVANT)
    largest = without[["ci_low", "ci_high"]].abs().max(axis=1)
    sure = (largest < relevant).groupby(names, sort=False).all()
    small = (without["difference"] > -relevant).groupby(names, sort=False).all()
    return sure.index[sure].tolist(), small.index[small & ~sure].tolist()
