"""What a study may claim: paired differences over seeds, and intervals of one mAP over identities.

Two sources of chance are kept apart. *Training*: the seed, which the arms of a comparison share, so
differences are paired (`paired_difference`). *Test set*: which identities are queried
(`identity_interval`). Queries of one identity depend on each other, so identities are resampled,
never queries. Resampling and permuting are scipy's. Every function that draws takes its seed, and
`verdict` alone decides what a difference is called.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from posedive_lib.errors import StudyError

ALPHA = 0.05
NO_EFFECT = "no effect shown"


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval.

    method: how it was made; "none" says that `n` is too small for one.
    """

    mean: float
    low: float
    high: float
    n: int
    method: str


@dataclass(frozen=True)
class Comparison(Interval):
    """Arm minus baseline over paired seeds, with Student's interval.

    p: of the two-sided sign-flip test; smallest_p: the least that `n` pairs can give. bca_low,
    bca_high: the bootstrap's interval, beside it.
    """

    p: float
    smallest_p: float
    bca_low: float
    bca_high: float

    @property
    def verdict(self) -> str:
        """`verdict` of this comparison."""
        return verdict(self.low, self.high, self.p, self.smallest_p)


def contains_zero(low: float, high: float) -> bool:
    """An interval that contains 0, or that does not exist, shows no effect."""
    return not (low > 0 or high < 0)


def verdict(low: float, high: float, p: float, smallest_p: float) -> str:
    """How the study words a difference, everywhere (docs/primary_analysis.md).

    "gain" or "loss" need the same: an interval that excludes 0, and p ≤ 0.05, where p is corrected
    for the comparisons of its table (`joint_p`). All else is "no effect shown". Where so few seeds
    cannot give such a p, an interval that excludes 0 says so: "gain, too few seeds to test".
    """
    if contains_zero(low, high):
        return NO_EFFECT
    direction = "gain" if low > 0 else "loss"
    if smallest_p > ALPHA:
        return f"{direction}, too few seeds to test"
    return direction if p <= ALPHA else NO_EFFECT


