"""Tables of Re-ID runs: an arm against another over paired seeds, with intervals (§D, §F)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from posedive_lib.bench.statistics import (
    captured_share,
    holm,
    joint_p,
    paired_difference,
    t_interval,
    verdict,
)
from posedive_lib.bench.tables import span
from posedive_lib.errors import StudyError

METRICS = ("mAP", "rank1")
# Gain in mAP (points) by Pose-dIVE with CLIP-ReID over real images alone: main paper, single runs
# on the real data sets.
PUBLISHED = {"market1501": 0.7, "msmt17": 3.0, "cuhk03-detected": 1.8, "cuhk03-labeled": 1.7}

Pairs = Sequence[tuple[str, str]]  # (arm, baseline)
VOLUME = (  # diversity against volume: as many images of the same kind, or real photos again
    ("pose-dive", "repeat"),
    ("pose-dive", "same-distribution"),
    ("oracle", "repeat"),
    ("oracle", "oracle-same"),
)
NEW_VIEWS = (("pose-dive", "same-distribution"), ("oracle", "oracle-same"))  # against old ones
PARTS = (  # what each of viewpoint and pose adds to the other
    ("viewpoint", "same-distribution"),
    ("pose", "same-distribution"),
    ("viewpoint", "pose"),
    ("pose-dive", "viewpoint"),
    ("pose-dive", "pose"),
)
TRUTH = (  # generated images against true ones in the same poses and views
    ("same-distribution", "oracle-same"),
    ("pose-dive", "oracle"),
)
CARRIED = (("same-distribution", "repeat"),)  # what generated images bring beside diversity
CHOICE = (  # what decides which images are drawn or used
    ("pose-dive", "uniform"),
    ("uniform", "same-distribution"),
    ("pose-dive", "unfiltered"),
    ("with-bags", "without-bags"),
)
# Share of an effect of true photos (third against fourth arm) that generated images have (first
# against second arm).
SHARES = {
    "gain": ("pose-dive", "real", "oracle", "real"),
    "diversity": ("pose-dive", "same-distribution", "oracle", "oracle-same"),
}
FAMILY = [
    "dataset",
    "arm",
    "baseline",
    "metric",
    "arm_mean",
    "baseline_mean",
    "difference",
    "ci_low",
    "ci_high",
    "bca_low",
    "bca_high",
    "p",
    "smallest_p",
    "seeds",
    "verdict",
    "p_holm",
    "smallest_p_holm",
    "p_joint",
]
LEVELS = [
    "metric",
    "mean",
    "ci_low",
    "ci_high",
    "seeds",
    "n_generated",
    "step",
    "step_low",
    "step_high",
    "step_p_joint",
    "step_verdict",
]


@dataclass(frozen=True)
class Pair:
    """Runs of an arm and of its baseline; `labels` are the first columns of their rows."""

    labels: dict[str, Any]
    arm: pd.DataFrame
    baseline: pd.DataFrame


def paired(arm: pd.DataFrame, baseline: pd.DataFrame, metric: str, seed: int) -> dict[str, Any]:
    """Mean difference of a metric over the seeds that both have: intervals, sign-flip p, verdict.

    ci_low, ci_high: Student's interval; bca_low, bca_high: the bootstrap's.
    """
    own, before = _by_seed(metric, arm=arm, baseline=baseline)
    result = paired_difference(own.to_numpy(), before.to_numpy(), seed=seed)
    return {
        "metric": metric,
        "arm_mean": own.mean(),
        "baseline_mean": before.mean(),
        "difference": result.mean,
        "ci_low": result.low,
        "ci_high": result.high,
        "bca_low": result.bca_low,
        "bca_high": result.bca_high,
        "p": result.p,
        "smallest_p": result.smallest_p,
        "seeds": result.n,
        "verdict": result.verdict,
    }


def against(
    runs: pd.DataFrame, baseline: str, *, seed: int, metrics: Sequence[str] = METRICS
) -> pd.DataFrame:
    """Every other arm against `baseline`, per data set and metric, corrected as in `family`."""
    return family(pairs_against(runs, baseline), seed=seed, metrics=metrics)


def pairs_against(runs: pd.DataFrame, baseline: str, **labels: Any) -> list[Pair]:
    """Every other arm and `baseline`, per data set; `labels` stand before the pairs' own."""
    return [
        _pair(str(dataset), table, arm, baseline, **labels)
        for dataset, table in runs.groupby("dataset", sort=False)
        for arm in table["arm"].unique()
        if arm != baseline
    ]


def between(
    runs: pd.DataFrame,
    pairs: Pairs = VOLUME + CARRIED + PARTS + TRUTH + CHOICE,
    *,
    seed: int,
    metrics: Sequence[str] = METRICS,
) -> pd.DataFrame:
    """Arm against baseline for each of `pairs`, per data set with both, corrected by `family`."""
    return family(pairs_between(runs, pairs), seed=seed, metrics=metrics)


