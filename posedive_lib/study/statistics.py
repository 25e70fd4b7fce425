"""What the study may claim: paired differences over seeds with intervals and exact tests, and intervals of one mAP over identities.

Two sources of chance are kept apart. *Training*: the seed, which is shared by the arms of a comparison, so differences are paired
(`paired_difference`). *Test set*: which identities happen to be queried (`identity_interval`); queries of one identity depend on
each other, so identities are resampled, never queries. Every function that draws takes its seed.
"""

import itertools
import warnings
from dataclasses import dataclass

import numpy as np
from scipy import stats

from posedive_lib.errors import StudyError

EXACT_LIMIT = 16  # 2^16 sign patterns are enumerated; above that they are drawn


@dataclass(frozen=True)
class Interval:
    """A mean with a bootstrap interval; `method` says how it was made, "none" that `n` is too small for one."""

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
        """How the study words it: a difference whose interval contains 0 is no effect shown, and few seeds are called few."""
        if np.isnan(self.low) or self.low <= 0 <= self.high:
            return "no effect shown"
        direction = "gain" if self.mean > 0 else "loss"
        return direction if self.smallest_p <= 0.05 else f"{direction}, too few seeds to test"


def bootstrap_interval(values: np.ndarray, *, seed: int, confidence: float = 0.95, resamples: int = 9999) -> Interval:
    """Interval of the mean of independent `values` (n,): BCa, or percentile where BCa has no answer.

    Assumes that the values are independent draws from one distribution. With three to five values any bootstrap interval is too
    narrow (it knows no tails); read it beside the permutation test. All values equal: the interval is that value. One value: NaN.
    """
    values = _finite("values", values)
    mean, n = float(values.mean()), len(values)
    if n < 2:
        return Interval(mean, np.nan, np.nan, n, "none")
    if np.ptp(values) == 0:
        return Interval(mean, mean, mean, n, "constant")
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy warns where BCa degenerates; the NaN it returns is handled here
            result = stats.bootstrap(
                (values,), np.mean, confidence_level=confidence, n_resamples=resamples, method=method,
                rng=np.random.default_rng(seed), vectorized=True,
            ).confidence_interval
        if np.isfinite([result.low, result.high]).all():
            break
    return Interval(mean, float(result.low), float(result.high), n, method)


def paired_difference(arm: np.ndarray, baseline: np.ndarray, *, seed: int, confidence: float = 0.95) -> Comparison:
    """Arm minus baseline, both (n,) in the same order of seeds.

    Assumes independent pairs. n pairs cannot give a p below 2 / 2^n: three never reach 0.05, six do (0.031).
    """
    arm, baseline = _finite("arm", arm), _finite("baseline", baseline)
    if len(arm) != len(baseline):
        raise StudyError(f"A paired comparison needs equally many values, and got {len(arm)} and {len(baseline)}: give both arms the same seeds.")
    difference = arm - baseline
    interval = bootstrap_interval(difference, seed=seed, confidence=confidence)
    p = sign_flip_p(difference, seed=seed)
    return Comparison(interval.mean, interval.low, interval.high, p, 2.0 ** (1 - len(arm)), len(arm), interval.method)


def sign_flip_p(difference: np.ndarray, *, seed: int, draws: int = 100_000) -> float:
    """Two-sided p of the mean of paired differences (n,): the share of sign patterns with a mean at least as far from 0.

    Exact (all 2^n patterns) up to n = 16, drawn with `seed` above. Assumes only that without an effect each difference is
    symmetric about 0.
    """
    difference = _finite("difference", difference)
    n = len(difference)
    if n <= EXACT_LIMIT:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=n)))
    else:
        signs = np.random.default_rng(seed).choice((1.0, -1.0), size=(draws, n))
    means = np.abs(signs @ difference)
    observed = abs(difference.sum())
    hits = int((means >= observed - 1e-12 * max(observed, 1.0)).sum())  # sums in another order differ by rounding
    return hits / len(signs) if n <= EXACT_LIMIT else (hits + 1) / (len(signs) + 1)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values (m,), in the order given: controls the chance of any false claim among the m, however they depend."""
    p = _finite("p", p)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def identity_interval(
    average_precision: np.ndarray, pids: np.ndarray, *, seed: int, confidence: float = 0.95, resamples: int = 2000
) -> Interval:
    """Percentile interval of mAP over the identities that are queried.

    `average_precision` (Q,) of the valid queries and their `pids` (Q,). Whole identities are resampled with replacement, each with
    all of its queries; the gallery stays as it is, so the interval speaks about other queried people, not about other galleries.
    For the difference of two arms on the same queries, give the differences of their average precisions.
    """
    values, pids = _finite("average_precision", average_precision), np.asarray(pids)
    if values.shape != pids.shape:
        raise StudyError(f"identity_interval needs one pid per query, and got {len(values)} values and {len(pids)} pids.")
    _, identity = np.unique(pids, return_inverse=True)
    sums, counts = np.bincount(identity, values), np.bincount(identity)
    n, mean = len(sums), float(values.mean())
    if n < 2:
        return Interval(mean, np.nan, np.nan, n, "none")
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    means = (weights @ sums) / (weights @ counts)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean, float(low), float(high), n, "percentile over identities")


def _finite(name: str, values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise StudyError(f"{name} must be a row of finite numbers, and has shape {values.shape} with {np.sum(~np.isfinite(values))} that are not.")
    return values
