"""What goes wrong in generated images (§G), measured against a true photo of what was asked for.

The paper looked at about 100 samples and named two kinds of failure: a backpack that the reference
does not show, and poor references. Here every kind is a number with a threshold. Each threshold is
checked on photos that are known to be right or staged to be wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
from skimage.color import deltaE_ciede2000, rgb2lab

from posedive_lib.augment.measures import height_by_mask, pck
from posedive_lib.study import mini_world
from posedive_lib.study.failure_samples import with_bag, without_prints

if TYPE_CHECKING:
    from posedive_lib.study.failure_samples import Person, Samples, Studio

MEASURED = ("wrong key points", "wrong colours", "print vanished", "bag vanished", "bag appeared")
LEAST_PCK = 0.75  # below, more than a quarter of the visible body points are wrong
STRANGERS = 0.25  # colours are wrong where this share of strangers is closer to the person
LEAST_PIXELS = 40  # a print or bag that shows fewer pixels is not judged
LEVELS = 24  # of 255: a smaller difference between two photos does not show a print or a bag
BAG_MARGIN = 0.7  # a bag appeared where it explains the picture this much better than the clothes


def colour_error(images: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(N,) mean CIEDE2000 difference inside the person: 2 is just visible, 20 another colour.

    After a blur of 2 pixels, which forgives small shifts.
    """
    difference = deltaE_ciede2000(_lab(images), _lab(truth))
    return (difference * mask).sum((1, 2)) / np.maximum(mask.sum((1, 2)), 1)


def _lab(images: np.ndarray) -> np.ndarray:
    return rgb2lab(gaussian_filter(images / 255.0, (0, 2, 2, 0)))


def _soft(image: np.ndarray) -> np.ndarray:
    return gaussian_filter(image.astype(float), (1, 1, 0))


def _gap(a: np.ndarray, b: np.ndarray, region: np.ndarray) -> float:
    """Mean difference of two pictures inside a region (H, W), in levels of 255."""
    return float(np.abs(a - b)[region].mean())


def vanished(studio: Studio, row: int, image: np.ndarray, without: Person) -> float:
    """How much closer a thing's region is to a photo of the person `without`, in levels of 255.

    Above 0 the thing vanished, a print or a bag. NaN: too little of it shows.
    """
    image = _soft(image)
    on = _soft(studio.shoot(row, studio.people[row], "truth")["image"])
    off = _soft(studio.shoot(row, without, "truth")["image"])
    region = np.abs(on - off).max(-1) > LEVELS
    if region.sum() < LEAST_PIXELS:
        return np.nan
    return _gap(image, on, region) - _gap(image, off, region)


def appeared(studio: Studio, row: int, image: np.ndarray) -> float:
    """How much better the best bag explains the body where it would hang, in levels of 255.

    Above 0 a bag appeared. NaN: none could be seen from here. Only pixels of the body count: behind
    it there is background, which nobody prescribed.
    """
    person, image = studio.people[row], _soft(image)
    plain = studio.shoot(row, person, "truth")
    clothes, scores = _soft(plain["image"]), []
    colours = {name: np.array(colour) for name, colour in mini_world.cloth_colours().items()}
    low, high = colours["black"], colours["white"]
    for kind in ("backpack", "shoulder bag"):
        # Black and white bags are photographed; other colours lie between them.
        black, white = (
            _soft(studio.shoot(row, with_bag(person, kind, colour), "truth")["image"])
            for colour in ("black", "white")
        )
        region = (np.abs(white - black).max(-1) > LEVELS) & plain["mask"]
        if region.sum() < LEAST_PIXELS:
            continue
        best = min(
            _gap(image, black + (white - black) * (colour - low) / (high - low), region)
            for colour in colours.values()
        )
        scores.append(BAG_MARGIN * _gap(image, clothes, region) - best)
    return max(scores, default=np.nan)


def print_scores(studio: Studio, images: np.ndarray) -> pd.Series:
    """The score of "print vanished" of each row; NaN where no print of the person shows."""
    scores = [
        vanished(studio, row, image, without_prints(studio.people[row]))
        for row, image in enumerate(images)
    ]
    return pd.Series(scores, name=MEASURED[2], dtype=float)


def bag_scores(studio: Studio, images: np.ndarray) -> pd.DataFrame:
    """Columns "bag vanished" (people with a bag) and "bag appeared" (people without).

    NaN where a row cannot show it.
    """
    rows = []
    for row, image in enumerate(images):
        person = studio.people[row]
        if person["bag"] == "none":
            rows.append((np.nan, appeared(studio, row, image)))
        else:
            without = with_bag(person, "none", person["bag_colour"])
            rows.append((vanished(studio, row, image, without), np.nan))
    return pd.DataFrame(rows, columns=list(MEASURED[3:]))


def scores(
    samples: Samples, studio: Studio | None, images: np.ndarray, estimated: np.ndarray
) -> pd.DataFrame:
    """A column per kind of MEASURED, the larger the worse; without the truth the first alone.

    1 − PCK@0.1, CIEDE2000, and levels of 255 for prints and bags. estimated: (N, 17, 2), of the
    images.
    """
    first = pose_and_colour(samples, images, estimated)
    if studio is None:
        return first
    return pd.concat([first, print_scores(studio, images), bag_scores(studio, images)], axis=1)


def pose_and_colour(samples: Samples, images: np.ndarray, estimated: np.ndarray) -> pd.DataFrame:
    """The first two columns of `scores`; without the truth the first alone."""
    height = height_by_mask(samples.mask)
    found = pck(estimated, samples.bodies.keypoints, samples.bodies.visible, height)
    first = pd.DataFrame({"wrong key points": 1 - found})
    if samples.truth is not None:
        first["wrong colours"] = colour_error(images, samples.truth, samples.mask)
    return first


def colour_limit(samples: Samples) -> float:
    """CIEDE2000 to the person below which the share STRANGERS of other persons lies.

    By `Samples.other`: `Samples.stranger` is left to check the limit with. NaN without the truth.
    """
    if samples.other is None or samples.truth is None:
        return float("nan")
    return float(np.quantile(colour_error(samples.other, samples.truth, samples.mask), STRANGERS))


def limits(colour: float) -> dict[str, float]:
    """The score of each kind above which an image failed; `colour` is that of `colour_limit`."""
    return dict(zip(MEASURED, (1 - LEAST_PCK, colour, 0.0, 0.0, 0.0), strict=True))


def flags(values: pd.DataFrame, colour: float) -> pd.DataFrame:
    """1.0 where a score says failure, 0.0 where not, NaN where it cannot be judged."""
    return pd.DataFrame(
        {
            kind: (values[kind] > limit).where(values[kind].notna()).astype(float)
            for kind, limit in limits(colour).items()
            if kind in values
        }
    )


def other_clothes(studio: Studio, flagged: pd.DataFrame) -> pd.Series:
    """Flags of "bag appeared" on photos of strangers without a bag: clothes taken for one.

    flagged: of `Samples.stranger`.
    """
    bagless = [studio.stranger(row)["bag"] == "none" for row in range(len(flagged))]
    return flagged["bag appeared"].where(np.array(bagless))
