"""Who is shown? A judge of persons that shares no network with the generator (beyond the paper).

It is trained on other people than those it judges, where there are some.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from posedive_lib import datasets
from posedive_lib.augment.measures import identity_similarity, named_by_the_others
from posedive_lib.bench.statistics import identity_interval
from posedive_lib.datasets.images import read_blocks
from posedive_lib.study import mini_world

if TYPE_CHECKING:
    from posedive_lib.params import Params

OfImages = Callable[[np.ndarray], np.ndarray]
OfFeatures = Callable[[np.ndarray], np.ndarray]


def elsewhere(P: Params, name: str) -> str:
    """The data set whose photos train the judge: the first one of another source than `name`.

    `name` itself where there is no other.
    """
    source = name.split("-")[0]
    others = [other for other in P.study.datasets if other.split("-")[0] != source]
    return others[0] if others else name


def judge(P: Params, name: str, rows: pd.DataFrame, extract: OfImages) -> tuple[OfFeatures, float]:
    """A function that says of images of manifest rows whether each shows the right person.

    It takes their features (N, D) by `extract`, one of each row, and gives (N,) 1 or 0, or NaN
    where the person has no other row to compare with. Second: the share that is right among the
    true photos that it compares with.

    The person named is the one whose photos are nearest by `extract` (images to features (N, D)).
    The mini world photographs its people in the *other* rows' poses and views: real photos show few
    sides, and would favour an image that draws these from all of them. A data set without the truth
    has only its real training photos.
    """
    train, pids = datasets.of_study(name, P.paths).train, rows["pid"].to_numpy()
    if mini_world.has_people(train):
        known = extract(np.load(mini_world.true_photos(P, name, rows), allow_pickle=False))

        def by_the_others(features: np.ndarray) -> np.ndarray:
            return named_by_the_others(features, pids, known)

        return by_the_others, share(named_by_the_others(known, pids))
    photos = read_blocks(train["path"].tolist(), P.image.height, P.image.width)
    real = np.concatenate([extract(block) for block in photos])
    real_pids = train["pid"].to_numpy()

    def by_real_photos(features: np.ndarray) -> np.ndarray:
        return identity_similarity(features, pids, real, real_pids)[1].astype(float)

    return by_real_photos, share(named_by_the_others(real, real_pids))


def rate(named: np.ndarray, pids: np.ndarray, *, seed: int) -> dict[str, float]:
    """right_percent, right_low, right_high and judged of what `judge` says of images (N,).

    pids (N,): the wanted people, over whom the 95 % interval resamples.
    """
    known = np.isfinite(named)
    if not known.any():
        return dict.fromkeys(("right_percent", "right_low", "right_high"), np.nan) | {"judged": 0}
    found = identity_interval(named[known], pids[known], seed=seed)
    percent = {"right_percent": found.mean, "right_low": found.low, "right_high": found.high}
    return {name: 100 * value for name, value in percent.items()} | {"judged": int(known.sum())}


def share(named: np.ndarray) -> float:
    """Share of 1 among what could be judged; NaN where nothing could."""
    return float(np.nanmean(named)) if np.isfinite(named).any() else float("nan")
