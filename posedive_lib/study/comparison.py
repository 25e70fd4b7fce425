"""Tables of Re-ID runs: an arm against another over paired seeds, with intervals (§D, §F)."""

import numpy as np
import pandas as pd

from posedive_lib.bench.statistics import (
    NO_EFFECT,
    bootstrap_interval,
    captured_share,
    holm,
    joint_p,
    paired_difference,
)
from posedive_lib.errors import StudyError

# Gain in mAP (points) by Pose-dIVE with CLIP-ReID over real images alone (main paper, single runs on the real data sets)
PUBLISHED = {"market1501": 0.7, "msmt17": 3.0, "cuhk03-detected": 1.8, "cuhk03-labeled": 1.7}


def paired(arm: pd.DataFrame, baseline: pd.DataFrame, metric: str, seed: int) -> dict:
    """Mean difference of a metric over the seeds that both have: mean, interval, sign-flip p and the verdict."""
    a, b = _by_seed(metric, arm=arm, baseline=baseline)
    result = paired_difference(a.to_numpy(), b.to_numpy(), seed=seed)
    return {
        "metric": metric,
        "arm_mean": a.mean(),
        "baseline_mean": b.mean(),
        "difference": result.mean,
        "ci_low": result.low,
        "ci_high": result.high,
        "p": result.p,
        "smallest_p": result.smallest_p,
        "seeds": result.n,
        "verdict": result.verdict,
    }


def against(
    runs: pd.DataFrame, baseline: str, *, seed: int, metrics=("mAP", "rank1")
) -> pd.DataFrame:
    """Every other arm against `baseline`, per data set and metric; p corrected over each metric's family, all data sets and arms (`family`)."""
    pairs = []
    for dataset, table in runs.groupby("dataset", sort=False):
        reference = table[table["arm"] == baseline]
        pairs += [
            (
                {"dataset": dataset, "arm": arm, "baseline": baseline},
                table[table["arm"] == arm],
                reference,
            )
            for arm in table["arm"].unique()
            if arm != baseline
        ]
    return family(pairs, seed=seed, metrics=metrics)


VOLUME = (
    ("pose-dive", "repeat"),
    ("pose-dive", "same-distribution"),
    ("oracle", "repeat"),
    ("oracle", "oracle-same"),
)
PARTS = (
    ("viewpoint", "same-distribution"),
    ("pose", "same-distribution"),
    ("viewpoint", "pose"),
    ("pose-dive", "viewpoint"),
    ("pose-dive", "pose"),
)
TRUTH = (
    ("same-distribution", "oracle-same"),
    ("pose-dive", "oracle"),
)  # generated images against true ones in the same poses and views


def between(
    runs: pd.DataFrame, pairs=VOLUME + PARTS + TRUTH, *, seed: int, metrics=("mAP", "rank1")
) -> pd.DataFrame:
    """Arm against arm, (arm, baseline) of `pairs`, per data set that has both; p corrected over each metric's family, as in `against`.

    By default diversity against volume (as many images of the same kind, or photos again, in poses and views of the training set), what each
    of viewpoint and pose adds to the other, and generated images against true ones.
    """
    found = []
    for dataset, table in runs.groupby("dataset", sort=False):
        found += [
            (
                {"dataset": dataset, "arm": arm, "baseline": baseline},
                table[table["arm"] == arm],
                table[table["arm"] == baseline],
            )
            for arm, baseline in pairs
            if {arm, baseline} <= set(table["arm"])
        ]
    return family(found, seed=seed, metrics=metrics)


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
    "p",
    "smallest_p",
    "seeds",
    "verdict",
    "p_holm",
    "smallest_p_holm",
    "p_joint",
]


def family(
    pairs: list[tuple[dict, pd.DataFrame, pd.DataFrame]], *, seed: int, metrics=("mAP", "rank1")
) -> pd.DataFrame:
    """A row for each metric of each (labels, arm's runs, baseline's runs), with p corrected over all pairs of a metric.

    `p_joint`: by permuting all of them together (`joint_p`), over the seeds that all have. `p_holm`: by Holm, with `smallest_p_holm` the
    least it could be with this many seeds: above 0.05 nothing passes it, whatever the runs say.
    """
    result = pd.DataFrame(
        [
            {**labels, **paired(arm, baseline, metric, seed)}
            for labels, arm, baseline in pairs
            for metric in metrics
        ],
        columns=None if pairs else FAMILY,
    )
    if len(result):
        corrected = result.groupby("metric")["p"]
        result["p_holm"] = corrected.transform(lambda p: holm(p.to_numpy()))
        result["smallest_p_holm"] = (result["smallest_p"] * corrected.transform("size")).clip(
            upper=1.0
        )
        for metric in metrics:
            differences = pd.concat(
                [
                    np.subtract(*_by_seed(metric, arm=arm, baseline=baseline))
                    for _, arm, baseline in pairs
                ],
                axis=1,
                join="inner",
            )
            result.loc[result["metric"] == metric, "p_joint"] = (
                joint_p(differences.to_numpy(), seed=seed) if len(differences) else np.nan
            )
    return result


