"""Heat map of a difference by the azimuths of query and gallery."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from posedive_lib.bench import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEW = 5  # queries below which a cell is put in brackets


@figures.style()
def heat_map(table: pd.DataFrame, *, label: str, limit: float | None = None) -> Figure:
    """Heat map of a difference; orange: gain, purple: loss, hatched: no such row.

    table: query and gallery (degrees), difference, and perhaps queries. Every cell holds its
    number, all to the same precision, in brackets where fewer than `FEW` queries speak. limit:
    where the colours end. `words` says which of this a caption has to explain.
    """
    wide = _wide(table, "difference")
    values = wide.to_numpy()
    few = np.zeros(wide.shape, bool)
    if "queries" in table:
        few = _wide(table, "queries").to_numpy() < FEW
    limit = limit or np.nanmax(np.abs(values)) or 1.0
    fig, axes = plt.subplots(figsize=(0.55 * wide.shape[1] + 2.6, 0.5 * wide.shape[0] + 1.4))
    axes.set_facecolor("none")
    axes.patch.set(hatch="///", edgecolor="lightgrey")
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(values),
        cmap="PuOr_r",
        vmin=-limit,
        vmax=limit,
        edgecolors="white",
        linewidth=0.5,
    )
    for y, x in zip(*np.nonzero(np.isfinite(values)), strict=True):
        value = values[y, x]
        said = f"{round(value):+d}".replace("+0", "0")  # whole points: cells hold few queries
        axes.text(
            x + 0.5,
            y + 0.5,
            f"({said})" if few[y, x] else said,
            ha="center",
            va="center",
            fontsize=7,
            color="white" if abs(value) > 0.7 * limit else "black",
        )
    axes.set(
        xticks=np.arange(wide.shape[1]) + 0.5,
        xticklabels=_degrees(wide.columns),
        yticks=np.arange(wide.shape[0]) + 0.5,
        yticklabels=_degrees(wide.index),
        xlabel="azimuth of the correct gallery image (0° = front)",
        ylabel="azimuth of the query",
    )
    axes.tick_params(axis="x", rotation=45, labelsize=9)
    axes.grid(False)
    fig.colorbar(mesh, label=label)
    return fig


def words(table: pd.DataFrame) -> dict[str, object]:
    """What the caption of `heat_map` needs: `few`, and `hatched` only where a cell is."""
    gaps = _wide(table, "difference").isna().any(axis=None)
    return {"few": FEW, "hatched": "; hatched: no such pair" if gaps else ""}


def _wide(table: pd.DataFrame, values: str) -> pd.DataFrame:
    wide = table.pivot(index="query", columns="gallery", values=values)
    return wide.sort_index().sort_index(axis=1)


def _degrees(azimuths: pd.Index) -> list[str]:
    return [f"{180 if value == -180 else value:g}°" for value in azimuths]
