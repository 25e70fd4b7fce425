"""Prints of shirts in generated images: kept where they are, and drawn where none is (§B).

A print is on one side of a shirt. The mini world takes each photo twice, with a print and without
it. The two tell which pixels the print has, and how it stands out from the shirt around it. A
generated image is asked whether it stands out there too, in that colour's direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.ndimage import binary_dilation

from posedive_lib import datasets
from posedive_lib.body.poses import load_poses
from posedive_lib.datasets.images import read as read_images
from posedive_lib.seeds import rng_for
from posedive_lib.study import mini_world, quality

if TYPE_CHECKING:
    from posedive_lib.params import Params

FRONT = 45.0  # degrees from the front, or from the back: then the print is seen well
CONTRAST = 40  # of 255, in a channel: less is another shade of one colour
PIXELS = 20  # at least; bags, arms and poses hide prints
RING = 4  # pixels around a print, by which it is seen to stand out


@dataclass(frozen=True)
class Prints:
    """People who wear a print on the front, from the front and from behind.

    targets: references that show the print; of M photos. with_print, without (M, H, W, 3) uint8:
    the photo with the front's print on the side that is seen, and without. own (M,) bool: that side
    has it (from the front). Else it has none (from behind).
    """

    targets: quality.Targets
    with_print: np.ndarray
    without: np.ndarray
    own: np.ndarray

    def shown(self, images: np.ndarray) -> np.ndarray:
        """(M,) bool: whether each of the images (M, H, W, 3) shows the print.

        That is at least half of its contrast to what is around it on the person. Contrasts count
        and not colours, so that a shirt in a wrong colour is no print.
        """
        inside = _area(self.with_print, self.without)
        around = np.stack([binary_dilation(one, iterations=RING) for one in inside])
        around &= self.targets.mask & ~inside
        with_print, without, drawn = (
            _mean(stack, inside) - _mean(stack, around)
            for stack in (self.with_print, self.without, images)
        )
        across = with_print - without  # (M, 3)
        share = ((drawn - without) * across).sum(1) / np.square(across).sum(1)
        return np.asarray(share >= 0.5)  # 0: as without it, 1: as with it


def _area(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(M, H, W) bool: the pixels that differ clearly between images (M, H, W, 3)."""
    return np.asarray(np.abs(one.astype(int) - other).max(-1) > CONTRAST)


def _mean(images: np.ndarray, area: np.ndarray) -> np.ndarray:
    """(M, 3) mean colours of images (M, H, W, 3) within areas (M, H, W)."""
    total = (images * area[..., None]).sum((1, 2), dtype=float)
    return np.asarray(total / np.maximum(area.sum((1, 2)), 1)[:, None])


def sample(P: Params, name: str) -> Prints | None:
    """All test people of a data set who wear a print on the front and have a photo that shows it.

    Each is asked for from the front, and from behind if the back has no print, in a random pose.
    None where no truth tells what people wear, or nobody wears a print that is seen.
    """
    dataset = datasets.of_study(name, P.paths)
    photos = pd.concat([dataset.query, dataset.gallery], ignore_index=True)
    if not mini_world.has_people(photos):
        return None
    wearers = _wearers(P, mini_world.clear(photos))
    persons, shots = wearers["person"].tolist(), _shots(P, name, wearers)
    changes = [_changed(look) for look in wearers.to_dict("records")]
    truth = mini_world.photographs(P, name, persons, shots, progress="prints")
    other = mini_world.photographs(P, name, persons, shots, conditions=False, changes=changes)
    true, changed = (np.stack([photo["image"] for photo in found]) for found in (truth, other))
    seen = np.flatnonzero(_area(true, changed).sum((1, 2)) >= PIXELS)
    if not len(seen):
        return None
    wearers, own = wearers.iloc[seen], wearers["own"].to_numpy()[seen]
    targets = quality.Targets.of(
        read_images(wearers["path"].tolist(), P.image.height, P.image.width),
        [truth[i] for i in seen],
        wearers["pid"].to_numpy(),
        [shots[i].key for i in seen],
    )
    front, true, changed = own[:, None, None, None], true[seen], changed[seen]
    return Prints(targets, np.where(front, true, changed), np.where(front, changed, true), own)


def _wearers(P: Params, photos: pd.DataFrame) -> pd.DataFrame:
    """A photo from the front, and the looks, of each person with a print on the front.

    own: True. People whose back shows no print and no bag stand there once more, with False.
    """
    turned = ((photos["azimuth"] + 180) % 360 - 180).abs()  # degrees from the front
    photos = photos[turned <= FRONT].sort_values(["pid", "rel"]).groupby("pid").head(1)
    looks = mini_world.people(P, photos["person"].tolist()).drop(columns="person")
    table = pd.concat([photos.reset_index(drop=True), looks], axis=1)
    table = table[(table["front_print"] != "none") & (table["jacket"] == "none")]
    bare = (table["back_print"] == "none") & (table["bag"] != "backpack")
    return pd.concat([table.assign(own=True), table[bare].assign(own=False)], ignore_index=True)


def _changed(look: Mapping[Any, Any]) -> dict[str, str]:
    """Without the front's print; or, where the back is asked for, with that print on it."""
    if look["own"]:
        return {"front_print": "none"}
    return {"back_print": look["front_print"], "back_shape": look["front_shape"]}


def _shots(P: Params, name: str, wearers: pd.DataFrame) -> list[mini_world.Shot]:
    """One photo of each row of `_wearers`, by the camera of its reference."""
    poses = load_poses(P.paths.motions)
    shots: list[mini_world.Shot] = []
    for row, (pid, camid, own) in enumerate(
        wearers[["pid", "camid", "own"]].itertuples(index=False, name=None)
    ):
        key = ("print-photo", P.seed, name, pid, own)
        rng = rng_for(*key)
        azimuth = float(rng.uniform(-FRONT, FRONT)) + (0.0 if own else 180.0)
        low, high = P.augment.elevation
        elevation, pose = float(rng.uniform(low, high)), int(rng.integers(len(poses.frame)))
        shots.append(mini_world.Shot(row, pose, azimuth, elevation, camid, key))
    return shots


def measured(prints: Prints, methods: dict[str, np.ndarray], seed: int) -> pd.DataFrame:
    """Rows of `generator_quality.csv` for images (M, H, W, 3) by method.

    print_kept: the share of people whose print is drawn from the front. print_false: of people
    whose back gets the front's print, though it has none. Intervals by resampling people.
    """
    rows = []
    for method, images in methods.items():
        shown = prints.shown(images).astype(float)
        for metric, values in (
            ("print_kept", shown[prints.own]),
            ("print_false", shown[~prints.own]),
        ):
            if len(values):
                rows.append((method, metric, *quality.over_people(values, seed=seed)))
    return pd.DataFrame(rows, columns=quality.COLUMNS)
