"""Heat map of a difference by the azimuths of query and gallery."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

FEW = 5  # queries below which a cell is put in brackets


def heat_map(table: pd.DataFrame, *, label: str, limit: float | None = None) -> Figure:
    """Heat map of columns query, gallery (degrees) and difference; orange: gain, purple: loss, hatched: no such row. Every cell also holds
    its number, in brackets where fewer than `FEW` queries speak (column `queries`, if there is one). limit: where the colours end, for maps to compare."""
    ordered = lambda values: (
        table.pivot(index="query", columns="gallery", values=values).sort_index().sort_index(axis=1)
    )
    wide = ordered("difference")
    few = ordered("queries").to_numpy() < FEW if "queries" in table else np.zeros(wide.shape, bool)
    limit = limit or np.nanmax(np.abs(wide.to_numpy())) or 1.0
    fig, axes = plt.subplots(figsize=(0.55 * wide.shape[1] + 2.6, 0.5 * wide.shape[0] + 1.4))
    axes.set_facecolor("none")
    axes.patch.set(hatch="///", edgecolor="lightgrey")
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(wide.to_numpy()),
        cmap="PuOr_r",
        vmin=-limit,
        vmax=limit,
        edgecolors="white",
        linewidth=0.5,
    )
    for y, x in zip(*np.nonzero(np.isfinite(wide.to_numpy()))):
        value = wide.iat[y, x] if abs(wide.iat[y, x]) > 1e-9 * limit else 0.0
        axes.text(
            x + 0.5,
            y + 0.5,
            f"({value:+.2g})" if few[y, x] else f"{value:+.2g}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if abs(value) > 0.7 * limit else "black",
        )
    ticks = lambda index: [f"{180 if value == -180 else value:g}°" for value in index]
    axes.set(
        xticks=np.arange(wide.shape[1]) + 0.5,
        xticklabels=ticks(wide.columns),
        yticks=np.arange(wide.shape[0]) + 0.5,
        yticklabels=ticks(wide.index),
    )
    axes.set(
        xlabel="azimuth of the correct gallery image (0° = front)", ylabel="azimuth of the query"
    )
    axes.tick_params(axis="x", rotation=45, labelsize=9)
    axes.grid(False)
    fig.colorbar(mesh, label=label)
    return fig