SHARES = {
    "gain": ("pose-dive", "real", "oracle", "real"),
    "diversity": ("pose-dive", "same-distribution", "oracle", "oracle-same"),
}


def oracle_shares(runs: pd.DataFrame, *, seed: int, metric: str = "mAP") -> pd.DataFrame:
    """Share (percent) of what true photos bring that `pose-dive` brings, per data set that has the arms, with its interval over seeds.

    `of` is "gain" (over real images alone) or "diversity" (over as many images of the same kind in the training set's own poses and views):
    the first holds whatever else the generated images bring. `note` says "undefined: …" where the true photos show no effect.
    """
    rows = []
    for dataset, table in runs.groupby("dataset", sort=False):
        for of, arms in SHARES.items():
            if not set(arms) <= set(table["arm"]):
                continue
            value = _by_seed(
                metric, **{name: table[table["arm"] == name] for name in dict.fromkeys(arms)}
            )
            by_arm = dict(zip(dict.fromkeys(arms), value))
            made, made_from, true, true_from = (by_arm[name].to_numpy() for name in arms)
            share = captured_share(
                made - made_from, true - true_from, np.zeros(len(made)), seed=seed
            )
            note = share.method if share.method.startswith("undefined") else ""
            rows.append(
                {
                    "dataset": dataset,
                    "of": of,
                    "metric": metric,
                    "share": 100 * share.mean,
                    "ci_low": 100 * share.low,
                    "ci_high": 100 * share.high,
                    "seeds": share.n,
                    "note": note,
                }
            )
    return pd.DataFrame(
        rows, columns=["dataset", "of", "metric", "share", "ci_low", "ci_high", "seeds", "note"]
    )


def by_level(
    runs: pd.DataFrame, column: str, *, seed: int, metrics=("mAP", "rank1")
) -> pd.DataFrame:
    """Mean over seeds with its interval for every level of `column`, and the paired difference to the level before."""
    rows, levels = [], sorted(runs[column].unique())
    for metric in metrics:
        for before, level in zip([None, *levels], levels):
            own = runs[runs[column] == level]
            interval = bootstrap_interval(own[metric].to_numpy(), seed=seed)
            row = {
                column: level,
                "metric": metric,
                "mean": interval.mean,
                "ci_low": interval.low,
                "ci_high": interval.high,
                "seeds": interval.n,
                "n_generated": int(own["n_generated"].iloc[0]),
            }
            if before is not None:
                step = paired(own, runs[runs[column] == before], metric, seed)
                row |= {
                    "step": step["difference"],
                    "step_low": step["ci_low"],
                    "step_high": step["ci_high"],
                    "step_verdict": step["verdict"],
                }
            rows.append(row)
    return pd.DataFrame(rows)


def level_against_others(
    runs: pd.DataFrame, column: str, level: float, *, metric: str, seed: int
) -> pd.DataFrame:
    """One level of `column` minus every other one, paired by seed, p corrected over them (`family`); `beside` marks its two neighbours."""
    levels = sorted(runs[column].unique())
    if level not in levels:
        raise StudyError(
            f"There is no run with {column} {level:g}; there are {', '.join(f'{value:g}' for value in levels)}."
        )
    place, own = levels.index(level), runs[runs[column] == level]
    pairs = [
        (
            {column: level, "other": other, "beside": abs(levels.index(other) - place) == 1},
            own,
            runs[runs[column] == other],
        )
        for other in levels
        if other != level
    ]
    return family(pairs, seed=seed, metrics=(metric,))


def best_level(runs: pd.DataFrame, column: str, metric: str) -> float:
    """The level with the highest mean; the lower one of equal ones. Chosen on the test set, so its mean is optimistic."""
    means = runs.groupby(column)[metric].mean()
    return float(means.index[means.to_numpy().argmax()])


def best_sentence(runs: pd.DataFrame, column: str, metric: str, *, seed: int) -> str:
    """One sentence: the best level, and whether it differs from the levels beside it ("best" only with these intervals)."""
    level = best_level(runs, column, metric)
    table = level_against_others(runs, column, level, metric=metric, seed=seed)
    said = (
        f"Highest mean {metric}: {runs.loc[runs[column] == level, metric].mean():.2f} at {level:g}"
    )
    if table.empty:
        return f"{said}; there is no other level."
    parts = [
        f"{r.difference:+.2f} [{r.ci_low:+.2f}, {r.ci_high:+.2f}] against {r.other:g} ({r.verdict.replace(NO_EFFECT, 'no difference shown')})"
        for r in table[table["beside"]].itertuples()
    ]
    return f"{said}; {'; '.join(parts)}."


def _by_seed(metric: str, **parts: pd.DataFrame) -> list:
    """The metric of each part by seed, in the order of the seeds that all of them have."""
    columns = [part.set_index("seed")[metric].rename(name) for name, part in parts.items()]
    both = pd.concat(columns, axis=1, join="inner").sort_index()
    if both.empty:
        raise StudyError(
            f"{' and '.join(parts)} have no seed in common; run every arm with the same reid.seeds."
        )
    return [both[name] for name in parts]