def pairs_between(runs: pd.DataFrame, pairs: Pairs, **labels: Any) -> list[Pair]:
    """Each of `pairs`, per data set with both; `labels` stand before the pairs' own."""
    return [
        _pair(str(dataset), table, arm, baseline, **labels)
        for dataset, table in runs.groupby("dataset", sort=False)
        for arm, baseline in pairs
        if {arm, baseline} <= set(table["arm"])
    ]


def _pair(dataset: str, table: pd.DataFrame, arm: str, baseline: str, **more: Any) -> Pair:
    labels = {**more, "dataset": dataset, "arm": arm, "baseline": baseline}
    return Pair(labels, table[table["arm"] == arm], table[table["arm"] == baseline])


def family(pairs: Sequence[Pair], *, seed: int, metrics: Sequence[str] = METRICS) -> pd.DataFrame:
    """A row of `paired` for each pair and metric, with p corrected over all pairs of a metric.

    p_joint: permuting all pairs together (`joint_p`), over the seeds that all have; the verdict
    goes by it. p_holm: Holm's correction. smallest_p_holm: the least it could be with this many
    seeds; above 0.05 no comparison can pass it.
    """
    if not pairs:
        return pd.DataFrame(columns=FAMILY)
    rows = [
        pair.labels | paired(pair.arm, pair.baseline, metric, seed)
        for pair in pairs
        for metric in metrics
    ]
    result = pd.DataFrame(rows)
    by_metric = result.groupby("metric")["p"]
    result["p_holm"] = by_metric.transform(lambda p: holm(p.to_numpy()))
    least = result["smallest_p"] * by_metric.transform("size")
    result["smallest_p_holm"] = least.clip(upper=1.0)
    possible = result["smallest_p"].copy()  # the least p_joint
    for metric in metrics:
        own = [_by_seed(metric, arm=pair.arm, baseline=pair.baseline) for pair in pairs]
        differences = pd.concat([arm - before for arm, before in own], axis=1, join="inner")
        p = joint_p(differences.to_numpy(), seed=seed) if len(differences) else np.nan
        of_metric = result["metric"] == metric
        result.loc[of_metric, "p_joint"] = p
        # A pair with more seeds than all share is tested on those that all share.
        possible[of_metric] = possible[of_metric].clip(lower=2.0 ** (1 - len(differences)))
    columns = result[["ci_low", "ci_high", "p_joint"]].assign(possible=possible)
    result["verdict"] = [verdict(*row) for row in columns.itertuples(index=False)]
    return result


def oracle_shares(
    runs: pd.DataFrame, compared: pd.DataFrame, *, metric: str = "mAP"
) -> pd.DataFrame:
    """Share (percent) of what true photos bring that `pose-dive` brings, with Fieller's interval.

    The interval is over seeds. A row per data set that has the arms, and per entry of SHARES:
    `gain` over real images alone (whatever brings it), and `diversity` over as many images in the
    training set's poses and views.
    compared: rows of `family`. Only where their verdict on the true photos is a gain is there
    something to share. Elsewhere the share is NaN, and `note` is "not defined".
    """
    found = compared[(compared["metric"] == metric) & compared["verdict"].str.startswith("gain")]
    gains = set(zip(found["dataset"], found["arm"], found["baseline"], strict=True))
    rows = []
    for dataset, table in runs.groupby("dataset", sort=False):
        by_arm = dict(tuple(table.groupby("arm")))
        for of, arms in SHARES.items():
            if not set(arms) <= set(by_arm):
                continue
            names = list(dict.fromkeys(arms))
            values = _by_seed(metric, **{name: by_arm[name] for name in names})
            made, made_from, true, true_from = (
                values[names.index(name)].to_numpy() for name in arms
            )
            share = captured_share(made - made_from, true - true_from)
            row = {"share": share.mean, "ci_low": share.low, "ci_high": share.high}
            defined = (dataset, *arms[2:]) in gains and np.isfinite(share.mean)
            row = {name: 100 * value if defined else np.nan for name, value in row.items()}
            labels = {"dataset": dataset, "of": of, "metric": metric}
            note = "" if defined else "not defined"
            rows.append(labels | row | {"seeds": share.n, "note": note})
    columns = ["dataset", "of", "metric", "share", "ci_low", "ci_high", "seeds", "note"]
    return pd.DataFrame(rows, columns=columns)


