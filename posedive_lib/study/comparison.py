"""Tables of Re-ID runs: an arm against another over paired seeds, with intervals (§D, §F)."""

import numpy as np
import pandas as pd

from posedive_lib.study.statistics import bootstrap_interval, holm, paired_difference

KEYS = ["dataset", "images_per_pid", "threshold"]


def paired(runs: pd.DataFrame, arm: pd.DataFrame, baseline: pd.DataFrame, metric: str, seed: int) -> dict:
    """Mean difference of a metric over the seeds that both have: mean, interval, sign-flip p and the verdict."""
    both = arm.set_index("seed")[metric].to_frame("arm").join(baseline.set_index("seed")[metric].rename("baseline"), how="inner").sort_index()
    result = paired_difference(both["arm"].to_numpy(), both["baseline"].to_numpy(), seed=seed)
    return {"metric": metric, "arm_mean": both["arm"].mean(), "baseline_mean": both["baseline"].mean(), "difference": result.mean, "ci_low": result.low,
            "ci_high": result.high, "p": result.p, "smallest_p": result.smallest_p, "seeds": result.n, "verdict": result.verdict}


def against(runs: pd.DataFrame, baseline: str, *, seed: int, metrics=("mAP", "rank1")) -> pd.DataFrame:
    """Every other arm against `baseline`, per data set and metric, with Holm's p over each metric's family."""
    rows = []
    for dataset, table in runs.groupby("dataset", sort=False):
        reference = table[table["arm"] == baseline]
        for arm in [a for a in table["arm"].unique() if a != baseline]:
            for metric in metrics:
                rows.append({"dataset": dataset, "arm": arm, "baseline": baseline, **paired(runs, table[table["arm"] == arm], reference, metric, seed)})
    result = pd.DataFrame(rows)
    if len(result):
        result["p_holm"] = result.groupby("metric")["p"].transform(lambda p: holm(p.to_numpy()))
    return result


def by_level(runs: pd.DataFrame, column: str, *, seed: int, metrics=("mAP", "rank1")) -> pd.DataFrame:
    """Mean over seeds with its interval for every level of `column`, and the paired difference to the level before."""
    rows, levels = [], sorted(runs[column].unique())
    for metric in metrics:
        for before, level in zip([None, *levels], levels):
            own = runs[runs[column] == level]
            interval = bootstrap_interval(own[metric].to_numpy(), seed=seed)
            row = {column: level, "metric": metric, "mean": interval.mean, "ci_low": interval.low, "ci_high": interval.high, "seeds": interval.n,
                   "n_generated": int(own["n_generated"].iloc[0])}
            if before is not None:
                step = paired(runs, own, runs[runs[column] == before], metric, seed)
                row |= {"step": step["difference"], "step_low": step["ci_low"], "step_high": step["ci_high"], "step_verdict": step["verdict"]}
            rows.append(row)
    return pd.DataFrame(rows)


def best_against_neighbours(table: pd.DataFrame, runs: pd.DataFrame, column: str, metric: str, seed: int) -> str:
    """One sentence: the best level, and whether it differs from the levels beside it."""
    own = table[table["metric"] == metric].reset_index(drop=True)
    best = int(own["mean"].idxmax())
    level = own.loc[best, column]
    parts = []
    for other in (best - 1, best + 1):
        if 0 <= other < len(own):
            name = own.loc[other, column]
            r = paired(runs, runs[runs[column] == level], runs[runs[column] == name], metric, seed)
            shown = "no difference shown" if np.isnan(r["ci_low"]) or r["ci_low"] <= 0 <= r["ci_high"] else "interval excludes 0"
            parts.append(f"{r['difference']:+.2f} [{r['ci_low']:+.2f}, {r['ci_high']:+.2f}] against {name:g} ({shown})")
    return f"Highest mean {metric}: {own.loc[best, 'mean']:.2f} at {level:g}; " + "; ".join(parts) + "."
