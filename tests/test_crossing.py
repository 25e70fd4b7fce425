"""Every person in every pose: what explains the variation, and who is recognised."""

from types import SimpleNamespace

import numpy as np
import pytest

from posedive_lib.study.crossing import (
    Crossing,
    gaps_to_truth,
    right_person,
    variance_shares,
)


def test_variance_shares_of_a_pure_effect():
    identity = np.arange(4.0)[:, None, None] * np.ones((4, 5, 2))
    assert variance_shares(identity) == pytest.approx(
        {"identity": 100, "pose": 0, "interaction": 0}
    )
    both = identity + 3 * np.arange(5.0)[None, :, None]
    shares = variance_shares(both)  # variances 1.25 and 9 · 2
    assert shares["identity"] == pytest.approx(100 * 1.25 / 19.25) and shares[
        "interaction"
    ] == pytest.approx(0, abs=1e-9)


def test_the_right_person_is_counted_without_an_image_s_own_target():
    """Three people of one colour each in two poses; one generated image has another's colour."""
    truth = np.zeros((3, 2, 4, 2, 3), np.uint8)
    for person in range(3):
        truth[person, ..., person] = 200
    generated = truth.copy()
    generated[0, 1] = truth[2, 1]
    mean_colour = SimpleNamespace(
        extract=lambda images: images.reshape(len(images), -1, 3).mean(1) + 1e-3
    )
    named = right_person(
        Crossing(truth[:, 0], generated, truth, truth, ["a", "b"]), mean_colour
    ).set_index("images")
    assert named.loc["generated"].tolist() == [5, 6] and named.loc["truth"].tolist() == [6, 6]
    truth[[0, 1], 0] = truth[
        [1, 0], 0
    ]  # by the other pose alone, both are now taken for each other in both poses
    named = right_person(
        Crossing(truth[:, 0], generated, truth, truth, ["a", "b"]), mean_colour
    ).set_index("images")
    assert named.loc["truth"].tolist() == [2, 6]


def test_gaps_to_the_truth_have_intervals_over_people():
    rng = np.random.default_rng(0)
    identity, pose = rng.normal(0, 3, (8, 1, 4)), rng.normal(0, 3, (1, 6, 4))
    truth = identity + pose + rng.normal(0, 0.5, (8, 6, 4))
    same = gaps_to_truth(truth, truth)
    assert set(same.values()) == {0.0}
    blind = identity + rng.normal(0, 0.5, (8, 6, 4))  # the pose does not come over
    found = gaps_to_truth(blind, truth)
    assert found["pose_gap_high"] < 0 < found["identity_gap_low"]
    whole = variance_shares(blind)["pose"] - variance_shares(truth)["pose"]
    assert found["pose_gap"] == pytest.approx(whole)
    assert found["pose_gap_low"] < whole < found["pose_gap_high"]


def test_a_gap_ends_where_a_share_would_leave_0_to_100():
    rng = np.random.default_rng(0)
    pose = rng.normal(0, 3, (1, 6, 4))
    truth = pose + rng.normal(0, 1, (3, 6, 4))  # few people: Student's interval is very wide
    noise = np.array([0.2, 4, 0.2])[:, None, None]
    found = gaps_to_truth(pose + noise * rng.normal(0, 1, (3, 6, 4)), truth)
    assert found["pose_gap_high"] == pytest.approx(100 - variance_shares(truth)["pose"])
    assert found["identity_gap_low"] == pytest.approx(-variance_shares(truth)["identity"])
