"""The candidates of every data set and arm of the study (§B, §E).

Images live in `runs/`, keyed by everything that determines them. The pipeline passes on the
manifests, in `build/`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from posedive_lib import datasets
from posedive_lib.augment.augmenter import Augmenter
from posedive_lib.augment.painting import Diffusion
from posedive_lib.augment.selection import select
from posedive_lib.digests import file_digest
from posedive_lib.study import candidate_files
from posedive_lib.study.candidate_files import candidates_folder, load_manifest, store_of
from posedive_lib.study.phase2_work import GENERATOR
from posedive_lib.writing import replacing

if TYPE_CHECKING:
    from posedive_lib.params import Image, Params
    from posedive_lib.params.sections import Paths

SCORED: dict[tuple[str, Paths, Image], np.ndarray] = {}  # confidences of training photos


def augmenter(P: Params, name: str) -> Augmenter:
    """The `Augmenter` of a data set of the study, whose photos are scored once for all arms."""
    made = Augmenter.of(P, datasets.of_study(name, P.paths))
    key = name, P.paths, P.image
    if key not in SCORED:
        SCORED[key] = made.confidence("references")
    return replace(made, sigma=SCORED[key])


def candidates_per_pid(P: Params, name: str) -> int:
    """Candidates of each identity: the parameter, or enough for the largest count of §D.

    The latter where counts are studied and the largest is larger than augment.images_per_pid.
    """
    per_kept = P.augment.candidates_per_pid / P.augment.images_per_pid
    wanted = P.augment.images_per_pid
    if name == P.study.count_dataset:
        wanted = max(wanted, *P.study.counts)
    return int(np.ceil(wanted * per_kept))


def make_candidates(
    P: Params, name: str, arm: str = "pose-dive", *, enough: int | None = None
) -> pd.DataFrame:
    """Candidates of a data set and arm, painted and scored; returns the manifest.

    The manifest is also written to `candidates_folder`. `pose-dive` paints its whole plan, so
    that every threshold and count can be selected later; with `enough` it stops at an identity once
    so many of its images are kept, which are the first ones of the whole plan. A control arm stops
    once as many are kept as `pose-dive` adds, whose candidates must be there. It may draw
    study.control_budget times augment.candidates_per_pid.
    """
    count = candidates_per_pid(P, name)
    wanted: int | pd.Series | None = enough
    if arm != "pose-dive":
        count = P.study.control_budget * P.augment.candidates_per_pid
        wanted = added_per_pid(P, name)
    maker = augmenter(P, name)
    manifest = maker.make(
        maker.plan(arm, count),
        Diffusion.of(P, GENERATOR),
        store_of(name, arm),
        images_per_pid=wanted,
    ).assign(arm=arm)
    with replacing(candidates_folder(name, arm) / "manifest.csv") as file:
        manifest.to_csv(file, index=False, lineterminator="\n")
    return manifest


def added(P: Params, name: str) -> pd.DataFrame:
    """The images that `pose-dive` adds to a data set.

    augment.images_per_pid of each identity, or as many as the filter keeps.
    """
    return select(load_manifest(name), P.augment, images_per_pid=P.augment.images_per_pid)


def added_per_pid(P: Params, name: str) -> pd.Series:
    """How many images of each identity `added` has; by pid."""
    return added(P, name)["pid"].value_counts()


def list_candidates(manifests: list[pd.DataFrame]) -> None:
    """Write `build/candidates/manifests.csv`: dataset, arm, candidates, digest of the manifest.

    A manifest names every image by a digest of all that decides its pixels. So a stage that depends
    on this file need not look at each image.
    """
    rows = []
    for table in manifests:
        if len(table):
            name, arm = table[["dataset", "arm"]].iloc[0]
            digest = file_digest(candidates_folder(name, arm) / "manifest.csv")
            rows.append((name, arm, len(table), digest))
    table = pd.DataFrame(rows, columns=["dataset", "arm", "candidates", "manifest"])
    with replacing(candidate_files.CANDIDATES / "manifests.csv") as file:
        table.to_csv(file, index=False, lineterminator="\n")


def training_rows(P: Params, name: str, counts: pd.Series) -> pd.DataFrame:
    """The first `counts` (by pid) rows of each identity of the same-distribution plan.

    Their poses and views are those of the training set itself.
    """
    rows = augmenter(P, name).plan("same-distribution", int(counts.max()) if len(counts) else 0)
    wanted = rows["pid"].map(counts).fillna(0)
    return rows[rows["index"] < wanted].sort_values(["pid", "index"], ignore_index=True)
