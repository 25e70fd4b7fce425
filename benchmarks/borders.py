"""What true photos from all sides are worth, by where the test of MSMT17-S (Cam) begins.

    python -m benchmarks.borders [--world-seed 1] [--seeds 4] [--borders 30 35 40 45 60 75 90]

This is how the border of that split was chosen. The world is another one than the study's: other
poses, views and photos of the same people. So the choice has seen none of the study's photos, but
its people and cameras. CLIP-ReID trains on the training photos alone (`real`), and with 15 true
photos of each person in the poses and views that `pose-dive` plans (`oracle`). Every trained model
is then tested at every border. Takes about five minutes on 2 cores.
"""

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PYOPENGL_PLATFORM", "egl")

import pandas as pd

from benchmarks.measure import report, table
from miniworld import build, planning
from posedive_lib import datasets, params
from posedive_lib.bench.processes import in_processes
from posedive_lib.body.camera import viewpoint
from posedive_lib.body.poses import load_poses
from posedive_lib.body.table import BodyTable
from posedive_lib.datasets import splits
from posedive_lib.reid.image_set import ImageSet
from posedive_lib.reid.models import create_model, evaluate_model
from posedive_lib.study import generation, mini_world, reid_work

NAME = "msmt17-s-cam"


def make_world(P) -> None:
    """MSMT17 alone, and its splits."""
    poses, root = load_poses(P.paths.motions), Path(P.paths.datasets)
    for plan in planning.plans(P, poses):
        if plan.label == "MSMT17":
            build.render(root / plan.folder, plan, poses, P)
    splits.write_msmt17_s(
        P.paths.datasets, P.splits, P.paths.body, P.paths.splits, bodies=P.paths.bodies
    )


def tests(P, borders: list[float]) -> dict[float, tuple[ImageSet, ImageSet]]:
    """Query and gallery of MSMT17-S (Cam) for every border."""
    dataset = datasets.of_study("msmt17", P.paths)
    pool = splits.pool_of(dataset)
    bodies = BodyTable.load(dataset.bodies).select(pool["rel"].tolist())
    azimuth, is_train = (
        viewpoint(bodies.global_orient, bodies.cam_t)[0],
        (pool["split"] == "train").to_numpy(),
    )
    paths = pd.concat([dataset.train, dataset.query, dataset.gallery]).set_index("rel")["path"]

    def photos(part: pd.DataFrame) -> ImageSet:
        return ImageSet.from_table(
            part.assign(path=paths.loc[part["rel"]].to_numpy()),
            P.reid.image.height,
            P.reid.image.width,
            "bilinear",
        )

    found = {}
    for border in borders:
        sides = splits.cam_sides(
            azimuth,
            is_train,
            train_max_azimuth=P.splits.cam.train_max_azimuth,
            test_min_azimuth=border,
        )
        parts = splits.select(dataset, sides, pool)
        found[border] = photos(parts["query"]), photos(parts["gallery"])
    return found


def added(P) -> pd.DataFrame:
    """The first images of every identity that `pose-dive` plans, before any filter."""
    plan = generation.augmenter(P, NAME).plan("pose-dive", P.augment.candidates_per_pid)
    return plan[plan["index"] < P.augment.images_per_pid].reset_index(drop=True)


def train_and_test(
    P, rows: pd.DataFrame, arm: str, seed: int, borders: list[float], out: Path
) -> None:
    train = reid_work.photos(P, NAME)[0]
    if arm == "oracle":
        photos = reid_work.stored_images(P, mini_world.true_photos(P, NAME, rows))
        train = train.plus(reid_work.generated_set(rows, photos))
    model = create_model(
        "clip-reid", P.reid, P.paths.clip, P.reid.image.height, P.reid.image.width, "cpu"
    )
    model.fit(train, seed=seed)
    parts_of = tests(P, borders)
    results = {border: evaluate_model(model, *parts) for border, parts in parts_of.items()}
    pd.DataFrame(
        [
            {
                "arm": arm,
                "seed": seed,
                "border": border,
                "queries": r["n_valid"],
                "mAP": r["mAP"],
                "rank-1": r["rank1"],
            }
            for border, r in results.items()
        ]
    ).to_csv(out, index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world-seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--borders", type=float, nargs="+", default=[30, 35, 40, 45, 60, 75, 90])
    options = parser.parse_args()
    root = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        P = params.load(
            root / "params.yaml",
            overrides={"seed": options.world_seed}
            | {
                f"paths.{name}": str(root / path)
                for name, path in params.load(root / "params.yaml").paths.model_dump().items()
                if path and name != "datasets"
            },
        )
        make_world(P)
        rows = added(P)
        mini_world.true_photos(P, NAME, rows)
        jobs = [
            (P, rows, arm, seed, options.borders, Path(folder, f"{arm}-{seed}.csv"))
            for seed in range(options.seeds)
            for arm in ("real", "oracle")
        ]
        in_processes(train_and_test, jobs, P.study.workers)
        runs = pd.concat([pd.read_csv(job[-1]) for job in jobs])
        os.chdir(root)
    lines = []
    for border, here in runs.groupby("border"):
        by = here.pivot(index="seed", columns="arm", values=["mAP", "rank-1"])
        gain = by.xs("oracle", axis=1, level="arm") - by.xs("real", axis=1, level="arm")
        line = [f"{border:g}", here["queries"].iloc[0], f"{by['mAP', 'real'].mean():.1f}"]
        for metric in ("mAP", "rank-1"):
            own = gain[metric]
            line.append(f"{own.mean():+.1f} ({own.min():+.1f} to {own.max():+.1f})")
        lines.append(line)
    said = (
        f"World of seed {options.world_seed}; training within "
        f"{P.splits.cam.train_max_azimuth:g}°, {len(rows)} true photos added; gains of `oracle` "
        f"over `real`, mean of {options.seeds} seeds (least to greatest)."
    )
    columns = ["test beyond (°)", "queries", "mAP of `real`", "gain in mAP", "gain in rank-1"]
    report("borders", f"{said}\n\n{table(columns, lines)}")


if __name__ == "__main__":
    main()
