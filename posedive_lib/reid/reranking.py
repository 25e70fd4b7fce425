"""k-reciprocal re-ranking (Zhong et al., 2017), with sparse matrices: memory grows with the number of neighbours, not with N x N."""

import numpy as np
from scipy import sparse

from posedive_lib.errors import StudyError
from posedive_lib.reid.retrieval import as_features

BLOCK = 512   # rows of distances held at once


def _distances(features: np.ndarray, rows: np.ndarray, power: int) -> np.ndarray:
    """Euclidean distances of unit rows to the power `power`, (B, N), each row divided by its maximum."""
    squared = np.maximum(2 - 2 * features[rows] @ features.T, 0)
    squared[np.arange(len(rows)), rows] = 0   # exactly, so that an image is its own first neighbour
    distance = squared ** (power / 2)
    return distance / np.maximum(distance.max(axis=1, keepdims=True), np.finfo(float).tiny)


def _neighbours(features: np.ndarray, count: int, power: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and distances (N, count) of the nearest rows, self first, ties by index."""
    total = len(features)
    index = np.empty((total, count), dtype=np.int64)
    near = np.empty((total, count))
    for start in range(0, total, BLOCK):
        rows = np.arange(start, min(start + BLOCK, total))
        distance = _distances(features, rows, power)
        own = distance[np.arange(len(rows)), rows]
        distance[np.arange(len(rows)), rows] = -1
        limit = np.partition(distance, count - 1, axis=1)[:, count - 1]
        for offset, row in enumerate(rows):
            candidates = np.flatnonzero(distance[offset] <= limit[offset])
            candidates = candidates[np.argsort(distance[offset, candidates], kind="stable")[:count]]
            index[row], near[row] = candidates, distance[offset, candidates]
        near[rows, 0] = own
    return index, near


def _reciprocal(neighbours: np.ndarray, k: int) -> sparse.csr_matrix:
    """(N, N) bool: j is among the k + 1 nearest of i and i among those of j."""
    total, width = len(neighbours), min(k + 1, neighbours.shape[1])
    columns = neighbours[:, :width].ravel()
    forward = sparse.csr_matrix((np.ones(len(columns), dtype=np.int8), columns, np.arange(0, len(columns) + 1, width)), shape=(total, total))
    return forward.multiply(forward.T).tocsr()


def _expanded(neighbours: np.ndarray, k1: int) -> list[np.ndarray]:
    """k-reciprocal sets R*, grown by the half-size sets of members that overlap by more than two thirds."""
    full, half = _reciprocal(neighbours, k1), _reciprocal(neighbours, int(np.around(k1 / 2)))
    overlap = (half @ full.T.astype(np.int32)).tocsr()   # (j, i): members that j's half set shares with i's full set
    size = np.diff(half.indptr)
    shared = overlap.T.tocsr()
    sets = []
    for i in range(len(neighbours)):
        own = full.indices[full.indptr[i] : full.indptr[i + 1]]
        span = slice(shared.indptr[i], shared.indptr[i + 1])
        common = dict(zip(shared.indices[span].tolist(), shared.data[span].tolist(), strict=True))
        grown = [own] + [half.indices[half.indptr[j] : half.indptr[j + 1]] for j in own.tolist() if common.get(j, 0) > 2 / 3 * size[j]]
        sets.append(np.unique(np.concatenate(grown)))
    return sets


def _encoding(features: np.ndarray, neighbours: np.ndarray, k1: int, k2: int, power: int) -> sparse.csr_matrix:
    """V (N, N) sparse: Gaussian weights over each expanded set, summing to one, averaged over the k2 nearest (query expansion)."""
    total = len(features)
    sets = _expanded(neighbours, k1)
    weights = []
    for start in range(0, total, BLOCK):
        rows = np.arange(start, min(start + BLOCK, total))
        distance = _distances(features, rows, power)
        for offset, row in enumerate(rows):
            weight = np.exp(-distance[offset, sets[row]])
            weights.append(weight / weight.sum())
    pointer = np.concatenate([[0], np.cumsum([len(members) for members in sets])])
    encoding = sparse.csr_matrix((np.concatenate(weights), np.concatenate(sets), pointer), shape=(total, total))
    if k2 > 1:
        width = min(k2, neighbours.shape[1])
        mean = sparse.csr_matrix((np.full(total * width, 1 / width), neighbours[:, :width].ravel(), np.arange(0, total * width + 1, width)), shape=(total, total))
        encoding = (mean @ encoding).tocsr()
    return encoding


def _jaccard(encoding: sparse.csr_matrix, count: int) -> np.ndarray:
    """Jaccard distances (count, N - count) of the first `count` rows to the others: 1 - sum(min) / sum(max), rows summing to one."""
    gallery = encoding[count:].tocsc()
    out = np.empty((count, gallery.shape[0]))
    for i in range(count):
        span = slice(encoding.indptr[i], encoding.indptr[i + 1])
        columns, weight = encoding.indices[span], encoding.data[span]
        lengths = gallery.indptr[columns + 1] - gallery.indptr[columns]
        where = np.repeat(gallery.indptr[columns + 1] - lengths.cumsum(), lengths) + np.arange(lengths.sum())
        least = np.minimum(gallery.data[where], np.repeat(weight, lengths))
        shared = np.bincount(gallery.indices[where], weights=least, minlength=gallery.shape[0])
        out[i] = 1 - shared / (2 - shared)
    return out


def k_reciprocal(query_features, gallery_features, *, k1=20, k2=6, lambda_value=0.3, power=2) -> np.ndarray:
    """(Q, G) re-ranked distances: (1 - lambda) Jaccard + lambda original, of unit-length features.

    The original distance is Euclidean to the power `power`, divided by its largest value per query (2: squared, the authors' code;
    1 and 4 occur in other code bases, and results with different powers or (k1, k2) are not comparable).
    """
    query, gallery = as_features(query_features, "query"), as_features(gallery_features, "gallery")
    if k1 < 1 or k2 < 1 or not 0 <= lambda_value <= 1:
        raise StudyError(f"Re-ranking with k1={k1}, k2={k2}, lambda_value={lambda_value}: k1 and k2 must be at least 1 and lambda_value in [0, 1].")
    if query.shape[1] != gallery.shape[1]:
        raise StudyError(f"Query features have {query.shape[1]} numbers, gallery features {gallery.shape[1]}: extract both with the same model.")
    features = np.concatenate([query, gallery])
    neighbours, _ = _neighbours(features, min(max(k1 + 1, k2), len(features)), power)
    jaccard = _jaccard(_encoding(features, neighbours, k1, k2, power), len(query))
    if lambda_value == 0:
        return jaccard
    for start in range(0, len(query), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(query)))
        jaccard[rows] = (1 - lambda_value) * jaccard[rows] + lambda_value * _distances(features, rows, power)[:, len(query) :]
    return jaccard
