"""Eq. 2–6 against values worked out by hand."""

import numpy as np
import pytest

from posedive_lib.augment.filtering import (
    difference,
    first_rule,
    keep_generated,
    keep_reference,
    keep_target,
)
from posedive_lib.errors import StudyError

SIGMA = np.array(
    [[0.5, 0.75, 1.0], [0.25, 1.0, 1.0], [0.5, 0.5, 0.5]]
)  # minimum 0.5, 0.25, 0.5; mean 0.75, 0.75, 0.5


def test_reference_takes_the_minimum_and_includes_the_threshold():
    assert keep_reference(SIGMA, 0.5).tolist() == [True, False, True]
    assert keep_reference(SIGMA, 0.25).tolist() == [True, True, True]
    assert keep_reference(SIGMA, 0.51).tolist() == [False, False, False]


def test_target_takes_the_mean_and_includes_the_threshold():
    assert keep_target(SIGMA, 0.75).tolist() == [True, True, False]
    assert keep_target(SIGMA, 0.5).tolist() == [True, True, True]


def test_generated_needs_both_conditions():
    target = np.array([[0.5, 0.5, 0.5], [1.0, 1.0, 1.0], [0.5, 0.5, 0.5]])
    np.testing.assert_allclose(
        difference(SIGMA, target), [0.25, 0.25, 0.0]
    )  # (0 + .25 + .5)/3, (.75 + 0 + 0)/3, 0
    assert keep_generated(SIGMA, target, 0.25, 0.5).tolist() == [True, True, True]
    assert keep_generated(SIGMA, target, 0.25, 0.6).tolist() == [True, True, False]
    assert keep_generated(SIGMA, target, 0.2, 0.5).tolist() == [False, False, True]


def test_thresholds_zero_and_one():
    zeros, ones = np.zeros((1, 4)), np.ones((1, 4))
    for keep in (keep_reference, keep_target):
        assert keep(zeros, 0).all() and keep(ones, 1).all() and not keep(zeros, 1).any()
        assert not keep(np.array([[1, 1, 1, 0.999]]), 1).any()
    assert keep_generated(ones, ones, 0, 1).all()
    assert keep_generated(zeros, ones, 1, 0).all()
    assert not keep_generated(zeros, ones, 0.99, 0).any()


def test_one_key_point_and_empty_sets():
    assert keep_reference([[0.4], [0.6]], 0.5).tolist() == [False, True]
    assert keep_generated([[0.4], [0.6]], [[0.5], [0.5]], 0.2, 0.5).tolist() == [False, True]
    for empty in ([], np.zeros((0, 17))):
        assert keep_reference(empty, 0.5).shape == keep_target(empty, 0.5).shape == (0,)
        assert (
            keep_generated(empty, empty, 0.5, 0.5).shape == difference(empty, empty).shape == (0,)
        )
        assert keep_reference(empty, 0.5).dtype == keep_target(empty, 0.5).dtype == bool
        assert first_rule(empty, empty, tau_tar=0.5, epsilon_gen=0.5, tau_gen=0.5).shape == (0,)


def test_first_rule_names_the_first_rejection():
    gen = np.array([[0.9, 0.9], [0.9, 0.9], [0.9, 0.9], [0.3, 0.3], [0.9, 0.9]])
    tar = np.array([[0.9, 0.9], [0.1, 0.1], [0.4, 0.4], [0.4, 0.4], [0.9, 0.9]])
    ref = np.array([[0.9, 0.1], [0.9, 0.9], [0.9, 0.9], [0.9, 0.9], [0.9, 0.9]])
    limits = {"tau_tar": 0.3, "epsilon_gen": 0.25, "tau_gen": 0.6}
    assert first_rule(gen, tar, ref, tau_ref=0.3, **limits).tolist() == [
        "reference",
        "target",
        "difference",
        "confidence",
        "",
    ]
    assert first_rule(gen, tar, **limits).tolist() == ["", "target", "difference", "confidence", ""]
    kept = keep_reference(ref, 0.3) & keep_target(tar, 0.3) & keep_generated(gen, tar, 0.25, 0.6)
    assert ((first_rule(gen, tar, ref, tau_ref=0.3, **limits) == "") == kept).all()


@pytest.mark.parametrize(
    "bad, said",
    [
        (np.array([[0.5, np.nan]]), "NaN for image 0"),
        (np.array([[0.5, 1.2]]), r"expected \[0, 1\]"),
        (np.array([[-0.1]]), r"expected \[0, 1\]"),
        (np.array([0.5, 0.5]), "expected"),
        (np.zeros((2, 0)), "at least one key point"),
        (np.zeros((1, 2, 3)), "expected"),
    ],
)
def test_bad_confidences_are_refused(bad, said):
    for call in (
        lambda: keep_reference(bad, 0.5),
        lambda: keep_target(bad, 0.5),
        lambda: keep_generated(bad, bad, 0.5, 0.5),
    ):
        with pytest.raises(StudyError, match=said):
            call()


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), None, [0.5]])
def test_bad_thresholds_are_refused(value):
    with pytest.raises(StudyError, match="tau_ref"):
        keep_reference(SIGMA, value)
    with pytest.raises(StudyError, match="epsilon_gen"):
        keep_generated(SIGMA, SIGMA, value, 0.5)


def test_rows_must_match():
    with pytest.raises(StudyError, match="one target row"):
        keep_generated(SIGMA, SIGMA[:2], 0.5, 0.5)
    with pytest.raises(StudyError, match="sigma_ref"):
        first_rule(SIGMA, SIGMA, SIGMA[:1], tau_tar=0, epsilon_gen=1, tau_gen=0)
