"""Photographs of any mini-world person in any pose and view: the data sets, the pre-training people, the oracle arm."""

from dataclasses import dataclass

import pandas as pd
from tqdm import tqdm

from miniworld.cameras import Camera
from miniworld.photographer import Photographer
from miniworld.wardrobe import betas
from posedive_lib.body.camera import viewpoint
from posedive_lib.body.conditions import ConditionRenderer
from posedive_lib.body.poses import PoseSource
from posedive_lib.body.rendering import rendering_processes
from posedive_lib.seeds import rng_for


@dataclass(frozen=True)
class Shot:
    """One photo to take: who (row of the identities), pose (row of the source), where from, and a key for its seed."""

    person: int
    pose: int
    azimuth: float
    elevation: float
    camera: Camera
    key: tuple
    fill: float = 0.86
    shift: tuple[float, float] = (0.0, 0.0)
    low_quality: bool = False


_studio: dict[tuple, tuple] = {}


def _take(settings: tuple, jobs: list[tuple]) -> list[dict]:
    """Worker: photos with truth for (identity row, root tilt, body pose, shot); the OpenGL context is kept."""
    body, height, width, focal, near, far, maps = settings
    if settings not in _studio:
        conditions = None
        if near is not None:
            conditions = ConditionRenderer(body, height, width, near=near, far=far, focal=focal)
        _studio[settings] = Photographer(body, height, width, focal), conditions
    photographer, conditions = _studio[settings]
    results = []
    for who, tilt, body_pose, shot in jobs:
        view = (tilt, body_pose, betas(who), shot.azimuth, shot.elevation, shot.fill, shot.shift)
        if conditions is None:
            global_orient, cam_t = photographer.place(who, tilt, body_pose, *view[3:])
        else:
            global_orient, cam_t, *naked = conditions.place(*view)
        photo = photographer.shoot(
            who,
            body_pose,
            global_orient,
            cam_t,
            shot.camera,
            rng_for(*shot.key),
            low_quality=shot.low_quality,
            maps=maps,
        )
        azimuth, elevation = viewpoint(global_orient[None], cam_t[None])
        photo |= {
            "global_orient": global_orient,
            "body_pose": body_pose,
            "betas": betas(who),
            "cam_t": cam_t,
            "focal": photographer.focal,
            "azimuth": float(azimuth[0]),
            "elevation": float(elevation[0]),
        }
        if conditions is not None:
            drawn = conditions.draw(*naked)
            photo |= {
                "skeleton": drawn.skeleton,
                "depth": drawn.depth,
                "normals": drawn.normals,
                "neutral": drawn.neutral,
            }
        results.append(photo)
    return results


def photograph(
    identities: pd.DataFrame,
    poses: PoseSource,
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
):
    """Yield one dict per shot, in order, from `workers` processes.

    Args:
        identities: rows of `miniworld.wardrobe.sample_identities`. poses: source of body poses.
        focal: in image heights. depth_range: (near, far) metres to add the generator's conditions, None for photos only. maps: with the
            depth and normals of the dressed person.

    Yields:
        what `Photographer.shoot` returns, and global_orient (3,), body_pose (69,), betas (10,), cam_t (3,), focal px, azimuth,
        elevation; skeleton, depth, normals, neutral with `depth_range`.
    """
    near, far = depth_range or (None, None)
    settings = (str(body), height, width, focal, near, far, maps)
    people = identities.to_dict("records")
    jobs = [(people[s.person], poses.root_tilt[s.pose], poses.body_pose[s.pose], s) for s in shots]
    chunks = [jobs[i : i + 48] for i in range(0, len(jobs), 48)]
    with tqdm(total=len(jobs), desc=progress, unit="img", disable=progress is None) as bar:
        with rendering_processes(max(1, min(workers, len(chunks)))) as pool:
            for photos in pool.map(_take, [settings] * len(chunks), chunks):
                bar.update(len(photos))
                yield from photos


def free_shots(
    count: int, poses: PoseSource, cameras: list[Camera], per_person: int, key: tuple
) -> list[Shot]:
    """`per_person` shots of each of `count` people in any pose, any azimuth and elevation 0–30°, any camera's look."""
    shots = []
    for person in range(count):
        for index in range(per_person):
            rng = rng_for(*key, person, index)
            shots.append(
                Shot(
                    person,
                    int(rng.integers(len(poses.frame))),
                    float(rng.uniform(-180, 180)),
                    float(rng.uniform(0, 30)),
                    cameras[rng.integers(len(cameras))],
                    (*key, person, index, "photo"),
                    float(rng.uniform(0.78, 0.92)),
                    (float(rng.normal(0, 0.01)), float(rng.normal(0, 0.012))),
                    bool(rng.random() < 0.04),
                )
            )
    return shots
