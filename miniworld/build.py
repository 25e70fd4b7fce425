"""Render the mini world into Market-1501, MSMT17 and CUHK03-NP trees, with the truth beside each.

    python -m miniworld.build --params params.yaml

Training identities are seen by few cameras, mostly from the front and in ordinary poses; test identities are seen
from everywhere and in all poses. That bias of the training sets is the paper's subject.
"""

import argparse
import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from miniworld.cameras import Camera, read_cameras
from miniworld.photography import Shot, photograph
from miniworld.truth import save_masks
from posedive_lib import params as parameters
from posedive_lib.body.poses import PoseSource, load_poses
from posedive_lib.body.table import BodyTable
from posedive_lib.errors import StudyError, command
from posedive_lib.seeds import rng_for


@dataclass(frozen=True)
class Entry:
    """Where one photo goes: its path in the data set's folder, split, identity and camera (0-based)."""

    path: str
    split: str
    pid: int
    camid: int
    shot: Shot


class Planner:
    """Plans the shots of one data set: who is seen by which camera, from where, in which pose."""

    def __init__(
        self, name: str, people: pd.DataFrame, cameras: list[Camera], poses: PoseSource, seed: int
    ):
        self.name, self.cameras, self.seed = name, cameras, seed
        self.people = people.reset_index(drop=True)
        self.ordinary = np.flatnonzero(poses.domain == "in")
        self.unusual = np.flatnonzero(poses.domain == "out")
        azimuths = np.array([c.azimuth for c in cameras])
        self.frontal = np.where(abs((azimuths + 180) % 360 - 180) <= 36, 60.0, 1.0)

    def role(self, role: str, count: int) -> list[int]:
        """Rows of the first `count` people of a role; StudyError when the world has fewer."""
        rows = self.people.index[self.people.role == f"{self.name}-{role}"].tolist()
        if count > len(rows):
            raise StudyError(
                f"params world.{self.name} asks for {count} {role} identities, data/world has {len(rows)}: ask for fewer."
            )
        return rows[:count]

    def cameras_of(self, person: int, train: bool) -> list[int]:
        """Cameras that see a person: three, mostly frontal, in training; about half of all, any, in test."""
        rng = rng_for("cameras", self.name, self.seed, person)
        count = min(len(self.cameras), 3 if train else max(2, (len(self.cameras) + 1) // 2))
        weights = self.frontal / self.frontal.sum() if train else None
        return sorted(rng.choice(len(self.cameras), count, replace=False, p=weights).tolist())

    def shot(self, person: int, camid: int, index: int, train: bool, jitter: float = 0.012) -> Shot:
        """One shot with its own seed; `jitter` is the standard deviation of the box in crop heights."""
        key = ("photo", self.name, self.seed, person, camid, index)
        rng = rng_for(*key)
        camera = self.cameras[camid]
        spread = camera.azimuth_spread * (1.0 if train else 1.8)
        pool = self.unusual if rng.random() < (0.04 if train else 0.35) else self.ordinary
        return Shot(
            person,
            int(rng.choice(pool)),
            camera.azimuth + float(rng.normal(0, spread)),
            float(np.clip(camera.elevation + rng.normal(0, 2.5), 0, 30)),
            camera,
            key,
            float(np.clip(rng.normal(0.86, 2 * jitter), 0.7, 1.0)),
            (float(rng.normal(0, jitter)), float(rng.normal(0, jitter))),
            bool(rng.random() < 0.03),
        )


def plan_market1501(planner: Planner, sizes) -> list[Entry]:
    """File names `PPPP_cCsS_FFFFFF_DD.jpg`; pid 0 = distractor, -1 = junk."""
    entries = []
    name = lambda pid, camid, i: (
        f"{pid:04d}_c{camid + 1}s1_{i:06d}_01.jpg"
        if pid >= 0
        else f"-1_c{camid + 1}s1_{i:06d}_01.jpg"
    )
    for pid, person in enumerate(planner.role("train", sizes.train_pids), 1):
        cameras = planner.cameras_of(person, True)
        for i in range(sizes.images_per_train_pid):
            camid = cameras[i % len(cameras)]
            entries.append(
                Entry(
                    f"bounding_box_train/{name(pid, camid, i)}",
                    "train",
                    pid,
                    camid,
                    planner.shot(person, camid, i, True),
                )
            )
    test = planner.role("test", sizes.test_pids)
    for pid, person in enumerate(test, sizes.train_pids + 1):
        cameras = planner.cameras_of(person, False)
        for i in range(sizes.images_per_test_pid):
            camid = cameras[i % len(cameras)]
            split, folder = (
                ("query", "query") if i < len(cameras) else ("gallery", "bounding_box_test")
            )
            entries.append(
                Entry(
                    f"{folder}/{name(pid, camid, i)}",
                    split,
                    pid,
                    camid,
                    planner.shot(person, camid, i, False),
                )
            )
    strangers = planner.role("distractor", sizes.distractors)
    for i, person in enumerate(strangers):
        camid = i % len(planner.cameras)
        entries.append(
            Entry(
                f"bounding_box_test/{name(0, camid, i)}",
                "gallery",
                0,
                camid,
                planner.shot(person, camid, i, False),
            )
        )
    for i in range(sizes.junk):  # badly cut boxes of test people
        camid = i % len(planner.cameras)
        shot = replace(
            planner.shot(test[i % len(test)], camid, 900 + i, False), shift=(0.12, 0.35), fill=1.1
        )
        entries.append(Entry(f"bounding_box_test/{name(-1, camid, i)}", "junk", -1, camid, shot))
    return entries


def plan_msmt17(planner: Planner, sizes) -> list[Entry]:
    """File names `PPPP/PPPP_III_CC_…jpg` below train/ and test/; train and test identities both count from 0."""
    entries = []
    name = lambda pid, i, camid: (
        f"{pid:04d}/{pid:04d}_{i:03d}_{camid + 1:02d}_0101noon_{i:04d}_0.jpg"
    )
    for pid, person in enumerate(planner.role("train", sizes.train_pids)):
        cameras = planner.cameras_of(person, True)
        for i in range(sizes.images_per_train_pid):
            camid = cameras[i % len(cameras)]
            split = "val" if i == sizes.images_per_train_pid - 1 else "train"
            entries.append(
                Entry(
                    f"train/{name(pid, i, camid)}",
                    split,
                    pid,
                    camid,
                    planner.shot(person, camid, i, True),
                )
            )
    for pid, person in enumerate(planner.role("test", sizes.test_pids)):
        cameras = planner.cameras_of(person, False)
        for i in range(sizes.images_per_test_pid):
            camid = cameras[i % len(cameras)]
            split = "query" if i < min(4, len(cameras)) else "gallery"
            entries.append(
                Entry(
                    f"test/{name(pid, i, camid)}",
                    split,
                    pid,
                    camid,
                    planner.shot(person, camid, i, False),
                )
            )
    return entries


def plan_cuhk03(planner: Planner, sizes, jitter: float) -> list[Entry]:
    """CUHK03-NP names `PPPP_cC_I.png`; `jitter` is what tells detected from labelled boxes."""
    entries = []
    train, test = planner.role("train", sizes.train_pids), planner.role("test", sizes.test_pids)
    for pid, person in enumerate(train + test, 1):
        training = pid <= len(train)
        for i in range(sizes.images_per_pid):
            camid = i % 2
            split = "train" if training else "query" if i < 2 else "gallery"
            folder = {
                "train": "bounding_box_train",
                "query": "query",
                "gallery": "bounding_box_test",
            }[split]
            shot = planner.shot(person, camid, i, training, jitter)
            entries.append(
                Entry(f"{folder}/{pid:04d}_c{camid + 1}_{i + 1}.png", split, pid, camid, shot)
            )
    return entries


def write_lists(folder: Path, entries: list[Entry]) -> None:
    """MSMT17's four list files, lines `<path below train/ or test/> <pid>`."""
    for split in ("train", "val", "query", "gallery"):
        lines = [f"{e.path.split('/', 1)[1]} {e.pid}\n" for e in entries if e.split == split]
        (folder / f"list_{split}.txt").write_text("".join(lines))


@dataclass(frozen=True)
class Plan:
    """One data set to render: its folder below `paths.datasets`, a label for people, its planner and its photos."""

    folder: str
    label: str
    planner: Planner
    entries: list[Entry]


def plans(P, poses: PoseSource) -> list[Plan]:
    """Every data set of the mini world at the sizes of `P.world`; the same parameters and inputs give the same plans."""
    world = Path(P.paths.world)
    if not (world / "identities.csv").is_file():
        raise StudyError(
            f"{world}/identities.csv is missing: run `dvc pull` to fetch the tracked data."
        )
    people = pd.read_csv(world / "identities.csv", keep_default_na=False)
    cameras = read_cameras(world)
    planner = lambda name: Planner(
        name, people[people.role.str.startswith(name)], cameras[name], poses, P.seed
    )
    market, msmt, cuhk = planner("market1501"), planner("msmt17"), planner("cuhk03")
    return [
        Plan(
            "Market-1501-v15.09.15",
            "Market-1501",
            market,
            plan_market1501(market, P.world.market1501),
        ),
        Plan("MSMT17_V1", "MSMT17", msmt, plan_msmt17(msmt, P.world.msmt17)),
        Plan("cuhk03-np/labeled", "CUHK03 (L)", cuhk, plan_cuhk03(cuhk, P.world.cuhk03, 0.008)),
        Plan("cuhk03-np/detected", "CUHK03 (D)", cuhk, plan_cuhk03(cuhk, P.world.cuhk03, 0.035)),
    ]


def photos_of(
    P,
    plan: Plan,
    entries: list[Entry],
    poses: PoseSource,
    *,
    maps: bool = False,
    progress: str | None = None,
):
    """Yield the photo with its truth of every entry (see `miniworld.photography.photograph`); always the same ones."""
    return photograph(
        plan.planner.people,
        poses,
        [e.shot for e in entries],
        body=P.paths.body,
        height=P.image.height,
        width=P.image.width,
        focal=P.conditions.focal,
        maps=maps,
        workers=P.world.workers,
        progress=progress,
    )


def render(folder: Path, plan: Plan, poses: PoseSource, P) -> None:
    """Render one data set with `truth.csv`, `smpl.npz` and `masks.npz` into a new folder that replaces `folder` when complete."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    for parent in {str(Path(e.path).parent) for e in plan.entries}:
        (part / parent).mkdir(parents=True)
    people, rows, bodies = plan.planner.people, [], []
    for entry, photo in zip(
        plan.entries, photos_of(P, plan, plan.entries, poses, progress=plan.label)
    ):
        Image.fromarray(photo.pop("image")).save(part / entry.path, quality=92)
        shot = entry.shot
        rows.append(
            {
                "path": entry.path,
                "split": "train" if entry.split == "val" else entry.split,
                "pid": entry.pid,
                "camid": entry.camid,
                "person": people.person[shot.person],
                "azimuth": round(photo["azimuth"], 3),
                "elevation": round(photo["elevation"], 3),
                "motion": poses.name[shot.pose],
                "frame": poses.frame[shot.pose],
                "domain": poses.domain[shot.pose],
                "occluded": photo["occluded"],
                "hidden": round(photo["hidden"], 3),
                "low_quality": shot.low_quality,
            }
        )
        bodies.append(
            {
                key: photo[key]
                for key in (
                    "global_orient",
                    "body_pose",
                    "betas",
                    "cam_t",
                    "focal",
                    "keypoints",
                    "visible",
                    "mask",
                )
            }
        )
    if plan.label == "MSMT17":
        write_lists(part, plan.entries)
    pd.DataFrame(rows).to_csv(part / "truth.csv", index=False)
    shown = people[people.person.isin({row["person"] for row in rows})]
    shown.to_csv(part / "people.csv", index=False)
    stack = lambda key: np.stack([np.asarray(b[key], np.float32) for b in bodies])
    paths = np.array([r["path"] for r in rows])
    BodyTable(
        paths,
        *(stack(k) for k in ("global_orient", "body_pose", "betas", "cam_t", "focal", "keypoints")),
        np.stack([b["visible"] for b in bodies]),
    ).save(part / "smpl.npz")
    save_masks(part / "masks.npz", paths, np.stack([b["mask"] for b in bodies]))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)


def build(P) -> None:
    """All data sets of the mini world, at the sizes of `P.world`."""
    poses = load_poses(P.paths.motions)
    root = Path(P.paths.datasets)
    root.mkdir(parents=True, exist_ok=True)
    for plan in plans(P, poses):
        (root / plan.folder).parent.mkdir(parents=True, exist_ok=True)
        render(root / plan.folder, plan, poses, P)


@command()
def main() -> int:
    parser = argparse.ArgumentParser(description="Render the mini world's data sets.")
    parser.add_argument("--params", default="params.yaml")
    try:
        build(parameters.load(parser.parse_args().params))
    except OSError as error:
        print(
            f"{error.filename} cannot be written ({error.strerror}): make room for it or make it writable.",
            file=sys.stderr,
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
