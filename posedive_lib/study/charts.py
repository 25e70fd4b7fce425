"""The charts that several notebooks draw from tables: forest plot, curves with bands, azimuth × azimuth heat map, ROC curves.

Each takes a tidy table and returns a figure for `figures.save`, which puts picture, data, caption and alternative text together.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score, roc_curve

from posedive_lib.errors import StudyError
from posedive_lib.study import figures
from posedive_lib.study.statistics import contains_zero

FEW = 5  # queries below which a cell of the azimuth map is put in brackets


def forest(table: pd.DataFrame, *, unit: str = "percentage points") -> Figure:
    """Forest plot of `comparison.against`, one metric: a row per data set and arm, difference with interval, against 0.

    Open markers: the interval contains 0, or there is none ("no effect shown"). Columns dataset, arm, baseline, metric, difference,
    ci_low, ci_high.
    """
    if table["metric"].nunique() != 1 or table["baseline"].nunique() != 1:
        raise StudyError("A forest plot shows one metric against one baseline; filter the table first.")
    fig, axes = plt.subplots(figsize=(7.5, 0.3 * (len(table) + table["dataset"].nunique()) + 1.3))
    ticks, labels, y = [], [], 0
    for dataset, rows in table.groupby("dataset", sort=False):
        axes.text(0.0, y, f" {dataset}", transform=axes.get_yaxis_transform(), fontweight="bold", fontsize=10, va="center")
        for row in rows.itertuples():
            y += 1
            style = figures.arm_style(row.arm)
            _estimate(axes, y, row, style["color"], style["marker"])
            ticks.append(y)
            labels.append(row.arm)
        y += 1
    axes.axvline(0, color="black", linewidth=1, linestyle="-", marker="")
    axes.set(yticks=ticks, yticklabels=labels, ylim=(y - 0.3, -0.7), xlabel=f"{table['metric'].iloc[0]} against {table['baseline'].iloc[0]} ({unit})")
    axes.grid(False, axis="y")
    return fig


def _estimate(axes, y: float, row, colour, marker: str = "o") -> None:
    """A difference with its interval, if it has one, at height `y`; open where the interval contains 0."""
    filled = "white" if contains_zero(row.ci_low, row.ci_high) else colour
    if np.isfinite([row.ci_low, row.ci_high]).all():
        axes.plot([row.ci_low, row.ci_high], [y, y], color=colour, linewidth=2, linestyle="-", marker="|", markersize=8)
    axes.plot([row.difference], [y], color=colour, marker=marker, markersize=8, markerfacecolor=filled, linestyle="")


def differences(table: pd.DataFrame, label: str, panel: str) -> Figure:
    """A panel per value of the column `panel`: a dot with its interval for every value of `label`, against a line at 0.

    Open markers: the interval contains 0. Columns difference, ci_low, ci_high besides.
    """
    names, panels = list(dict.fromkeys(table[label])), list(dict.fromkeys(table[panel]))
    fig, row = plt.subplots(1, len(panels), figsize=(3.0 * len(panels) + 1.5, 0.42 * len(names) + 1.3), sharey=True, squeeze=False)
    for axes, name, colour in zip(row[0], panels, figures.COLOURS):
        part = table[table[panel] == name].set_index(label).loc[names]
        for y, estimate in enumerate(part.itertuples()):
            _estimate(axes, y, estimate, colour)
        axes.axvline(0, color="black", linewidth=1, linestyle="-", marker="")
        axes.set(title=name, yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5), xlabel="difference")
        axes.grid(False, axis="y")
    return fig


def bands(table: pd.DataFrame, x: str, *, xlabel: str, before: dict[str, float] | None = None) -> Figure:
    """Curves of `comparison.by_level`, one panel per metric: mean over seeds with its interval as a band and as bars.

    `before`: a level drawn as a dashed line, such as the mean of real images alone ({"mAP": 61.2}).
    """
    metrics = list(dict.fromkeys(table["metric"]))
    fig, panels = plt.subplots(1, len(metrics), figsize=(4.5 * len(metrics), 3.6), squeeze=False)
    for i, (axes, metric) in enumerate(zip(panels[0], metrics)):
        part, colour = table[table["metric"] == metric], figures.COLOURS[i]
        axes.fill_between(part[x], part["ci_low"], part["ci_high"], color=colour, alpha=0.2, linewidth=0)
        error = np.abs(part[["ci_low", "ci_high"]].to_numpy().T - part["mean"].to_numpy())
        axes.errorbar(part[x], part["mean"], yerr=error, color=colour, marker=figures.MARKERS[i], linestyle=figures.LINES[i], capsize=3)
        if before and metric in before:
            axes.axhline(before[metric], color="black", linewidth=1, linestyle="--", marker="", label="real images alone")
            axes.legend()
        axes.set(xlabel=xlabel, ylabel=f"{metric} (%)", xticks=part[x])
    return fig


def azimuth_heat_map(table: pd.DataFrame, *, label: str, limit: float | None = None) -> Figure:
    """Heat map of columns query, gallery (degrees) and difference; orange: gain, purple: loss, hatched: no such row. Every cell also holds
    its number, in brackets where fewer than `FEW` queries speak (column `queries`, if there is one). limit: where the colours end, for maps to compare."""
    ordered = lambda values: table.pivot(index="query", columns="gallery", values=values).sort_index().sort_index(axis=1)
    wide = ordered("difference")
    few = ordered("queries").to_numpy() < FEW if "queries" in table else np.zeros(wide.shape, bool)
    limit = limit or np.nanmax(np.abs(wide.to_numpy())) or 1.0
    fig, axes = plt.subplots(figsize=(0.55 * wide.shape[1] + 2.6, 0.5 * wide.shape[0] + 1.4))
    axes.set_facecolor("none")
    axes.patch.set(hatch="///", edgecolor="lightgrey")
    mesh = axes.pcolormesh(np.ma.masked_invalid(wide.to_numpy()), cmap="PuOr_r", vmin=-limit, vmax=limit, edgecolors="white", linewidth=0.5)
    for y, x in zip(*np.nonzero(np.isfinite(wide.to_numpy()))):
        value = wide.iat[y, x] if abs(wide.iat[y, x]) > 1e-9 * limit else 0.0
        axes.text(x + 0.5, y + 0.5, f"({value:+.2g})" if few[y, x] else f"{value:+.2g}", ha="center", va="center", fontsize=7, color="white" if abs(value) > 0.7 * limit else "black")
    ticks = lambda index: [f"{value:g}°" for value in index]
    axes.set(xticks=np.arange(wide.shape[1]) + 0.5, xticklabels=ticks(wide.columns), yticks=np.arange(wide.shape[0]) + 0.5, yticklabels=ticks(wide.index))
    axes.set(xlabel="azimuth of the correct gallery image (0° = front)", ylabel="azimuth of the query")
    axes.tick_params(axis="x", rotation=45, labelsize=9)
    axes.grid(False)
    fig.colorbar(mesh, label=label)
    return fig


def roc_table(scores: dict[str, np.ndarray], right: np.ndarray) -> pd.DataFrame:
    """ROC points of each score for telling right images (`right` (N,) boolean) from wrong ones: score, threshold, false_positive_rate,
    true_positive_rate, auc. A higher score has to mean "right"; give the negative of a distance."""
    right = np.asarray(right, bool)
    if right.all() or not right.any():
        raise StudyError("A ROC curve needs right and wrong images; here all are of one kind.")
    parts = []
    for name, values in scores.items():
        false, true, threshold = roc_curve(right, values)
        threshold[0] = np.nan  # scikit-learn's infinity: nothing passes
        parts.append(pd.DataFrame({"score": name, "threshold": threshold, "false_positive_rate": false, "true_positive_rate": true, "auc": roc_auc_score(right, values)}))
    return pd.concat(parts, ignore_index=True)


def roc(table: pd.DataFrame, *, chosen: dict[str, float] | None = None) -> Figure:
    """ROC curves of `roc_table` with the diagonal of guessing; `chosen` thresholds of the study are marked with a large symbol."""
    fig, axes = plt.subplots(figsize=(4.8, 4.6))
    for i, (name, part) in enumerate(table.groupby("score", sort=False)):
        style = {"color": figures.COLOURS[i], "linestyle": figures.LINES[i]}
        axes.plot(part["false_positive_rate"], part["true_positive_rate"], **style, marker="", label=f"{name} (AUC {part['auc'].iloc[0]:.2f})")
        if chosen and name in chosen:
            passing = part[part["threshold"] >= chosen[name]]
            at = passing.iloc[-1] if len(passing) else part.iloc[0]
            axes.plot(at["false_positive_rate"], at["true_positive_rate"], color=figures.COLOURS[i], marker=figures.MARKERS[i], markersize=11, linestyle="")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle=":", marker="", label="guessing")
    axes.set(xlabel="wrong images that pass (share)", ylabel="right images that pass (share)", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.legend(loc="lower right", fontsize=9)
    return fig
