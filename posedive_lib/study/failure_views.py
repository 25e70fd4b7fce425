"""Tables and pictures of failures (§G)."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import binomtest, fisher_exact

from posedive_lib.bench import figures
from posedive_lib.study.failures import MEASURED, limits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from posedive_lib.study.failure_samples import Samples

REFERENCE = {"blurred reference": "low_quality", "occluded reference": "occluded"}
ANY = "any of these"
UNITS = ("share of body points off", "CIEDE2000", *["levels of 255"] * 3)


def rate(flagged: pd.Series) -> dict[str, Any]:
    """count, of, rate and its 95 % Wilson interval of flags; NaN rows do not count."""
    known = flagged.dropna()
    count, of = int(known.sum()), len(known)
    if not of:
        return {"count": 0, "of": 0, "rate": np.nan, "low": np.nan, "high": np.nan}
    interval = binomtest(count, of).proportion_ci(method="wilson")
    return {
        "count": count,
        "of": of,
        "rate": known.mean(),
        "low": interval.low,
        "high": interval.high,
    }


def percent(value: float) -> str:
    """A share as a whole percentage; a dash where it could not be measured."""
    return "–" if np.isnan(value) else f"{value:.0%}"


def count_of(row: pd.Series) -> str:
    """A rate of `failure_table` in words: how many of how many, with the interval."""
    span = f"{percent(row['low'])} to {percent(row['high'])}"
    return f"{row['count']:.0f} of {row['of']:.0f} ({percent(row['rate'])}, interval {span})"


def distrusted(table: pd.DataFrame) -> list[str]:
    """Kinds of `failure_table` whose measure is not shown to see more than wrong clothes.

    That is where the rate's interval does not lie above the share of strangers without a bag that
    are flagged too.
    """
    return table.loc[table["low"] <= table["bagless strangers"], "kind"].tolist()


def failure_table(
    samples: Samples,
    flagged: pd.DataFrame,
    right: pd.DataFrame | None = None,
    staged: pd.DataFrame | None = None,
    clothes: pd.Series | None = None,
) -> pd.DataFrame:
    """One row per kind: rate among generated images (all, kept, rejected) and, as a check, others.

    The others are true photos (`right`), staged failures (`staged`) and, for "bag appeared",
    strangers without a bag (`clothes`, of `failures.other_clothes`). Without the truth there are
    none of them. The row ANY leaves out the kinds that are `distrusted`.
    """
    kept = samples.table["kept"]
    if right is None or staged is None or clothes is None:
        right = staged = flagged * np.nan
        clothes = flagged.max(axis=1) * np.nan

    def row(kind: Hashable, of: pd.Series, true: float, wrong: float) -> dict[str, Any]:
        return {
            "kind": kind,
            **rate(of),
            "kept": of[kept].mean(),
            "rejected": of[~kept].mean(),
            "true photos": true,
            "staged failures": wrong,
            "bagless strangers": clothes.mean() if kind == "bag appeared" else np.nan,
        }

    # Nothing is staged for the last three rows.
    rows = [row(kind, flagged[kind], right[kind].mean(), staged[kind].mean()) for kind in flagged]
    doubted = distrusted(pd.DataFrame(rows))
    trusted = [kind for kind in flagged if kind not in doubted]
    whole = flagged[trusted].max(axis=1), right[trusted].max(axis=1).mean()
    rows.append(row(ANY, *whole, np.nan))
    rows += [
        row(kind, samples.table[column].astype(float), np.nan, np.nan)
        for kind, column in REFERENCE.items()
        if column in samples.table
    ]
    return pd.DataFrame(rows)


def caught(samples: Samples, flagged: pd.DataFrame) -> pd.DataFrame:
    """Does the filter see each kind? Failures among kept and among rejected images.

    With 95 % Wilson intervals, and Fisher's exact p of the two.
    """
    kept = samples.table["kept"].astype(bool)
    rows = []
    for kind in flagged:
        parts = {"kept": rate(flagged[kind][kept]), "rejected": rate(flagged[kind][~kept])}
        row: dict[str, Any] = {"kind": kind}
        for name, part in parts.items():
            row |= {f"{name} {key}": part[key] for key in ("count", "of", "low", "high")}
        counts = [[part["count"], part["of"] - part["count"]] for part in parts.values()]
        known = all(part["of"] for part in parts.values())  # both sides can show it
        row["p"] = fisher_exact(counts).pvalue if known else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def reference_table(
    states: pd.Series, flagged: pd.DataFrame, true_photos: pd.DataFrame
) -> pd.DataFrame:
    """Rates of wrong key points and wrong colours by the state of the reference photo.

    states (N,): of `failure_samples.draw_by_reference`; flagged: of the generated images;
    true_photos: of true photos of the same targets, whose rate is that of false alarms.
    """
    rows = []
    for state in dict.fromkeys(states):
        own = (states == state).to_numpy()
        for kind in MEASURED[:2]:
            found = rate(flagged[kind][own])
            false = true_photos[kind][own].mean()
            rows.append({"reference": state, "kind": kind, **found, "true photos": false})
    empty = ["reference", "kind", *rate(pd.Series(dtype=float)), "true photos"]
    return pd.DataFrame(rows, columns=empty)


@figures.style()
def score_figure(
    values: pd.DataFrame, right: pd.DataFrame, staged: pd.DataFrame, colour: float
) -> tuple[Figure, pd.DataFrame]:
    """Dots of every score for generated images, true photos and staged failures.

    With the threshold of each kind; `colour` is that of `failures.colour_limit`. Figure and data.
    """
    fig, axes = plt.subplots(1, len(MEASURED), figsize=(11, 3.6))
    groups = {
        "true photos": (right, figures.COLOURS[0]),
        "generated": (values, figures.COLOURS[1]),
        "staged failures": (staged, figures.COLOURS[7]),
    }
    short = ("true", "gen.", "staged")  # the caption says which is which: whole words would touch
    rng = np.random.default_rng(0)  # spreads the dots sideways
    for ax, (kind, limit), unit in zip(axes, limits(colour).items(), UNITS, strict=True):
        for x, (frame, shade) in enumerate(groups.values()):
            known = frame[kind].dropna().to_numpy()
            ax.plot(
                x + rng.uniform(-0.28, 0.28, len(known)),
                known,
                linestyle="",
                marker="o",
                markersize=3.2,
                alpha=0.55,
                color=shade,
            )
        ax.axhline(limit, color="black", linewidth=1, linestyle="--", marker="")
        ax.set_xticks(range(len(groups)), short, fontsize=9)
        ax.set(title=kind, ylabel=unit, xlim=(-0.5, 2.5))
    parts = []
    for name, (frame, _) in groups.items():
        long = frame.assign(photos=name)
        parts.append(long.melt("photos", var_name="kind", value_name="score").dropna())
    return fig, pd.concat(parts)


def worst(samples: Samples, score: pd.Series, count: int, unit: str) -> Figure | None:
    """Figure of the `count` images with the largest score; None where nothing can be judged.

    Rows: reference, target normals, generated and, where it is known, the truth.
    """
    order = score.dropna().sort_values(ascending=False, kind="stable").index[:count].tolist()
    if not order:
        return None
    stacks = {
        "reference": samples.references,
        "target": samples.normals,
        "generated": samples.generated,
        "truth": samples.truth,
    }
    shown = {name: stack for name, stack in stacks.items() if stack is not None}
    kept = samples.table["kept"]
    return figures.image_grid(
        [[stack[i] for i in order] for stack in shown.values()],
        row_labels=list(shown),
        column_labels=[
            f"{unit} {score[i]:.2g}\n{'kept' if kept[i] else 'rejected'}" for i in order
        ],
        scale=0.9,
    )


def contact_sheet(samples: Samples, first: int, columns: int = 10, lines: int = 2) -> Figure:
    """Samples from number `first` on, for eyes (§G): reference, target and generated, in columns.

    `columns` samples side by side, `lines` of them below each other.
    """
    pictures: list[list[np.ndarray | None]] = []
    labels: list[str] = []
    for start in range(first, min(first + columns * lines, len(samples)), columns):
        rows = range(start, min(start + columns, len(samples)))
        gap = [None] * (columns - len(rows))
        for stack in (samples.references, samples.normals, samples.generated):
            pictures.append([*(stack[row] for row in rows), *gap])
        labels += ["reference", "target", "generated"]
    return figures.image_grid(pictures, row_labels=labels)
