"""Photographs of any person in any pose and view, taken by several processes."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from miniworld.photographer import Photographer
from miniworld.wardrobe import betas
from posedive_lib.body.camera import viewpoint
from posedive_lib.body.conditions import ConditionRenderer
from posedive_lib.seeds import rng_for
from posedive_lib.workers import worker_pool

if TYPE_CHECKING:
    import pandas as pd

    from miniworld.cameras import Camera
    from miniworld.wardrobe import Identity
    from posedive_lib.body.poses import PoseSource

CHUNK = 48  # photos that a process takes at a time


@dataclass(frozen=True)
class Shot:
    """One photo to take.

    person: row of the identities; pose: row of the source of poses; azimuth, elevation: degrees;
    key: seeds background and noise; fill, shift: of the crop, see `body.camera.fit_to_crop`.
    aspect: height over width of the crop; None: of the size that `photograph` is given.
    window: (x, y) in [0, 1], which part of the camera's scene stands behind; None draws it.
    """

    person: int
    pose: int
    azimuth: float
    elevation: float
    camera: Camera
    key: tuple
    fill: float = 0.86
    shift: tuple[float, float] = (0.0, 0.0)
    low_quality: bool = False
    window: tuple[float, float] | None = None
    aspect: float | None = None


@dataclass(frozen=True)
class GivenPoses:
    """Poses made for one list of shots: root_tilt (N, 3), body_pose (N, 69)."""

    root_tilt: np.ndarray
    body_pose: np.ndarray


@dataclass(frozen=True)
class Studio:
    """What all photos of one call share; arguments as in `photograph`."""

    body: str
    height: int
    width: int
    focal: float
    depth_range: tuple[float, float] | None = None
    maps: bool = False


@dataclass(frozen=True)
class Job:
    """One photo for a worker: whom, in which pose, and how."""

    who: Identity
    root_tilt: np.ndarray
    body_pose: np.ndarray
    shot: Shot


@cache
def _equipment(studio: Studio) -> tuple[Photographer, ConditionRenderer | None]:
    """A process keeps its OpenGL contexts."""
    size = (studio.body, studio.height, studio.width)
    conditions = None
    if studio.depth_range is not None:
        near, far = studio.depth_range
        conditions = ConditionRenderer(*size, near=near, far=far, focal=studio.focal)
    return Photographer(*size, studio.focal), conditions


def _take(studio: Studio, jobs: list[Job]) -> list[dict[str, Any]]:
    """Worker: the photos of some jobs, as `photograph` yields them."""
    return [_photo(studio, job) for job in jobs]


def _photo(studio: Studio, job: Job) -> dict[str, Any]:
    who, shot = job.who, job.shot
    if shot.aspect is not None:
        studio = replace(studio, width=round(studio.height / shot.aspect))
    photographer, conditions = _equipment(studio)
    view = (shot.azimuth, shot.elevation, shot.fill, shot.shift)
    if conditions is None:
        orientation, cam_t = photographer.place(who, job.root_tilt, job.body_pose, *view)
    else:  # place the naked body once, for the conditions as well
        placed = conditions.place(job.root_tilt, job.body_pose, betas(who), *view)
        orientation, cam_t, vertices, joints = placed
    photo = photographer.shoot(
        who,
        job.body_pose,
        orientation,
        cam_t,
        shot.camera,
        rng_for(*shot.key),
        low_quality=shot.low_quality,
        window=shot.window,
        maps=studio.maps,
    )
    azimuth, elevation = viewpoint(orientation[None], cam_t[None])
    photo |= {
        "global_orient": orientation,
        "body_pose": job.body_pose,
        "betas": betas(who),
        "cam_t": cam_t,
        "focal": photographer.focal,
        "azimuth": float(azimuth[0]),
        "elevation": float(elevation[0]),
    }
    if conditions is not None:
        drawn = conditions.draw(vertices, joints)
        photo |= {name: getattr(drawn, name) for name in ("skeleton", "depth", "normals")}
        photo["neutral"] = drawn.neutral
    return photo


def photograph(
    identities: pd.DataFrame,
    poses: PoseSource | GivenPoses,
    shots: list[Shot],
    *,
    body: str,
    height: int,
    width: int,
    focal: float,
    depth_range: tuple[float, float] | None = None,
    maps: bool = False,
    workers: int = 2,
    progress: str | None = None,
) -> Generator[dict[str, Any], None, None]:
    """Yield one dict per shot, in order. `workers` processes take them; one is this process.

    Args:
        identities: rows of `miniworld.wardrobe.sample_identities`.
        body: SMPL file.
        height, width: pixels; a shot with an `aspect` has a width of its own.
        focal: in image heights.
        depth_range: (near, far) metres to add the generator's conditions; None for photos only.
        maps: with the depth and normals of the dressed person.
        progress: label of a bar.

    Yields what `Photographer.shoot` returns, and global_orient (3,), body_pose (69,), betas (10,),
    cam_t (3,), focal px, azimuth, elevation; with `depth_range` skeleton, depth, normals, neutral.
    """
    studio = Studio(str(body), height, width, focal, depth_range, maps)
    people = identities.to_dict("records")
    jobs = [
        Job(people[shot.person], poses.root_tilt[shot.pose], poses.body_pose[shot.pose], shot)
        for shot in shots
    ]
    chunks = [jobs[i : i + CHUNK] for i in range(0, len(jobs), CHUNK)]
    processes = max(1, min(workers, len(chunks)))
    bar = tqdm(total=len(jobs), desc=progress, unit="img", disable=progress is None)
    with bar, worker_pool(processes) if processes > 1 else nullcontext() as pool:
        several = pool.map if pool else map
        for photos in several(_take, repeat(studio), chunks):
            bar.update(len(photos))
            yield from photos


def free_shots(
    count: int, poses: PoseSource, cameras: list[Camera], per_person: int, key: tuple
) -> list[Shot]:
    """`per_person` shots of each of `count` people, in any pose, from any azimuth.

    Elevations go from 0 to 30 degrees, and any camera takes the photo.
    """
    shots = []
    for person in range(count):
        for index in range(per_person):
            rng = rng_for(*key, person, index)
            shots.append(
                Shot(
                    person,
                    int(rng.integers(len(poses.frame))),
                    azimuth=float(rng.uniform(-180, 180)),
                    elevation=float(rng.uniform(0, 30)),
                    camera=cameras[rng.integers(len(cameras))],
                    key=(*key, person, index, "photo"),
                    fill=float(rng.uniform(0.78, 0.92)),
                    shift=(float(rng.normal(0, 0.01)), float(rng.normal(0, 0.012))),
                    low_quality=bool(rng.random() < 0.04),
                )
            )
    return shots
