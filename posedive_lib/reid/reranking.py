"""k-reciprocal re-ranking (Zhong et al., 2017) without any dense N x N matrix.

Memory grows with the number of neighbours kept per image. One pass over blocks of float32
similarities proposes each image's neighbours. Every decision and every weight is then in float64.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy import sparse

from posedive_lib.errors import StudyError
from posedive_lib.reid.distances import GRID, Array, pair_of_features

BLOCK = 512  # rows of similarities held at once
MAX_POWER = 64  # of a distance up to 2, which then is far from overflow


@dataclass(frozen=True)
class RerankingOptions:
    """What a re-ranked result must be stored with; numbers under different options do not compare.

    power: of the Euclidean distance. 2 is the squared distance of the authors' code; 1 and 4 occur
    in other code bases, and (k1, k2) = (50, 15) in place of (20, 6).
    """

    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3
    power: float = 2

    def __post_init__(self) -> None:
        whole = all(isinstance(k, Integral) and k >= 1 for k in (self.k1, self.k2))
        real = all(isinstance(value, Real) for value in (self.lambda_value, self.power))
        if not (whole and real and 0 <= self.lambda_value <= 1 and 0 < self.power <= MAX_POWER):
            raise StudyError(
                f"Re-ranking with k1={self.k1}, k2={self.k2}, lambda_value={self.lambda_value}, "
                f"power={self.power}: k1 and k2 must be whole numbers from 1, lambda_value in "
                f"[0, 1] and power above 0, up to {MAX_POWER}."
            )

    def record(self) -> dict[str, Any]:
        """The protocol fields of a result: {"k1": 20, "k2": 6, "lambda_value": 0.3, "power": 2}."""
        return asdict(self)


def _distance(similarity: np.ndarray, power: float) -> np.ndarray:
    """Euclidean distance of unit vectors to the power `power`, from their cosine similarity."""
    squared = np.maximum(2 - 2 * similarity, 0)
    return squared if power == 2 else squared ** (power / 2)


def _kth_largest_at_least(block: np.ndarray, k: int) -> np.ndarray:
    """(B,) lower bounds of each row's k-th largest value.

    It is the k-th largest of the maxima over groups of columns, which is quicker to find.
    """
    groups = max(8 * k, block.shape[1] // 64)
    if 2 * groups <= block.shape[1]:
        depth = block.shape[1] // groups
        # a group's columns lie far apart in the row: near ones are often images of one person
        block = block[:, : depth * groups].reshape(len(block), depth, groups).max(axis=1)
    return np.partition(block, block.shape[1] - k, axis=1)[:, block.shape[1] - k]


def _neighbours(features: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (N, count) of the nearest rows, self first, ties by index.

    And the similarity (N,) of the farthest row.
    """
    single = features.astype(np.float32)
    # bounds twice the error of a float32 similarity
    margin = 2 * (features.shape[1] + 3) * np.finfo(np.float32).eps / 2
    index, farthest = np.empty((len(features), count), dtype=np.int64), np.empty(len(features))
    for start in range(0, len(features), BLOCK):
        block = single[start : start + BLOCK] @ single.T
        bound, last = _kth_largest_at_least(block, count) - margin, block.argmin(axis=1)
        for row, (near, limit) in enumerate(zip(block, bound, strict=True), start):
            candidates = np.flatnonzero(near >= limit)
            order = GRID - features[candidates] @ features[row]  # to 2^-42: identical images tie
            order[candidates == row] = -np.inf
            index[row] = candidates[np.argsort(order, kind="stable")[:count]]
        farthest[start : start + BLOCK] = np.einsum(
            "nd,nd->n", features[start : start + BLOCK], features[last]
        )
    return index, farthest


def _rows_to_sparse(
    columns: np.ndarray, value: float, dtype: type | None = None
) -> sparse.csr_matrix:
    """(N, N) with `value` at columns (N, W) of each row."""
    total, width = columns.shape
    starts = np.arange(0, columns.size + 1, width)
    values = np.full(columns.size, value, dtype)
    return sparse.csr_matrix((values, columns.ravel(), starts), shape=(total, total))


def _reciprocal(neighbours: np.ndarray, k: int) -> sparse.csr_matrix:
    """(N, N) 0/1: j is among the k + 1 nearest of i and i among those of j."""
    forward = _rows_to_sparse(neighbours[:, : k + 1], 1, np.int32)
    return forward.multiply(forward.T).tocsr()


