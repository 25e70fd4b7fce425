"""What each part of the generator is worth: the choices that the paper leaves open, trained alike and measured on the same people (§B, §H).

The people are in no data set, so that choosing by this table does not touch what notebook 03 reports as test.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from posedive_lib.bench.runs import RunStore, write_array
from posedive_lib.bench.statistics import bootstrap_interval
from posedive_lib.body.poses import load_poses
from posedive_lib.digests import array_digest
from posedive_lib.errors import StudyError
from posedive_lib.generator import TrainingArrays, load, train
from posedive_lib.generator.guiders import CONDITIONS
from posedive_lib.seeds import rng_for
from posedive_lib.study import mini_world, quality
from posedive_lib.study.generation import encoded, recipe_of, stable_diffusion_folder
from posedive_lib.study.mini_world import Shot
from posedive_lib.study.reid_runs import in_processes

STORE = RunStore("runs/ablation")
SPARE = ("msmt17", "market1501", "cuhk03")  # families, whose training people the world leaves over
RELEVANT = {
    "pck": 0.01,
    "identity_top1": 0.01,
    "psnr": 0.1,
    "ssim": 0.01,
}  # least difference that is worth a word (ours; PSNR in dB)
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
WORLD = "msmt17"  # whose cameras see them
GALLERY_VIEWS, TARGETS = 6, 2  # true photos and targets of each person


def variants(P) -> dict[str, dict[str, dict]]:
    """Name -> what differs from the sections of the parameters, for every choice that is left open; the parameters themselves come first."""
    generator, nothing = P.generator, {"paths": {"phase1": None}}
    other = (
        {"clip_tokens": "patch"} if generator.clip_tokens == "pooled" else {"clip_tokens": "pooled"}
    )
    epsilon = {"prediction_type": "epsilon", "zero_snr": False}
    objective = (
        epsilon
        if generator.prediction_type == "v_prediction"
        else {"prediction_type": "v_prediction", "zero_snr": True}
    )
    return {
        "as trained": {},
        **({"without phase 1": nothing} if P.paths.phase1 else {}),
        "from nothing": {"generator": {"pretrained": False}, **nothing},
        f"{objective['prediction_type']} objective": {"generator": objective},
        **{
            f"without {name}": {
                "generator": {"conditions": [c for c in generator.conditions if c != name]}
            }
            for name in generator.conditions
        },
        "without reference attention": {"generator": {"reference_attention": False}},
        **(
            {"without token dropout": {"generator": {"token_dropout": 0.0}}}
            if generator.token_dropout
            else {}
        ),
        f"{other['clip_tokens']} CLIP tokens": {"generator": other},
    }


def spare_people(P) -> list[str]:
    """Persons of the mini world that its data sets leave over, at most `study.ablation.people`; StudyError when there is none."""
    people = pd.read_csv(Path(P.paths.world) / "identities.csv", keep_default_na=False)
    names = [
        person
        for family in SPARE
        for person in people.loc[people["role"] == f"{family}-train", "person"].tolist()[
            getattr(P.world, family).train_pids :
        ]
    ]
    if not names:
        raise StudyError(
            f"{P.paths.world}/identities.csv has no person beyond those of the data sets: lower world.*.train_pids, or set study.ablation.seeds to []."
        )
    return names[: P.study.ablation.people]


def spare_targets(P, persons: list[str]) -> tuple[quality.Targets, np.ndarray, np.ndarray]:
    """Targets of the spare people (a reference photo each, poses and views drawn uniformly), and true photos of them with their pids."""
    poses, cameras = load_poses(P.paths.motions), len(mini_world.cameras(P, WORLD))
    ordinary = np.flatnonzero(poses.domain == "in")

    def shot(pid: int, what: str, index: int, pool: np.ndarray) -> Shot:
        key = ("spare", P.seed, what, pid, index)
        rng = rng_for(*key)
        return Shot(
            pid,
            int(rng.choice(pool)),
            float(rng.uniform(*P.augment.azimuth)),
            float(rng.uniform(*P.augment.elevation)),
            int(rng.integers(cameras)),
            key,
        )

    every, pids = np.arange(len(poses)), np.arange(len(persons))
    plan = [shot(pid, "reference", 0, ordinary) for pid in pids] + [
        shot(pid, "gallery", i, every) for pid in pids for i in range(GALLERY_VIEWS)
    ]
    photos = np.stack(
        [
            photo["image"]
            for photo in mini_world.photographs(
                P, WORLD, persons, plan, progress="spare people", conditions=False
            )
        ]
    )
    aims = [shot(pid, "target", i, every) for pid in pids for i in range(TARGETS)]
    owner = np.repeat(pids, TARGETS)
    targets = quality.Targets.of(
        photos[: len(pids)][owner],
        mini_world.photographs(P, WORLD, persons, aims),
        owner,
        [s.key for s in aims],
    )
    return targets, photos[len(pids) :], np.repeat(pids, GALLERY_VIEWS)


def _prepared(P, images: pd.DataFrame, changed: dict[str, dict]) -> tuple:
    """The parameters of a variant, the file it trains on, and all that determines its weights but the seed."""
    sections = {
        "generator": {"steps": P.study.ablation.steps, "sample_every": 0}
        | changed.get("generator", {}),
        "paths": changed.get("paths", {}),
    }
    own = P.model_copy(
        update={
            section: getattr(P, section).model_copy(update=values)
            for section, values in sections.items()
        }
    )
    arrays, spec = encoded(own, images)
    return own, arrays, spec | {"recipe": recipe_of(own)}


def _train(P, seed: int, arrays: Path, folder: Path) -> Path:
    return train(
        stable_diffusion_folder(P),
        TrainingArrays.load(arrays),
        P.generator,
        folder,
        seed,
        progress=False,
        init_from=P.paths.phase1,
    )


def trained(P, images: pd.DataFrame, changed: dict[str, dict], seed: int) -> Path:
    """Folder of a variant's generator (`variants`), trained `study.ablation.steps` steps, or found where that was done before."""
    own, arrays, spec = _prepared(P, images, changed)
    job = own, seed, arrays, STORE.folder(spec | {"seed": seed})
    in_processes(_train, [job], 1)  # of one thread, as all of them
    return _train(*job)


