"""CUHK03's classic protocol (§F): CMC with one gallery image per identity, drawn anew many times ("single-gallery-shot")."""

from dataclasses import dataclass

import numpy as np

from posedive_lib.errors import StudyError
from posedive_lib.reid.distances import CosineRows, Labels, cosine_rows
from posedive_lib.reid.retrieval import LEAST_ROWS, no_valid_query


@dataclass(frozen=True)
class SingleShotResult:
    """`cmc` (max_rank,): share of draws of valid queries whose match is among the first k, and the draw it rests on."""

    cmc: np.ndarray
    n_valid: int
    n_queries: int
    valid: np.ndarray
    repeats: int
    seed: int


def evaluate_single_gallery_shot(
    query_features,
    query_pids,
    query_camids,
    gallery_features,
    gallery_pids,
    gallery_camids,
    *,
    seed: int,
    repeats: int = 10,
    max_rank: int = 50,
) -> SingleShotResult:
    """§F: after images of the query's identity and camera are removed, draw one image of every identity; repeat; average.

    Each query draws from its own stream of `seed`, so that neither its position in a block nor the other queries change its draws. All of
    identity 0 counts as one identity. Ties by gallery index; a gallery of fewer identities than `max_rank` extends the last value.
    mAP is not defined here: take it from `evaluate`. Raises StudyError as `evaluate` does.
    """
    if repeats < 1 or max_rank < 1:
        raise StudyError(f"repeats is {repeats} and max_rank {max_rank}: both must be at least 1.")
    rows, labels = cosine_rows(
        query_features, query_pids, query_camids, gallery_features, gallery_pids, gallery_camids
    )
    ranks = [
        found
        for start in range(0, rows.shape[0], LEAST_ROWS)
        for found in _block(rows, start, labels, seed, repeats)
    ]
    valid = np.array([found is not None for found in ranks], dtype=bool)
    if not valid.any():
        raise no_valid_query(labels)
    first = np.minimum(np.concatenate([found for found in ranks if found is not None]), max_rank)
    cmc = np.bincount(first, minlength=max_rank + 1)[:max_rank].cumsum() / len(first)
    return SingleShotResult(cmc, int(valid.sum()), len(valid), valid, repeats, seed)


def _block(rows: CosineRows, start: int, labels: Labels, seed: int, repeats: int):
    """Per query of a block, the 0-based ranks (repeats,) of its match, or None."""
    by_pid = np.argsort(labels.g_pid, kind="stable")
    pids, starts, counts = np.unique(labels.g_pid[by_pid], return_index=True, return_counts=True)
    for query, distance in enumerate(rows[start : min(start + LEAST_ROWS, rows.shape[0])], start):
        matches, _ = labels.of_query(query)
        if not len(matches):
            yield None
            continue
        draw = np.random.default_rng([seed, query]).random((repeats, len(pids)))
        own = np.searchsorted(pids, labels.q_pid[query])
        drawn = by_pid[starts + (draw * counts).astype(np.int64)]
        drawn[:, own] = matches[(draw[:, own] * len(matches)).astype(np.int64)]
        at = drawn[:, own : own + 1]
        ahead = (distance[drawn] < distance[at]) | (
            (distance[drawn] == distance[at]) & (drawn < at)
        )
        yield ahead.sum(axis=1)
