"""What the records of Re-ID runs say per queried identity, for look-alikes, and per azimuth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from posedive_lib import datasets
from posedive_lib.bench.statistics import identity_interval
from posedive_lib.study import design
from posedive_lib.study.comparison import (
    FAMILY,
    METRICS,
    NEW_VIEWS,
    Pair,
    family,
    pairs_against,
    pairs_between,
)
from posedive_lib.study.mini_world import look_alikes

if TYPE_CHECKING:
    from posedive_lib.params import Params

Record = dict[str, Any]  # of `reid_jobs.many`
DIFFERENCE = ["difference", "ci_low", "ci_high", "identities"]
BORDERS = ["border", "queries", "dataset", "arm", "seed", "mAP", "rank1"]


def identity_differences(P: Params, records: list[Record], pairs: pd.DataFrame) -> pd.DataFrame:
    """Arm minus baseline for each of `pairs` (dataset, arm, baseline), on the same queries.

    Difference in mAP (points) with its 95 % interval over the queried identities.
    """
    rows = []
    labels = ["dataset", "arm", "baseline"]
    for name, wanted in pairs[labels].drop_duplicates().groupby("dataset", sort=False):
        own = [record for record in records if record["dataset"] == name]
        query = datasets.of_study(str(name), P.paths).query
        pids = query["pid"].to_numpy()[_valid(own)]
        for arm, baseline in zip(wanted["arm"], wanted["baseline"], strict=True):
            ap = _per_query(own, arm, "mAP") - _per_query(own, baseline, "mAP")
            row = {"dataset": name, "arm": arm, "baseline": baseline}
            rows.append(row | _difference(100 * ap, pids, P.seed))
    return pd.DataFrame(rows, columns=[*labels, *DIFFERENCE])


def look_alike_differences(P: Params, records: list[Record], baseline: str) -> pd.DataFrame:
    """Every arm minus a baseline, apart for queries of people with a look-alike in the test set.

    Difference in mAP and rank-1 (points) with its 95 % interval over the queried identities. A data
    set without `people.csv` has no rows.
    """
    rows = []
    for name in dict.fromkeys(record["dataset"] for record in records):
        own = [record for record in records if record["dataset"] == name]
        dataset = datasets.of_study(name, P.paths)
        doubles = look_alikes(dataset)
        if doubles is None:
            continue
        query = dataset.query[_valid(own)]
        alike = query["person"].isin(doubles).to_numpy()
        for arm in dict.fromkeys(record["arm"] for record in own):
            if arm == baseline:
                continue
            for metric in ("mAP", "rank1"):
                mean = 100 * _per_query(own, arm, metric)
                before = 100 * _per_query(own, baseline, metric)
                for people, chosen in (("look-alikes", alike), ("others", ~alike)):
                    if not chosen.any():
                        continue
                    pids = query["pid"].to_numpy()[chosen]
                    row = {
                        "dataset": name,
                        "arm": arm,
                        "baseline": baseline,
                        "metric": metric,
                        "people": people,
                        "baseline_mean": before[chosen].mean(),
                    }
                    rows.append(row | _difference((mean - before)[chosen], pids, P.seed))
    labels = ["dataset", "arm", "baseline", "metric", "people", "baseline_mean"]
    return pd.DataFrame(rows, columns=[*labels, *DIFFERENCE])


def shared_images(P: Params, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Share (percent) of an arm's added images that another arm adds too, per data set with both.

    Columns: dataset, arm, baseline, images (of the arm), shared.
    """
    rows = []
    for name in P.study.datasets:
        for arm, other in pairs:
            if {arm, other} <= set(design.arms(P, name)):
                found = design.images(P, name, [arm, other])
                own, others = (set(table["path"]) for table in found.values() if table is not None)
                shared = 100 * len(own & others) / max(1, len(own))
                rows.append((name, arm, other, len(own), shared))
    return pd.DataFrame(rows, columns=["dataset", "arm", "baseline", "images", "shared"])


def seed_correlation(runs: pd.DataFrame, metric: str = "mAP") -> tuple[float, int]:
    """Mean correlation, over the seeds, of two arms' runs on one data set; and of how many pairs.

    Near 0: sharing a seed does not make two arms' results alike, so pairing buys no precision.
    """
    found: list[float] = []
    for _, table in runs.groupby("dataset"):
        by_arm = table.pivot(index="seed", columns="arm", values=metric).corr().to_numpy()
        found += by_arm[np.triu_indices(len(by_arm), 1)].tolist()
    known = [value for value in found if np.isfinite(value)]
    return (float(np.mean(known)) if known else np.nan), len(known)


def azimuth_differences(records: list[Record], arm: str, baseline: str = "real") -> pd.DataFrame:
    """mAP of an arm minus a baseline (points) for each pair of query and gallery azimuth sectors.

    Columns: query, gallery (degrees); difference, low, high (mean, least and greatest over the
    seeds that both have); queries.
    """
    pair = ["query", "gallery"]
    both = _cells(records, arm).merge(
        _cells(records, baseline), on=["seed", *pair, "queries"], suffixes=("", "_baseline")
    )
    both = both[both["queries"] > 0]
    both = both.assign(difference=both["mAP"] - both["mAP_baseline"])
    return both.groupby(pair, as_index=False).agg(
        difference=("difference", "mean"),
        low=("difference", "min"),
        high=("difference", "max"),
        queries=("queries", "first"),
    )


