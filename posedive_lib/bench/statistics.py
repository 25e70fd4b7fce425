"""What the study may claim: paired differences over seeds with intervals and exact tests, and intervals of one mAP over identities.

Two sources of chance are kept apart. *Training*: the seed, which is shared by the arms of a comparison, so differences are paired
(`paired_difference`). *Test set*: which identities happen to be queried (`identity_interval`); queries of one identity depend on
each other, so identities are resampled, never queries. Resampling and permuting are scipy's; every function that draws takes its
seed, and `verdict` alone decides what a difference is called.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from posedive_lib.errors import StudyError

ALPHA = 0.05
NO_EFFECT = "no effect shown"


@dataclass(frozen=True)
class Interval:
    """An estimate with a bootstrap interval; `method` says how it was made, "none" that `n` is too small for one."""

    mean: float
    low: float
    high: float
    n: int
    method: str


@dataclass(frozen=True)
class Comparison:
    """Arm minus baseline over paired seeds: mean, interval, two-sided sign-flip p, and the smallest p that `n` pairs can give."""

    mean: float
    low: float
    high: float
    p: float
    smallest_p: float
    n: int
    method: str

    @property
    def verdict(self) -> str:
        return verdict(self.mean, self.low, self.high, self.p, self.smallest_p)


def contains_zero(low: float, high: float) -> bool:
    """An interval that contains 0, or that does not exist, shows no effect."""
    return not (low > 0 or high < 0)


def verdict(mean: float, low: float, high: float, p: float, smallest_p: float) -> str:
    """How the study words a difference, everywhere: the interval decides whether there is one, the sign-flip test how sure it is.

    "no effect shown": the interval contains 0 or there is none. "gain" or "loss": it excludes 0 and p ≤ 0.05. Otherwise the word
    is followed by what is missing: with fewer than six pairs no p can reach 0.05, and a bootstrap interval is too narrow.
    """
    if contains_zero(low, high):
        return NO_EFFECT
    direction = "gain" if mean > 0 else "loss"
    if smallest_p > ALPHA:
        return f"{direction}, too few seeds to test"
    return direction if p <= ALPHA else f"{direction} by the interval, not by the test"


def bootstrap_interval(
    values: np.ndarray, *, seed: int, confidence: float = 0.95, resamples: int = 9999
) -> Interval:
    """Interval of the mean of independent `values` (n,): BCa, or percentile where BCa has no answer.

    Assumes that the values are independent draws from one distribution. Few values make it too narrow: of normal values, a 95 %
    interval covers the mean in about 73 % of cases with three, 88 % with six, 90 % with ten (tests/test_statistics.py measures
    it), so read it beside the permutation test. All values equal: the interval is that value. One value: NaN.
    """
    return _bootstrap((_finite("values", values),), np.mean, seed, confidence, resamples)


def paired_difference(
    arm: np.ndarray, baseline: np.ndarray, *, seed: int, confidence: float = 0.95
) -> Comparison:
    """Arm minus baseline, both (n,) in the same order of seeds.

    Assumes independent pairs. n pairs cannot give a p below 2 / 2^n: three never reach 0.05, six do (0.031).
    """
    arm, baseline = _paired(arm=arm, baseline=baseline)
    difference = arm - baseline
    interval = bootstrap_interval(difference, seed=seed, confidence=confidence)
    (p,) = joint_p(difference[:, None], seed=seed).tolist()
    return Comparison(
        interval.mean,
        interval.low,
        interval.high,
        p,
        2.0 ** (1 - len(arm)),
        len(arm),
        interval.method,
    )


def joint_p(differences: np.ndarray, *, seed: int, patterns: int = 2**16) -> np.ndarray:
    """(m,) two-sided sign-flip p of m comparisons, each corrected for all of them (Westfall and Young, 1993; scipy's one-sample
    permutation test); differences (n, m) by seed and comparison.

    A change of signs takes a seed's differences in all comparisons at once, and every mean is held against the largest of the m that
    the same change gives ("max T"), each in units of its root mean square, which no change of signs alters. That controls the chance of any
    false claim among the m and makes use of their dependence: n seeds can give 2 / 2^n however many comparisons there are, where Holm's
    correction gives m times as much. Exact while all 2^n patterns are at most `patterns`, drawn with `seed` above. Assumes that without
    an effect a seed's differences are jointly symmetric about 0.
    """
    differences = np.asarray(differences, float)
    if differences.ndim != 2 or not differences.size or not np.isfinite(differences).all():
        raise StudyError(
            f"joint_p needs finite differences (seeds, comparisons), and got {differences.shape}: give every comparison the same seeds."
        )
    if len(differences) == 1:  # one difference is as far from 0 as its mirror image
        return np.ones(differences.shape[1])
    size = np.sqrt((differences**2).mean(axis=0))
    mean = lambda values, axis: np.round(
        np.mean(values, axis=axis), 12
    )  # sums in another order differ by rounding
    result = stats.permutation_test(
        (differences / np.where(size > 0, size, 1),),
        mean,
        permutation_type="samples",
        n_resamples=patterns,
        vectorized=True,
        batch=1_000,
        axis=0,
        rng=np.random.default_rng(seed),
    )
    largest = np.abs(result.null_distribution).max(axis=1)
    reached = (largest[:, None] >= np.abs(result.statistic)).sum(axis=0)
    drawn = int(
        len(largest) < 2 ** len(differences)
    )  # then the data count as one pattern more, as in scipy
    return (reached + drawn) / (len(largest) + drawn)


def captured_share(
    arm: np.ndarray,
    oracle: np.ndarray,
    baseline: np.ndarray,
    *,
    seed: int,
    confidence: float = 0.95,
) -> Interval:
    """Share of the oracle's gain over the baseline that an arm captures, (arm − baseline) / (oracle − baseline), all (n,) by seed.

    Ratio of mean gains, seeds resampled together. Unless the interval of the oracle's own gain lies above 0 there is nothing to take a
    share of: NaN, with method "undefined: …". A resample without any gain of the oracle has no ratio and leaves the interval NaN.
    """
    arm, oracle, baseline = _paired(arm=arm, oracle=oracle, baseline=baseline)
    gain, possible = arm - baseline, oracle - baseline
    whole = bootstrap_interval(possible, seed=seed, confidence=confidence)
    if not whole.low > 0:
        why = "the oracle loses" if whole.high < 0 else "no effect of the oracle shown"
        return Interval(np.nan, np.nan, np.nan, len(arm), f"undefined: {why}")
    ratio = lambda a, b, axis: np.mean(a, axis=axis) / np.mean(b, axis=axis)
    return _bootstrap((gain, possible), ratio, seed, confidence, 9999)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values (m,), in the order given: controls the chance of any false claim among the m, however they depend."""
    p = _finite("p", p)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def identity_interval(
    average_precision: np.ndarray,
    pids: np.ndarray,
    *,
    seed: int,
    confidence: float = 0.95,
    resamples: int = 4999,
) -> Interval:
    """Interval of mAP over the identities that are queried: BCa of a mean over whole identities.

    `average_precision` (Q,) of the valid queries and their `pids` (Q,). Whole identities are resampled with replacement, each with
    all of its queries; the gallery stays as it is, so the interval speaks about other queried people, not about other galleries.
    For the difference of two arms on the same queries, give the differences of their average precisions.
    """
    values, pids = _finite("average_precision", average_precision), np.asarray(pids)
    if values.shape != pids.shape:
        raise StudyError(
            f"identity_interval needs one pid per query, and got {len(values)} values and {len(pids)} pids."
        )
    order = np.lexsort(
        (values, pids)
    )  # the last digits of a sum, and with them ties of the bootstrap, depend on the order
    values, identity = values[order], np.unique(pids[order], return_inverse=True)[1]
    sums, counts = np.bincount(identity, values), np.bincount(identity).astype(float)
    ratio = lambda s, c, axis: np.sum(s, axis=axis) / np.sum(c, axis=axis)
    return _bootstrap((sums, counts), ratio, seed, confidence, resamples)


