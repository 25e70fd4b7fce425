"""§D, §F: CMC, mAP and mINP under the standard protocol, exact and in bounded memory.

Per query, gallery images of the same identity *and* camera are removed, as are images of identity
-1 (junk). Identity 0 (distractors) stays as negatives. The rest is ranked by distance, ties by
gallery index. Nothing sorts the gallery: the rank of a match is the number of images ahead of it,
counted in one comparison with the row of distances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from posedive_lib.errors import StudyError
from posedive_lib.reid.distances import (
    JUNK,
    Array,
    CosineRows,
    GivenRows,
    Labels,
    as_numpy,
    cosine_rows,
)

BLOCK_BYTES = 64 * 2**20  # of one block of float64 distances,
LEAST_ROWS = 32  # unless that is fewer rows: the product of a few rows with a large gallery is slow
MANY_MATCHES = 256  # from here on, sorting the distances once is cheaper than one pass per match


@dataclass(frozen=True)
class RetrievalResult:
    """Fractions in [0, 1]; a query is valid if the gallery holds its identity under another camera.

    Attributes:
        mAP, mINP: means over valid queries.
        cmc: (max_rank,) share of valid queries with a match among the first k.
        average_precision, inverse_negative_penalty: (n_valid,) per valid query, in query order.
        first_rank: (n_valid,) 0-based rank of the best match.
        n_valid, n_queries, valid: how many queries count, of how many, and which: (n_queries,).
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


def match_ranks(distance: np.ndarray, matches: np.ndarray) -> np.ndarray:
    """0-based ranks (P,) of the gallery indices `matches` (P,), ascending, in one row (G,).

    Ties are ranked by gallery index.
    """
    values = distance[matches]
    if len(matches) >= MANY_MATCHES:
        return _many_ranks(distance, matches, values)
    near = distance <= values.max()  # nothing farther than the worst match is ahead of any
    if np.count_nonzero(near) < len(distance) // 4:
        kept = np.flatnonzero(near)
        distance, matches = distance[kept], np.searchsorted(kept, matches)
    count = np.count_nonzero
    return np.array(
        [
            # of equal distances, those at smaller indices are ahead
            count(distance[:index] <= value) + count(distance[index + 1 :] < value)
            for index, value in zip(matches.tolist(), values, strict=True)
        ]
    )


