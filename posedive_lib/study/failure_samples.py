"""Images inspected for failures (§G), each beside what it should show.

The mini world can take a true photo of the same person in the same pose, view and camera. It can
also take one of somebody else, or of the person with another bag.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from posedive_lib import datasets
from posedive_lib.augment.candidates import load_bodies
from posedive_lib.body.table import BodyTable
from posedive_lib.datasets.images import read as read_images
from posedive_lib.errors import StudyError
from posedive_lib.seeds import rng_for
from posedive_lib.study import candidate_files, mini_world
from posedive_lib.study.condition_views import renderer

if TYPE_CHECKING:
    from posedive_lib.params import Params

Person = dict[str, Any]  # a row of the mini world's people
REFERENCE_COLUMNS = ["reference", "reference_path", "person", "low_quality", "occluded"]


@dataclass(frozen=True)
class Samples:
    """Inspected images, aligned by row. All pictures are uint8 (N, H, W, 3).

    table: manifest rows with dataset, kept; in the mini world person, bag, low_quality, occluded.
    bodies: targets; estimated: (N, 17, 2) key points of `generated`.
    normals: of the target; mask: (N, H, W) bool, the person in `truth`, or the target's body.
    The others are None without the truth:
    truth, again: two true photos, with other background and noise.
    stranger, other: two other persons in the same pose, view and camera.
    """

    table: pd.DataFrame
    bodies: BodyTable
    estimated: np.ndarray
    references: np.ndarray
    generated: np.ndarray
    normals: np.ndarray
    mask: np.ndarray
    truth: np.ndarray | None = None
    again: np.ndarray | None = None
    stranger: np.ndarray | None = None
    other: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.table)


def draw(P: Params, count: int) -> pd.DataFrame:
    """`count` candidates, spread evenly over the data sets, with the truth about their references.

    Kept and rejected ones alike.
    """
    share = int(np.ceil(count / len(P.study.datasets)))
    parts = []
    for name, rows in _candidates(P).groupby("dataset", sort=False):
        chosen = rng_for("failures", P.seed, name).permutation(len(rows))[:share]
        parts.append(rows.iloc[np.sort(chosen)])
    table = pd.concat(parts, ignore_index=True).iloc[:count].reset_index(drop=True)
    if not mini_world.has_people(table):
        return table
    return table.assign(bag=mini_world.people(P, table["person"].tolist())["bag"].to_numpy())


def draw_by_reference(P: Params, count: int) -> pd.DataFrame:
    """`count` candidates of each state of the reference photo: clear, blurred, occluded (§G).

    Poor references are rare: among candidates drawn at random there would be a few. An identity
    comes once in each state before any comes again. Empty without the truth.
    """
    pool = _candidates(P)
    if not mini_world.has_people(pool):
        return pool.iloc[:0]
    blurred, occluded = pool["low_quality"].astype(bool), pool["occluded"].astype(bool)
    parts = []
    for state, chosen in {
        "clear": ~(blurred | occluded),
        "blurred": blurred,
        "occluded": occluded,
    }.items():
        rows = pool[chosen]
        order = rng_for("failures", P.seed, state).permutation(len(rows))
        rows = rows.iloc[order]
        turn = rows.groupby(["dataset", "pid"]).cumcount().sort_values(kind="stable")
        parts.append(rows.loc[turn.index].head(count).assign(state=state))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(bag=mini_world.people(P, table["person"].tolist())["bag"].to_numpy())


def _candidates(P: Params) -> pd.DataFrame:
    """The candidates of all data sets with `dataset` and what is known of their references."""
    parts = []
    for name in P.study.datasets:
        manifest = candidate_files.load_manifest(name)
        train = datasets.of_study(name, P.paths).train
        known = train.rename(columns={"rel": "reference", "path": "reference_path"})
        known = known[[column for column in REFERENCE_COLUMNS if column in known]]
        parts.append(manifest.merge(known, on="reference").assign(dataset=name))
    table = pd.concat(parts, ignore_index=True)
    # text or bool, by how the file was read
    return table.assign(kept=table["kept"].astype(str) == "True")


class Studio:
    """Takes true photos in a sample's pose, view and camera: of its person, or of anybody."""

    def __init__(self, P: Params, table: pd.DataFrame, bodies: BodyTable):
        self.table, self.bodies = table, bodies
        self.photographer = mini_world.photographer(P)
        self.cameras = {name: mini_world.cameras(P, name) for name in table["dataset"].unique()}
        people = mini_world.people(P, table["person"].tolist())
        self.people: list[Person] = people.to_dict("records")  # type: ignore[assignment]
        self._taken: dict[tuple[int, str, str], dict[str, Any]] = {}

    def shoot(self, row: int, person: Person, take: str) -> dict[str, Any]:
        """Photo of `person` as row `row`'s target.

        The same `take` has the same background and noise.
        """
        key = row, person["person"], take
        if key not in self._taken:
            where, body = self.table.iloc[row], self.bodies
            # The person is not part of the key: all people get the same background and noise.
            rng = rng_for("failure-photo", where["dataset"], where["pid"], where["index"], take)
            camera = self.cameras[where["dataset"]][where["camid"]]
            self._taken[key] = self.photographer.shoot(
                person, body.body_pose[row], body.global_orient[row], body.cam_t[row], camera, rng
            )
        return self._taken[key]

    def stranger(self, row: int, which: int = 0) -> Person:
        """Another person of the sample; `which` numbers the draws."""
        own = self.people[row]["person"]
        others = [person for person in self.people if person["person"] != own]
        if not others:
            raise StudyError("All inspected images show one person: raise study.failure_samples.")
        return others[int(rng_for("stranger", row, which).integers(len(others)))]


