"""Statistics against scipy, arithmetic and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from posedive_lib.errors import StudyError
from posedive_lib.study.statistics import bootstrap_interval, holm, identity_interval, paired_difference, sign_flip_p

numbers = st.floats(-100, 100).map(lambda value: round(value, 3))


@pytest.mark.parametrize("n, smallest", [(3, 0.25), (5, 0.0625), (6, 0.03125)])
def test_the_smallest_p_is_a_matter_of_pairs(n, smallest):
    comparison = paired_difference(np.arange(n) + 10.0, np.zeros(n), seed=0)
    assert comparison.p == comparison.smallest_p == smallest


@given(st.lists(numbers, min_size=2, max_size=8))
def test_sign_flip_agrees_with_scipy(values):
    # scipy doubles the smaller tail, which equals the share of |mean| because the sign patterns come in opposite pairs
    reference = stats.permutation_test((np.array(values), np.zeros(len(values))), lambda a, b: np.sum(a - b), permutation_type="samples", n_resamples=np.inf, vectorized=False)
    assert sign_flip_p(values, seed=0) == pytest.approx(min(1.0, reference.pvalue))


def test_drawn_sign_flips_are_near_the_exact_ones():
    values = np.random.default_rng(0).normal(0.4, 1, 17)
    exact = sign_flip_p(values[:16], seed=0)
    assert 0 < exact < 1
    assert sign_flip_p(values, seed=1) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.03)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_is_bonferroni_at_most_and_the_raw_p_at_least(p):
    adjusted = holm(p)
    assert (adjusted >= np.array(p) - 1e-15).all() and (adjusted <= np.minimum(np.array(p) * len(p), 1) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_bootstrap_interval_is_scipys_bca_and_repeatable():
    values = np.random.default_rng(0).exponential(1, 20)
    interval = bootstrap_interval(values, seed=3)
    reference = stats.bootstrap((values,), np.mean, method="BCa", rng=np.random.default_rng(3)).confidence_interval
    assert (interval.low, interval.high) == (reference.low, reference.high)
    assert interval.method == "BCa" and interval == bootstrap_interval(values, seed=3)


def test_degenerate_intervals_say_so():
    assert bootstrap_interval([2.0, 2.0, 2.0], seed=0).method == "constant"
    assert bootstrap_interval([2.0], seed=0).method == "none"
    for values in ([1.0, 2.0], [0.0, 0.0, 5.0]):
        interval = bootstrap_interval(values, seed=0)
        assert interval.method in {"BCa", "percentile"} and min(values) <= interval.low <= interval.high <= max(values)


def test_verdicts():
    seeds = np.arange(6.0)
    assert paired_difference(seeds + 2, np.zeros(6), seed=0).verdict == "gain"
    assert paired_difference(np.zeros(6), seeds + 2, seed=0).verdict == "loss"
    assert paired_difference(seeds[:3] + 2, np.zeros(3), seed=0).verdict == "gain, too few seeds to test"
    assert paired_difference([1.0, 5.0, 2.0], [2.0, 2.0, 2.0], seed=0).verdict == "no effect shown"
    assert paired_difference([5.0], [2.0], seed=0).verdict == "no effect shown"


def test_identity_interval_covers_and_is_wider_than_one_over_queries():
    """Queries of one identity share its difficulty: counting them as independent would be far too sure."""
    rng, covered, widths = np.random.default_rng(0), 0, []
    pids = np.repeat(np.arange(40), 5)
    for trial in range(200):
        values = rng.normal(0.6, 0.2, 40)[pids] + rng.normal(0, 0.02, 200)
        interval = identity_interval(values, pids, seed=trial, resamples=500)
        covered += interval.low <= 0.6 <= interval.high
        widths.append((interval.high - interval.low) / (2 * 1.96 * values.std() / np.sqrt(200)))
    assert 0.88 < covered / 200 < 0.98
    assert np.mean(widths) == pytest.approx(np.sqrt(5), rel=0.1)


def test_identity_interval_does_not_care_about_the_order():
    values, pids = np.random.default_rng(0).random(30), np.arange(30) % 7
    order = np.random.default_rng(1).permutation(30)
    first, second = identity_interval(values, pids, seed=0), identity_interval(values[order], pids[order], seed=0)
    assert (first.low, first.high) == pytest.approx((second.low, second.high))


def test_wrong_input_is_named():
    with pytest.raises(StudyError, match="equally many values, and got 2 and 1"):
        paired_difference([1.0, 2.0], [1.0], seed=0)
    with pytest.raises(StudyError, match="arm must be a row of finite numbers"):
        paired_difference([np.nan], [1.0], seed=0)
    with pytest.raises(StudyError, match="one pid per query"):
        identity_interval([0.5, 0.5], [1], seed=0)