def by_level(
    runs: pd.DataFrame, column: str, *, seed: int, metrics: Sequence[str] = METRICS
) -> pd.DataFrame:
    """Mean over seeds with interval at each level of `column`, and the step from the one before.

    The steps' verdicts and p (`step_p_joint`) are corrected for all of them, as in `family`.
    """
    levels = sorted(runs[column].unique().tolist())
    of_level = {level: runs[runs[column] == level] for level in levels}
    pairs = [
        Pair({column: level}, of_level[level], of_level[before])
        for before, level in pairwise(levels)
    ]
    steps = family(pairs, seed=seed, metrics=metrics)
    named = {"difference": "step", "ci_low": "step_low", "ci_high": "step_high"}
    named |= {"p_joint": "step_p_joint", "verdict": "step_verdict"}
    rows = []
    for metric in metrics:
        for level, own in of_level.items():
            interval = t_interval(own[metric].to_numpy())
            row = {
                column: level,
                "metric": metric,
                "mean": interval.mean,
                "ci_low": interval.low,
                "ci_high": interval.high,
                "seeds": interval.n,
                "n_generated": int(own["n_generated"].iloc[0]),
            }
            if level != levels[0]:
                step = steps[(steps[column] == level) & (steps["metric"] == metric)].iloc[0]
                row |= {ours: step[theirs] for theirs, ours in named.items()}
            rows.append(row)
    return pd.DataFrame(rows, columns=[column, *LEVELS])


def level_against_others(
    runs: pd.DataFrame, column: str, level: float, *, metric: str, seed: int
) -> pd.DataFrame:
    """One level of `column` minus each other one, corrected by `family`; `beside`: neighbours."""
    levels = sorted(runs[column].unique().tolist())
    if level not in levels:
        there = ", ".join(f"{value:g}" for value in levels)
        raise StudyError(f"There is no run with {column} {level:g}; there are {there}.")
    place = levels.index(level)
    pairs = []
    for number, other in enumerate(levels):
        if other != level:
            labels = {column: level, "other": other, "beside": abs(number - place) == 1}
            baseline = runs[runs[column] == other]
            pairs.append(Pair(labels, runs[runs[column] == level], baseline))
    return family(pairs, seed=seed, metrics=(metric,))


def best_level(runs: pd.DataFrame, column: str, metric: str) -> float:
    """The level with the highest mean, the lowest of equal ones.

    It is chosen on the test set, so its mean is optimistic.
    """
    means = runs.groupby(column)[metric].mean()
    return float(means.index.to_numpy()[means.to_numpy().argmax()])


def best_sentence(runs: pd.DataFrame, column: str, metric: str, *, seed: int) -> str:
    """One sentence: the best level, and whether it differs from the levels beside it."""
    level = best_level(runs, column, metric)
    mean = runs.loc[runs[column] == level, metric].mean()
    name = {"rank1": "rank-1"}.get(metric, metric)
    said = f"Highest mean {name}: {mean:.2f} at {level:g}"
    table = level_against_others(runs, column, level, metric=metric, seed=seed)
    if table.empty:
        return f"{said}; there is no other level."
    parts = []
    for row in table[table["beside"]].to_dict("records"):
        parts.append(f"{span(row, 2)} against {row['other']:g} ({row['verdict']})")
    return f"{said}; {'; '.join(parts)}."


def steps_sentence(table: pd.DataFrame, column: str, metric: str) -> str:
    """Which steps of `by_level` are shown to change the metric, in words: does more help?"""
    steps = table[(table["metric"] == metric) & table["step"].notna()].sort_values(column)
    shown = [verdict in ("gain", "loss") for verdict in steps["step_verdict"]]
    before = dict(zip(table[column][1:], table[column], strict=False))
    parts = [
        f"the step from {before[row[column]]:g} to {row[column]:g} is a {row['step_verdict']} "
        f"({row['step']:+.2f} {metric} [{row['step_low']:+.2f}, {row['step_high']:+.2f}])"
        for _, row in steps[shown].iterrows()
    ]
    rest = len(steps) - len(parts)
    if not parts:
        return f"None of the {rest} steps is shown to change {metric}."
    said = "; ".join(parts)
    said = said[0].upper() + said[1:]
    if not rest:
        return f"{said}."
    last = steps[column].to_numpy()[np.flatnonzero(shown)[-1]]
    top = steps[column].max()
    if all(shown[: len(parts)]):
        return f"{said}. From {last:g} to {top:g} no step is shown to change anything."
    return f"{said}. The other {rest} steps show no effect."


def _by_seed(metric: str, **parts: pd.DataFrame) -> list[pd.Series]:
    """The metric of each part by seed, in the order of the seeds that all of them have."""
    columns = [part.set_index("seed")[metric].rename(name) for name, part in parts.items()]
    both = pd.concat(columns, axis=1, join="inner").sort_index()
    if both.empty:
        raise StudyError(
            f"{' and '.join(parts)} have no seed in common; run every arm with the same reid.seeds."
        )
    return [both[name] for name in parts]
