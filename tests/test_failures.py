"""Failures (§G): prints and bags that vanish or appear, measured on staged photos."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from posedive_lib.study import failure_samples, failure_views, failures

HEIGHT, WIDTH = 128, 64
PRINT = slice(40, 60), slice(22, 42)  # where a print shows, and a bag
BAG = slice(50, 80), slice(44, 60)
PEOPLE = [
    {"person": "a", "front_print": "red", "back_print": "none", "bag": "none"},
    {"person": "b", "front_print": "none", "back_print": "none", "bag": "backpack"},
]
COLOURS = {"black": (0, 0, 0), "red": (200, 20, 20), "white": (255, 255, 255)}


def shoot(row, person, take):
    """A grey person who fills the picture, with a print and a bag where they have one."""
    image = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    if person["front_print"] != "none":
        image[PRINT] = COLOURS[person["front_print"]]
    if person["bag"] != "none":
        image[BAG] = COLOURS[person["bag_colour"]]
    return {"image": image, "mask": np.ones((HEIGHT, WIDTH), bool)}


@pytest.fixture
def studio():
    people = [{**person, "bag_colour": "red"} for person in PEOPLE]
    return SimpleNamespace(people=people, shoot=shoot)


def true(studio) -> np.ndarray:
    return np.stack([shoot(row, who, "again")["image"] for row, who in enumerate(studio.people)])


def test_a_print_is_kept_or_lost_and_not_judged_where_none_shows(studio):
    kept = failures.print_scores(studio, true(studio))
    assert kept[0] < 0 and np.isnan(kept[1])
    lost = failures.print_scores(studio, failure_samples.staged_prints(studio))
    assert lost[0] > 0 and np.isnan(lost[1])
    assert lost.name == kept.name == failures.MEASURED[2]


def test_a_small_print_is_not_judged(studio, monkeypatch):
    monkeypatch.setattr(failures, "LEAST_PIXELS", 1000)
    assert failures.print_scores(studio, true(studio)).isna().all()


def test_bags_vanish_from_owners_and_appear_on_others(studio):
    vanished, appeared = failures.MEASURED[3:]
    right = failures.bag_scores(studio, true(studio))
    wrong = failures.bag_scores(studio, failure_samples.staged_bags(studio))
    assert right.loc[0, appeared] < 0 < wrong.loc[0, appeared]
    assert right.loc[1, vanished] < 0 < wrong.loc[1, vanished]
    assert right[[vanished, appeared]].isna().to_numpy().sum() == 2


def test_an_image_fails_above_the_limit_of_each_kind():
    scores = pd.DataFrame({kind: [-1.0, 99.0, np.nan] for kind in failures.MEASURED})
    flagged = failures.flags(scores, colour=20.0)
    assert (flagged.iloc[0] == 0).all() and (flagged.iloc[1] == 1).all()
    assert flagged.iloc[2].isna().all()


@pytest.mark.parametrize("clothes, doubted", [(0.9, ["bag appeared"]), (0.0, [])])
def test_any_of_these_leaves_out_what_the_check_distrusts(clothes, doubted):
    """A bag that appeared in half of the images counts only if clothes alone do not set it off."""
    flagged = pd.DataFrame(
        {"wrong key points": [1.0] * 4 + [0.0] * 16, "bag appeared": [0.0, 1.0] * 10}
    )
    samples = SimpleNamespace(table=pd.DataFrame({"kept": [True] * 20}))
    strangers = pd.Series([clothes] * 20)
    table = failure_views.failure_table(samples, flagged, flagged * 0, flagged, strangers)
    assert failure_views.distrusted(table) == doubted
    of_any = table.set_index("kind").loc[failure_views.ANY]
    assert of_any["count"] == (4 if doubted else 12)
