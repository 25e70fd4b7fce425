"""CUHK03's classic protocol (§F), "single-gallery-shot": one gallery image per identity.

The image is drawn anew many times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from posedive_lib.errors import StudyError
from posedive_lib.reid.distances import Array, CosineRows, Labels, cosine_rows
from posedive_lib.reid.retrieval import LEAST_ROWS, cmc_curve, no_valid_query


@dataclass(frozen=True)
class SingleShotResult:
    """The curve and the draws that it rests on.

    cmc: (max_rank,) share of draws of valid queries whose match is among the first k.
    """

    cmc: np.ndarray
    n_valid: int
    n_queries: int
    valid: np.ndarray
    repeats: int
    seed: int


def evaluate_single_gallery_shot(
    query_features: Array,
    query_pids: Array,
    query_camids: Array,
    gallery_features: Array,
    gallery_pids: Array,
    gallery_camids: Array,
    *,
    seed: int,
    repeats: int = 10,
    max_rank: int = 50,
) -> SingleShotResult:
    """§F: remove images of the query's identity and camera, draw one image per identity, repeat.

    Each query draws from its own stream of `seed`, so the other queries do not change its draws.
    All of identity 0 counts as one identity. Ties are ranked by gallery index. A gallery of fewer
    identities than `max_rank` extends the last value. mAP is not defined here: take it from
    `evaluate`. StudyError as for `evaluate`.
    """
    if repeats < 1 or max_rank < 1:
        raise StudyError(f"repeats is {repeats} and max_rank {max_rank}: both must be at least 1.")
    query = query_features, query_pids, query_camids
    gallery = gallery_features, gallery_pids, gallery_camids
    rows, labels = cosine_rows(query, gallery)
    ranks = list(_ranks(rows, labels, seed, repeats))
    valid = np.array([len(found) > 0 for found in ranks], dtype=bool)
    if not valid.any():
        raise no_valid_query(labels)
    cmc = cmc_curve(np.concatenate(ranks), max_rank)
    return SingleShotResult(cmc, int(valid.sum()), len(valid), valid, repeats, seed)


def _ranks(rows: CosineRows, labels: Labels, seed: int, repeats: int) -> Iterator[np.ndarray]:
    """Per query the 0-based ranks (repeats,) of its match; (0,) where it has none."""
    by_pid = np.argsort(labels.g_pid, kind="stable")
    pids, starts, counts = np.unique(labels.g_pid[by_pid], return_index=True, return_counts=True)
    for start in range(0, rows.shape[0], LEAST_ROWS):
        block = rows[start : min(start + LEAST_ROWS, rows.shape[0])]
        for query, distance in enumerate(block, start):
            matches, _ = labels.of_query(query)
            if not len(matches):
                yield np.empty(0, np.int64)
                continue
            draw = np.random.default_rng([seed, query]).random((repeats, len(pids)))
            own = np.searchsorted(pids, labels.q_pid[query])
            drawn = by_pid[starts + (draw * counts).astype(np.int64)]  # (repeats, identities)
            drawn[:, own] = matches[(draw[:, own] * len(matches)).astype(np.int64)]
            at = drawn[:, own : own + 1]
            ahead = (distance[drawn] < distance[at]) | (
                (distance[drawn] == distance[at]) & (drawn < at)
            )
            yield ahead.sum(axis=1)
