"""What the active study will cost, before anything runs: time, memory, disk and files by stage.

    python -m posedive_lib.bench.plan [--params params.yaml]

Work is counted from the data sets' sizes and the parameters, and multiplied by this machine's
rates (`rates`), which are kept in runs/plan.json. Where the stage was run with these parameters
before, its true cost (reports/costs.csv) stands beside. What would stop the study comes last, one
sentence each (`preflight`); the exit status is then 1.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
import yaml

from posedive_lib import params as parameters
from posedive_lib.augment.diversify import CONTROLS
from posedive_lib.augment.photo_arrays import BLOCK
from posedive_lib.augment.shards import SIZE as SHARD
from posedive_lib.bench import costs, preflight, rates, reports
from posedive_lib.bench.rates import ASSUMED, UNITS, Measured
from posedive_lib.bench.reports import own_data
from posedive_lib.bench.sizes import Size, size_of
from posedive_lib.datasets.arguments import add_params
from posedive_lib.errors import command
from posedive_lib.reid.learning_rate import steps_of

if TYPE_CHECKING:
    from posedive_lib.params import Params

UNSEEN = 300  # images that notebook 03 draws of people whom the generator never saw
PHOTO = 3  # conditions that a true photo costs as much as, about: it has clothes and a background
FEATURES = 1280  # numbers of CLIP-ReID for an image, with ViT-B/16
SPLIT = 19e-6  # gigabytes for a photo in notebook 01 (benchmarks/results/true_counts.md)
ABOUT = 3e-6  # gigabytes in an archive beside each image: scores, body, the padding of tar
PARALLEL = 0.9  # part of the work that several GPUs share evenly (assumed)


Sizes = dict[str, Size]
Runs = list[tuple[str, int, int]]  # data set, generated images per identity, number of runs


@dataclass(frozen=True)
class Stage:
    """Work by rate, gigabytes of memory and of disk, and files that stay."""

    work: Mapping[str, float]
    memory: float
    disk: float = 0.0
    files: int = 0


def stages_of(P: Params, sizes: Sizes, measured: Measured) -> dict[str, Stage]:
    """What each stage has to do, of data sets by their names."""
    base, weights = measured.memory, measured.weights
    pixels, small = P.image.height * P.image.width, P.reid.image.height * P.reid.image.width
    every = sum(size.images for size in sizes.values())
    largest_set = max(size.images for size in sizes.values())
    # One set of each source, whose parts and other boxes show the same photos: the smallest, for
    # the generator sees no photo that a part tests.
    by_size = sorted(sizes.items(), key=lambda item: -item[1].train)
    trained = sum({name.split("-")[0]: size.train for name, size in by_size}.values())
    # Photo, depth, normals and skeleton as bytes; latents and tokens as floats add about a tenth.
    array = 1.1 * 10 * pixels / 1e9
    # Weights, gradients, Adam's two moments and the EMA lie in memory; a checkpoint holds four.
    stages = {
        "01_dataset_splits": Stage({"decode": every}, base + SPLIT * largest_set),
        "02_poses_viewpoints_conditions": Stage({"render": 500}, base),
        "03_generator_training": Stage(
            {
                **dict.fromkeys(("decode", "score", "render", "encode"), trained),
                "train": P.generator.steps,
                "sample": UNSEEN,
                **_reid_run(P, sizes[P.study.main_dataset], 0),
            },
            base + 2 * min(trained, BLOCK) * array + 5 * weights,
            2 * trained * array + (8 + 2) * weights,  # in blocks, then in columns
            10,
        ),
    }
    if not own_data(P.paths.datasets):
        whole = [size.images for name, size in sizes.items() if not name.startswith("msmt17-s")]
        stages = {"world": Stage({"render": PHOTO * sum(whole)}, base), **stages}
    count = round(sum(_candidates(P, name, size) for name, size in sizes.items()))
    if P.bodies.source != "truth":  # the fit itself takes far less than its key points
        photos = sum(size.images for name, size in sizes.items() if name in P.study.whole)
        first = {"bodies": Stage({"decode": photos, "score": photos}, base)}
        stages = {**first, **stages}
    photo = 0.25 * 3 * pixels / 1e9  # a JPEG of high quality takes a quarter of its pixels
    scored = sum(size.train for size in sizes.values())
    stages["04_augmentation_filtering"] = Stage(
        {"decode": scored, "score": scored + 2 * count, "render": count, "sample": count},
        base + 2 * weights + BLOCK * array,
        count * (photo + ABOUT),
        2 * sum(_shards(P, name, size) for name, size in sizes.items()),  # archives, and tables
    )
    for name, runs in _runs(P, sizes).items():
        work: dict[str, float] = {}
        for set_name, generated, number in runs:
            for rate, units in _reid_run(P, sizes[set_name], generated).items():
                work[rate] = work.get(rate, 0) + number * units
        largest = max((sizes[set_name] for set_name, _, _ in runs), key=lambda size: size.images)
        # Photos and candidates lie on the disk; features, true photos and redrawn images in memory.
        features = 3 * FEATURES * largest.images * 4
        memory = base + (largest.pids * P.augment.images_per_pid * 3 * small + features) / 1e9
        if name.startswith("08"):
            drawn = sizes[P.study.generator_dataset].pids * P.augment.images_per_pid
            work["sample"] = _redrawn(P) * drawn
            work["train"] = sum(P.study.graded_steps)
        if name.startswith("05"):
            work["render"] = PHOTO * _true_photos(P, sizes)
        disk = every * 3 * small / 1e9 if name.startswith("05") else 0.0
        stages[name] = Stage(work, memory * P.study.workers, disk)
    # 09 draws and judges samples of what is there.
    stages["09_failure_cases"] = Stage({"score": 10 * P.study.failure_samples}, base)
    return stages


def _generated_arms(P: Params, name: str) -> list[str]:
    return [arm for arm, where in P.study.arms.items() if arm in CONTROLS and name in where]


def _true_photos(P: Params, sizes: Sizes) -> int:
    """True photos of the oracle's arms, at most."""
    arms = [where for arm, where in P.study.arms.items() if arm.startswith("oracle")]
    people = sum(sizes[name].pids for where in arms for name in where if name in sizes)
    return people * P.augment.images_per_pid