def azimuth_summary(table: pd.DataFrame, *, front: float = 45.0) -> pd.DataFrame:
    """`azimuth_differences` in three rows: both photos are frontal, one is, none is.

    Frontal: within `front` degrees of the person's front.
    Columns: frontal, pairs, queries, difference (mean weighted by queries).
    """
    count = (table[["query", "gallery"]].abs() <= front).sum(axis=1)
    frontal = count.map({2: "both", 1: "one", 0: "none"})
    weighted = table.assign(frontal=frontal, weighted=table["difference"] * table["queries"])
    rows = weighted.groupby("frontal", sort=False).agg(
        pairs=("queries", "size"), queries=("queries", "sum"), weighted=("weighted", "sum")
    )
    rows["difference"] = rows.pop("weighted") / rows["queries"]
    return rows.reindex(["both", "one", "none"]).dropna().reset_index()


def border_gains(records: list[Record], *, seed: int, baseline: str = "real") -> pd.DataFrame:
    """Every arm minus a baseline by where the test of MSMT17-S (Cam) begins.

    Columns: border (degrees), queries, and those of `comparison.family`; p is corrected over all
    borders and arms. Every model is trained once, and tested on the photos beyond each border.
    """
    pairs = []
    for labels, table in _by_border(records):
        pairs += pairs_against(table, baseline, **labels)
    return _family(pairs, seed)


def border_pairs(records: list[Record], *, seed: int) -> pd.DataFrame:
    """NEW_VIEWS by where the test of MSMT17-S (Cam) begins, in mAP; columns as `border_gains`.

    p is corrected over all borders and both pairs.
    """
    pairs = []
    for labels, table in _by_border(records):
        pairs += pairs_between(table, NEW_VIEWS, **labels)
    return _family(pairs, seed, ("mAP",))


def _family(pairs: list[Pair], seed: int, metrics: Sequence[str] = METRICS) -> pd.DataFrame:
    if not pairs:
        return pd.DataFrame(columns=["border", "queries", *FAMILY])
    return family(pairs, seed=seed, metrics=metrics)


def _by_border(records: list[Record]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Border and number of queries, with the runs (BORDERS) on the photos beyond it."""
    rows = [
        {
            "border": float(border),
            "queries": int(queries),
            "dataset": record["dataset"],
            "arm": record["arm"],
            "seed": record["seed"],
            "mAP": mean,
            "rank1": first,
        }
        for record in records
        for border, (mean, first, queries) in (record["borders"] or {}).items()
    ]
    runs = pd.DataFrame(rows, columns=BORDERS)
    for (border, _, queries), table in runs.groupby(["border", "dataset", "queries"]):
        yield {"border": border, "queries": queries}, table


def longer_gains(
    longer: pd.DataFrame, runs: pd.DataFrame, factor: int, *, seed: int
) -> pd.DataFrame:
    """Each arm against `real` after the usual training and after one `factor` times as long.

    Columns: length (1 or `factor`) and those of `comparison.family`; p is corrected over both
    lengths. Of the usual runs only the data sets, arms and seeds of the longer ones.
    """
    same = runs.merge(longer[["dataset", "arm", "seed"]].drop_duplicates())
    pairs = pairs_against(same, "real", length=1) + pairs_against(longer, "real", length=factor)
    return family(pairs, seed=seed)


def _per_query(records: list[Record], arm: str, metric: str) -> np.ndarray:
    """(queries,) AP, or whether the first answer is right, of an arm: mean over its seeds."""
    queries = [record["queries"] for record in records if record["arm"] == arm]
    if metric == "mAP":
        return np.mean([run["query_ap"] for run in queries], axis=0)
    return np.mean([np.array(run["query_first_rank"]) == 0 for run in queries], axis=0)


def _valid(records: list[Record]) -> np.ndarray:
    """Which queries have a match in the gallery: the same ones in every run of a data set."""
    return np.array(records[0]["queries"]["query_valid"], bool)


def _difference(values: np.ndarray, pids: np.ndarray, seed: int) -> dict[str, float]:
    """DIFFERENCE of values (queries,) in points."""
    interval = identity_interval(values, pids, seed=seed)
    return dict(
        zip(DIFFERENCE, (interval.mean, interval.low, interval.high, interval.n), strict=True)
    )


def _cells(records: list[Record], arm: str) -> pd.DataFrame:
    """seed, query, gallery, mAP, queries of an arm's runs."""
    rows = [
        (record["seed"], *cell)
        for record in records
        if record["arm"] == arm and record["azimuth"]
        for cell in record["azimuth"]
    ]
    return pd.DataFrame(rows, columns=["seed", "query", "gallery", "mAP", "queries"])
