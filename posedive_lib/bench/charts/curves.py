"""Curves over the levels of a parameter."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from posedive_lib.bench import figures


def bands(
    table: pd.DataFrame, x: str, *, xlabel: str, before: dict[str, float] | None = None
) -> Figure:
    """Curves of `comparison.by_level`, one panel per metric: mean over seeds with its interval as a band and as bars.

    `before`: a level drawn as a dashed line, such as the mean of real images alone ({"mAP": 61.2}).
    """
    metrics = list(dict.fromkeys(table["metric"]))
    fig, panels = plt.subplots(1, len(metrics), figsize=(4.5 * len(metrics), 3.6), squeeze=False)
    for i, (axes, metric) in enumerate(zip(panels[0], metrics)):
        part, colour = table[table["metric"] == metric], figures.COLOURS[i]
        axes.fill_between(
            part[x], part["ci_low"], part["ci_high"], color=colour, alpha=0.2, linewidth=0
        )
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
        axes.set(xlabel=xlabel, ylabel=f"{figures.METRICS.get(metric, metric)} (%)", xticks=part[x])
    return fig


def in_words(table: pd.DataFrame, x: str) -> str:
    """The same table for an alternative text: per metric the first, the last and the highest mean with the level of `x` each."""
    parts = []
    for metric, rows in table.groupby("metric", sort=False):
        at = lambda row: f"{row['mean']:.1f} at {row[x]:g}"
        rows = rows.sort_values(x)
        parts.append(
            f"{figures.METRICS.get(metric, metric)} from {at(rows.iloc[0])} to {at(rows.iloc[-1])}, highest {at(rows.loc[rows['mean'].idxmax()])}"
        )
    return "; ".join(parts)
