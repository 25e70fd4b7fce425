"""Pictures of poses and viewpoints (§B): maps of what a training set shows and of what it lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import TwoSlopeNorm
from sklearn.cluster import KMeans

from posedive_lib.augment import diversify, uniformity
from posedive_lib.augment.distribution import (
    AZIMUTH_BINS,
    ELEVATION_BINS,
    ELEVATION_RANGE,
    viewpoint_histogram,
)
from posedive_lib.bench import figures
from posedive_lib.seeds import rng_for
from posedive_lib.study.split_views import face_down
from posedive_lib.study.stick_figures import thumbnail

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from posedive_lib.augment.training_set import Training
    from posedive_lib.body.poses import PoseSource
    from posedive_lib.datasets import ReIDDataset
    from posedive_lib.params import Params

RARE = 8  # colours saturate at 1/8 and 8 times uniform
TICKS = {1 / 8: "≤ ⅛", 1 / 4: "¼", 1 / 2: "½", 1: "1 ×", 2: "2 ×", 4: "4 ×", 8: "≥ 8 ×"}


def viewpoint_counts(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """Images per viewpoint bin (12 azimuths from 0°, 3 elevations from 0° to 30°)."""
    return viewpoint_histogram(azimuth, elevation).reshape(AZIMUTH_BINS, ELEVATION_BINS)


@figures.style()
def viewpoint_maps(panels: dict[str, tuple[np.ndarray, np.ndarray]]) -> tuple[Figure, pd.DataFrame]:
    """One map per panel of (azimuth, elevation) in degrees: the sky above a person, from the top.

    Colour: how many times as many images as a uniform distribution would have, on a log scale.
    Dots: images. Returns the figure and its numbers.
    """
    across, lines = min(3, len(panels)), -(-len(panels) // 3)
    fig, axes = plt.subplots(
        lines,
        across,
        figsize=(2.75 * across + 0.6, 3.2 * lines),
        subplot_kw={"projection": "polar"},
        squeeze=False,
        layout="none",
    )
    fig.subplots_adjust(left=0.06, right=0.86, bottom=0.06, top=0.9, wspace=0.5, hspace=0.35)
    for empty in axes.flat[len(panels) :]:
        empty.set_axis_off()
    azimuths = np.linspace(0, 2 * np.pi, AZIMUTH_BINS + 1)
    heights = np.linspace(*ELEVATION_RANGE, ELEVATION_BINS + 1)
    middle = ELEVATION_RANGE[1] + 10  # level views outside, the person in the middle
    limit = np.log2(RARE)
    norm, records = TwoSlopeNorm(0, -limit, limit), []
    for ax, (name, (azimuth, elevation)) in zip(axes.flat, panels.items(), strict=False):
        counts = viewpoint_counts(azimuth, elevation)
        times = counts / (counts.sum() / counts.size)
        # Empty bins have no logarithm: they get the darkest blue.
        shade = np.clip(np.log2(np.maximum(times, 1e-9)), -limit, limit)
        image = ax.pcolormesh(
            azimuths, heights, shade.T, cmap="RdBu_r", norm=norm, edgecolors="white", linewidth=0.8
        )
        ax.plot(
            np.radians(azimuth),
            np.clip(elevation, *ELEVATION_RANGE),
            linestyle="",
            marker=".",
            markersize=1.6,
            color="black",
            alpha=0.25,
            rasterized=True,
        )
        face_down(ax)
        ax.set_xticks(np.radians([0, 90, 180, 270]), ["front", "left", "back", "right"], fontsize=9)
        ax.set_ylim(middle, ELEVATION_RANGE[0])
        ax.set_yticks([])
        ax.plot(0, middle, marker="v", markersize=7, color="#444444")  # the person, facing down
        ax.set_title(name, pad=10, fontsize=11)
        records += [
            (name, 30 * i, 10 * j, counts[i, j], times[i, j])
            for i in range(AZIMUTH_BINS)
            for j in range(ELEVATION_BINS)
        ]
    bar = fig.colorbar(image, cax=fig.add_axes((0.92, 0.25, 0.016, 0.5)))
    bar.set_ticks(np.log2(list(TICKS)).tolist(), labels=list(TICKS.values()))
    columns = ["panel", "azimuth_from", "elevation_from", "images", "times_uniform"]
    return fig, pd.DataFrame(records, columns=columns)


def planned(
    name: str,
    dataset: ReIDDataset,
    training: Training,
    source: PoseSource,
    P: Params,
    per_pid: int,
    **changed: Any,
) -> pd.DataFrame:
    """What `pose-dive` would generate for a data set (§B), `per_pid` images per identity.

    Every training image is a reference. changed: of `augment.policy` (viewpoint, pose).
    """
    a = P.augment
    return diversify.plan(
        name,
        dataset.train[["pid", "rel", "camid"]],
        training,
        source,
        n_per_pid=per_pid,
        azimuth=a.azimuth,
        elevation=a.elevation,
        seed=P.seed,
        **diversify.policies_of("pose-dive", a.policy.model_copy(update=changed)),
    )


def coverage_row(
    name: str, azimuth: np.ndarray, elevation: np.ndarray, body_pose: np.ndarray, cells: np.ndarray
) -> dict[str, Any]:
    """One row of the coverage table: divergences from uniform (0 = uniform) and plain shares."""
    azimuth = (np.asarray(azimuth) + 180) % 360 - 180  # to −180–180°, 0 in front
    counts = viewpoint_counts(azimuth, elevation)
    return {
        "images of": name,
        "images": len(azimuth),
        "viewpoint divergence": uniformity.coverage(azimuth, elevation),
        "pose divergence": uniformity.pose_coverage(body_pose, cells),
        "empty viewpoint bins": float((counts == 0).mean()),
        "front (≤ 60°)": float((abs(azimuth) <= 60).mean()),
        "back (≥ 120°)": float((abs(azimuth) >= 120).mean()),
    }


def thin(count: int, keep: int, *key: Any) -> np.ndarray:
    """Sorted rows of a random choice of `keep` among `count`, always the same for a key."""
    return np.sort(rng_for(*key).permutation(count)[:keep])


@figures.style()
def pose_map_figure(
    flat: dict[str, np.ndarray], features: dict[str, np.ndarray], pictured: str, count: int = 9
) -> tuple[Figure, pd.DataFrame]:
    """Scatter of the maps of `pose_map`, a colour and marker per group.

    Stick figures stand at `count` places of the group `pictured`. features: (N, 72) of each group.
    """
    fig, ax = plt.subplots(figsize=(8.4, 6.4))
    looks = [
        (figures.COLOURS[7], "o", 12),
        (figures.COLOURS[1], "^", 12),
        (figures.COLOURS[0], "s", 16),
    ]
    for (name, points), (colour, marker, size) in zip(flat.items(), looks, strict=False):
        ax.scatter(
            points[:, 0],
            points[:, 1],
            s=size,
            marker=marker,
            color=colour,
            alpha=0.55,
            linewidth=0,
            label=f"{name} ({len(points):,})",
        )
    extent = np.ptp(np.concatenate(list(flat.values())), axis=0).max()
    for row in _representatives(flat[pictured], count):
        joints = features[pictured][row].reshape(-1, 3)
        thumbnail(ax, flat[pictured][row], joints, extent * 0.055)
    ax.set(xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2", aspect="equal")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.05), ncol=3, frameon=False, markerscale=2)
    groups = [
        pd.DataFrame(points, columns=["x", "y"]).assign(group=name) for name, points in flat.items()
    ]
    return fig, pd.concat(groups)


def _representatives(points: np.ndarray, count: int) -> list[int]:
    """Rows nearest to the centres of `count` groups of points (N, 2), by k-means."""
    centres = KMeans(min(count, len(points)), n_init=4, random_state=0).fit(points).cluster_centers_
    return sorted({int(((points - centre) ** 2).sum(1).argmin()) for centre in centres})