def _draw(P, seed: int, arrays: Path, folder: Path, targets: quality.Targets, file: Path) -> None:
    """Train by the parameters in `folder`, and leave the images of the targets in `file`."""
    saved = _train(P, seed, arrays, folder)
    write_array(
        file,
        load(saved, stable_diffusion_folder(P)).generate(
            targets.references,
            np.arange(len(targets.pids)),
            targets.skeleton,
            targets.depth,
            targets.normals,
            targets.seeds,
            progress=False,
        ),
    )


def draw_all(
    P, images: pd.DataFrame, targets: quality.Targets
) -> dict[tuple[str, int], np.ndarray]:
    """Images of the targets by every variant and seed, trained `study.ablation.steps` steps from where the variant starts.

    Every training has a process with one thread; one that was made before is found again.
    """
    files, waiting = {}, []
    drawn_by = STORE.key(
        {
            "sampling": P.generator.sampling.model_dump(),
            "targets": [array_digest(a) for a in vars(targets).values()],
        }
    )
    for name, changed in variants(P).items():
        own, arrays, spec = _prepared(P, images, changed)
        for seed in P.study.ablation.seeds:
            folder = STORE.folder(spec | {"seed": seed})
            file = files[name, seed] = folder / f"unseen-{drawn_by}.npy"
            if not file.is_file():
                waiting.append((own, seed, arrays, folder, targets, file))
    with tqdm(
        total=len(files), initial=len(files) - len(waiting), desc="ablation", unit="training"
    ) as bar:
        if waiting:
            in_processes(_draw, waiting, P.study.workers, bar)
    return {key: np.load(file, allow_pickle=False) for key, file in files.items()}


def table(
    drawn: dict[tuple[str, int], np.ndarray],
    targets: quality.Targets,
    estimator,
    reid,
    gallery,
    *,
    seed: int,
) -> pd.DataFrame:
    """Long table variant, metric, value, difference (to the first variant), ci_low, ci_high (of the difference), seed_low, seed_high (of the
    difference, least and greatest of the seeds), seeds, n; intervals by resampling people, whose values are means over the seeds."""
    known = reid.extract(gallery[0])
    per_person = {
        key: quality.per_person(images, targets, estimator, reid, known, gallery[1])
        for key, images in drawn.items()
    }
    names, seeds = list(dict.fromkeys(name for name, _ in drawn)), sorted({s for _, s in drawn})
    rows = []
    for name in names:
        for metric in per_person[name, seeds[0]]:
            own = np.stack([per_person[name, s][metric] for s in seeds])
            difference = own - np.stack([per_person[names[0], s][metric] for s in seeds])
            interval = bootstrap_interval(difference.mean(0), seed=seed)
            rows.append(
                (
                    name,
                    metric,
                    own.mean(),
                    interval.mean,
                    interval.low,
                    interval.high,
                    *np.sort(difference.mean(1))[[0, -1]],
                    len(seeds),
                    own.shape[1],
                )
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def run(P, images: pd.DataFrame, estimator, reid) -> pd.DataFrame:
    """The whole comparison as one `table`; without rows where `study.ablation.seeds` is empty.

    images: of phase 2; estimator: the pose estimator; reid: a fitted Re-ID model that tells who is shown.
    """
    if not P.study.ablation.seeds:
        return pd.DataFrame(columns=COLUMNS)
    targets, photos, pids = spare_targets(P, spare_people(P))
    return table(
        draw_all(P, images, targets), targets, estimator, reid, (photos, pids), seed=P.seed
    )


def verdict(result: pd.DataFrame) -> str:
    """One sentence: which variants beat the parameters as they are by at least `RELEVANT`, metric by metric."""
    if result.empty:
        return "The variants are switched off (`study.ablation.seeds`)."
    better = result[
        (result["ci_low"] > 0)
        & (result["seed_low"] > 0)
        & (result["difference"] >= result["metric"].map(RELEVANT))
    ]
    if better.empty:
        return "No variant is shown to beat the parameters as they are by as much as is worth a word, in any measure."
    found = ", ".join(
        f"{row.variant} in {row.metric} (+{row.difference:.3f})" for row in better.itertuples()
    )
    return f"The default is not the best in everything: {found}, by the interval over people and in every seed."


def spare_conditions(result: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Conditions that training can do without, every interval of every measure's change lying within ±`RELEVANT`, since the others tell as much
    of the pose; and conditions whose absence is not shown to cost that much, by the mean, although intervals reach further."""
    without = result[result["variant"].isin([f"without {name}" for name in CONDITIONS])]
    relevant = without["metric"].map(RELEVANT)
    names = without["variant"].str.removeprefix("without ")
    sure = (
        (without[["ci_low", "ci_high"]].abs().max(axis=1) < relevant)
        .groupby(names, sort=False)
        .all()
    )
    small = (without["difference"] > -relevant).groupby(names, sort=False).all()
    return sure.index[sure].tolist(), small.index[small & ~sure].tolist()
