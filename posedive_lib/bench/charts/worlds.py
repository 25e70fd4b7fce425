"""Differences in every world, with their mean: does what is true on average hold in each?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import pandas as pd

from posedive_lib.bench import figures
from posedive_lib.bench.charts.estimates import ZERO, estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEIGHT, WIDTH = 0.56, 1.7  # inches of a row and of a panel
LOW, STEP = 0.17, 0.09  # where a row's worlds lie below its mean, so that none hides another


@figures.style()
def differences(each: pd.DataFrame, mean: pd.DataFrame) -> Figure:
    """A panel per data set and a row per pair of arms: small dots are worlds, large ones means.

    Open means: the verdict is "no effect shown". each: columns panel, pair, difference, a row per
    world. mean: panel, pair, difference, ci_low, ci_high, verdict; its order is that of panels and
    rows.
    """
    names = list(dict.fromkeys(mean["panel"]))
    pairs = list(dict.fromkeys(mean["pair"]))
    size = (WIDTH * len(names) + 2.4, HEIGHT * len(pairs) + 1.3)
    fig, grid = plt.subplots(1, len(names), figsize=size, sharex=True, sharey=True, squeeze=False)
    for axes, name in zip(grid[0], names, strict=True):
        for y, pair in enumerate(pairs):
            colour = figures.COLOURS[y % len(figures.COLOURS)]
            worlds = sorted(_of(each, name, pair)["difference"])  # neighbours on other lines
            below = [y + LOW + STEP * (number % 3) for number in range(len(worlds))]
            look = {"color": colour, "marker": "o", "markersize": 5, "markeredgewidth": 0}
            axes.plot(worlds, below, linestyle="", **look)
            for row in _of(mean, name, pair).to_dict("records"):
                estimate(axes, y, row, colour)
        axes.axvline(0, **ZERO)
        axes.set(
            title=name,
            yticks=range(len(pairs)),
            yticklabels=pairs,
            ylim=(len(pairs) - 0.4, -0.4),  # the first pair on top
        )
        axes.locator_params(axis="x", nbins=4)  # more numbers would touch
        axes.grid(False, axis="y")
    fig.supxlabel("difference in mAP (points)", fontsize=11)  # once: a panel is too narrow for it
    return fig


def _of(table: pd.DataFrame, panel: str, pair: str) -> pd.DataFrame:
    return table[(table["panel"] == panel) & (table["pair"] == pair)]
