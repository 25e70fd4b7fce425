"""ROC curves of scores that tell right images from wrong ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import pandas as pd

from posedive_lib.bench import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@figures.style()
def curves(table: pd.DataFrame) -> Figure:
    """ROC curves with the diagonal of guessing.

    table: score, threshold, false_positive_rate, true_positive_rate, auc; a score's rows go from
    the strictest threshold down.
    """
    fig, axes = plt.subplots(figsize=(4.8, 4.6))
    for i, (name, part) in enumerate(table.groupby("score", sort=False)):
        axes.plot(
            part["false_positive_rate"],
            part["true_positive_rate"],
            color=figures.COLOURS[i],
            linestyle=figures.LINES[i],
            marker="",
            label=f"{name} (AUC {part['auc'].iloc[0]:.2f})",
        )
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle=":", marker="", label="guessing")
    axes.set(
        xlabel="wrong images that pass (share)",
        ylabel="right images that pass (share)",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
        aspect="equal",
    )
    axes.legend(loc="lower right", fontsize=9)
    return fig
