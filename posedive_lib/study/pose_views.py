"""Pictures of poses, viewpoints and conditions (§B, §H, Fig. 5): maps of what a training set shows and of what it lacks."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from posedive_lib.augment import distribution, diversify
from posedive_lib.augment.distribution import (
    AZIMUTH_BINS,
    ELEVATION_BINS,
    ELEVATION_RANGE,
    Training,
)
from posedive_lib.bench import figures
from posedive_lib.body.camera import viewpoint
from posedive_lib.body.conditions import ConditionRenderer, Conditions
from posedive_lib.body.poses import PoseSource
from posedive_lib.body.table import BodyTable
from posedive_lib.datasets.images import read_one
from posedive_lib.seeds import rng_for
from posedive_lib.study.split_views import face_down

RARE = 8  # colours saturate at 1/8 and 8 times uniform


def training_views(dataset) -> Training:
    """Bodies and viewpoints of a data set's training images."""
    bodies = BodyTable.load(dataset.folder / "smpl.npz").select(dataset.train["rel"].tolist())
    return Training(bodies, *viewpoint(bodies.global_orient, bodies.cam_t))


def viewpoint_counts(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """Images per bin (12 azimuths from 0°, 3 elevations from 0–30°): the bins of `distribution.coverage`; outside elevations count in the nearest."""
    low, high = ELEVATION_RANGE
    edges = np.linspace(0, 360, AZIMUTH_BINS + 1), np.linspace(low, high, ELEVATION_BINS + 1)
    return np.histogram2d(np.mod(azimuth, 360), np.clip(elevation, low, high), edges)[0]


def viewpoint_maps(panels: dict[str, tuple[np.ndarray, np.ndarray]]) -> tuple[Figure, pd.DataFrame]:
    """One map per panel of (azimuth, elevation) in degrees, as the sky above a person seen from the top.

    Colour: how many times as many images as a uniform distribution would have, on a log scale; dots: images. Figure and numbers.
    """
    fig, axes = plt.subplots(
        1,
        len(panels),
        figsize=(2.75 * len(panels) + 0.6, 3.5),
        subplot_kw={"projection": "polar"},
        squeeze=False,
        layout="none",
    )
    fig.subplots_adjust(left=0.035, right=0.91, bottom=0.14, top=0.8, wspace=0.42)
    azimuths, heights = (
        np.linspace(0, 2 * np.pi, AZIMUTH_BINS + 1),
        np.linspace(*ELEVATION_RANGE, ELEVATION_BINS + 1),
    )
    norm, records = TwoSlopeNorm(0, -np.log2(RARE), np.log2(RARE)), []
    for ax, (name, (azimuth, elevation)) in zip(axes[0], panels.items()):
        counts = viewpoint_counts(azimuth, elevation)
        times = counts / (counts.sum() / counts.size)
        shade = np.clip(np.log2(np.maximum(times, 1e-9)), -np.log2(RARE), np.log2(RARE))
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
            alpha=0.45,
            rasterized=True,
        )
        face_down(ax)
        ax.set_xticks(np.radians([0, 90, 180, 270]), ["front", "left", "back", "right"], fontsize=9)
        ax.set_ylim(
            ELEVATION_RANGE[1] + 10, ELEVATION_RANGE[0]
        )  # level views outside, views from above inside, the person in the middle
        ax.set_yticks([])
        ax.plot(
            0, ELEVATION_RANGE[1] + 10, marker="v", markersize=7, color="#444444"
        )  # the person, facing down
        ax.set_title(name, pad=10, fontsize=11)
        records += [
            (name, 30 * i, 10 * j, counts[i, j], times[i, j])
            for i in range(AZIMUTH_BINS)
            for j in range(ELEVATION_BINS)
        ]
    bar = fig.colorbar(image, cax=fig.add_axes([0.94, 0.2, 0.012, 0.56]))
    ticks = [1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8]
    bar.set_ticks(np.log2(ticks), labels=["≤ ⅛", "¼", "½", "1 ×", "2 ×", "4 ×", "≥ 8 ×"])
    return fig, pd.DataFrame(
        records, columns=["panel", "azimuth_from", "elevation_from", "images", "times_uniform"]
    )


def planned(
    name: str, dataset, training: Training, source: PoseSource, P, per_pid: int, **changed
) -> pd.DataFrame:
    """What `pose-dive` would generate for a data set (§B), `per_pid` images per identity, with every training image as a reference.
    changed: of `augment.policy` (viewpoint, pose)."""
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


def coverage_row(name: str, azimuth, elevation, body_pose, cells: np.ndarray) -> dict:
    """One row of the coverage table: divergences from uniform (0 = uniform) and plain shares."""
    azimuth = (np.asarray(azimuth) + 180) % 360 - 180
    counts = viewpoint_counts(azimuth, elevation)
    return {
        "images of": name,
        "images": len(azimuth),
        "viewpoint divergence": distribution.coverage(azimuth, elevation),
        "pose divergence": distribution.pose_coverage(body_pose, cells),
        "empty viewpoint bins": float((counts == 0).mean()),
        "front (≤ 60°)": float((abs(azimuth) <= 60).mean()),
        "back (≥ 120°)": float((abs(azimuth) >= 120).mean()),
    }


