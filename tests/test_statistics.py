"""Statistics against scipy, arithmetic and simulation."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipeline import ROOT
from scipy import stats

from posedive_lib.bench.statistics import (
    NO_EFFECT,
    bootstrap_interval,
    captured_share,
    contains_zero,
    holm,
    identity_interval,
    joint_p,
    paired_difference,
    t_interval,
    verdict,
)
from posedive_lib.errors import StudyError

numbers = st.floats(-100, 100).map(lambda value: round(value, 3))


def single_p(values, **options) -> float:
    return joint_p(np.array(values)[:, None], **options)[0]


@pytest.mark.parametrize("n, smallest", [(3, 0.25), (5, 0.0625), (6, 0.03125)])
def test_the_smallest_p_is_a_matter_of_pairs(n, smallest):
    comparison = paired_difference(np.arange(n) + 10.0, np.zeros(n), seed=0)
    assert comparison.p == comparison.smallest_p == smallest


@given(st.lists(numbers, min_size=1, max_size=8))
def test_sign_flip_is_the_share_of_sign_patterns_at_least_as_far_from_zero(values):
    sums = [
        abs(sum(sign * value for sign, value in zip(signs, values, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(values))
    ]
    assert single_p(values, seed=0) == pytest.approx(
        np.mean(np.array(sums) >= abs(sum(values)) - 1e-9)
    )


def test_drawn_sign_flips_are_near_the_exact_ones():
    values = np.random.default_rng(0).normal(0.4, 1, 14)
    exact, drawn = single_p(values, seed=0), single_p(values, seed=1, patterns=9_999)
    assert (
        drawn == pytest.approx(exact, abs=0.02)
        and drawn != exact
        and drawn == single_p(values, seed=1, patterns=9_999)
    )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_is_bonferroni_at_most_and_the_raw_p_at_least(p):
    adjusted = holm(p)
    assert (adjusted >= np.array(p) - 1e-15).all() and (
        adjusted <= np.minimum(np.array(p) * len(p), 1) + 1e-12
    ).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_bootstrap_interval_is_scipys_bca_and_repeatable():
    values = np.random.default_rng(0).exponential(1, 20)
    interval = bootstrap_interval(values, seed=3)
    reference = stats.bootstrap(
        (values,), np.mean, method="BCa", rng=np.random.default_rng(3)
    ).confidence_interval
    assert (interval.low, interval.high) == (reference.low, reference.high)
    assert interval.method == "BCa" and interval == bootstrap_interval(values, seed=3)


def test_students_interval_is_scipys_and_covers_what_it_promises():
    rng = np.random.default_rng(0)
    values = rng.normal(1, 2, 6)
    interval = t_interval(values)
    reference = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((reference.low, reference.high))
    covered = [
        t_interval(sample).low <= 0 <= t_interval(sample).high
        for sample in rng.normal(0, 1, (2000, 6))
    ]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)
    assert t_interval([2.0, 2.0]).method == "constant" and t_interval([2.0]).method == "none"
    both = paired_difference(values, np.zeros(6), seed=0)
    assert both.low < both.bca_low < both.mean < both.bca_high < both.high


def test_degenerate_intervals_say_so():
    assert bootstrap_interval([2.0, 2.0, 2.0], seed=0).method == "constant"
    assert bootstrap_interval([2.0], seed=0).method == "none"
    for values in ([1.0, 2.0], [0.0, 0.0, 5.0]):
        interval = bootstrap_interval(values, seed=0)
        assert interval.method in {"BCa", "percentile"} and min(
            values
        ) <= interval.low <= interval.high <= max(values)


def test_verdicts():
    seeds = np.arange(6.0)
    assert paired_difference(seeds + 2, np.zeros(6), seed=0).verdict == "gain"
    assert paired_difference(np.zeros(6), seeds + 2, seed=0).verdict == "loss"
    assert (
        paired_difference(seeds[:3] + 2, np.zeros(3), seed=0).verdict
        == "gain, too few seeds to test"
    )
    assert paired_difference([1.0, 5.0, 2.0], [2.0, 2.0, 2.0], seed=0).verdict == NO_EFFECT
    assert paired_difference([5.0], [2.0], seed=0).verdict == NO_EFFECT


@pytest.mark.parametrize(
    "low, high, p, smallest, said",
    [
        (0.0, 1.0, 0.01, 0.01, NO_EFFECT),
        (-1.0, 0.0, 0.01, 0.01, NO_EFFECT),
        (np.nan, np.nan, 0.01, 0.01, NO_EFFECT),
        (0.1, 1.0, 0.05, 0.03, "gain"),
        (-1.0, -0.1, 0.05, 0.03, "loss"),
        (0.1, 1.0, 0.06, 0.03, NO_EFFECT),
        (-1.0, -0.1, 0.06, 0.03, NO_EFFECT),
        (-1.0, 1.0, 0.01, 0.01, NO_EFFECT),
        (0.1, 1.0, np.nan, 0.03, NO_EFFECT),
        (-1.0, -0.1, 0.25, 0.25, "loss, too few seeds to test"),
        (0.1, 1.0, 0.25, 0.25, "gain, too few seeds to test"),
    ],
)
def test_the_rule_of_the_verdict(low, high, p, smallest, said):
    assert verdict(low, high, p, smallest) == said
    mirrored = {"gain": "loss", "loss": "gain"}.get(said.split(",")[0])
    other = said.replace(said.split(",")[0], mirrored) if mirrored else said
    assert verdict(-high, -low, p, smallest) == other  # either direction needs the same


@pytest.mark.parametrize("n, expected", [(3, 0.73), (6, 0.88), (10, 0.90)])
def test_intervals_of_few_values_cover_as_the_documentation_says(n, expected):
    rng = np.random.default_rng(0)
    hits = [
        interval.low <= 0.5 <= interval.high
        for interval in (
            bootstrap_interval(rng.normal(0.5, 1, n), seed=k, resamples=999) for k in range(250)
        )
    ]
    assert np.mean(hits) == pytest.approx(expected, abs=0.07)  # ±3 standard errors of 250 trials


def test_a_bound_of_zero_is_not_missed_by_rounding():
    """Differences that are 0 but for the last digits of a sum: the bound is 0, no effect shown."""
    values = np.array([0.1 + 0.2 - 0.3] * 5 + [-3.0])
    interval = bootstrap_interval(values, seed=0)
    assert interval.high == 0 and contains_zero(interval.low, interval.high)
    assert contains_zero(
        *[getattr(bootstrap_interval(-values, seed=0), name) for name in ("low", "high")]
    )


def test_the_share_of_the_oracles_gain():
    real, oracle = np.array([10.0, 20, 30, 40, 50, 60]), np.array([12.0, 24, 32, 44, 52, 64])
    possible = oracle - real
    half = captured_share(possible / 2, possible)
    assert (half.mean, half.low, half.high) == pytest.approx((0.5, 0.5, 0.5))
    gain = possible - [0, 2, 1, 3, 0, 2]
    noisy = captured_share(gain, possible)
    assert noisy.mean == pytest.approx(10 / 18) and noisy.low < 10 / 18 < noisy.high
    for bound in (noisy.low, noisy.high):  # where Student's interval of the rest ends at 0
        rest = t_interval(gain - bound * possible)
        assert min(abs(rest.low), abs(rest.high)) == pytest.approx(0, abs=1e-9)


def test_without_an_effect_of_the_oracle_there_is_no_share():
    for possible in ([1.0, -1, 1, -1], [-1.0, -1.1, -1, -1], [1.0]):
        share = captured_share(np.ones(len(possible)), possible)
        assert np.isnan([share.mean, share.low, share.high]).all()
        assert share.method == "not defined"


@pytest.mark.parametrize(
    "seeds, comparisons, shown",
    [
        (6, 1, (0.52, 0.87, 0.99)),
        (6, 25, (0.09, 0.26, 0.59)),
        (8, 2, (0.76, 0.98, 1.0)),
        (8, 25, (0.27, 0.73, 0.99)),
    ],
)
def test_effects_are_shown_as_often_as_the_primary_analysis_says(seeds, comparisons, shown):
    rng, trials = np.random.default_rng(1), 150
    for size, expected in zip((1.3, 2.0, 3.0), shown, strict=True):
        found = 0
        for _ in range(trials):
            arms = rng.normal(size=(seeds, comparisons))
            arms[:, 0] += size * np.sqrt(2)  # deviation of a difference
            differences = arms - rng.normal(size=(seeds, 1))
            p, interval = joint_p(differences, seed=0)[0], t_interval(differences[:, 0])
            found += verdict(interval.low, interval.high, p, 2.0 ** (1 - seeds)) == "gain"
        assert abs(found / trials - expected) < 0.12
    words = (ROOT / "docs/primary_analysis.md").read_text()
    row = " | ".join(f"{100 * share:.0f} %" for share in shown)
    assert re.search(rf"\| {seeds}, {comparisons}\b[^|]* \| {re.escape(row)} \|", words)


def test_the_share_covers_the_truth():
    rng, hits = np.random.default_rng(0), []
    for _ in range(2000):
        possible = rng.normal(2, 0.7, 6)
        share = captured_share(0.5 * possible + rng.normal(0, 0.3, 6), possible)
        hits.append(share.low <= 0.5 <= share.high)
    assert np.mean(hits) == pytest.approx(0.95, abs=0.02)


def test_identity_interval_covers_and_is_wider_than_one_over_queries():
    """Queries of one identity share its difficulty: they are not independent."""
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
    first, second = (
        identity_interval(values, pids, seed=0),
        identity_interval(values[order], pids[order], seed=0),
    )
    assert (first.low, first.high) == pytest.approx((second.low, second.high))


def test_wrong_input_is_named():
    with pytest.raises(
        StudyError, match="equally many values, and got 2 and 1: give all arms the same seeds"
    ):
        paired_difference([1.0, 2.0], [1.0], seed=0)
    with pytest.raises(StudyError, match="arm must be a row of finite numbers"):
        paired_difference([np.nan], [1.0], seed=0)
    with pytest.raises(StudyError, match="one pid per query"):
        identity_interval([0.5, 0.5], [1], seed=0)
