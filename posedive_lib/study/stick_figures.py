"""SMPL's joints drawn as stick figures."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Chains of SMPL's joints from the pelvis (0) outwards, and the colour of their side
LEFT, RIGHT, MIDDLE = "#0173b2", "#d55e00", "#444444"
CHAINS = (
    ((0, 1, 4, 7, 10), LEFT),
    ((0, 2, 5, 8, 11), RIGHT),
    ((0, 3, 6, 9, 12, 15), MIDDLE),
    ((9, 13, 16, 18, 20, 22), LEFT),
    ((9, 14, 17, 19, 21, 23), RIGHT),
)
HEAD = 15


def stick_figure(axes: Axes, joints: np.ndarray, turn: float = 30.0) -> None:
    """Draw joints (24, 3), metres, y up, seen `turn` degrees from the front."""
    angle = np.radians(turn)
    across = joints[:, 0] * np.cos(angle) - joints[:, 2] * np.sin(angle)
    _bones(axes, across, joints[:, 1], 3.2)
    axes.scatter(across[HEAD], joints[HEAD, 1] + 0.08, s=150, color=MIDDLE, zorder=3, marker="o")
    axes.set(aspect="equal", xlim=(-0.95, 0.95), ylim=(-1.15, 1.0), xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def thumbnail(axes: Axes, place: np.ndarray, joints: np.ndarray, size: float) -> None:
    """Draw joints (24, 3) in black at a `place` (2,) of the axes; `size` is that of a metre."""
    across = place[0] + size * (joints[:, 0] * np.cos(0.5) - joints[:, 2] * np.sin(0.5))
    up = place[1] + size * (joints[:, 1] + 0.15)
    _bones(axes, across, up, 4.2, "white")  # a rim, so that it is seen on any ground
    _bones(axes, across, up, 1.7, "black")
    head = across[HEAD], up[HEAD] + 0.07 * size
    axes.scatter(*head, s=28, color="black", edgecolor="white", zorder=4, marker="o")


def _bones(
    axes: Axes, across: np.ndarray, up: np.ndarray, width: float, colour: str | None = None
) -> None:
    for chain, own in CHAINS:
        for bone in pairwise(chain):
            axes.plot(
                across[list(bone)],
                up[list(bone)],
                color=colour or own,
                linewidth=width,
                linestyle="-",
                marker="",
                solid_capstyle="round",
            )