def _bootstrap(
    data: tuple[np.ndarray, ...], statistic: Callable, seed: int, confidence: float, resamples: int
) -> Interval:
    """scipy's bootstrap of rows that belong together: BCa, percentile where BCa has no answer, NaN where that has none either."""
    n, value = len(data[0]), float(statistic(*data, axis=-1))
    if n < 2:
        return Interval(value, np.nan, np.nan, n, "none")
    if all(np.ptp(column) == 0 for column in data):
        return Interval(value, value, value, n, "constant")
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
            warnings.simplefilter(
                "ignore"
            )  # scipy warns where BCa degenerates; the NaN it returns is handled here
            low, high = stats.bootstrap(
                data,
                statistic,
                confidence_level=confidence,
                n_resamples=resamples,
                method=method,
                paired=len(data) > 1,
                rng=np.random.default_rng(seed),
                vectorized=True,
                batch=1000,
            ).confidence_interval
        if np.isfinite([low, high]).all():
            rounding = 1e-9 * max(
                np.abs(column).max() for column in data
            )  # a bound that is 0 but for its last digits is 0
            return Interval(
                value,
                *(0.0 if abs(bound) < rounding else float(bound) for bound in (low, high)),
                n,
                method,
            )
    return Interval(value, np.nan, np.nan, n, "none")


def _paired(**columns: np.ndarray) -> list[np.ndarray]:
    values = [_finite(name, column) for name, column in columns.items()]
    lengths = [str(len(column)) for column in values]
    if len(set(lengths)) > 1:
        raise StudyError(
            f"A paired comparison needs equally many values, and got {' and '.join(lengths)}: give all arms the same seeds."
        )
    return values


def _finite(name: str, values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise StudyError(
            f"{name} must be a row of finite numbers, and has shape {values.shape} with {np.sum(~np.isfinite(values))} that are not."
        )
    return values
