"""Retrieval by viewpoint, pose or camera (§F and beyond): which pairs of views are hard, with counts.

**Definition.** A cell pairs a group of queries with a group of gallery images. For each query of the cell its true matches are those of
its identity, under another camera, *in the gallery group*; its matches elsewhere are left out, neither right nor wrong. All images of
other identities stay, whatever their group, so that every cell of a query faces the same opponents and cells can be compared. AP and
rank-1 follow from there as in `retrieval.evaluate`; a query without a match in the cell is left out of it. With one gallery group, and
over all queries, this is the mAP and rank-1 of `evaluate`.
"""

import numpy as np
import pandas as pd

from posedive_lib.errors import StudyError
from posedive_lib.reid.distances import JUNK, cosine_rows
from posedive_lib.reid.retrieval import average_precisions, ranks_of_matches

RESAMPLES = 1000


def match_table(
    query_features,
    query_pids,
    query_camids,
    gallery_features,
    gallery_pids,
    gallery_camids,
    *,
    device=None,
) -> pd.DataFrame:
    """One row per query and true match under another camera, in query order: where the match came in the ranking.

    Columns: query, gallery (row numbers of the given arrays), pid, query_camid, gallery_camid, rank (0-based, of the whole ranking), wrong_ahead
    (images of other identities ahead of it). Arguments and errors as for `retrieval.evaluate`.
    """
    rows, labels = cosine_rows(
        query_features,
        query_pids,
        query_camids,
        gallery_features,
        gallery_pids,
        gallery_camids,
        device,
    )
    ranks = ranks_of_matches(rows, labels)
    matches = [labels.of_query(query)[0] for query in range(len(ranks))]
    query = np.repeat(np.arange(len(ranks)), [len(found) for found in ranks])
    gallery, rank = (
        np.concatenate([*matches, np.empty(0, np.int64)]).astype(np.int64),
        np.concatenate([*ranks, np.empty(0, np.int64)]).astype(np.int64),
    )
    right_ahead = np.concatenate(
        [*(np.argsort(np.argsort(found)) for found in ranks), np.empty(0, np.int64)]
    ).astype(np.int64)
    given = np.flatnonzero(_numbers(gallery_pids) != JUNK)  # row numbers before junk was dropped
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


def _numbers(values) -> np.ndarray:
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def azimuth_bins(azimuth, bins: int = 8) -> np.ndarray:
    """(N,) centre, in degrees in [-180, 180), of the sector of each azimuth (degrees, any turn); the first of `bins` sectors is centred on 0 (front)."""
    azimuth = np.asarray(azimuth, dtype=np.float64)
    if bins < 1:
        raise StudyError(f"bins is {bins}: use at least one sector.")
    if not np.isfinite(azimuth).all():
        raise StudyError(
            f"{(~np.isfinite(azimuth)).sum()} of {azimuth.size} azimuths are not numbers (the first in row {np.argmin(np.isfinite(azimuth))}): give every image its viewpoint, or leave it out."
        )
    sector = np.floor(np.mod(azimuth, 360) / (360 / bins) + 0.5).astype(int) % bins
    return np.mod(sector * (360 / bins) + 180, 360) - 180


def cells(
    matches: pd.DataFrame,
    query_group,
    gallery_group=None,
    *,
    names=("query_group", "gallery_group"),
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """mAP and rank-1 (percent) of every query group against every gallery group, as defined above.

    matches: of `match_table`; query_group (Q,), gallery_group (G,): a label per image (azimuth bin, pose cluster, camera); without a
    gallery group, query groups against the whole gallery. Returns one row per pair, in sorted order, empty ones included (NaN):
    the two `names`, mAP, mAP_low, mAP_high (95 % interval over `resamples` draws of the cell's identities, NaN for fewer than two),
    rank1, n_query (valid queries), n_identity, n_match.
    """
    query_group, gallery_group = (
        _groups(query_group, matches["query"], "query_group"),
        None
        if gallery_group is None
        else _groups(gallery_group, matches["gallery"], "gallery_group"),
    )
    rows_of, columns_of = (
        np.unique(query_group),
        ["all"] if gallery_group is None else np.unique(gallery_group),
    )
    row = np.searchsorted(rows_of, query_group[matches["query"]])
    column = (
        np.zeros(len(matches), int)
        if gallery_group is None
        else np.searchsorted(columns_of, gallery_group[matches["gallery"]])
    )
    scores = _query_scores(matches.assign(cell=row * len(columns_of) + column))
    groups = dict(tuple(scores.groupby("cell")))
    rng = np.random.default_rng(seed)
    records = []
    for number, (of_query, of_gallery) in enumerate((a, b) for a in rows_of for b in columns_of):
        records.append(
            {names[0]: of_query, names[1]: of_gallery, **_cell(groups.get(number), rng, resamples)}
        )
    return pd.DataFrame(records)


def by_camera(matches: pd.DataFrame, query_camids, gallery_camids, **options) -> pd.DataFrame:
    """`cells` of camera pairs; a camera paired with itself is left out, as its matches are removed by the protocol."""
    table = cells(
        matches, query_camids, gallery_camids, names=("query_camid", "gallery_camid"), **options
    )
    return table[table["query_camid"] != table["gallery_camid"]].reset_index(drop=True)


def _groups(values, index: pd.Series, what: str) -> np.ndarray:
    values = _numbers(values)
    if values.ndim != 1 or (len(index) and index.max() >= len(values)):
        raise StudyError(
            f"{what} has shape {values.shape}, but matches reach row {index.max() if len(index) else 0}: give one label per image."
        )
    if pd.isna(values).any():
        raise StudyError(
            f"{what} is missing in row {int(np.argmax(pd.isna(values)))}: give every image a label, or leave it out."
        )
    return values


def _query_scores(matches: pd.DataFrame) -> pd.DataFrame:
    """AP and rank-1 of every query in every cell where it has a match: cell, pid, ap, hit, matches."""
    ordered = matches.sort_values(["cell", "query", "wrong_ahead"], kind="stable")
    if ordered.empty:
        return pd.DataFrame({"cell": [], "pid": [], "ap": [], "hit": [], "matches": []})
    new = (ordered[["cell", "query"]].diff() != 0).any(axis=1).to_numpy()
    starts = np.flatnonzero(new)
    counts = np.diff(np.append(starts, len(ordered)))
    rank = (
        ordered["wrong_ahead"].to_numpy() + np.arange(len(ordered)) - np.repeat(starts, counts)
    )  # plus the right ones of the cell ahead
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


def _cell(scores: pd.DataFrame | None, rng: np.random.Generator, resamples: int) -> dict:
    if scores is None:
        return {
            "mAP": np.nan,
            "mAP_low": np.nan,
            "mAP_high": np.nan,
            "rank1": np.nan,
            "n_query": 0,
            "n_identity": 0,
            "n_match": 0,
        }
    people = scores.groupby("pid")["ap"].agg(["sum", "count"]).to_numpy()
    low = high = np.nan
    if len(people) > 1 and resamples:
        drawn = (
            rng.multinomial(len(people), np.full(len(people), 1 / len(people)), size=resamples)
            @ people
        )
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
