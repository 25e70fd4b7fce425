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
from posedive_lib.study import ablation, design, mini_world, person_judge, phase2
from posedive_lib.study.candidate_files import candidate_images, candidates_folder
from posedive_lib.study.comparison import against, between
from posedive_lib.study.job import Job
from posedive_lib.study.phase2_work import GENERATOR
from posedive_lib.study.redrawing import draw

if TYPE_CHECKING:
    from posedive_lib.augment.confidence import PoseEstimator
    from posedive_lib.params import Params

UNTAUGHT, UNGUIDED = "without phase 1", "without guidance"
Drawn = dict[str, Path | None]  # arm -> file of its images; None: the candidates that are there


def generator_without_phase1(P: Params) -> Path:
    """A generator trained from Stable Diffusion alone: a variant of notebook 03."""
    return ablation.trained(P, phase2.training_images(P), {"paths": {"phase1": None}}, P.seed)


def files(P: Params, name: str, rows: pd.DataFrame) -> Drawn:
    """Images by every generator, from the worst one to the truth.

    The truth only where the arm `oracle` runs. Nothing where there are no rows.
    """
    if rows.empty:
        return {}
    found: Drawn = {
        UNTAUGHT: draw(P, name, rows, generator_without_phase1(P)),
        UNGUIDED: draw(P, name, rows, GENERATOR, guidance=1.0),
        "pose-dive": None,
    }
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
    """How well each arm's images are drawn: arm, pck, right_percent.

    pck: mean share of visible key points near the wanted ones. right_percent: images that show the
    right person, by `person_judge.judge` with `extract`.
    """
    columns = ["arm", "pck", "right_percent"]
    if not drawn:
        return pd.DataFrame(columns=columns)
    bodies, _ = load_bodies(rows, candidates_folder(name))
    right, _ = person_judge.judge(P, name, rows, extract)
    table = []
    for arm, file in drawn.items():
        if file is None:
            images = candidate_images(name, rows, P.image)
        else:
            images = np.load(file, allow_pickle=False)
        pck = body_pck(bodies, estimator.estimate(images)[0], P.augment.keypoints)
        named = 100 * person_judge.share(right(images))
        table.append({"arm": arm, "pck": pck.mean(), "right_percent": named})
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
            drawn=drawn[arm] if arm in (UNTAUGHT, UNGUIDED) else None,
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
