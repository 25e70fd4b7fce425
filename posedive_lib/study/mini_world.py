"""The study's one way to the mini world: true photographs of its people, and the truth about them.

No other module of the library imports `miniworld`. It is imported here when a function needs it,
so that a study of real data works without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from posedive_lib import datasets
from posedive_lib.augment.targets import rendering_of
from posedive_lib.bench.runs import RunStore, write_array
from posedive_lib.body.poses import load_poses
from posedive_lib.body.table import BodyTable
from posedive_lib.digests import code_digest, file_digest, folder_digest
from posedive_lib.errors import StudyError
from posedive_lib.workers import worker_pool

if TYPE_CHECKING:
    from miniworld.cameras import Camera
    from miniworld.photographer import Photographer
    from posedive_lib.params import Params
    from posedive_lib.params.sections import Paths

STORE = RunStore("runs/oracle")
PLAN_COLUMNS = [
    "reference",
    "pose_from",
    "pose_row",
    "view_row",
    "azimuth",
    "elevation",
    "camid",
    "pid",
    "index",
]  # what decides a true photo of a plan's row


@dataclass(frozen=True)
class Shot:
    """One photo to take.

    person: number among the persons photographed; pose: row of the study's source of poses;
    azimuth, elevation: degrees; camid: camera of the data set; key: seeds background and noise.
    """

    person: int
    pose: int
    azimuth: float
    elevation: float
    camid: int
    key: tuple


def has_people(table: pd.DataFrame) -> bool:
    """Whether a data set's images have the truth about whom they show."""
    return "person" in table


def described(table: pd.DataFrame) -> str:
    """What a data set's images are, for captions."""
    return "rendered mini world" if has_people(table) else "photos"


def clear(table: pd.DataFrame) -> pd.DataFrame:
    """Images that nothing hides and that are not blurred; without the truth all of them."""
    return table[~table["occluded"] & ~table["low_quality"]] if has_people(table) else table


def cameras(P: Params, name: str) -> list[Camera]:
    """The cameras of a data set, in the order of its camids, without anything that hides people."""
    from miniworld.photographs import cameras_of

    return cameras_of(P, name)


def people(P: Params, persons: Sequence[str]) -> pd.DataFrame:
    """What the given persons look like, one row each, in that order."""
    from miniworld.photographs import people_named

    return people_named(P, persons)


def some_people(P: Params, count: int) -> pd.DataFrame:
    """What the first `count` people of each test set look like, one row each."""
    table = pd.read_csv(Path(P.paths.world) / "identities.csv", keep_default_na=False)
    shown = table[table["role"].str.endswith("-test")]
    return shown.groupby("role").head(count).reset_index(drop=True)


def shape(person: dict[str, Any]) -> np.ndarray:
    """SMPL's shape (10,) of a row of `people`."""
    from miniworld.wardrobe import betas

    return betas(person)


def look_alikes(dataset: datasets.ReIDDataset) -> set[str] | None:
    """Persons of the test set who have a look-alike there; None where no `people.csv` tells.

    Look-alikes differ in what one side shows and in nothing else.
    """
    from miniworld import wardrobe

    table = dataset.folder / "people.csv"
    if not table.is_file():
        return None
    known = pd.read_csv(table, keep_default_na=False)
    shown = {*dataset.query["person"], *dataset.gallery["person"]}
    known = known[known["person"].isin(shown)]
    return set(known["person"][wardrobe.look_alikes(known)])


def make_world(P: Params) -> None:
    """A world of the seed `P.seed`: people and cameras in `paths.world`, its data sets rendered.

    What is there already is whole, and stays.
    """
    from miniworld import build, planning, specify

    world = Path(P.paths.world)
    if not (world / "cameras.json").is_file():  # written last
        specify.write_world(world, P.seed)
    poses = load_poses(P.paths.motions)
    with worker_pool(P.world.workers):
        for plan in planning.plans(P, poses):
            folder = Path(P.paths.datasets) / plan.folder
            if not (folder / build.MARK).is_file():
                build.render(folder, plan, poses, P)


