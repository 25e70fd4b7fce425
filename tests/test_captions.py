"""Captions of the pre-training photos as the web has them."""

import numpy as np
import pytest

from miniworld.cameras import backdrop, sample_camera, wall
from miniworld.pretrain.scenes import ACTIONS, Scene, chosen, place, view
from posedive_lib.body.poses import load_poses
from posedive_lib.errors import StudyError

SCENE = Scene(("from the back", "running"), ("short hair", "a red shirt", "white shoes"))


def test_a_caption_in_full_names_everything_in_its_order():
    assert (
        SCENE.caption()
        == "a photo of a person from the back running with short hair, a red shirt, white shoes."
    )


def test_a_caption_leaves_out_what_chance_says():
    rng = np.random.default_rng(0)
    drawn = [SCENE.caption(rng, 0.8, 0.5) for _ in range(2000)]
    assert np.mean(["running" in text for text in drawn]) == pytest.approx(0.8, abs=0.03)
    assert np.mean(["red shirt" in text for text in drawn]) == pytest.approx(0.5, abs=0.04)
    assert "a photo of a person." in [
        Scene(SCENE.circumstances, ()).caption(rng, 0.0) for _ in range(2)
    ]


def test_captions_name_the_chosen_circumstances_in_their_order():
    known = {"view": "from the back", "action": "running", "place": "before a hedge"}
    assert chosen(known, ["action", "view"]) == ("running", "from the back")
    with pytest.raises(StudyError, match="names weather: choose from view, action, place"):
        chosen(known, ["view", "weather"])


@pytest.mark.parametrize(
    "azimuth, word",
    [
        (0, "front"),
        (-20, "front"),
        (40, "front and a little from the side"),
        (-90, "side"),
        (270, "side"),
        (140, "back and a little from the side"),
        (181, "back"),
    ],
)
def test_a_view_has_the_same_words_on_both_sides(azimuth, word):
    assert view(azimuth) == view(-azimuth) == f"from the {word}"


def test_every_motion_has_words():
    names = {str(name).rsplit("_", 1)[0] for name in load_poses("data/motions").name}
    assert names == set(ACTIONS)


def test_the_named_wall_is_the_one_that_is_drawn():
    # posters hide part of a wall, so the medians over scenes are compared
    def green(scene: int) -> float:
        colour = backdrop(scene, 64, 32)[:20].mean((0, 1))
        return colour[1] - colour[[0, 2]].mean()

    by_wall = [[green(scene) for scene in range(60) if wall(scene) == kind] for kind in range(4)]
    assert min(map(len, by_wall)) > 5
    hedge = np.median(by_wall[2])
    assert hedge > 0.04 > max(np.median(by_wall[kind]) for kind in (0, 1, 3))
    assert place(sample_camera("x", 0.0)).startswith("before ")