def t_interval(values: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Student's interval of the mean of independent values (n,).

    Right for normal values however few there are, where a bootstrap of six is too narrow (see
    `bootstrap_interval`). All values equal: the interval is that value. One: NaN.
    """
    values = _finite("values", values)
    n, mean = len(values), float(values.mean())
    if n < 2:
        return Interval(mean, np.nan, np.nan, n, "none")
    if np.ptp(values) == 0:
        return Interval(mean, mean, mean, n, "constant")
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n)
    # A bound that is 0 but for its last digits is 0.
    rounding = 1e-9 * np.abs(values).max()
    low, high = (0.0 if abs(bound) < rounding else bound for bound in (mean - half, mean + half))
    return Interval(mean, float(low), float(high), n, "t")


def bootstrap_interval(
    values: ArrayLike, *, seed: int, confidence: float = 0.95, resamples: int = 9999
) -> Interval:
    """Interval of the mean of independent `values` (n,), BCa or else percentile.

    Few values make it too narrow. Of normal values a 95 % interval covers the mean in about 73 %
    of cases with three, 88 % with six, 90 % with ten (tests/test_statistics.py measures it). So
    read it beside the permutation test. All values equal: the interval is that value. One: NaN.
    """
    return _bootstrap((_finite("values", values),), np.mean, seed, confidence, resamples)


def paired_difference(
    arm: ArrayLike, baseline: ArrayLike, *, seed: int, confidence: float = 0.95
) -> Comparison:
    """Arm minus baseline, both (n,) in the same order of seeds; assumes independent pairs.

    n pairs cannot give a p below 2 / 2^n: three never reach 0.05, six do (0.031).
    """
    made, reference = _paired(arm=arm, baseline=baseline)
    difference = made - reference
    interval = t_interval(difference, confidence=confidence)
    bca = bootstrap_interval(difference, seed=seed, confidence=confidence)
    (p,) = joint_p(difference[:, None], seed=seed).tolist()
    smallest_p = 2.0 ** (1 - interval.n)  # of 2^n patterns of signs, all plus and all minus
    return Comparison(
        **vars(interval), p=p, smallest_p=smallest_p, bca_low=bca.low, bca_high=bca.high
    )


def joint_p(differences: ArrayLike, *, seed: int, patterns: int = 2**16) -> np.ndarray:
    """(m,) two-sided sign-flip p of m comparisons, corrected for all (Westfall and Young, 1993).

    differences: (n, m) by seed and comparison. A change of signs takes a seed's differences in all
    comparisons at once. Every mean is held against the largest of the m that the same change gives
    ("max T"), each in units of its root mean square, which no change of signs alters. That controls
    the chance of any false claim among the m, and it uses their dependence: n seeds can give
    2 / 2^n however many comparisons there are, where Holm's correction gives m times as much.

    Exact while all 2^n patterns are at most `patterns`; above, they are drawn with `seed`. Assumes
    that without an effect a seed's differences are jointly symmetric about 0.
    """
    values = np.asarray(differences, float)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise StudyError(
            "joint_p needs finite differences (seeds, comparisons), "
            f"and got {values.shape}: give every comparison the same seeds."
        )
    if len(values) == 1:  # one difference is as far from 0 as its mirror image
        return np.ones(values.shape[1])

    def mean(signed: np.ndarray, axis: int) -> Any:
        # Rounded, because sums in another order differ in their last digits.
        return np.round(np.mean(signed, axis=axis), 12)

    size = np.sqrt((values**2).mean(axis=0))
    result = stats.permutation_test(
        (values / np.where(size > 0, size, 1),),
        mean,
        permutation_type="samples",
        n_resamples=patterns,
        vectorized=True,
        batch=1_000,
        axis=0,
        rng=np.random.default_rng(seed),
    )
    largest = np.abs(result.null_distribution).max(axis=1)  # (patterns, m) to (patterns,)
    reached = (largest[:, None] >= np.abs(result.statistic)).sum(axis=0)
    # Where patterns are drawn, the data count as one more, as in scipy.
    drawn = int(len(largest) < 2 ** len(values))
    share: np.ndarray = (reached + drawn) / (len(largest) + drawn)
    return share


def captured_share(gain: ArrayLike, possible: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Share of a possible gain that is reached: the ratio of two mean gains, both (n,) by seed.

    The interval is Fieller's (1954): the ratios r for which Student's interval of the mean of
    gain − r · possible contains 0. It is bounded where Student's interval of the possible gain lies
    above 0. Elsewhere there is nothing to share: NaN, with method "not defined".
    """
    made, true = _paired(gain=gain, possible=possible)
    n, whole = len(made), t_interval(true, confidence=confidence)
    if not whole.low > 0:
        return Interval(np.nan, np.nan, np.nan, n, "not defined")
    a, b = made.mean(), true.mean()
    spread = np.cov(made, true) * stats.t.ppf((1 + confidence) / 2, n - 1) ** 2 / n
    # (a − r b)² = spread of gain − r · possible, a quadratic in r
    square, middle, last = b**2 - spread[1, 1], a * b - spread[0, 1], a**2 - spread[0, 0]
    half = np.sqrt(max(middle**2 - square * last, 0.0))
    low, high = (middle - half) / square, (middle + half) / square
    return Interval(a / b, float(low), float(high), n, "Fieller")


def holm(p: ArrayLike) -> np.ndarray:
    """Holm's adjusted p-values (m,), in the order given.

    They control the chance of any false claim among the m, however they depend on each other.
    """
    p = _finite("p", p)
    order = np.argsort(p, kind="stable")
    # The smallest p counts m times, the next m − 1 times; none falls below the one before.
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def identity_interval(
    average_precision: ArrayLike,
    pids: ArrayLike,
    *,
    seed: int,
    confidence: float = 0.95,
    resamples: int = 4999,
) -> Interval:
    """Interval of mAP over the identities that are queried: BCa of a mean over whole identities.

    average_precision: (Q,) of the valid queries; pids: theirs (Q,). Identities are resampled with
    replacement, each with all of its queries. The gallery stays, so the interval speaks of other
    queried people, not of other galleries. For the difference of two arms on the same queries, give
    the differences of their average precisions.
    """
    values, people = _finite("average_precision", average_precision), np.asarray(pids)
    if values.shape != people.shape:
        raise StudyError(
            "identity_interval needs one pid per query, "
            f"and got {len(values)} values and {len(people)} pids."
        )
    # The last digits of a sum depend on its order, and with them the bootstrap's ties.
    order = np.lexsort((values, people))
    values, identity = values[order], np.unique(people[order], return_inverse=True)[1]
    sums, counts = np.bincount(identity, values), np.bincount(identity).astype(float)

    def mean(s: np.ndarray, c: np.ndarray, axis: int) -> np.ndarray:
        return np.sum(s, axis=axis) / np.sum(c, axis=axis)

    return _bootstrap((sums, counts), mean, seed, confidence, resamples)


def _bootstrap(
    data: tuple[np.ndarray, ...],
    statistic: Callable[..., Any],
    seed: int,
    confidence: float,
    resamples: int,
) -> Interval:
    """scipy's bootstrap of columns whose rows belong together.

    BCa, percentile where BCa has no answer, NaN where that has none either.
    """
    n, value = len(data[0]), float(statistic(*data, axis=-1))
    if n < 2:
        return Interval(value, np.nan, np.nan, n, "none")
    if all(np.ptp(column) == 0 for column in data):
        return Interval(value, value, value, n, "constant")
    # A bound that is 0 but for its last digits is 0.
    rounding = 1e-9 * max(np.abs(column).max() for column in data)
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
            warnings.simplefilter("ignore")  # where BCa degenerates; it returns NaN then
            bounds = stats.bootstrap(
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
        if np.isfinite(bounds).all():
            low, high = (0.0 if abs(bound) < rounding else float(bound) for bound in bounds)
            return Interval(value, low, high, n, method)
    return Interval(value, np.nan, np.nan, n, "none")


def _paired(**columns: ArrayLike) -> list[np.ndarray]:
    values = [_finite(name, column) for name, column in columns.items()]
    lengths = [str(len(column)) for column in values]
    if len(set(lengths)) > 1:
        raise StudyError(
            f"A paired comparison needs equally many values, and got {' and '.join(lengths)}: "
            "give all arms the same seeds."
        )
    return values


def _finite(name: str, values: ArrayLike) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise StudyError(
            f"{name} must be a row of finite numbers, and has shape {values.shape} "
            f"with {np.sum(~np.isfinite(values))} that are not."
        )
    return values