def photographer(P: Params) -> Photographer:
    """Takes single photos of any person; keeps an OpenGL context."""
    from miniworld.photographer import Photographer

    return Photographer(P.paths.body, P.image.height, P.image.width, P.conditions.focal)


def cloth_colours() -> dict[str, tuple[float, float, float]]:
    """Colours of clothes and bags by name, in [0, 1]."""
    from miniworld.wardrobe import COLOURS

    return COLOURS


def photographs(
    P: Params,
    name: str,
    persons: Sequence[str],
    shots: list[Shot],
    *,
    conditions: bool = True,
    changes: Sequence[dict[str, str]] | None = None,
    progress: str | None = None,
) -> list[dict[str, Any]]:
    """True photos of shots with the cameras of a data set, as `miniworld.photography` has them.

    conditions: also what the generator would be given (skeleton, depth, normals). changes: what
    each person wears in place of their own (columns of `people`).
    """
    from miniworld import photography
    from miniworld.photographs import cameras_of, take

    views = cameras_of(P, name)
    wanted = [
        photography.Shot(s.person, s.pose, s.azimuth, s.elevation, views[s.camid], s.key)
        for s in shots
    ]
    return take(P, persons, wanted, conditions=conditions, changes=changes, progress=progress)


def asked(
    P: Params,
    dataset: datasets.ReIDDataset,
    references: pd.DataFrame,
    shots: list[Shot],
    *,
    progress: str | None = None,
) -> list[dict[str, Any]]:
    """What the generator is given for each shot, with the true photo ("image") if there is one.

    A shot's `person` counts the references (rows of the data set). Without the truth the body has
    the shape of the reference's, and `mask` is of that body.
    """
    if has_people(references):
        persons = references["person"].tolist()
        return photographs(P, dataset.name, persons, shots, progress=progress)
    bodies = BodyTable.load(dataset.bodies).select(references["rel"].tolist())
    poses, renderer = load_poses(P.paths.motions), rendering_of(P).renderer()
    found = []
    for s in shots:
        body = poses.root_tilt[s.pose], poses.body_pose[s.pose], bodies.betas[s.person]
        *_, vertices, joints = renderer.place(*body, s.azimuth, s.elevation)
        found.append(vars(renderer.draw(vertices, joints)))
    return found


@lru_cache
def _digests(name: str, paths: Paths) -> dict[str, Any]:
    """Of all files that decide the true photos of a data set; hundreds of runs share them."""
    folder = datasets.of_study(name, paths).folder
    return {
        "truth": [file_digest(folder / "truth.csv"), file_digest(folder / "smpl.npz")],
        "code": code_digest("miniworld.photographs"),
        "world": folder_digest(paths.world),
        "motions": folder_digest(paths.motions),
        "body": file_digest(paths.body),
    }


def _true_photos_spec(P: Params, name: str, rows: pd.DataFrame) -> dict[str, Any]:
    """Everything that decides the pixels of the true photos of a plan's rows."""
    return {
        "name": name,
        "rows": rows[PLAN_COLUMNS].to_numpy().tolist(),
        **P.pick("image", "conditions.focal", "seed"),
        **_digests(name, P.paths),
    }


def true_photos(P: Params, name: str, rows: pd.DataFrame) -> Path:
    """File with true photos (N, H, W, 3) of a plan's rows, taken once.

    Each shows the reference's person in the row's pose and view, taken by the row's camera.
    """
    if not has_people(datasets.of_study(name, P.paths).train):
        raise StudyError(
            f"{name} has no truth.csv with the column 'person', so that no true photos can be "
            "taken: leave the oracle arms out of study.arms and study.resnet_arms."
        )
    file = STORE.folder(_true_photos_spec(P, name, rows)) / "images.npy"
    if not file.is_file():
        from miniworld.photographs import of_plan

        write_array(file, of_plan(P, name, rows))
    return file
