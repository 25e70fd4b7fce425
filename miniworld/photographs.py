"""True photographs for the study: a data set's people in chosen poses, views and cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from miniworld.cameras import Camera, read_cameras
from miniworld.photography import GivenPoses, Shot, photograph
from posedive_lib import datasets
from posedive_lib.augment.targets import oriented
from posedive_lib.augment.training_set import Training
from posedive_lib.body.camera import orient
from posedive_lib.body.poses import load_poses

if TYPE_CHECKING:
    from posedive_lib.body.poses import PoseSource
    from posedive_lib.params import Params


def cameras_of(P: Params, name: str) -> list[Camera]:
    """The cameras of a data set, without anything that hides people."""
    family = name.split("-")[0]  # MSMT17-S and both kinds of CUHK03 boxes share their cameras
    return [replace(camera, occluded=0.0) for camera in read_cameras(P.paths.world)[family]]


def people_named(P: Params, persons: Sequence[str]) -> pd.DataFrame:
    """Identity rows of the given persons, in that order."""
    table = pd.read_csv(Path(P.paths.world) / "identities.csv", keep_default_na=False)
    return table.set_index("person", drop=False).loc[list(persons)].reset_index(drop=True)


def take(
    P: Params,
    persons: Sequence[str],
    shots: list[Shot],
    *,
    poses: PoseSource | GivenPoses | None = None,
    conditions: bool = True,
    changes: Sequence[dict[str, str]] | None = None,
    progress: str | None = None,
) -> list[dict[str, Any]]:
    """A photo with its truth for each shot (see `miniworld.photography.photograph`).

    Args:
        persons: whom the shots' `person` counts.
        changes: what each person wears in place of their own, by column of identities.csv.
        poses: what the shots' `pose` counts; by default the study's source of poses.
        conditions: with the images that the generator would be given.
    """
    c, people = P.conditions, people_named(P, persons)
    if changes is not None:
        own = people.to_dict("records")
        people = pd.DataFrame([row | new for row, new in zip(own, changes, strict=True)])
    photos = photograph(
        people,
        load_poses(P.paths.motions) if poses is None else poses,
        shots,
        body=P.paths.body,
        height=P.image.height,
        width=P.image.width,
        focal=c.focal,
        depth_range=(c.depth_near, c.depth_far) if conditions else None,
        workers=P.world.workers,
        progress=progress,
    )
    return list(photos)


def of_plan(P: Params, name: str, rows: pd.DataFrame) -> np.ndarray:
    """Photos (N, H, W, 3) uint8 of a plan's rows (see `posedive_lib.augment.diversify.plan`).

    Each shows the reference's person in the row's pose and view, taken by the row's camera.
    """
    dataset = datasets.of_study(name, P.paths)
    poses = load_poses(P.paths.motions)
    orientation, body_pose = oriented(rows, Training.of(dataset), poses)
    # the camera places people upright, so what is left of the orientation is the body's own tilt
    azimuths, elevations = rows["azimuth"].to_numpy(), rows["elevation"].to_numpy()
    upright = Rotation.from_rotvec(orient(np.zeros((len(rows), 3)), azimuths, elevations))
    tilt = (upright.inv() * Rotation.from_rotvec(orientation)).as_rotvec()
    people = dataset.train.set_index("rel")["person"].loc[rows["reference"]].to_numpy()
    persons, cameras = sorted(set(people)), cameras_of(P, name)
    named = rows[["pid", "index", "camid"]].itertuples(index=False, name=None)
    shots = [
        Shot(
            persons.index(who),
            number,
            float(azimuths[number]),
            float(elevations[number]),
            cameras[int(camid)],
            ("oracle", P.seed, name, pid, index),
        )
        for number, (who, (pid, index, camid)) in enumerate(zip(people, named, strict=True))
    ]
    photos = take(
        P,
        persons,
        shots,
        poses=GivenPoses(tilt, body_pose),
        conditions=False,
        progress=f"oracle photos of {name}",
    )
    return np.stack([photo["image"] for photo in photos])
