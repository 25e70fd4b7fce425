"""Differences with their intervals, as dots: a forest plot, panels, and against a measure."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import cycle, pairwise
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from posedive_lib.bench import figures
from posedive_lib.bench.statistics import NO_EFFECT, contains_zero
from posedive_lib.bench.tables import span
from posedive_lib.errors import StudyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Looks of arms of one chart alone, that no arm of the study has
OTHERS = (("#332288", "<"), ("#56b4e9", ">"), ("black", "p"), ("#882255", "h"))
FAR = 2  # a row that reaches so many times as far as the others flattens them
ZERO: dict[str, Any] = {"color": "black", "linewidth": 1, "linestyle": "-", "marker": ""}


@figures.style()
def forest(table: pd.DataFrame, *, unit: str = "percentage points") -> Figure:
    """Forest plot of one metric against one baseline: a row per data set and arm, against 0.

    Open markers: the verdict is "no effect shown". Columns dataset, arm, baseline, metric,
    difference, ci_low, ci_high, verdict.
    """
    if table["metric"].nunique() != 1 or table["baseline"].nunique() != 1:
        raise StudyError(
            "A forest plot shows one metric against one baseline; filter the table first."
        )
    fig, axes = plt.subplots(figsize=(7.5, 0.3 * (len(table) + table["dataset"].nunique()) + 1.3))
    ticks, labels, y = [], [], 0
    for dataset, rows in table.groupby("dataset", sort=False):
        axes.text(
            0.0,
            y,
            f" {dataset}",
            transform=axes.get_yaxis_transform(),
            fontweight="bold",
            fontsize=10,
            va="center",
        )
        for row in rows.to_dict("records"):
            y += 1
            style = figures.arm_style(row["arm"])
            estimate(axes, y, row, style["color"], style["marker"])
            ticks.append(y)
            labels.append(row["arm"])
        y += 1
    axes.axvline(0, **ZERO)
    axes.set(
        yticks=ticks,
        yticklabels=labels,
        ylim=(y - 0.3, -0.7),  # the first data set on top
        xlabel=f"{table['metric'].iloc[0]} against {table['baseline'].iloc[0]} ({unit})",
    )
    axes.grid(False, axis="y")
    return fig


@figures.style()
def differences(table: pd.DataFrame, label: str, panel: str) -> Figure:
    """A panel per value of the column `panel`: a dot with its interval per `label`, against 0.

    Open markers: the interval contains 0. A row that would flatten the others is an arrow at the
    edge, with its numbers. Other columns: difference, ci_low, ci_high.
    """
    names = list(dict.fromkeys(table[label]))
    fig, panels = _panels(table, names, panel, 3.0, 0.42 * len(names) + 1.3, margin=1.5)
    for (name, axes), colour in zip(panels.items(), figures.COLOURS, strict=False):
        part = table[table[panel] == name].set_index(label).loc[names]
        for y, row in enumerate(part.to_dict("records")):
            estimate(axes, y, row, colour)
        axes.axvline(0, **ZERO)
        axes.set_xlabel("difference")
        axes.grid(False, axis="y")
        _cut(axes, part)
    return fig


def _cut(axes: Axes, part: pd.DataFrame) -> None:
    """End the axis where most rows end, if a few reach more than FAR times as far.

    Those are arrows at the edge, with their difference and its interval. A row whose dot is shown
    has its whole interval, with 5 % to the frame.
    """
    ends = part[["ci_low", "ci_high"]].abs().max(axis=1)
    limit = float(1.2 * ends.quantile(0.6))
    if not 0 < FAR * limit < ends.max():
        return
    # A wider axis may show another dot, so until none is new.
    while (wider := 1.05 * ends[part["difference"].abs() <= limit].max()) > limit:
        limit = wider
    axes.set_xlim(-limit, limit)
    axes.locator_params(axis="x", nbins=4)  # more numbers would touch
    for y, row in enumerate(part.to_dict("records")):
        difference = row["difference"]
        if abs(difference) > limit:
            number, _, interval = span(row, digits=2).partition(" ")
            side, said = ("left", f"◂ {number}") if difference < 0 else ("right", f"{number} ▸")
            hides = {"facecolor": "white", "edgecolor": "none", "pad": 2}  # the end of its interval
            look: dict[str, Any] = {"fontsize": 8, "va": "center", "bbox": hides, "zorder": 2.4}
            place = 0.98 * np.sign(difference) * limit
            axes.text(place, y, f"{said}\n{interval}", ha=side, **look)


@figures.style()
def values(table: pd.DataFrame, label: str, panel: str) -> Figure:
    """A panel per value of the column `panel`: a dot with its interval per `label` that it has.

    A value ten times as far as the others is an arrow at the edge, with its number. Other columns:
    value, ci_low, ci_high.
    """
    names = list(dict.fromkeys(table[label]))
    fig, panels = _panels(table, names, panel, 2.75, 2.4)
    for name, axes in panels.items():
        part = table[table[panel] == name]
        error = np.abs(part[["ci_low", "ci_high"]].to_numpy().T - part["value"].to_numpy())
        places = [names.index(own) for own in part[label]]
        axes.errorbar(part["value"], places, xerr=error, linestyle="", marker="o", markersize=4)
        *others, farthest = np.sort(part["ci_high"])
        if others and 0 < 10 * others[-1] < farthest:  # it would flatten the others
            limit, far = 1.6 * others[-1], int(part["ci_high"].argmax())
            axes.set_xlim(part["ci_low"].min() - 0.1 * others[-1], limit)
            said = f"{part['value'].iloc[far]:.2f} ▸ "
            axes.text(limit, places[far], said, ha="right", va="center")
    return fig


def _panels(
    table: pd.DataFrame,
    names: list[str],
    panel: str,
    width: float,
    height: float,
    margin: float = 0,
) -> tuple[Figure, dict[str, Axes]]:
    """Axes in lines of two or three, one per value of the column `panel`, with a row for each name.

    In inches: width and height of a panel, and margin for the names.
    """
    values = list(dict.fromkeys(table[panel]))
    columns = 2 if len(values) == 4 else min(3, len(values))  # four: no line with a single one
    lines = -(-len(values) // columns)
    size = (width * columns + margin, height * lines)
    fig, grid = plt.subplots(lines, columns, figsize=size, sharey=True, squeeze=False)
    for empty in grid.flat[len(values) :]:
        empty.remove()
    for axes, value in zip(grid.flat, values, strict=False):
        axes.set(
            title=_title(value),
            yticks=range(len(names)),
            yticklabels=names,
            ylim=(len(names) - 0.5, -0.5),  # the first name on top
        )
    return fig, dict(zip(values, grid.flat, strict=False))


def _title(metric: str) -> str:
    """A measure as axes name it, and in brackets as tables do, unless that is the same letters."""
    said = figures.METRICS.get(metric, metric)
    same = said in (metric, metric.replace("_", " ")) or metric.upper() in said  # pck, PCK
    return said if same else f"{said}\n({metric})"


@figures.style()
def against_quality(table: pd.DataFrame, measures: dict[str, str]) -> Figure:
    """A panel per measure (column → axis label): the gain of every `arm` with its interval.

    An arm of the study looks as in every figure; the others have looks of their own. Other columns:
    gain, gain_low, gain_high. Where a gap would flatten the gains, the vertical axis is broken
    there (`_parts`), and a panel is two, one above the other.
    """
    parts = _parts(table)
    heights = [2, 1] if len(parts) > 1 else [1]
    fig, grid = plt.subplots(
        len(parts),
        len(measures),
        figsize=(4.2 * len(measures), 2.2 + 1.2 * len(parts)),
        sharey="row",
        sharex="col",
        squeeze=False,
        height_ratios=heights,
    )
    for line, limits in zip(grid, parts, strict=True):
        for axes, column in zip(line, measures, strict=True):
            _gains(axes, table, column)
            axes.axhline(0, **ZERO)
            if len(parts) > 1:
                axes.set_ylim(limits)
    for axes, label in zip(grid[-1], measures.values(), strict=True):
        axes.set_xlabel(label)
    for upper, lower in zip(grid[0], grid[-1], strict=True):
        if len(parts) > 1:
            upper.spines["bottom"].set_visible(False)
            upper.tick_params(bottom=False)
            lower.spines["top"].set_visible(False)
            slash: dict[str, Any] = {"marker": [(-1, -0.6), (1, 0.6)], "markersize": 10}
            slash |= {"linestyle": "", "color": "black", "clip_on": False}
            upper.plot([0], [0], transform=upper.transAxes, **slash)
            lower.plot([0], [1], transform=lower.transAxes, **slash)
    fig.supylabel("gain in mAP (points)", fontsize=10)
    names = grid[0][0].get_legend_handles_labels()
    fig.legend(*names, loc="outside upper center", ncols=len(table))
    return fig


def _gains(axes: Axes, table: pd.DataFrame, column: str) -> None:
    """The gain of every arm against a column, with its interval."""
    others = cycle(OTHERS)
    for part in table.to_dict("records"):
        gain = part["gain"]
        if part["arm"] in {*figures.ARMS, *figures.LIKE}:
            look = figures.arm_style(part["arm"])
            colour, marker = look["color"], look["marker"]
        else:
            colour, marker = next(others)
        axes.errorbar(
            [part[column]],
            [gain],
            yerr=[[gain - part["gain_low"]], [part["gain_high"] - gain]],
            color=colour,
            marker=marker,
            markersize=8,
            capsize=3,
            linestyle="",
            label=part["arm"],
        )


def _parts(table: pd.DataFrame) -> list[tuple[float, float]]:
    """Ranges of the vertical axis from the top one on: two where a third of it would be a gap.

    0 is in one of them.
    """
    ends = (table[end].fillna(table["gain"]) for end in ("gain_low", "gain_high"))  # of one seed
    spans = [*zip(*ends, strict=True), (0.0, 0.0)]
    spans.sort()
    low, high = spans[0][0], max(end for _, end in spans)
    gaps = [(after[0] - before[1], n) for n, (before, after) in enumerate(pairwise(spans), start=1)]
    widest, place = max(gaps)
    if len(table) < 3 or widest < (high - low) / 3:
        return [(low, high)]
    found = []
    for part in (spans[place:], spans[:place]):
        bottom, top = part[0][0], max(end for _, end in part)
        margin = 0.08 * (top - bottom) or 1.0
        found.append((bottom - margin, top + margin))
    return found


def shows_nothing(row: dict[Hashable, Any]) -> bool:
    """What its verdict says, or without one whether its interval contains 0."""
    if "verdict" in row:
        return bool(row["verdict"] == NO_EFFECT)
    return contains_zero(row["ci_low"], row["ci_high"])


def estimate(
    axes: Axes, y: float, row: dict[Hashable, Any], colour: str, marker: str = "o"
) -> None:
    """A difference with its interval at height `y`; open where no effect is shown."""
    low, high = row["ci_low"], row["ci_high"]
    filled = "white" if shows_nothing(row) else colour
    if np.isfinite([low, high]).all():
        axes.plot(
            [low, high], [y, y], color=colour, linewidth=2, linestyle="-", marker="|", markersize=8
        )
    axes.plot(
        [row["difference"]],
        [y],
        color=colour,
        marker=marker,
        markersize=8,
        markerfacecolor=filled,
        linestyle="",
    )