def with_bag(person: Person, kind: str, colour: str) -> Person:
    """The same person with another bag ("none" for without).

    Under another name, because clothes are cached by name.
    """
    name = f"{person['person']} with {kind} {colour}"
    return {**person, "bag": kind, "bag_colour": colour, "person": name}


def without_prints(person: Person) -> Person:
    """The same person in plain clothes, under another name."""
    plain = {"front_print": "none", "back_print": "none"}
    return {**person, **plain, "person": f"{person['person']} without prints"}


def inspect(P: Params, table: pd.DataFrame) -> tuple[Samples, Studio | None]:
    """Photograph the truth for images that `draw` chose; without a studio where there is none."""
    # what is read below comes data set by data set, whatever the order of the table
    by_dataset = list(table.groupby("dataset", sort=False))
    table = pd.concat([rows for _, rows in by_dataset], ignore_index=True)
    loaded = [load_bodies(rows, candidate_files.store_of(str(name))) for name, rows in by_dataset]
    generated = [
        candidate_files.candidate_images(str(name), rows, P.image) for name, rows in by_dataset
    ]
    bodies = BodyTable.joined([part for part, _ in loaded])
    conditions = renderer(P)
    columns = bodies.global_orient, bodies.body_pose, bodies.betas, bodies.cam_t
    targets = [conditions.render(*body) for body in zip(*columns, strict=True)]
    samples = Samples(
        table,
        bodies,
        estimated=np.concatenate([estimated for _, estimated in loaded]),
        references=read_images(table["reference_path"].tolist(), P.image.height, P.image.width),
        generated=np.concatenate(generated),
        normals=np.stack([target.normals for target in targets]),
        mask=np.stack([target.mask for target in targets]),
    )
    if not mini_world.has_people(table):
        return samples, None
    studio = Studio(P, table, bodies)
    rows = range(len(table))
    truth = [studio.shoot(row, studio.people[row], "truth") for row in rows]
    again = [studio.shoot(row, studio.people[row], "again") for row in rows]
    stranger, other = (
        [studio.shoot(row, studio.stranger(row, which), "truth") for row in rows]
        for which in (0, 1)
    )
    samples = replace(
        samples,
        truth=_pictures(truth),
        again=_pictures(again),
        stranger=_pictures(stranger),
        other=_pictures(other),
        mask=np.stack([photo["mask"] for photo in truth]),
    )
    return samples, studio


def staged_bags(studio: Studio) -> np.ndarray:
    """True photos with the wrong bag: owners without theirs, the others with a backpack."""
    photos = []
    for row, person in enumerate(studio.people):
        bag = "backpack" if person["bag"] == "none" else "none"
        photos.append(studio.shoot(row, with_bag(person, bag, person["bag_colour"]), "again"))
    return _pictures(photos)


def staged_prints(studio: Studio) -> np.ndarray:
    """True photos of everybody without prints."""
    people = enumerate(studio.people)
    return _pictures([studio.shoot(row, without_prints(who), "again") for row, who in people])


def _pictures(photos: list[dict[str, Any]]) -> np.ndarray:
    return np.stack([photo["image"] for photo in photos])
