"""The design of the comparison (§A and beyond): which arms run on which data set, and their images.

real: the training set. repeat: its photos again, as many of each identity as `pose-dive` adds.
pose-dive: generated images, pose and viewpoint diversified. viewpoint, pose: only one of the two,
the other as the training set has it. same-distribution: neither. uniform: pose and viewpoint drawn
plainly, as in the paper. unfiltered: the first candidates of `pose-dive`, whatever Eq. 4-6 say.
with-bags, without-bags: `pose-dive` with as many images as may be in which a bag appeared, and with
none (§G). oracle: true photos in exactly the poses and views of `pose-dive`. oracle-same: true
photos in poses and views of the training set.

Every arm but with-bags and without-bags adds as many images of each identity as `pose-dive`; these
two add as many as each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from posedive_lib.augment.diversify import CONTROLS
from posedive_lib.augment.selection import counted, unfiltered
from posedive_lib.study import hard_samples
from posedive_lib.study.candidate_files import load_manifest
from posedive_lib.study.generation import added, training_rows
from posedive_lib.study.job import Job

if TYPE_CHECKING:
    from posedive_lib.params import Params

LONGER = "longer"  # the experiment of `longer_jobs`


def arms(P: Params, name: str) -> list[str]:
    """The arms that run on a data set."""
    return [arm for arm, where in P.study.arms.items() if name in where]


def generated_arms(P: Params, name: str) -> list[str]:
    """Control arms of a data set whose images have to be generated."""
    return [arm for arm in arms(P, name) if arm in CONTROLS]


def controlled(P: Params) -> list[str]:
    """The data sets with control arms: more than real images, `repeat` and `pose-dive`."""
    return [name for name in P.study.datasets if set(arms(P, name)) & {*CONTROLS, "oracle-same"}]


def images(P: Params, name: str, wanted: list[str]) -> dict[str, pd.DataFrame | None]:
    """Arm -> rows that it adds to the real images of a data set."""
    if not wanted:  # such as MSMT17 where only its splits are studied: it has no candidates
        return {}
    base = added(P, name)
    counts = base["pid"].value_counts()
    bags = hard_samples.arms(P, name, base) if {"with-bags", "without-bags"} & set(wanted) else {}

    def rows(arm: str) -> pd.DataFrame | None:
        if arm == "real":
            return None
        if arm in CONTROLS:
            return counted(load_manifest(name, arm), P.augment, counts)
        if arm == "unfiltered":
            return unfiltered(load_manifest(name), counts)
        if arm == "oracle-same":
            return training_rows(P, name, counts)
        return bags.get(arm, base)

    return {arm: rows(arm) for arm in wanted}


def jobs(P: Params) -> list[Job]:
    """`reid.model` on all of `study.datasets`, ResNet on `study.resnet_datasets`, every seed."""
    found = []
    for name in P.study.datasets:
        rows = images(P, name, arms(P, name))
        chosen = {P.reid.model: list(rows)}
        if name in P.study.resnet_datasets and P.reid.model != "resnet":
            chosen["resnet"] = [arm for arm in rows if arm in P.study.resnet_arms]
        for model, wanted in chosen.items():
            by_azimuth = model == P.reid.model and name == P.study.azimuth_dataset
            found += [
                Job(
                    experiment="comparison",
                    dataset=name,
                    arm=arm,
                    seed=seed,
                    rows=rows[arm],
                    images_per_pid=0 if arm == "real" else P.augment.images_per_pid,
                    threshold=None if arm == "unfiltered" else P.augment.tau_gen,
                    model=model,
                    by_azimuth=by_azimuth,
                    borders=_borders(P, name, model),
                )
                for arm in wanted
                for seed in P.reid.seeds
            ]
    return found


def _borders(P: Params, name: str, model: str) -> tuple[float, ...]:
    """Where else the test of MSMT17-S (Cam) could begin: the gain depends on it."""
    wanted = name == "msmt17-s-cam" and model == P.reid.model
    return tuple(P.study.borders) if wanted else ()


def longer_jobs(P: Params) -> list[Job]:
    """The arms of `study.longer`, trained so many times as long: diversity, or a task cut short?"""
    longer, found = P.study.longer, []
    for name in P.study.datasets:
        if name not in longer.datasets:
            continue
        rows = images(P, name, [arm for arm in arms(P, name) if arm in longer.arms])
        found += [
            Job(
                experiment=LONGER,
                dataset=name,
                arm=arm,
                seed=seed,
                rows=added,
                images_per_pid=0 if arm == "real" else P.augment.images_per_pid,
                threshold=P.augment.tau_gen,
                longer=longer.factor,
            )
            for arm, added in rows.items()
            for seed in longer.seeds
        ]
    return found
