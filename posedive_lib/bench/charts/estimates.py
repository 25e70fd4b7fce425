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
    """A panel per measure (column → axis label): the gain of every `arm` with both intervals.

    Arms that would flatten the others (`_floor`) are arrows at the lower edge, with their gain.
    Where some arms gain and others do not, a second line of panels shows the first ones enlarged.
    Other columns: gain, and the ends of intervals (`_ends`).
    """
    table = table.assign(look=_looks(table["arm"]))
    ahead, far = table[table["gain"] > 0], table["gain"] < _floor(table["gain"])
    lines = 2 if 1 < len(ahead) < len(table) else 1
    size = (4.2 * len(measures), 0.8 + 2.3 * lines)
    fig, grid = plt.subplots(lines, len(measures), figsize=size, sharey="row", squeeze=False)
    low, high = _around(table[~far], "gain", 0.0)
    low -= 0.1 * (high - low) * far.sum()  # room for the arrows
    for axes, column in zip(grid[0], measures, strict=True):
        _points(axes, table[~far], column)
        axes.set(xlim=_around(table, column), ylim=(low, high))
        axes.axhline(0, **ZERO)
        for number, row in enumerate(table[far].to_dict("records")):
            place = (row[column], 0.03 + 0.08 * number)
            said = f"▾ {row['arm']}: {row['gain']:+.1f}"
            axes.text(*place, said, transform=axes.get_xaxis_transform(), fontsize=9)
    for axes, column in zip(grid[1:].flat, measures, strict=False):
        _points(axes, ahead, column)
        axes.set(xlim=_around(ahead, column), ylim=_around(ahead, "gain"))
    for axes, label in zip(grid[-1], measures.values(), strict=True):
        axes.set_xlabel(label)
    heights = ("gain in mAP (points)", "gains above 0, enlarged")
    for axes, label in zip(grid[:, 0], heights, strict=False):
        axes.set_ylabel(label)
    points = grid[0][0].containers
    dots, names = [point.lines[0] for point in points], [point.get_label() for point in points]
    fig.legend(dots, names, loc="outside upper center", ncols=len(names))
    return fig


def _looks(arms: pd.Series) -> pd.Series:
    """Colour and marker of each arm: the study's as in every figure, others have their own."""
    others, known = cycle(OTHERS), {*figures.ARMS, *figures.LIKE}

    def look(arm: str) -> tuple[str, str]:
        style = figures.arm_style(arm) if arm in known else None
        return (style["color"], style["marker"]) if style else next(others)

    return arms.map(look)


def _points(axes: Axes, table: pd.DataFrame, column: str) -> None:
    """The gain of every arm against a column, with the intervals of both."""
    for row in table.to_dict("records"):
        bars = []
        for name in (column, "gain"):
            low, high = _ends(row, name)
            bars.append([[row[name] - low], [high - row[name]]] if high > low else None)
        colour, marker = row["look"]
        look = {"color": colour, "marker": marker, "markersize": 8, "linestyle": ""}
        axes.errorbar([row[column]], [row["gain"]], bars[1], bars[0], label=row["arm"], **look)
    axes.locator_params(nbins=5)


def _ends(row: dict[Hashable, Any], column: str) -> list[float]:
    """Both ends of a value's interval: x_low and x_high for x or x_percent; itself without one."""
    stem, value = column.removesuffix("_percent"), row[column]
    ends = [row.get(f"{stem}_{side}", value) for side in ("low", "high")]
    return [value if np.isnan(end) else end for end in ends]  # a single seed has no interval


def _around(table: pd.DataFrame, column: str, *more: float) -> tuple[float, float]:
    """Limits of an axis that shows a column with its intervals, and `more`."""
    ends = [end for row in table.to_dict("records") for end in _ends(row, column)]
    low, high = min([*ends, *more]), max([*ends, *more])
    margin = 0.08 * (high - low) or 1.0
    return low - margin, high + margin


def _floor(gains: pd.Series) -> float:
    """The least gain above the widest gap, if that takes a third of the axis and ends below 0."""
    values = sorted([*gains, 0.0])
    gap, floor = max((after - before, after) for before, after in pairwise(values))
    wide = len(gains) > 2 and gap > (values[-1] - values[0]) / 3
    return floor if wide and floor <= 0 else values[0]


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
