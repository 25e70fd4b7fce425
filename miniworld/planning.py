"""What each data set of the mini world shows: who, by which camera, from where, in which pose.

Training identities are seen by few cameras, mostly from the front and in ordinary poses; test
identities are seen from everywhere and in all poses. That bias of the training sets is the paper's
subject. Every draw has a key of its own, so other sizes do not change a photo.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from miniworld.cameras import read_cameras
from miniworld.photography import Shot, photograph
from posedive_lib.errors import StudyError
from posedive_lib.seeds import rng_for

if TYPE_CHECKING:
    from miniworld.cameras import Camera
    from posedive_lib.body.poses import PoseSource
    from posedive_lib.params import Params
    from posedive_lib.params.sections import CUHK03World, MarketWorld, MSMT17World

FRONTAL = 36.0  # degrees: cameras that see people from within this of the front
FRONTAL_WEIGHT = 60.0  # how much more often training identities walk past one of those
UNUSUAL_TRAIN, UNUSUAL_TEST = 0.04, 0.35  # share of out-of-domain poses
JITTER = 0.012  # standard deviation of a box's place, in crop heights


@dataclass(frozen=True)
class Entry:
    """Where one photo goes: path in the data set's folder, split, identity and camera (0-based)."""

    path: str
    split: str
    pid: int
    camid: int
    shot: Shot


class Planner:
    """Plans the shots of one data set."""

    def __init__(
        self,
        name: str,
        people: pd.DataFrame,
        cameras: list[Camera],
        poses: PoseSource,
        seed: int,
        aspects: list[float] | None,
    ):
        self.name, self.cameras, self.seed, self.aspects = name, cameras, seed, aspects
        self.people = people.reset_index(drop=True)
        self.ordinary = np.flatnonzero(poses.domain == "in")
        self.unusual = np.flatnonzero(poses.domain == "out")
        azimuths = np.array([camera.azimuth for camera in cameras])
        off_front = abs((azimuths + 180) % 360 - 180)
        self.frontal = np.where(off_front <= FRONTAL, FRONTAL_WEIGHT, 1.0)

    def role(self, role: str, count: int) -> list[int]:
        """Rows of the first `count` people of a role; StudyError when the world has fewer."""
        rows = self.people.index[self.people.role == f"{self.name}-{role}"].tolist()
        if count > len(rows):
            raise StudyError(
                f"params world.{self.name} asks for {count} {role} identities, "
                f"data/world has {len(rows)}: ask for fewer."
            )
        return rows[:count]

    def cameras_of(self, person: int, train: bool) -> list[int]:
        """Cameras that see a person: in training three, mostly frontal; in test half of all."""
        rng = rng_for("cameras", self.name, self.seed, person)
        wanted = 3 if train else max(2, (len(self.cameras) + 1) // 2)
        weights = self.frontal / self.frontal.sum() if train else None
        count = min(len(self.cameras), wanted)
        return sorted(rng.choice(len(self.cameras), count, replace=False, p=weights).tolist())

    def shot(
        self, person: int, camid: int, index: int, train: bool, jitter: float = JITTER
    ) -> Shot:
        """One shot with its own seed; `jitter` displaces the box (see JITTER)."""
        key = ("photo", self.name, self.seed, person, camid, index)
        rng = rng_for(*key)
        camera = self.cameras[camid]
        spread = camera.azimuth_spread * (1.0 if train else 1.8)
        unusual = rng.random() < (UNUSUAL_TRAIN if train else UNUSUAL_TEST)
        pose = int(rng.choice(self.unusual if unusual else self.ordinary))
        return Shot(
            person,
            pose,
            azimuth=camera.azimuth + float(rng.normal(0, spread)),
            elevation=float(np.clip(camera.elevation + rng.normal(0, 2.5), 0, 30)),
            camera=camera,
            key=key,
            fill=float(np.clip(rng.normal(0.86, 2 * jitter), 0.7, 1.0)),
            shift=(float(rng.normal(0, jitter)), float(rng.normal(0, jitter))),
            low_quality=bool(rng.random() < 0.03),
            aspect=self._aspect(key),
        )

    def _aspect(self, key: tuple) -> float | None:
        if self.aspects is None:
            return None
        return float(rng_for("crop", *key).choice(self.aspects))


def _market_name(pid: int, camid: int, index: int) -> str:
    number = "-1" if pid < 0 else f"{pid:04d}"
    return f"{number}_c{camid + 1}s1_{index:06d}_01.jpg"


def plan_market1501(planner: Planner, sizes: MarketWorld) -> list[Entry]:
    """File names `PPPP_cCsS_FFFFFF_DD.jpg`; pid 0 = distractor, -1 = junk."""
    entries = []

    def add(folder: str, split: str, pid: int, camid: int, index: int, shot: Shot) -> None:
        path = f"{folder}/{_market_name(pid, camid, index)}"
        entries.append(Entry(path, split, pid, camid, shot))

    for pid, person in enumerate(planner.role("train", sizes.train_pids), 1):
        cameras = planner.cameras_of(person, True)
        for i in range(sizes.images_per_train_pid):
            camid = cameras[i % len(cameras)]
            shot = planner.shot(person, camid, i, True)
            add("bounding_box_train", "train", pid, camid, i, shot)
    test = planner.role("test", sizes.test_pids)
    for pid, person in enumerate(test, sizes.train_pids + 1):
        cameras = planner.cameras_of(person, False)
        for i in range(sizes.images_per_test_pid):
            camid = cameras[i % len(cameras)]
            shot = planner.shot(person, camid, i, False)
            if i < len(cameras):  # each camera's first photo of the person is a query
                add("query", "query", pid, camid, i, shot)
            else:
                add("bounding_box_test", "gallery", pid, camid, i, shot)
    for i, person in enumerate(planner.role("distractor", sizes.distractors)):
        camid = i % len(planner.cameras)
        shot = planner.shot(person, camid, i, False)
        add("bounding_box_test", "gallery", 0, camid, i, shot)
    for i in range(sizes.junk):  # badly cut boxes of test people
        camid = i % len(planner.cameras)
        shot = planner.shot(test[i % len(test)], camid, 900 + i, False)
        shot = replace(shot, shift=(0.12, 0.35), fill=1.1)
        add("bounding_box_test", "junk", -1, camid, i, shot)
    return entries


def plan_msmt17(planner: Planner, sizes: MSMT17World) -> list[Entry]:
    """File names `PPPP/PPPP_III_CC_...jpg` below train/ and test/; each counts pids from 0."""
    entries = []

    def add(folder: str, split: str, pid: int, camid: int, i: int, shot: Shot) -> None:
        path = f"{folder}/{pid:04d}/{pid:04d}_{i:03d}_{camid + 1:02d}_0101noon_{i:04d}_0.jpg"
        entries.append(Entry(path, split, pid, camid, shot))

    for pid, person in enumerate(planner.role("train", sizes.train_pids)):
        cameras = planner.cameras_of(person, True)
        for i in range(sizes.images_per_train_pid):
            camid = cameras[i % len(cameras)]
            split = "val" if i == sizes.images_per_train_pid - 1 else "train"
            add("train", split, pid, camid, i, planner.shot(person, camid, i, True))
    for pid, person in enumerate(planner.role("test", sizes.test_pids)):
        cameras = planner.cameras_of(person, False)
        for i in range(sizes.images_per_test_pid):
            camid = cameras[i % len(cameras)]
            split = "query" if i < min(4, len(cameras)) else "gallery"
            add("test", split, pid, camid, i, planner.shot(person, camid, i, False))
    return entries


CUHK03_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}