def thin(count: int, keep: int, *key) -> np.ndarray:
    """Sorted rows of a random choice of `keep` among `count`, always the same for a key."""
    return np.sort(rng_for(*key).permutation(count)[:keep])


def pose_map_figure(
    flat: dict[str, np.ndarray], features: dict[str, np.ndarray], pictured: str, count: int = 9
) -> tuple[Figure, pd.DataFrame]:
    """Scatter of the maps of `distribution.pose_map`, a colour and marker per group, with stick figures at `count` places of the group `pictured`."""
    fig, ax = plt.subplots(figsize=(8.4, 6.4))
    looks = [
        (figures.COLOURS[7], "o", 12),
        (figures.COLOURS[1], "^", 12),
        (figures.COLOURS[0], "s", 16),
    ]
    for (name, points), (colour, marker, size) in zip(flat.items(), looks):
        ax.scatter(
            *points.T,
            s=size,
            marker=marker,
            color=colour,
            alpha=0.55,
            linewidth=0,
            label=f"{name} ({len(points):,})",
        )
    for row in _representatives(flat[pictured], count):
        _thumbnail(
            ax,
            flat[pictured][row],
            features[pictured][row].reshape(-1, 3),
            np.ptp(np.concatenate(list(flat.values())), axis=0).max(),
        )
    ax.set(xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2", aspect="equal")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.05), ncol=3, frameon=False, markerscale=2)
    records = pd.concat(
        [
            pd.DataFrame(points, columns=["x", "y"]).assign(group=name)
            for name, points in flat.items()
        ]
    )
    return fig, records


def _representatives(points: np.ndarray, count: int) -> list[int]:
    """Rows nearest to the centres of `count` groups of points (N, 2), by k-means."""
    from sklearn.cluster import KMeans

    centres = KMeans(min(count, len(points)), n_init=4, random_state=0).fit(points).cluster_centers_
    return sorted({int(((points - centre) ** 2).sum(1).argmin()) for centre in centres})


def _thumbnail(ax, place: np.ndarray, joints: np.ndarray, extent: float) -> None:
    from posedive_lib.study.split_views import BONES

    size = extent * 0.055
    across = place[0] + size * (joints[:, 0] * np.cos(0.5) - joints[:, 2] * np.sin(0.5))
    up = place[1] + size * (joints[:, 1] + 0.15)
    for colour, width in (
        ("white", 4.2),
        ("black", 1.7),
    ):  # a white rim, so that it is seen on any ground
        for a, b in BONES:
            ax.plot(
                across[[a, b]],
                up[[a, b]],
                color=colour,
                linewidth=width,
                linestyle="-",
                marker="",
                solid_capstyle="round",
            )
    ax.scatter(
        across[15],
        up[15] + 0.07 * size,
        s=28,
        color="black",
        edgecolor="white",
        zorder=4,
        marker="o",
    )


def renderer(P) -> ConditionRenderer:
    """The study's condition renderer, from its parameters."""
    c = P.conditions
    return ConditionRenderer(
        P.paths.body,
        P.image.height,
        P.image.width,
        near=c.depth_near,
        far=c.depth_far,
        focal=c.focal,
    )


def strip(drawn: Conditions) -> list[np.ndarray]:
    """The pictures of Fig. 5 in order: SMPL rendering, skeleton, depth, normals."""
    return [drawn.neutral, drawn.skeleton, drawn.depth, drawn.normals]


def stretched(depth: np.ndarray) -> np.ndarray:
    """A depth map (H, W, 1) uint8 with its own body's range spread over all greys: for the eye only."""
    body = depth[depth > 0].astype(float)
    if not len(body):
        return depth
    return np.where(
        depth > 0, np.clip(55 + 200 * (depth - body.min()) / max(np.ptp(body), 1), 0, 255), 0
    ).astype(np.uint8)


def grey_levels(depth: np.ndarray) -> int:
    """How many different greys a body gets in a depth map (H, W, 1) uint8."""
    return len(np.unique(depth[depth > 0]))


def training_strips(draw: ConditionRenderer, dataset, rows: list[int]) -> list[list[np.ndarray]]:
    """Photo and conditions of training images, in their own cameras."""
    training = training_views(dataset)
    strips = []
    for row in rows:
        body = training.bodies
        drawn = draw.render(
            body.global_orient[row], body.body_pose[row], body.betas[row], body.cam_t[row]
        )
        strips.append(
            [read_one(dataset.train["path"].iloc[row], draw.height, draw.width), *strip(drawn)]
        )
    return strips


def source_strips(
    draw: ConditionRenderer, source: PoseSource, rows: pd.DataFrame
) -> tuple[list[list[np.ndarray]], list[str]]:
    """Conditions of planned poses (pose_row) in planned viewpoints (azimuth, elevation), and a label for each."""
    strips, labels = [], []
    for row in rows.itertuples():
        tilt, body_pose = source.root_tilt[row.pose_row], source.body_pose[row.pose_row]
        strips.append(
            strip(
                draw.draw(
                    *draw.place(tilt, body_pose, np.zeros(10), row.azimuth, row.elevation)[2:]
                )
            )
        )
        labels.append(
            f"{figures.wrapped(row.pose)}\naz {row.azimuth:.0f}°\nel {row.elevation:.0f}°"
        )
    return strips, labels
