"""Who is shown? A judge of persons that shares no network with the generator, trained on other people where there are some (beyond the paper)."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from posedive_lib import datasets
from posedive_lib.augment import filter_quality
from posedive_lib.datasets.images import read as read_images
from posedive_lib.study import mini_world


def elsewhere(P, name: str) -> str:
    """The first data set of another source than `name`, whose photos train the judge; `name` itself where there is no other."""
    return next(
        (other for other in P.study.datasets if other.split("-")[0] != name.split("-")[0]), name
    )


def judge(
    P, name: str, rows: pd.DataFrame, extract
) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
    """A function of images (N, H, W, 3), one of each manifest row, to (N,) 1 where they show the right person, else 0; and the share of the
    photos judged by for which it says so itself. NaN: the person has one row, so that there is no other to judge by.

    The person named is the one whose photos are nearest by `extract` (images to features (N, D)). The mini world photographs its people in the
    *other* rows' poses and views: real photos show few sides, and would favour an image that draws these from all of them. A data set
    without the truth has nothing but its real training photos.
    """
    train, pids = datasets.load(name, P.paths.datasets).train, rows["pid"].to_numpy()
    if "person" in train:
        known = extract(np.load(mini_world.true_photos(P, name, rows), allow_pickle=False))
        return lambda images: filter_quality.named_by_the_others(
            extract(images), pids, known
        ), share(filter_quality.named_by_the_others(known, pids))
    known, real = (
        extract(read_images(train["path"], P.image.height, P.image.width)),
        train["pid"].to_numpy(),
    )
    return lambda images: filter_quality.identity_similarity(extract(images), pids, known, real)[
        1
    ].astype(float), share(filter_quality.named_by_the_others(known, real))


def share(named: np.ndarray) -> float:
    """Share of 1 among what could be judged; NaN where nothing could."""
    return float(np.nanmean(named)) if np.isfinite(named).any() else float("nan")