def _expanded(neighbours: np.ndarray, k1: int) -> sparse.csr_matrix:
    """R* as a pattern (N, N): k-reciprocal sets R(k1), grown by half-size sets R(k1 / 2).

    The half-size set of a member joins if more than two thirds of it lie in R(k1) already.
    """
    full, half = _reciprocal(neighbours, k1), _reciprocal(neighbours, int(np.around(k1 / 2)))
    # (i, j): how many members of j's half set are in i's full set, for j in that set
    shared = (full @ half.T).multiply(full).tocsr()
    shared.data = (shared.data > 2 / 3 * np.diff(half.indptr)[shared.indices]).astype(np.int32)
    shared.eliminate_zeros()
    grown = (full + shared @ half).tocsr()
    grown.sort_indices()
    return grown


def _encoding(
    features: np.ndarray, neighbours: np.ndarray, farthest: np.ndarray, options: RerankingOptions
) -> sparse.csr_matrix:
    """V (N, N) sparse: Gaussian weights over each expanded set, summing to one.

    They are averaged over the k2 nearest (local query expansion).
    """
    sets = _expanded(neighbours, options.k1)
    weights = np.empty(sets.nnz)
    for row, (start, end) in enumerate(zip(sets.indptr[:-1], sets.indptr[1:], strict=True)):
        members = sets.indices[start:end]
        distance = _distance(features[members] @ features[row], options.power)
        distance[members == row] = 0
        weight = np.exp(-distance / farthest[row])
        weights[start:end] = weight / weight.sum()
    encoding = sparse.csr_matrix((weights, sets.indices, sets.indptr), shape=sets.shape)
    if options.k2 > 1:
        nearest = neighbours[:, : options.k2]
        encoding = (_rows_to_sparse(nearest, 1 / nearest.shape[1]) @ encoding).tocsr()
    return encoding


def _jaccard(encoding: sparse.csr_matrix, count: int) -> np.ndarray:
    """Jaccard distances (count, N - count) of the first `count` rows to the others.

    1 - sum(min) / sum(max). Rows sum to one, so sum(max) = 2 - sum(min).
    """
    gallery = encoding[count:].tocsc()
    out = np.empty((count, gallery.shape[0]))
    for i in range(count):
        span = slice(encoding.indptr[i], encoding.indptr[i + 1])
        columns, weight = encoding.indices[span], encoding.data[span]
        lengths = gallery.indptr[columns + 1] - gallery.indptr[columns]
        # places of the entries of all these columns, one column after another
        first = gallery.indptr[columns + 1] - lengths.cumsum()
        where = np.repeat(first, lengths) + np.arange(lengths.sum())
        least = np.minimum(gallery.data[where], np.repeat(weight, lengths))
        shared = np.bincount(gallery.indices[where], weights=least, minlength=gallery.shape[0])
        np.subtract(1, shared / (2 - shared), out=out[i])
    return out


def k_reciprocal(
    query_features: Array,
    gallery_features: Array,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    power: float = 2,
) -> np.ndarray:
    """(Q, G) re-ranked distances, float64: (1 - lambda) Jaccard + lambda original.

    Features (Q, D) and (G, D) are made unit length. The original distance is Euclidean to the power
    `power`, divided by its largest value per query over all Q + G images. `RerankingOptions.record`
    belongs to every result. StudyError on options out of range, on features that are not finite and
    where there are none.
    """
    options = RerankingOptions(k1, k2, lambda_value, power)
    query, gallery = pair_of_features(query_features, gallery_features)
    if not len(query) or not len(gallery):
        raise StudyError(
            f"There are {len(query)} queries and {len(gallery)} gallery images to re-rank: "
            "check that both were read."
        )
    features = np.concatenate([query, gallery])
    neighbours, least = _neighbours(features, min(max(k1 + 1, k2), len(features)))
    farthest = np.maximum(_distance(least, power), np.finfo(float).tiny)
    result = _jaccard(_encoding(features, neighbours, farthest, options), len(query))
    result *= 1 - lambda_value
    for start in range(0, len(query) if lambda_value else 0, BLOCK):
        rows = slice(start, min(start + BLOCK, len(query)))
        original = _distance(query[rows] @ gallery.T, power)
        result[rows] += lambda_value * original / farthest[rows, None]
    return result
