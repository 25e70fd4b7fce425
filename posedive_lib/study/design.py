"""The design of the comparison (§A and beyond): which arms run on which data set, and their images.

real: the training set. repeat: its photos again, as many of each identity as `pose-dive` adds.
pose-dive: generated images, pose and viewpoint diversified. viewpoint, pose: only one of the two,
the other as the training set has it. same-distribution: neither. oracle: true photos in exactly the
poses and views of `pose-dive`. oracle-same: as many in poses and views of the training set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from posedive_lib.augment.selection import select
from posedive_lib.study.candidate_files import load_manifest
from posedive_lib.study.generation import training_rows
from posedive_lib.study.job import Job

if TYPE_CHECKING:
    from posedive_lib.params import Params

GENERATED = (
    "same-distribution",
    "viewpoint",
    "pose",
)  # controls with generated images of their own


def arms(P: Params, name: str) -> list[str]:
    """The arms that run on a data set."""
    study = P.study
    found: list[str] = [*study.arms]
    for arm in study.control_arms:
        generated = arm in GENERATED
        if name in (study.generated_control_datasets if generated else study.control_datasets):
            found.append(arm)
    return found


def generated_arms(P: Params, name: str) -> list[str]:
    """Control arms of a data set whose images have to be generated."""
    return [arm for arm in arms(P, name) if arm in GENERATED]


def diverse(P: Params, name: str, arm: str = "pose-dive") -> pd.DataFrame:
    """The images that `pose-dive` adds to a data set, or those of a control arm.

    augment.images_per_pid of each identity, or as many as the filter keeps.
    """
    return select(load_manifest(name, arm), P.augment, images_per_pid=P.augment.images_per_pid)


def images(P: Params, name: str) -> dict[str, pd.DataFrame | None]:
    """Arm -> rows that it adds to the real images: as many as `diverse`, where there are."""
    wanted = diverse(P, name)

    def rows(arm: str) -> pd.DataFrame | None:
        if arm == "real":
            return None
        if arm in GENERATED:
            return diverse(P, name, arm)
        if arm == "oracle-same":
            return training_rows(P, name, wanted["pid"].value_counts())
        return wanted

    return {arm: rows(arm) for arm in arms(P, name)}


def jobs(P: Params) -> list[Job]:
    """`reid.model` on all of `study.datasets`, ResNet on `study.resnet_datasets`, every seed."""
    found = []
    for name in P.study.datasets:
        rows = images(P, name)
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
                    threshold=P.augment.tau_gen,
                    model=model,
                    by_azimuth=by_azimuth,
                )
                for arm in wanted
                for seed in P.reid.seeds
            ]
    return found