def plan_cuhk03(planner: Planner, sizes: CUHK03World, jitter: float) -> list[Entry]:
    """CUHK03-NP names `PPPP_cC_I.png`; `jitter` is what tells detected from labelled boxes."""
    entries = []
    train = planner.role("train", sizes.train_pids)
    test = planner.role("test", sizes.test_pids)
    for pid, person in enumerate(train + test, 1):
        training = pid <= len(train)
        for i in range(sizes.images_per_pid):
            camid = i % 2
            split = "query" if i < 2 else "gallery"
            if training:
                split = "train"
            path = f"{CUHK03_FOLDERS[split]}/{pid:04d}_c{camid + 1}_{i + 1}.png"
            shot = planner.shot(person, camid, i, training, jitter)
            entries.append(Entry(path, split, pid, camid, shot))
    return entries


@dataclass(frozen=True)
class Plan:
    """One data set: folder below `paths.datasets`, label for people, planner and photos."""

    folder: str
    label: str
    planner: Planner
    entries: list[Entry]


def plans(P: Params, poses: PoseSource) -> list[Plan]:
    """Every data set at the sizes of `P.world`; the same inputs give the same plans."""
    world = Path(P.paths.world)
    if not (world / "identities.csv").is_file():
        raise StudyError(
            f"{world}/identities.csv is missing: run `dvc pull` to fetch the tracked data."
        )
    people = pd.read_csv(world / "identities.csv", keep_default_na=False)
    cameras = read_cameras(world)

    def planner(name: str) -> Planner:
        own = people[people.role.str.startswith(name)]
        return Planner(name, own, cameras[name], poses, P.seed, P.world.aspects)

    market, msmt, cuhk = planner("market1501"), planner("msmt17"), planner("cuhk03")
    sizes = P.world
    entries = plan_market1501(market, sizes.market1501)
    return [
        Plan("Market-1501-v15.09.15", "Market-1501", market, entries),
        Plan("MSMT17_V1", "MSMT17", msmt, plan_msmt17(msmt, sizes.msmt17)),
        Plan("cuhk03-np/labeled", "CUHK03 (L)", cuhk, plan_cuhk03(cuhk, sizes.cuhk03, 0.008)),
        Plan("cuhk03-np/detected", "CUHK03 (D)", cuhk, plan_cuhk03(cuhk, sizes.cuhk03, 0.035)),
    ]


def photos_of(
    P: Params,
    plan: Plan,
    entries: list[Entry],
    poses: PoseSource,
    *,
    maps: bool = False,
    progress: str | None = None,
) -> Generator[dict[str, Any], None, None]:
    """Yield the photo of every entry with its truth, always the same ones.

    See `miniworld.photography.photograph`.
    """
    return photograph(
        plan.planner.people,
        poses,
        [entry.shot for entry in entries],
        body=P.paths.body,
        height=P.image.height,
        width=P.image.width,
        focal=P.conditions.focal,
        maps=maps,
        workers=P.world.workers,
        progress=progress,
    )
