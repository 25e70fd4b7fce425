"""What each part of the generator is worth: the choices that the paper leaves open (§B, §H).

    python -m posedive_lib.study.ablation

Variants of the generator of ablation/params.yaml, in the mini world: one choice of the study's
differs in each. All train alike and are measured on the same people. These are in no data set, so
choosing by this table does not touch what notebook 03 reports as test. Every finished training is
kept in runs/ablation, so a stopped run goes on. The table is written when all have finished:
`ablation_table.TABLE`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from posedive_lib import params
from posedive_lib.augment.confidence import PoseEstimator
from posedive_lib.bench.processes import in_processes
from posedive_lib.bench.runs import write_text
from posedive_lib.bench.statistics import bootstrap_interval
from posedive_lib.bench.tables import to_csv
from posedive_lib.body.poses import load_poses
from posedive_lib.datasets.splits import write_msmt17_s
from posedive_lib.digests import array_digest, code_digest, file_digest, folder_digest
from posedive_lib.errors import StudyError, command
from posedive_lib.seeds import rng_for
from posedive_lib.study import mini_world, phase2, quality, reid_jobs
from posedive_lib.study.ablation_table import AS_TRAINED, COLUMNS, RELEVANT, TABLE
from posedive_lib.study.ablation_work import STORE, Changes, draw_variant, variant_of
from posedive_lib.workers import worker_pool

if TYPE_CHECKING:
    from posedive_lib.params import Ablation, Params

PARAMS = Path("ablation/params.yaml")
WORK = Path("build/ablation")  # a folder per world
SPARE = ("msmt17", "market1501", "cuhk03")  # families, whose training people the world leaves over
WORLD = "msmt17"  # whose cameras see them
GALLERY_VIEWS, TARGETS = 6, 2  # true photos and targets of each person
Drawn = dict[tuple[str, int], np.ndarray]  # variant, seed -> images (N, H, W, 3)


@dataclass(frozen=True)
class Plan:
    """A variant: what differs from the parameters, its training steps, what it is held against."""

    changed: Changes
    steps: int
    baseline: str = AS_TRAINED


def variants(P: Params, a: Ablation) -> dict[str, Plan]:
    """Name -> variant, for every open choice; first: nothing differs.

    Weights that were trained with one objective favour it. So the two objectives start from
    nothing, are held against each other, and train for `objective_steps`.
    """
    generator, nothing = P.generator, {"phase1": None}
    changes: dict[str, Changes] = {AS_TRAINED: {}}
    if P.paths.phase1:
        changes["without phase 1"] = {"paths": nothing}
    changes["from nothing"] = {"generator": {"pretrained": False}, "paths": nothing}
    for left_out in generator.conditions:
        others = [other for other in generator.conditions if other != left_out]
        changes[f"without {left_out}"] = {"generator": {"conditions": others}}
    changes["without reference attention"] = {"generator": {"reference_attention": False}}
    if generator.token_dropout:
        changes["without token dropout"] = {"generator": {"token_dropout": 0.0}}
    tokens = "patch" if generator.clip_tokens == "pooled" else "pooled"
    changes[f"{tokens} CLIP tokens"] = {"generator": {"clip_tokens": tokens}}
    found = {name: Plan(changed, a.steps) for name, changed in changes.items()}

    own = generator.prediction_type
    other: dict[str, Any] = {"prediction_type": "epsilon", "zero_snr": False}
    if own == "epsilon":
        other = {"prediction_type": "v_prediction", "zero_snr": True}
    baseline = f"{own} from nothing"
    objectives = {baseline: {}, f"{other['prediction_type']} from nothing": other}
    for name, objective in objectives.items():
        changed: Changes = {"generator": {"pretrained": False, **objective}, "paths": nothing}
        found[name] = Plan(changed, a.objective_steps, baseline)
    return found


def study_of(a: Ablation) -> Params:
    """The study's parameters, with a folder of this command's own for its world.

    The folder's name follows all that decides the world, so what is there is up to date.
    """
    P = params.load(a.study)
    inputs = {
        **P.pick("seed", "image", "world", "splits", "conditions"),
        "people": folder_digest(P.paths.world),
        "motions": folder_digest(P.paths.motions),
        "body": file_digest(P.paths.body),
        "code": code_digest("miniworld.build", "posedive_lib.datasets.splits"),
    }
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:20]
    names = {"datasets": "world", "bodies": "bodies", "splits": "splits"}
    own = {f"paths.{name}": str(WORK / key / folder) for name, folder in names.items()}
    return params.load(a.study, overrides=own)


def make_world(P: Params) -> None:
    """The data sets and splits of the study, where they are not there yet."""
    mini_world.make_world(P)
    if any(name.startswith("msmt17-s-") for name in P.study.datasets):
        write_msmt17_s(
            P.paths.datasets, P.splits, P.paths.body, P.paths.splits, bodies=P.paths.bodies
        )


def spare_people(P: Params, count: int) -> list[str]:
    """Persons of the mini world that its data sets leave over, at most `count`."""
    people = pd.read_csv(Path(P.paths.world) / "identities.csv", keep_default_na=False)
    names: list[str] = []
    for family in SPARE:
        own = people.loc[people["role"] == f"{family}-train", "person"].tolist()
        names += own[getattr(P.world, family).train_pids :]
    if not names:
        raise StudyError(
            f"{P.paths.world}/identities.csv has no person beyond those of the data sets: "
            f"name a study in {PARAMS} with lower world.*.train_pids."
        )
    return names[:count]


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


def draw_all(
    P: Params,
    plans: dict[str, Plan],
    seeds: Sequence[int],
    images: pd.DataFrame,
    targets: quality.Targets,
) -> Drawn:
    """Images of the targets by every variant and seed.

    images: of phase 2. Every training has a process of one thread. One that was made before is
    found again.
    """
    files, waiting = {}, []
    drawn_by = STORE.key(
        {
            "sampling": P.generator.sampling.model_dump(),
            "targets": [array_digest(array) for array in vars(targets).values()],
        }
    )
    for name, plan in plans.items():
        variant = variant_of(P, images, plan.changed, plan.steps)
        for seed in seeds:
            folder = STORE.folder({**variant.spec, "seed": seed})
            file = files[name, seed] = folder / f"unseen-{drawn_by}.npy"
            if not file.is_file():
                waiting.append((variant, seed, folder, targets, file))
    done = len(files) - len(waiting)
    with tqdm(total=len(files), initial=done, desc="ablation", unit="training") as bar:
        if waiting:
            scheduler = P.scale.scheduler
            in_processes(draw_variant, waiting, P.study.workers, bar, scheduler=scheduler)
    return {key: np.load(file, allow_pickle=False) for key, file in files.items()}


def table(
    plans: dict[str, Plan],
    drawn: Drawn,
    targets: quality.Targets,
    estimator: PoseEstimator,
    reid: quality.Extractor,
    gallery: tuple[np.ndarray, np.ndarray],
    *,
    seed: int,
) -> pd.DataFrame:
    """Every variant and metric, with its difference to the variant's baseline: COLUMNS.

    A person's value is a mean over the seeds. ci_low, ci_high: 95 % interval of the difference, by
    resampling people. seed_low, seed_high: least and greatest difference of the seeds.
    gallery: photos and pids of the true people.
    """
    photos, pids = gallery
    known = reid.extract(photos)
    per_person = {
        key: quality.per_person(images, targets, estimator, reid, known, pids)
        for key, images in drawn.items()
    }
    seeds = sorted({seed for _, seed in drawn})
    rows = []
    for name, plan in plans.items():
        for metric in (m for m in RELEVANT if m in per_person[name, seeds[0]]):
            own = np.stack([per_person[name, s][metric] for s in seeds])  # (seeds, people)
            difference = own - np.stack([per_person[plan.baseline, s][metric] for s in seeds])
            interval = bootstrap_interval(difference.mean(0), seed=seed)
            by_seed = difference.mean(1)
            rows.append(
                {
                    "variant": name,
                    "baseline": plan.baseline,
                    "steps": plan.steps,
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


def run(a: Ablation) -> pd.DataFrame:
    """The whole comparison as one `table`, which is also written to TABLE."""
    P = study_of(a)
    with worker_pool(P.world.workers):
        make_world(P)
        targets, photos, pids = spare_targets(P, spare_people(P, a.people))
    plans = variants(P, a)
    drawn = draw_all(P, plans, a.seeds, phase2.training_images(P), targets)
    estimator = PoseEstimator(P.paths.pose_estimator)
    reid = reid_jobs.trained_on_real(P, P.study.main_dataset)  # tells who is shown
    found = table(plans, drawn, targets, estimator, reid, (photos, pids), seed=P.seed)
    write_text(TABLE, to_csv(found))
    return found


@command("Stopped: the same command goes on from here.")
def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status."""
    argparse.ArgumentParser(
        prog="python -m posedive_lib.study.ablation",
        description=f"Train and measure the generator's variants of {PARAMS}, as {TABLE}.",
    ).parse_args(arguments)
    found = run(params.load_ablation(PARAMS))
    print(f"{TABLE}: {found['variant'].nunique()} variants.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
