"""Many comparisons over the same seeds, tested at once (Westfall and Young, 1993), as scipy permutes."""

import numpy as np
from scipy import stats

from posedive_lib.errors import StudyError


def joint_p(differences: np.ndarray, *, seed: int, patterns: int = 2**16) -> np.ndarray:
    """(m,) two-sided sign-flip p of m comparisons, each corrected for all of them; differences (n, m) by seed and comparison.

    A change of signs takes a seed's differences in all comparisons at once, and every mean is held against the largest of the m that
    the same change gives ("max T"), each in units of its root mean square, which no change of signs alters. That controls the chance of any
    false claim among the m and makes use of their dependence: n seeds can give 2 / 2^n however many comparisons there are, where Holm's
    correction gives m times as much. Exact while all 2^n patterns are at most `patterns`, drawn with `seed` above. Assumes that without
    an effect a seed's differences are jointly symmetric about 0.
    """
    differences = np.asarray(differences, float)
    if differences.ndim != 2 or not differences.size or not np.isfinite(differences).all():
        raise StudyError(f"joint_p needs finite differences (seeds, comparisons), and got {differences.shape}: give every comparison the same seeds.")
    if len(differences) == 1:  # one difference is as far from 0 as its mirror image
        return np.ones(differences.shape[1])
    size = np.sqrt((differences**2).mean(axis=0))
    mean = lambda values, axis: np.round(np.mean(values, axis=axis), 12)  # sums in another order differ by rounding
    result = stats.permutation_test(
        (differences / np.where(size > 0, size, 1),), mean, permutation_type="samples", n_resamples=patterns, vectorized=True, batch=1_000, axis=0, rng=np.random.default_rng(seed)
    )
    largest = np.abs(result.null_distribution).max(axis=1)
    reached = (largest[:, None] >= np.abs(result.statistic)).sum(axis=0)
    drawn = int(len(largest) < 2 ** len(differences))  # then the data count as one pattern more, as in scipy
    return (reached + drawn) / (len(largest) + drawn)