def _redrawn(P: Params) -> int:
    """By how many other generators notebook 08 draws the same images."""
    return len(P.study.graded_steps) + (P.paths.phase1 is not None)


def _candidates(P: Params, name: str, size: Size) -> float:
    """Candidates of all arms: the whole plan of `pose-dive`, and as many of a control arm.

    A control arm seldom needs its whole budget: it stops where it has as many images.
    """
    per_pid = float(P.augment.candidates_per_pid)
    own = per_pid
    if name == P.study.count_dataset:
        own *= max(1.0, max(P.study.counts, default=0) / P.augment.images_per_pid)
    return size.pids * (own + len(_generated_arms(P, name)) * per_pid)


def _shards(P: Params, name: str, size: Size) -> int:
    """Archives of a data set's candidates: the rows of one index, in parts."""
    return round(_candidates(P, name, size) / size.pids) * math.ceil(size.pids / SHARD)


def _runs(P: Params, sizes: Sizes) -> dict[str, Runs]:
    """The Re-ID runs of each stage; 06 finds those with 0 and images_per_pid images in 05."""
    s, seeds, each = P.study, len(P.reid.seeds), P.augment.images_per_pid
    compared: Runs = []
    for name in sizes:
        arms = [arm for arm, where in s.arms.items() if name in where]
        compared += [(name, 0 if arm == "real" else each, seeds) for arm in arms]
    compared += [(n, each, seeds * len(s.resnet_arms)) for n in s.resnet_datasets if n in sizes]
    # A run that trains so many times as long counts as so many.
    times = s.longer.factor * len(s.longer.seeds)
    for name in filter(sizes.__contains__, s.longer.datasets):
        own = [arm for arm in s.longer.arms if name in s.arms.get(arm, [])]
        compared += [(name, 0 if arm == "real" else each, times) for arm in own]
    counts: Runs = [(s.count_dataset, n, seeds) for n in s.counts if n not in (0, each)]
    return {
        "05_reid_comparison": compared,
        "06_images_per_identity": counts or [(s.count_dataset, 0, 0)],
        "07_threshold_sweep": [
            (s.threshold_dataset, each, seeds * (len(s.thresholds) + len(s.quantiles)))
        ],
        "08_controlled_comparisons": [(s.generator_dataset, each, _redrawn(P) * seeds)],
    }


def _reid_run(P: Params, size: Size, generated: int) -> dict[str, float]:
    images = size.train + generated * size.pids
    return {
        "prompt": steps_of(P.reid.stage1, images, P.reid.batch_size),
        "reid": steps_of(P.reid.stage2, images, P.reid.batch_size),
        "extract": images + size.query + size.gallery,
    }


