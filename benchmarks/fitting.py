"""How well and how fast SMPL is fitted to people of no data set, in the mini world.

    python -m benchmarks.fitting [--people 80] [--shots 4]

Key points: true; true with normal noise of 3 % of the person's height per axis and random
confidences; estimated by ViTPose. "Other motions": the fit knows only every second motion and the
people are shown in the rest. Height: vertical extent of the true key points.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch

from miniworld.cameras import sample_camera
from miniworld.photography import free_shots, photograph
from miniworld.wardrobe import sample_identities
from posedive_lib import params
from posedive_lib.augment.confidence import PoseEstimator
from posedive_lib.body.camera import viewpoint
from posedive_lib.body.poses import PoseSource, load_poses
from posedive_lib.body.smpl import load_smpl
from posedive_lib.own_data.fitting import fit_keypoints
from posedive_lib.seeds import rng_for

ROLE = "fitting-benchmark-2"  # people, cameras and shots of no data set


def shoot(P, people: int, shots: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Photos with their truth, and the motion of each."""
    poses = load_poses(P.paths.motions)
    cameras = [sample_camera(f"{ROLE}-{i}", 0.0) for i in range(12)]
    plan = free_shots(people, poses, cameras, shots, (ROLE, 0))
    photos = list(
        photograph(
            sample_identities(ROLE, people),
            poses,
            plan,
            body=P.paths.body,
            height=P.image.height,
            width=P.image.width,
            focal=P.conditions.focal,
            progress="photos",
        )
    )
    names = ("image", "keypoints", "visible", "azimuth")
    return {
        name: np.stack([np.asarray(photo[name]) for photo in photos]) for name in names
    }, poses.name[[shot.pose for shot in plan]]


def measure(
    P, truth: dict[str, np.ndarray], keypoints, confidence, source: PoseSource
) -> list[str]:
    """One row of the table, without its name."""
    start = time.perf_counter()
    table = fit_keypoints(
        keypoints,
        confidence,
        load_smpl(P.paths.body),
        source,
        height=P.image.height,
        width=P.image.width,
        focal=P.conditions.focal,
        progress="fit",
    )
    rate = len(table) / (time.perf_counter() - start)
    error = np.abs(
        (viewpoint(table.global_orient, table.cam_t)[0] - truth["azimuth"] + 180) % 360 - 180
    )
    tall = np.ptp(truth["keypoints"][..., 1], axis=1)[:, None]
    apart = np.linalg.norm(table.keypoints - truth["keypoints"], axis=-1) / tall
    given = np.linalg.norm(keypoints - truth["keypoints"], axis=-1) / tall
    return [
        str(len(table)),
        f"{np.median(error):.1f}",
        f"{100 * (error <= 45).mean():.1f}",
        f"{100 * (error > 135).mean():.1f}",
        f"{100 * np.median(given):.1f}",
        f"{100 * np.median(apart):.1f}",
        f"{rate:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--people", type=int, default=80)
    parser.add_argument("--shots", type=int, default=4)
    given = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    P, rng = params.load(), rng_for(ROLE, "noise")
    truth, motion = shoot(P, given.people, given.shots)
    source = load_poses(P.paths.motions, fps=10)
    tall = np.ptp(truth["keypoints"][..., 1], axis=1)[:, None, None]
    shape = truth["visible"].shape
    noisy = (
        truth["keypoints"] + rng.normal(0, 0.03, truth["keypoints"].shape) * tall,
        rng.uniform(0.2, 1, shape),
    )
    cases = {
        "true": (truth["keypoints"], np.ones(shape)),
        "noise of 3 %": noisy,
        "ViTPose": PoseEstimator(P.paths.pose_estimator).estimate(truth["image"]),
    }
    known = np.unique(source.name)[::2]
    others = ~np.isin(motion, known)
    lines = [
        "| key points | images | median azimuth error (deg) | within 45 deg (%) "
        "| beyond 135 deg (%) | given 2-D error (% of height) "
        "| fitted 2-D error (median, % of height) | images/s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, (keypoints, confidence) in cases.items():
        lines.append(
            f"| {name} | " + " | ".join(measure(P, truth, keypoints, confidence, source)) + " |"
        )
    for name in ("true", "ViTPose"):
        keypoints, confidence = cases[name]
        rows = {key: value[others] for key, value in truth.items()}
        limited = source.select(np.isin(source.name, known))
        lines.append(
            f"| {name}, other motions | "
            + " | ".join(measure(P, rows, keypoints[others], confidence[others], limited))
            + " |"
        )
    text = "\n".join(
        [
            "# Fitting SMPL to key points",
            "",
            f"`python -m benchmarks.fitting --people {given.people} --shots {given.shots}`, "
            f"{torch.get_num_threads()} CPU cores; asked for: median azimuth error <= 15 deg, "
            ">= 90 % within 45 deg, 2-D error <= 3 %, >= 20 images/s.",
            "",
            *lines,
            "",
        ]
    )
    print(text)
    out = Path(__file__).parent / "results" / "fitting.md"
    out.parent.mkdir(exist_ok=True)
    out.write_text(text)


if __name__ == "__main__":
    main()
