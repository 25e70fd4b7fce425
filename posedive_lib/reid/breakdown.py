"""Retrieval by viewpoint, pose or camera (§F and beyond): which pairs of views are hard.

**Definition.** A cell pairs a group of queries with a group of gallery images. For each query of
the cell its true matches are those of its identity, under another camera, *in the gallery group*.
Its matches elsewhere are left out, neither right nor wrong. All images of other identities stay,
whatever their group: every cell of a query faces the same negatives, so cells can be compared. AP
and rank-1 follow as in `retrieval.evaluate`; a query without a match in the cell is left out of it.
With one gallery group, and over all queries, this is the mAP and rank-1 of `evaluate`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from posedive_lib.errors import StudyError
from posedive_lib.reid.distances import JUNK, Array, as_numpy, cosine_rows
from posedive_lib.reid.retrieval import average_precisions, ranks_of_matches

RESAMPLES = 1000


def match_table(
    query_features: Array,
    query_pids: Array,
    query_camids: Array,
    gallery_features: Array,
    gallery_pids: Array,
    gallery_camids: Array,
    *,
    device: str | None = None,
) -> pd.DataFrame:
    """One row per query and true match under another camera: where the match came in the ranking.

    Columns: query, gallery (row numbers of the given arrays), pid, query_camid, gallery_camid, rank
    (0-based, of the whole ranking), wrong_ahead (images of other identities ahead of it). Rows are
    in query order. Arguments and errors as for `retrieval.evaluate`.
    """
    query_side = query_features, query_pids, query_camids
    gallery_side = gallery_features, gallery_pids, gallery_camids
    rows, labels = cosine_rows(query_side, gallery_side, device)
    ranks = ranks_of_matches(rows, labels)
    query = np.repeat(np.arange(len(ranks)), [len(found) for found in ranks])
    gallery = _joined([labels.of_query(number)[0] for number in range(len(ranks))])
    rank = _joined(ranks)
    right_ahead = _joined([np.argsort(np.argsort(found)) for found in ranks])
    given = np.flatnonzero(as_numpy(gallery_pids) != JUNK)  # row numbers before junk was dropped
    return pd.DataFrame(
        {
            "query": query,
            "gallery": given[gallery],
            "pid": labels.q_pid[query],
            "query_camid": labels.q_cam[query],
            "gallery_camid": labels.g_cam[gallery],
            "rank": rank,
            "wrong_ahead": rank - right_ahead,
        }
    )


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([*parts, np.empty(0, np.int64)]).astype(np.int64)


def azimuth_bins(azimuth: ArrayLike, bins: int = 8) -> np.ndarray:
    """(N,) centre, in degrees in [-180, 180), of the sector of each azimuth (degrees, any turn).

    The first of `bins` sectors is centred on 0 (front).
    """
    azimuth = np.asarray(azimuth, dtype=np.float64)
    if bins < 1:
        raise StudyError(f"bins is {bins}: use at least one sector.")
    missing = ~np.isfinite(azimuth)
    if missing.any():
        raise StudyError(
            f"{missing.sum()} of {azimuth.size} azimuths are not numbers (the first in row "
            f"{np.argmax(missing)}): give every image its viewpoint, or leave it out."
        )
    sector = np.floor(np.mod(azimuth, 360) / (360 / bins) + 0.5).astype(int) % bins
    return np.mod(sector * (360 / bins) + 180, 360) - 180


def cells(
    matches: pd.DataFrame,
    query_group: Array,
    gallery_group: Array | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """mAP and rank-1 (percent) of every query group against every gallery group, as defined above.

    matches: of `match_table`. query_group (Q,), gallery_group (G,): a label per image (azimuth bin,
    pose cluster, camera); without a gallery group, query groups against the whole gallery. Returns
    one row per pair, in sorted order, empty ones included (NaN): query_group, gallery_group, mAP,
    mAP_low, mAP_high (95 % interval over `resamples` draws of the cell's identities, NaN for fewer
    than two), rank1, n_query (valid queries), n_identity, n_match. With cameras as groups, a camera
    paired with itself is empty: the protocol removes those matches.
    """
    of_query = _groups(query_group, matches["query"], "query_group")
    query_names = np.unique(of_query)
    row = np.searchsorted(query_names, of_query[matches["query"]])
    if gallery_group is None:
        gallery_names, column = np.array(["all"], object), np.zeros(len(matches), int)
    else:
        of_gallery = _groups(gallery_group, matches["gallery"], "gallery_group")
        gallery_names = np.unique(of_gallery)
        column = np.searchsorted(gallery_names, of_gallery[matches["gallery"]])
    scores = _query_scores(matches.assign(cell=row * len(gallery_names) + column))
    by_cell = dict(tuple(scores.groupby("cell")))
    rng = np.random.default_rng(seed)
    pairs = [(query, gallery) for query in query_names for gallery in gallery_names]
    return pd.DataFrame(
        [
            {
                "query_group": query,
                "gallery_group": gallery,
                **_cell(by_cell.get(number), rng, resamples),
            }
            for number, (query, gallery) in enumerate(pairs)
        ]
    )


def _groups(labels: Array, index: pd.Series, what: str) -> np.ndarray:
    """The labels as an array; StudyError unless every row that `index` names has one."""
    values = as_numpy(labels)
    last = index.max() if len(index) else 0
    if values.ndim != 1 or (len(index) and last >= len(values)):
        raise StudyError(
            f"{what} has shape {values.shape}, but matches reach row {last}: "
            "give one label per image."
        )
    missing = pd.isna(values)
    if missing.any():
        raise StudyError(
            f"{what} is missing in row {int(np.argmax(missing))}: "
            "give every image a label, or leave it out."
        )
    return values


def _query_scores(matches: pd.DataFrame) -> pd.DataFrame:
    """AP and rank-1 of every query in every cell where it has a match.

    Columns: cell, pid, ap, hit, matches.
    """
    ordered = matches.sort_values(["cell", "query", "wrong_ahead"], kind="stable")
    if ordered.empty:
        return pd.DataFrame({"cell": [], "pid": [], "ap": [], "hit": [], "matches": []})
    new = (ordered[["cell", "query"]].diff() != 0).any(axis=1).to_numpy()
    starts = np.flatnonzero(new)
    counts = np.diff(np.append(starts, len(ordered)))
    # rank within the cell: wrong images ahead, and right ones of the cell ahead
    right = np.arange(len(ordered)) - np.repeat(starts, counts)
    rank = ordered["wrong_ahead"].to_numpy() + right
    first = ordered.iloc[starts]
    return pd.DataFrame(
        {
            "cell": first["cell"].to_numpy(),
            "pid": first["pid"].to_numpy(),
            "ap": average_precisions(rank, starts),
            "hit": rank[starts] == 0,
            "matches": counts,
        }
    )


def _cell(scores: pd.DataFrame | None, rng: np.random.Generator, resamples: int) -> dict[str, Any]:
    """One row of `cells`, of its scores; None where no query has a match."""
    if scores is None:
        empty = dict.fromkeys(("mAP", "mAP_low", "mAP_high", "rank1"), np.nan)
        return empty | dict.fromkeys(("n_query", "n_identity", "n_match"), 0)
    people = scores.groupby("pid")["ap"].agg(["sum", "count"]).to_numpy()  # (P, 2)
    low = high = np.nan
    if len(people) > 1 and resamples:
        # a draw of P identities with replacement is how often each comes: (resamples, P)
        times = rng.multinomial(len(people), np.full(len(people), 1 / len(people)), size=resamples)
        drawn = times @ people
        low, high = np.percentile(100 * drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    return {
        "mAP": 100 * scores["ap"].mean(),
        "mAP_low": low,
        "mAP_high": high,
        "rank1": 100 * scores["hit"].mean(),
        "n_query": len(scores),
        "n_identity": len(people),
        "n_match": int(scores["matches"].sum()),
    }
