"""Curves over the levels of a parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from posedive_lib.bench import figures
from posedive_lib.bench.charts.estimates import shows_nothing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPAN = 8.0  # points that an axis of `bands` shows at least, so that noise is no mountain


@figures.style()
def bands(
    table: pd.DataFrame, x: str, *, xlabel: str, before: dict[str, float] | None = None
) -> Figure:
    """A panel per metric: mean over seeds with its interval as a band and as bars.

    table: metric, mean, ci_low, ci_high and the levels `x`. before: a level drawn as a dashed line,
    such as the mean of real images alone ({"mAP": 61.2}).
    """
    metrics = list(dict.fromkeys(table["metric"]))
    fig, panels = plt.subplots(1, len(metrics), figsize=(4.5 * len(metrics), 3.6), squeeze=False)
    for i, (axes, metric) in enumerate(zip(panels[0], metrics, strict=True)):
        part, colour = table[table["metric"] == metric], figures.COLOURS[i]
        low, high = part["ci_low"], part["ci_high"]
        axes.fill_between(part[x], low, high, color=colour, alpha=0.2, linewidth=0)
        error = np.abs(part[["ci_low", "ci_high"]].to_numpy().T - part["mean"].to_numpy())
        axes.errorbar(
            part[x],
            part["mean"],
            yerr=error,
            color=colour,
            marker=figures.MARKERS[i],
            linestyle=figures.LINES[i],
            capsize=3,
        )
        if before and metric in before:
            axes.axhline(
                before[metric],
                color="black",
                linewidth=1,
                linestyle="--",
                marker="",
                label="real images alone",
            )
            axes.legend()
        bottom, top = axes.get_ylim()
        if top - bottom < SPAN:
            middle = (bottom + top) / 2
            axes.set_ylim(middle - SPAN / 2, middle + SPAN / 2)
        axes.set(xlabel=xlabel, ylabel=f"{figures.METRICS.get(metric, metric)} (%)", xticks=part[x])
    return fig


@figures.style()
def gains(table: pd.DataFrame, x: str, *, xlabel: str) -> Figure:
    """A line per arm with its interval as a band and as bars, against 0.

    Open markers: no effect is shown (`shows_nothing`). table: arm, difference, ci_low, ci_high, the
    levels `x` and perhaps verdict, of one metric.
    """
    fig, axes = plt.subplots(figsize=(6.5, 3.8))
    axes.axhline(0, color="black", linewidth=1, linestyle="-", marker="")
    for arm, part in table.groupby("arm", sort=False):
        look = figures.arm_style(str(arm))
        part = part.sort_values(x)
        axes.fill_between(
            part[x], part["ci_low"], part["ci_high"], color=look["color"], alpha=0.2, linewidth=0
        )
        ends = part[["ci_low", "ci_high"]].to_numpy().T
        error = np.nan_to_num(np.abs(ends - part["difference"].to_numpy()))
        axes.errorbar(part[x], part["difference"], yerr=error, capsize=3, markersize=10, **look)
        nothing = part[[shows_nothing(row) for row in part.to_dict("records")]]
        look |= {"linestyle": "", "label": "_open", "markerfacecolor": "white"}
        axes.plot(nothing[x], nothing["difference"], markersize=10, zorder=3, **look)
    axes.set(xlabel=xlabel, ylabel="gain in mAP (points)", xticks=sorted(table[x].unique()))
    axes.legend()
    return fig


def in_words(table: pd.DataFrame, x: str) -> str:
    """The same table for an alternative text: the first, last and highest mean of each metric."""

    def at(row: pd.Series) -> str:
        return f"{row['mean']:.1f} at {row[x]:g}"

    parts = []
    for metric, rows in table.groupby("metric", sort=False):
        rows, metric = rows.sort_values(x), str(metric)
        first, last, best = (
            rows.iloc[0],
            rows.iloc[-1],
            rows.iloc[int(rows["mean"].to_numpy().argmax())],
        )
        name = figures.METRICS.get(metric, metric)
        parts.append(f"{name} from {at(first)} to {at(last)}, highest {at(best)}")
    return "; ".join(parts)