def _many_ranks(distance: np.ndarray, matches: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The same from sorted values (not sorted images)."""
    ordered = np.sort(distance)
    ranks = np.searchsorted(ordered, values, side="left")
    end = np.searchsorted(ordered, values, side="right")
    for value in np.unique(values[end - ranks > 1]):  # only ties need a look at who has the value
        mine = values == value
        ranks[mine] += np.searchsorted(np.flatnonzero(distance == value), matches[mine])
    return ranks


def _block_ranks(block: np.ndarray, start: int, labels: Labels) -> list[np.ndarray]:
    """Ranks of the matches of each query in a block (B, G), the first of them query `start`."""
    ranks, row = [], np.empty_like(block[0])
    for query, given in enumerate(block, start):
        matches, removed = labels.of_query(query)
        row[:] = given
        row[removed] = np.inf  # never ahead of a match
        ranks.append(match_ranks(row, matches) if len(matches) else matches)
    return ranks


def _block_ranks_torch(block: torch.Tensor, start: int, labels: Labels) -> list[np.ndarray]:
    """`_block_ranks` on any device: counts for the j-th match of every query at once."""
    found = [labels.of_query(query) for query in range(start, start + len(block))]
    for row, (_, removed) in zip(block, found, strict=True):
        row[torch.from_numpy(removed).to(block.device)] = torch.inf
    width = max((len(matches) for matches, _ in found), default=0)
    padded = np.zeros((len(found), width), np.int64)  # (B, most matches of any query)
    for line, (matches, _) in zip(padded, found, strict=True):
        line[: len(matches)] = matches
    at = torch.from_numpy(padded).to(block.device)
    index = torch.arange(block.shape[1], device=block.device)
    ranks = torch.empty_like(at)
    for j in range(width):
        match = at[:, j : j + 1]  # (B, 1)
        value = block.gather(1, match)
        ahead = (block < value) | ((block == value) & (index < match))  # (B, G)
        ranks[:, j] = ahead.sum(dim=1)
    lists = zip(ranks.cpu().numpy(), found, strict=True)
    return [line[: len(matches)] for line, (matches, _) in lists]


def ranks_of_matches(rows: CosineRows | GivenRows, labels: Labels) -> list[np.ndarray]:
    """0-based ranks of every match of every query, in the order of `Labels.of_query`.

    Holds one block of rows at a time; the result does not depend on its size.
    """
    n_query, n_gallery = rows.shape
    step = max(LEAST_ROWS, BLOCK_BYTES // (8 * max(1, n_gallery)))
    ranks: list[np.ndarray] = []
    for start in range(0, n_query, step):
        block = rows[start : min(start + step, n_query)]
        of_block = _block_ranks_torch if isinstance(block, torch.Tensor) else _block_ranks
        ranks += of_block(block, start, labels)
    return ranks


def average_precisions(
    ranks: np.ndarray, starts: np.ndarray, kind: str = "rectangular"
) -> np.ndarray:
    """AP of each list of 0-based ranks, ascending.

    The lists lie one after another in `ranks` and begin at `starts`. kind: 'rectangular' (usual:
    the precision at each match, averaged) or 'trapezoidal' (the original Market-1501 evaluation:
    the mean of the precision at the match and just before it).
    """
    counts = np.diff(np.append(starts, len(ranks)))
    hits = np.arange(1, len(ranks) + 1) - np.repeat(starts, counts)  # 1, 2, … within each list
    precision = hits / (ranks + 1)
    if kind == "trapezoidal":
        before = np.where(ranks > 0, (hits - 1) / np.maximum(ranks, 1), 1.0)
        precision = (before + precision) / 2
    return np.add.reduceat(precision, starts) / counts


def _check_options(max_rank: int, kind: str) -> None:
    if kind not in ("rectangular", "trapezoidal"):
        raise StudyError(f"average_precision is '{kind}': use 'rectangular' or 'trapezoidal'.")
    if max_rank < 1:
        raise StudyError(f"max_rank is {max_rank}: it must be at least 1.")


def no_valid_query(labels: Labels) -> StudyError:
    """Why no query has a match, as far as the labels tell."""
    there = np.isin(labels.q_pid, labels.g_pid[labels.g_pid != JUNK])
    if len(there) == 0 or len(labels.g_pid) == 0:
        cause = (
            f"there are {len(there)} queries and {len(labels.g_pid)} gallery images: "
            "check that both were read"
        )
    elif not there.any():
        cause = (
            "query and gallery share no identity: check that both are of one split and that "
            "identities were not relabelled separately"
        )
    else:
        cameras = np.unique(labels.q_cam[there])
        named = ", ".join(map(str, cameras[:5])) + (", …" if len(cameras) > 5 else "")
        cause = (
            f"all {there.sum()} queries whose identity is in the gallery share their camera with "
            f"every true match (query cameras: {named}): check that camera ids differ between "
            "query and gallery"
        )
    return StudyError(f"No query has a match in the gallery under another camera: {cause}.")


def cmc_curve(first: np.ndarray, max_rank: int) -> np.ndarray:
    """(max_rank,) share of the 0-based ranks `first` that are among the first k."""
    counts = np.bincount(np.minimum(first, max_rank), minlength=max_rank + 1)
    return counts[:max_rank].cumsum() / len(first)


def summary(ranks: list[np.ndarray], labels: Labels, max_rank: int, kind: str) -> RetrievalResult:
    """Metrics from the ranks of all matches.

    A gallery shorter than `max_rank` extends the last value of its CMC.
    """
    found = [np.sort(row) for row in ranks if len(row)]
    if not found:
        raise no_valid_query(labels)
    counts = np.array([len(row) for row in found])
    first, last = np.array([row[0] for row in found]), np.array([row[-1] for row in found])
    precision = average_precisions(np.concatenate(found), counts.cumsum() - counts, kind)
    penalty = counts / (last + 1)  # mINP: matches over the 1-based rank of the hardest one
    return RetrievalResult(
        mAP=float(precision.mean()),
        mINP=float(penalty.mean()),
        cmc=cmc_curve(first, max_rank),
        average_precision=precision,
        inverse_negative_penalty=penalty,
        first_rank=first,
        n_valid=len(found),
        n_queries=len(ranks),
        valid=np.array([len(row) > 0 for row in ranks], dtype=bool),
    )


def evaluate(
    query_features: Array,
    query_pids: Array,
    query_camids: Array,
    gallery_features: Array,
    gallery_pids: Array,
    gallery_camids: Array,
    *,
    max_rank: int = 50,
    average_precision: str = "rectangular",
    device: str | None = None,
) -> RetrievalResult:
    """§D, §F: compare features (Q, D) and (G, D) by cosine distance, float64 inside, to 2^-42.

    device: a torch device that computes and counts ("cuda"; it must know float64); None: NumPy,
    with the same result. Queries without a match under another camera are left out of every mean.
    StudyError on features that are not finite, labels that do not fit, an unknown AP and when no
    query is valid.
    """
    _check_options(max_rank, average_precision)
    query = query_features, query_pids, query_camids
    gallery = gallery_features, gallery_pids, gallery_camids
    rows, labels = cosine_rows(query, gallery, device)
    return summary(ranks_of_matches(rows, labels), labels, max_rank, average_precision)


def evaluate_distances(
    distances: Array,
    query_pids: Array,
    query_camids: Array,
    gallery_pids: Array,
    gallery_camids: Array,
    *,
    max_rank: int = 50,
    average_precision: str = "rectangular",
) -> RetrievalResult:
    """§D, §F: `evaluate` from given distances (Q, G) of any float type: re-ranked, for example."""
    _check_options(max_rank, average_precision)
    given = as_numpy(distances)
    if given.ndim != 2 or given.dtype.kind != "f":
        raise StudyError(
            f"The distances have shape {given.shape} and type {given.dtype}: "
            "expected (queries, gallery) of floats."
        )
    query, gallery = (query_pids, query_camids), (gallery_pids, gallery_camids)
    labels = Labels.checked(query, gallery, *given.shape)
    rows = GivenRows(given, labels.g_pid != JUNK)
    labels = labels.without_junk()
    return summary(ranks_of_matches(rows, labels), labels, max_rank, average_precision)
