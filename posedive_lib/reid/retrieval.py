"""CMC, mAP and mINP under the standard protocol, exact and in bounded memory.

Per query, gallery images of the same identity *and* camera are removed, as are images of identity -1 (junk). The rest is ranked by cosine
distance, ties by gallery index. Nothing sorts the gallery: the rank of a match is one more than the number of images ahead of it, and
only images at least as near as the query's worst match are looked at.
"""

from dataclasses import dataclass

import numpy as np

from posedive_lib.errors import StudyError

JUNK = -1
BLOCK_BYTES = 64 * 2**20   # of one block of float64 similarities


@dataclass(frozen=True)
class RetrievalResult:
    """Fractions in [0, 1]; a query is valid if the gallery holds its identity under another camera.

    Attributes:
        mAP, mINP: means over valid queries.
        cmc: (max_rank,) share of valid queries with a match among the first k.
        average_precision, inverse_negative_penalty: (n_valid,) per valid query, in query order.
        first_rank: (n_valid,) 0-based rank of the best match.
        valid: (n_queries,) bool.
    """

    mAP: float
    mINP: float
    cmc: np.ndarray
    average_precision: np.ndarray
    inverse_negative_penalty: np.ndarray
    first_rank: np.ndarray
    n_valid: int
    n_queries: int
    valid: np.ndarray


def as_features(features, what: str) -> np.ndarray:
    """(N, D) float64 rows of unit length; zero rows stay zero. StudyError on another shape or non-finite values."""
    if hasattr(features, "detach"):
        features = features.detach().cpu().numpy()
    features = np.array(features, dtype=np.float64)
    if features.ndim != 2 or features.shape[1] == 0:
        raise StudyError(f"{what} features have shape {features.shape}: expected (N, D).")
    if not np.isfinite(features).all():
        bad = int((~np.isfinite(features).all(axis=1)).sum())
        raise StudyError(f"{bad} of {len(features)} {what} features are not finite: lower the learning rate or check the images.")
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.divide(features, length, out=features, where=length > 0)


def _labels(values, count: int, what: str) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    values = np.asarray(values)
    if values.shape != (count,):
        raise StudyError(f"{what} have shape {values.shape}, but there are {count} features: give one label per feature.")
    return values


