"""The same people, poses and views drawn worse and better: does a better generator help more? (beyond the paper)"""

from pathlib import Path

import numpy as np
import pandas as pd

from posedive_lib import datasets
from posedive_lib.augment import filter_quality
from posedive_lib.augment.candidates import load_bodies
from posedive_lib.bench.runs import RunStore, write_array
from posedive_lib.datasets.images import read as read_images
from posedive_lib.digests import array_digest, code_digest, folder_digest
from posedive_lib.generator import load
from posedive_lib.study import ablation, design, mini_world, person_judge
from posedive_lib.study.candidate_files import candidate_images, candidates_folder
from posedive_lib.study.comparison import against, between
from posedive_lib.study.generation import (
    GENERATOR,
    conditions_of,
    phase2_images,
    stable_diffusion_folder,
)

UNTAUGHT, UNGUIDED = "without phase 1", "without guidance"


def generator_without_phase1(P) -> Path:
    """A generator trained `study.ablation.steps` steps on the study's pairs from Stable Diffusion alone: a variant of notebook 03."""
    return ablation.trained(P, phase2_images(P), {"paths": {"phase1": None}}, P.seed)


def draw(P, name: str, rows: pd.DataFrame, folder: Path, *, guidance: float | None = None) -> Path:
    """File with images (N, H, W, 3) of manifest rows by the generator in `folder`: their references, poses, views and noise. Drawn once."""
    dataset = datasets.load(name, P.paths.datasets)
    references, index = np.unique(rows["reference"], return_inverse=True)
    photos = read_images(
        dataset.train.set_index("rel")["path"].loc[references], P.image.height, P.image.width
    )
    bodies, _ = load_bodies(rows, candidates_folder(name))
    spec = {
        "rows": rows[["path", "reference", "seed"]].to_numpy().tolist(),
        "photos": array_digest(photos),
        "generator": folder_digest(folder),
        "stable_diffusion": folder_digest(stable_diffusion_folder(P)),
        "sampling": P.generator.sampling.model_dump(),
        "guidance": guidance,
        **P.pick("image", "conditions"),
        "code": code_digest(
            "posedive_lib.generator", "posedive_lib.precision", "posedive_lib.body"
        ),
    }
    file = RunStore("runs/redrawn").folder(spec) / "images.npy"
    if not file.is_file():
        maps = conditions_of(P, bodies)
        images = load(folder, stable_diffusion_folder(P)).generate(
            photos,
            index,
            maps.skeleton,
            maps.depth,
            maps.normals,
            rows["seed"].to_numpy(),
            guidance=guidance,
            progress=False,
        )
        write_array(file, images)
    return file


def files(P, name: str, rows: pd.DataFrame) -> dict[str, Path | None]:
    """Arm -> file of its images, from the worst generator to the truth; None for `pose-dive`, whose candidates are there. The truth only
    where the arm `oracle` runs."""
    found = {
        UNTAUGHT: draw(P, name, rows, generator_without_phase1(P)),
        UNGUIDED: draw(P, name, rows, GENERATOR, guidance=1.0),
        "pose-dive": None,
    }
    return found | (
        {"oracle": mini_world.true_photos(P, name, rows)}
        if "oracle" in design.arms(P, name)
        else {}
    )


def quality(
    P, name: str, rows: pd.DataFrame, drawn: dict[str, Path | None], estimator, extract
) -> pd.DataFrame:
    """arm, pck (mean share of visible key points near the wanted ones) and right_percent (images that show the right person, by `person_judge.judge`
    with `extract`)."""
    bodies, _ = load_bodies(rows, candidates_folder(name))
    right, _ = person_judge.judge(P, name, rows, extract)
    table = []
    for arm, file in drawn.items():
        images = (
            np.load(file, allow_pickle=False) if file else candidate_images(name, rows, P.image)
        )
        pck = filter_quality.pck(bodies, estimator.estimate(images)[0], P.augment.keypoints)
        table.append(
            {
                "arm": arm,
                "pck": pck.mean(),
                "right_percent": 100 * person_judge.share(right(images)),
            }
        )
    return pd.DataFrame(table)


def jobs(P, name: str, rows: pd.DataFrame, drawn: dict[str, Path | None]) -> list[dict]:
    """Jobs of `reid_runs.many`: real images alone, and with the same rows by every generator."""
    n, tau = P.augment.images_per_pid, P.augment.tau_gen
    redrawn = lambda arm: {"drawn": drawn[arm]} if arm in (UNTAUGHT, UNGUIDED) else {}
    return [
        dict(
            experiment="generator",
            name=name,
            arm=arm,
            seed=seed,
            rows=None if arm == "real" else rows,
            images_per_pid=0 if arm == "real" else n,
            threshold=tau,
            **redrawn(arm),
        )
        for arm in ("real", *drawn)
        for seed in P.reid.seeds
    ]


def gains(runs: pd.DataFrame, measured: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """`measured` with each arm's gain in mAP over real images, and its step from the generator before: paired over seeds, with intervals and
    p corrected over the steps."""
    order = measured["arm"].tolist()
    over_real = against(runs, "real", seed=seed, metrics=("mAP",)).set_index("arm")[
        ["difference", "ci_low", "ci_high"]
    ]
    steps = between(runs, list(zip(order[1:], order)), seed=seed, metrics=("mAP",)).set_index(
        "arm"
    )[["difference", "ci_low", "ci_high", "p_joint", "verdict"]]
    return measured.join(
        over_real.set_axis(["gain", "gain_low", "gain_high"], axis=1), on="arm"
    ).join(
        steps.set_axis(["step", "step_low", "step_high", "step_p_joint", "step_verdict"], axis=1),
        on="arm",
    )
