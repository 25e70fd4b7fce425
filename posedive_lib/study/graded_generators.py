"""The same people, poses and views drawn worse and better: does a better generator help more?

Beyond the paper.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from posedive_lib.augment.candidates import load_bodies
from posedive_lib.augment.measures import body_pck
from posedive_lib.bench.processes import in_processes
from posedive_lib.cluster import pieces
from posedive_lib.study import design, mini_world, person_judge, phase2
from posedive_lib.study.ablation_work import STORE, Changes, train_variant, variant_of
from posedive_lib.study.candidate_files import candidate_images, store_of
from posedive_lib.study.comparison import against, between
from posedive_lib.study.job import Job
from posedive_lib.study.redrawing import draw
from posedive_lib.weights import local_folder

if TYPE_CHECKING:
    from posedive_lib.augment.confidence import PoseEstimator
    from posedive_lib.params import Params

PHASE1 = "phase 1 alone"
Drawn = dict[str, Path | None]  # arm -> file of its images; None: the candidates that are there


def generators(P: Params) -> dict[str, Path]:
    """Generators from the worst one on: name -> folder.

    A training from Stable Diffusion alone, stopped after each of `study.graded_steps`; each is
    trained by itself, with the same pairs and noise in each step. Then the generator of phase 1,
    which has seen none of the study's photos.
    """
    images, found, jobs = phase2.training_images(P), {}, []
    for steps in P.study.graded_steps:
        changed: Changes = {"paths": {"phase1": None}}
        variant = variant_of(P, images, changed, steps)
        folder = STORE.folder({**variant.spec, "seed": P.seed})
        jobs.append((variant, P.seed, folder))
        found[f"{steps} steps"] = folder / "generator"
    in_processes(train_variant, jobs, P.study.workers, scheduler=P.scale.scheduler)
    if P.paths.phase1:
        found[PHASE1] = local_folder(P.paths.phase1)
    return found


def files(P: Params, name: str, rows: pd.DataFrame) -> Drawn:
    """Images by every generator, from the worst one to the truth.

    The truth only where the arm `oracle` runs. Nothing where there are no rows.
    """
    if rows.empty:
        return {}
    folders = generators(P)
    with pieces(P.study.workers, P.scale.scheduler) as pool:
        found: Drawn = {arm: draw(P, name, rows, folders[arm], pool) for arm in folders}
    found["pose-dive"] = None
    if "oracle" in design.arms(P, name):
        found["oracle"] = mini_world.true_photos(P, name, rows)
    return found


def quality(
    P: Params,
    name: str,
    rows: pd.DataFrame,
    drawn: Drawn,
    estimator: PoseEstimator,
    extract: person_judge.OfImages,
) -> pd.DataFrame:
    """How well each arm's images are drawn: arm, pck, right_percent, right_low, right_high, judged.

    pck: mean share of visible key points near the wanted ones. right_percent: images that show the
    right person, by `person_judge.judge` with `extract`, with its 95 % interval over identities;
    judged: how many could be.
    """
    columns = ["arm", "pck", "right_percent", "right_low", "right_high", "judged"]
    if not drawn:
        return pd.DataFrame(columns=columns)
    bodies, _ = load_bodies(rows, store_of(name))
    right, _ = person_judge.judge(P, name, rows, extract)
    table = []
    for arm, file in drawn.items():
        if file is None:
            images = candidate_images(name, rows, P.image)
        else:
            images = np.load(file, allow_pickle=False)
        pck = body_pck(bodies, estimator.estimate(images)[0], P.augment.keypoints)
        named = person_judge.rate(right(extract(images)), rows["pid"].to_numpy(), seed=P.seed)
        table.append({"arm": arm, "pck": pck.mean(), **named})
    return pd.DataFrame(table, columns=columns)


def jobs(P: Params, name: str, rows: pd.DataFrame, drawn: Drawn) -> list[Job]:
    """Re-ID runs with real images alone, and with the same rows by every generator."""
    return [
        Job(
            experiment="generator",
            dataset=name,
            arm=arm,
            seed=seed,
            rows=None if arm == "real" else rows,
            images_per_pid=0 if arm == "real" else P.augment.images_per_pid,
            threshold=P.augment.tau_gen,
            drawn=drawn.get(arm) if arm != "oracle" else None,
        )
        for arm in ("real", *drawn)
        for seed in P.reid.seeds
    ]


def gains(runs: pd.DataFrame, measured: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """`measured`, with each arm's gain in mAP over real images and its step from the arm before.

    Paired over seeds, with intervals; p corrected over the steps.
    """
    order = measured["arm"].tolist()
    interval = ["difference", "ci_low", "ci_high"]
    over_real = against(runs, "real", seed=seed, metrics=("mAP",)).set_index("arm")[interval]
    pairs = list(zip(order[1:], order[:-1], strict=True))
    steps = between(runs, pairs, seed=seed, metrics=("mAP",)).set_index("arm")
    steps = steps[[*interval, "p_joint", "verdict"]]
    gain = over_real.set_axis(["gain", "gain_low", "gain_high"], axis=1)
    step = steps.set_axis(["step", "step_low", "step_high", "step_p_joint", "step_verdict"], axis=1)
    return measured.join(gain, on="arm").join(step, on="arm")