def _twins(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(later, first) indices of identical rows: a matrix product may round equal columns differently, which would break ties at random."""
    first: dict[bytes, int] = {}
    pairs = [(index, first.setdefault(row.tobytes(), index)) for index, row in enumerate(features + 0.0)]
    pairs = np.array([pair for pair in pairs if pair[0] != pair[1]], dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def match_ranks(similarity: np.ndarray, matches: np.ndarray) -> np.ndarray:
    """0-based ranks (P,), ascending, of the gallery indices `matches` (P,) in one row of similarities (G,); ties by gallery index."""
    values = np.unique(similarity[matches])
    ahead = np.flatnonzero(similarity >= values[0])
    bins = np.searchsorted(values, similarity[ahead], side="left")   # bin j: values[j-1] < s <= values[j]
    counts = np.bincount(bins, minlength=len(values) + 1)
    greater = counts[::-1].cumsum()[::-1]   # greater[j]: images in bins j and above
    capped = np.minimum(bins, len(values) - 1)
    level = (bins < len(values)) & (values[capped] == similarity[ahead])   # tied with a match, or the match itself
    tied, tied_bin = ahead[level], bins[level]
    order = np.lexsort((tied, -tied_bin))   # best value first, then gallery index
    tied, tied_bin = tied[order], tied_bin[order]
    start = np.searchsorted(-tied_bin, -tied_bin, side="left")   # where this value's ties begin
    ranks = greater[tied_bin + 1] + np.arange(len(tied)) - start
    return ranks[np.isin(tied, matches)]


def average_precision_of(ranks: np.ndarray, kind: str) -> float:
    """AP from ascending 0-based ranks of all matches; 'rectangular' (usual) or 'trapezoidal' (the original Market-1501 evaluation)."""
    hits = np.arange(1, len(ranks) + 1)
    precision = hits / (ranks + 1)
    if kind == "trapezoidal":
        before = np.where(ranks > 0, (hits - 1) / np.maximum(ranks, 1), 1.0)
        precision = (before + precision) / 2
    return float(precision.mean())


def evaluate(
    query_features, query_pids, query_camids, gallery_features, gallery_pids, gallery_camids, *, max_rank=50, average_precision="rectangular",
) -> RetrievalResult:
    """§D, §F: compare features (N, D), arrays or tensors, by cosine distance.

    Queries without a match under another camera are left out of every mean. A gallery shorter than `max_rank` extends the last value of
    its CMC. Raises StudyError on non-finite features, labels that do not fit, an unknown AP and when no query is valid.
    """
    if average_precision not in ("rectangular", "trapezoidal"):
        raise StudyError(f"average_precision is '{average_precision}': use 'rectangular' or 'trapezoidal'.")
    if max_rank < 1:
        raise StudyError(f"max_rank is {max_rank}: it must be at least 1.")
    query, gallery = as_features(query_features, "query"), as_features(gallery_features, "gallery")
    if query.shape[1] != gallery.shape[1]:
        raise StudyError(f"Query features have {query.shape[1]} numbers, gallery features {gallery.shape[1]}: extract both with the same model.")
    q_pid, q_cam = _labels(query_pids, len(query), "query_pids"), _labels(query_camids, len(query), "query_camids")
    g_pid, g_cam = _labels(gallery_pids, len(gallery), "gallery_pids"), _labels(gallery_camids, len(gallery), "gallery_camids")
    keep = g_pid != JUNK
    gallery, g_pid, g_cam = gallery[keep], g_pid[keep], g_cam[keep]
    ranks = _all_ranks(query, q_pid, q_cam, gallery, g_pid, g_cam)
    return _summary(ranks, max_rank, average_precision)


def _all_ranks(query, q_pid, q_cam, gallery, g_pid, g_cam) -> list[np.ndarray | None]:
    """Ranks of every match of every query; None where there is no match under another camera."""
    by_pid = {pid: group for pid, group in _groups(g_pid)}
    later, first = _twins(gallery)
    ranks: list[np.ndarray | None] = []
    block = max(1, BLOCK_BYTES // (8 * max(1, len(gallery))))
    for start in range(0, len(query), block):
        similarity = query[start : start + block] @ gallery.T
        similarity[:, later] = similarity[:, first]
        for row, pid, cam in zip(similarity, q_pid[start : start + block], q_cam[start : start + block], strict=True):
            same = by_pid.get(pid)
            if pid == JUNK or same is None or (other := same[g_cam[same] != cam]).size == 0:
                ranks.append(None)
                continue
            row[same[g_cam[same] == cam]] = -np.inf   # removed: never ahead of a match
            ranks.append(match_ranks(row, other))
    return ranks


def _groups(values: np.ndarray):
    order = np.argsort(values, kind="stable")
    unique, starts = np.unique(values[order], return_index=True)
    return zip(unique.tolist(), np.split(order, starts[1:]), strict=True) if len(values) else ()


def _summary(ranks: list[np.ndarray | None], max_rank: int, kind: str) -> RetrievalResult:
    valid = np.array([found is not None for found in ranks], dtype=bool)
    found = [row for row in ranks if row is not None]
    if not found:
        raise StudyError("No query has a match in the gallery under another camera: check that query and gallery share identities and that camera ids differ.")
    first = np.array([row[0] for row in found])
    precision = np.array([average_precision_of(row, kind) for row in found])
    penalty = np.array([len(row) / (row[-1] + 1) for row in found])
    cmc = np.bincount(np.minimum(first, max_rank), minlength=max_rank + 1)[:max_rank].cumsum() / len(found)
    return RetrievalResult(
        mAP=float(precision.mean()), mINP=float(penalty.mean()), cmc=cmc, average_precision=precision, inverse_negative_penalty=penalty,
        first_rank=first, n_valid=len(found), n_queries=len(ranks), valid=valid,
    )
