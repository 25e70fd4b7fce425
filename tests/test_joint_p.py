"""Comparisons tested at once: enumeration, what six seeds can show, the rate of false claims."""

from itertools import product

import numpy as np
import pytest

from posedive_lib.bench.statistics import holm, joint_p
from posedive_lib.errors import StudyError


def enumerated(differences: np.ndarray) -> np.ndarray:
    scaled = differences / np.sqrt((differences**2).mean(axis=0))
    observed = np.abs(scaled.mean(axis=0))
    largest = [
        np.abs((np.array(signs)[:, None] * scaled).mean(axis=0)).max()
        for signs in product((-1, 1), repeat=len(differences))
    ]
    return np.array([np.mean([value >= own - 1e-9 for value in largest]) for own in observed])


def test_joint_p_is_that_of_all_patterns():
    differences = np.random.default_rng(0).normal([2.0, 0.3, 0.0], 1.0, (6, 3))
    np.testing.assert_allclose(joint_p(differences, seed=0), enumerated(differences))


def test_six_seeds_can_show_many_gains_at_once():
    """Twenty-two steady gains: jointly each is as sure as alone, by Holm none is."""
    differences = 3 + np.random.default_rng(1).normal(0, 0.3, (6, 22))
    assert (joint_p(differences, seed=0) == 2 / 2**6).all()
    assert (
        holm(np.array([joint_p(column[:, None], seed=0)[0] for column in differences.T])).min()
        > 0.5
    )


def test_false_claims_are_as_rare_as_promised():
    """Ten comparisons that depend on each other, none with an effect.

    Some corrected p is at most 0.05 in about 5 % of the families, some p of ten single tests far
    more often.
    """
    rng, corrected, single = np.random.default_rng(2), 0, 0
    for _ in range(300):
        differences = rng.normal(size=(7, 1)) * 0.5 + rng.standard_t(3, size=(7, 10))
        corrected += joint_p(differences, seed=0).min() <= 0.05
        single += min(joint_p(column[:, None], seed=0)[0] for column in differences.T) <= 0.05
    assert corrected / 300 <= 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / 300) and single / 300 > 0.15


def test_nothing_and_too_little():
    assert joint_p(np.zeros((6, 2)), seed=0).tolist() == [1, 1]
    assert joint_p(np.array([[3.0, -1]]), seed=0).tolist() == [1, 1]
    drawn = joint_p(
        np.full((20, 1), 2.0), seed=0, patterns=999
    )  # 2^20 patterns are too many: drawn, and never 0
    assert 0 < drawn[0] <= 2 / 1000
    for wrong in (np.zeros((0, 2)), np.array([[1.0, np.nan]]), np.zeros(3)):
        with pytest.raises(StudyError, match="same seeds"):
            joint_p(wrong, seed=0)