def table(
    P: Params,
    stages: dict[str, Stage],
    measured: Measured,
    truth: dict[str, dict[str, Any]],
    cores: int,
) -> pd.DataFrame:
    """One row per stage, hours in `hours`; truth: rows of reports/costs.csv by stage."""
    gpu = torch.cuda.is_available()
    paper = P.image.height * P.image.width >= 384 * 192
    rows = []
    for name, stage in stages.items():
        here = sum(units * measured.rates[rate].seconds for rate, units in stage.work.items())
        if any(measured.rates[rate].assumed for rate in stage.work):
            here = float("nan")  # what is assumed holds for a GPU
        one = sum(units * ASSUMED[rate] for rate, units in stage.work.items())
        if gpu or not paper:  # small networks gain nothing by a GPU that anybody has measured
            one = here if gpu else float("nan")
        cost = truth.get(name, {})
        rows.append(
            {
                "stage": name,
                "hours": here / 3600 / (1 if gpu else cores),
                "1 GPU": one / 3600,
                "8 GPUs": one / 3600 * (1 - PARALLEL + PARALLEL / 8),
                "memory GB": stage.memory,
                "disk GB": stage.disk,
                "files": stage.files,
                "true hours": cost.get("wall_seconds", float("nan")) / 3600,
                "true memory GB": cost.get("peak_gigabytes", float("nan")),
            }
        )
    return pd.DataFrame(rows)


def true_costs(params_file: str) -> dict[str, dict[str, Any]]:
    """The reports' costs.csv, of stages whose last run (dvc.lock) had the same parameters."""
    try:
        lock = yaml.safe_load(Path("dvc.lock").read_text(encoding="utf-8"))["stages"]
        rows = pd.read_csv(reports.folder(params_file) / costs.TARGET).to_dict("records")
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError):
        return {}
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        used = lock.get(row["stage"], {}).get("params", {}).get("params.yaml")
        if used is not None and used == costs.parameters_of(row["stage"], params_file):
            found[row["stage"]] = {str(name): value for name, value in row.items()}
    return found


@command()
def main(arguments: list[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    P = parameters.load(given.params)
    sizes: Sizes = {name: size_of(P, name) for name in P.study.datasets}
    measured = rates.known(P)
    stages = stages_of(P, sizes, measured)
    made = table(P, stages, measured, true_costs(given.params), len(os.sched_getaffinity(0)))
    print(f"{rates.machine()}\n\nData sets:")
    for name, size in sizes.items():
        print(f"  {name}: {size.train} + {size.query} + {size.gallery} images ({size.source})")
    print("\nRates:")
    for name, rate in measured.rates.items():
        how = "ASSUMED, for one GPU of 48 GB" if rate.assumed else "measured here"
        print(f"  {rate.seconds:.2g} s per {UNITS[name]} ({how})")
    for reason in {rate.assumed: None for rate in measured.rates.values() if rate.assumed}:
        print(f"  Not measured: {reason}")
    print("\n" + made.to_string(index=False, na_rep="–", float_format="{:.2f}".format))
    hours, disk = made["hours"].sum(skipna=False), made["disk GB"].sum()
    print(
        f"\nAltogether {hours:.1f} hours here, {disk:.1f} GB and {made['files'].sum()} files "
        "(–, nan: not known). Figures and statistics are left out. Memory, disk and files are "
        "reckoned, not measured. What one GPU does is assumed unless this machine has one; that "
        "eight share the work evenly always is."
    )
    if torch.cuda.is_available():
        there = torch.cuda.mem_get_info()[1] / 1e9
        used = max(rate.gpu for rate in measured.rates.values())
        print(f"The GPU has {there:.1f} GB; what was measured took {used:.1f} GB of it at most.")
    notes = [f"note: {sentence}" for sentence in preflight.versions()]
    missing = [*preflight.problems(P, given.params), *preflight.room(made)]
    missing += preflight.gpu_memory(measured)
    print(*notes, *(f"PROBLEM: {sentence}" for sentence in missing), sep="\n")
    return 1 if missing else 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m posedive_lib.bench.plan",
        description="What the study will cost, by stage, before anything runs.",
    )
    add_params(made)
    return made


if __name__ == "__main__":
    sys.exit(main())
