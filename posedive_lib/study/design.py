"""The design of the comparison (§A and beyond): which arms run on which data set, with which images, as jobs of `reid_runs.many`.

`real`: the training set. `repeat`: its photos again, as many of each identity as `pose-dive` adds. `pose-dive`: generated images, pose and
viewpoint diversified; `viewpoint`, `pose`: one of the two, the other as the training set has it; `same-distribution`: neither. `oracle`:
true photos in exactly the poses and views of `pose-dive`; `oracle-same`: as many in poses and views of the training set.
"""

import pandas as pd

from posedive_lib.augment.selection import select
from posedive_lib.study.candidate_files import load_manifest
from posedive_lib.study.generation import training_rows

GENERATED = (
    "same-distribution",
    "viewpoint",
    "pose",
)  # control arms that need generated images of their own


def arms(P, name: str) -> list[str]:
    """The arms that run on a data set."""
    s = P.study
    controls = [
        arm
        for arm in s.control_arms
        if name in (s.generated_control_datasets if arm in GENERATED else s.control_datasets)
    ]
    return [*s.arms, *controls]


def generated_arms(P, name: str) -> list[str]:
    """Control arms of a data set whose images have to be generated; pose-dive's are on every data set."""
    return [arm for arm in arms(P, name) if arm in GENERATED]


def diverse(P, name: str) -> pd.DataFrame:
    """The images that `pose-dive` adds to a data set: augment.images_per_pid of each identity, or as many as the filter keeps."""
    return select(load_manifest(name), P.augment, images_per_pid=P.augment.images_per_pid)


def images(P, name: str) -> dict[str, pd.DataFrame | None]:
    """Arm → rows that it adds to the real images: as many as `diverse`, where there are."""
    wanted = diverse(P, name)
    rows = {"real": None, "repeat": wanted, "pose-dive": wanted, "oracle": wanted}
    for arm in arms(P, name):
        if arm in GENERATED:
            rows[arm] = select(
                load_manifest(name, arm), P.augment, images_per_pid=P.augment.images_per_pid
            )
        if arm == "oracle-same":
            rows[arm] = training_rows(P, name, wanted["pid"].value_counts())
    return {arm: rows[arm] for arm in arms(P, name)}


def jobs(P) -> list[dict]:
    """Jobs of the comparison: with reid.model on all of study.datasets, and with ResNet on study.resnet_datasets, study.resnet_arms."""
    found = []
    for name in P.study.datasets:
        rows = images(P, name)
        found += [
            _job(P, name, arm, seed, rows[arm], P.reid.model)
            for arm in rows
            for seed in P.reid.seeds
        ]
        if name in P.study.resnet_datasets and P.reid.model != "resnet":
            found += [
                _job(P, name, arm, seed, rows[arm], "resnet")
                for arm in rows
                if arm in P.study.resnet_arms
                for seed in P.reid.seeds
            ]
    return found


def _job(P, name: str, arm: str, seed: int, rows: pd.DataFrame | None, model: str) -> dict:
    return dict(
        experiment="comparison",
        name=name,
        arm=arm,
        seed=seed,
        rows=rows,
        model=model,
        images_per_pid=0 if arm == "real" else P.augment.images_per_pid,
        threshold=P.augment.tau_gen,
        by_azimuth=model == P.reid.model and name == P.study.azimuth_dataset,
    )
