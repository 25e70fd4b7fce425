"""Pictures of data sets and splits (§A): contact sheets, viewpoints, pose clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator
from sklearn.neighbors import NearestNeighbors

from posedive_lib.bench import figures
from posedive_lib.datasets.images import read_one
from posedive_lib.study.stick_figures import stick_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.projections.polar import PolarAxes

TRAIN, TEST = figures.COLOURS[0], figures.COLOURS[1]
SIDES = (("train", TRAIN, ""), ("test", TEST, "//"))  # with colour and hatching


def well_seen(table: pd.DataFrame, count: int) -> list[int]:
    """The `count` identities that most cameras saw (equally many: the lower number first)."""
    cameras = table.groupby("pid")["camid"].nunique()
    return cameras.sort_values(ascending=False, kind="stable").index[:count].tolist()


def camera_rows(
    table: pd.DataFrame, pids: list[int], cameras: list[int], height: int, width: int
) -> list[list[np.ndarray | None]]:
    """A row of photos per identity: its first image in each camera, None where there is none."""
    first = table.sort_values("rel").drop_duplicates(["pid", "camid"])
    paths = first.set_index(["pid", "camid"])["path"].to_dict()
    return [
        [
            read_one(paths[pid, camera], height, width) if (pid, camera) in paths else None
            for camera in cameras
        ]
        for pid in pids
    ]


def contact_sheet(
    train: pd.DataFrame,
    test: pd.DataFrame,
    size: tuple[int, int],
    *,
    people: int = 3,
    title: str,
    scale: float = 0.7,
) -> Figure:
    """Identities × cameras: `people` training identities above `people` test identities.

    Gaps where a camera never saw someone. size: height and width of a photo.
    """
    cameras = sorted({*train["camid"], *test["camid"]})
    rows, labels = [], []
    for side, table in (("train", train), ("test", test)):
        pids = well_seen(table, people)
        rows += camera_rows(table, pids, cameras, *size)
        labels += [f"{side}\n{pid}" for pid in pids]
    numbers = [str(camera + 1) for camera in cameras]
    return figures.image_grid(
        rows,
        row_labels=labels,
        column_labels=[f"cam {numbers[0]}", *numbers[1:]],
        scale=scale,
        title=title,
    )


def azimuth_shares(azimuth: np.ndarray, bins: int = 24) -> np.ndarray:
    """Share of images (bins,) in each of `bins` equal sectors, the first of which begins at 0°."""
    # The second modulo catches angles just below 360° that round up.
    sector = np.floor(np.mod(azimuth, 360) / (360 / bins)).astype(int) % bins
    return np.bincount(sector, minlength=bins) / max(len(azimuth), 1)


@figures.style()
def azimuth_roses(
    panels: dict[str, dict[str, np.ndarray]],
    bins: int = 24,
    limits: dict[str, dict[str, float]] | None = None,
) -> tuple[Figure, pd.DataFrame]:
    """One rose per panel: azimuths (degrees) of its "train" and "test" images around a person.

    A bar's area is its share, on one scale in all panels. The person faces down. limits: panel →
    side → degrees from the front where a rule ends or begins that side, drawn as dashed rays.
    Returns the figure and its numbers: panel, side, azimuth of the sector's centre, share.
    """
    fig, axes = plt.subplots(
        1,
        len(panels),
        figsize=(3.5 * len(panels), 4.4),
        subplot_kw={"projection": "polar"},
        squeeze=False,
        layout="none",
    )
    fig.subplots_adjust(left=0.06, right=0.94, bottom=0.2, top=0.84, wspace=0.42)
    centres = (np.arange(bins) + 0.5) * 360 / bins
    signed = np.where(centres <= 180, centres, centres - 360)
    shares = {
        (name, side): azimuth_shares(images[side], bins)
        for name, images in panels.items()
        for side, *_ in SIDES
    }
    top = 1.05 * np.sqrt(max(share.max() for share in shares.values()))
    records = []
    for ax, (name, images) in zip(axes[0], panels.items(), strict=True):
        for side, colour, hatch in SIDES:
            share = shares[name, side]
            ax.bar(
                np.radians(centres),
                np.sqrt(share),  # so that the area is the share
                width=np.radians(360 / bins),
                color=colour,
                alpha=0.6,
                edgecolor=colour,
                linewidth=1.2,
                hatch=hatch,
                label=f"{side}, {len(images[side]):,} images",
            )
            records += [(name, side, c, s) for c, s in zip(signed, share, strict=True)]
        ax.set_ylim(0, top)
        for side, limit in (limits or {}).get(name, {}).items():
            _rays(ax, limit, TRAIN if side == "train" else TEST)
        face_down(ax)
        rings = MaxNLocator(3, steps=[1, 2, 5, 10]).tick_values(0, ax.get_rmax() ** 2)[1:]
        rings = rings[rings < 0.8 * ax.get_rmax() ** 2]  # labels stay inside
        ax.set_yticks(np.sqrt(rings), [f"{100 * ring:.0f} %" for ring in rings])
        ax.set_rlabel_position(150)
        ax.tick_params(axis="y", labelsize=7)
        ax.set_title(name, pad=12)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), frameon=False)
    return fig, pd.DataFrame(records, columns=["panel", "side", "azimuth", "share"])


def _rays(ax: PolarAxes, limit: float, colour: str) -> None:
    for angle in (limit, -limit):
        ax.plot(
            np.radians([angle, angle]),
            [0, ax.get_rmax()],
            color=colour,
            linestyle="--",
            linewidth=1.5,
            marker="",
        )


def face_down(ax: PolarAxes) -> None:
    """Polar axes seen from above: the front (0°) points down, the person's left to the right."""
    ax.set_theta_zero_location("S")
    ax.set_theta_direction(1)
    ax.set_xticks(
        np.radians([0, 60, 90, 120, 180, 240, 270, 300]),
        ["front 0°", "60°", "left\n90°", "120°", "back 180°", "-120°", "right\n-90°", "-60°"],
        fontsize=8,
    )
    ax.set_yticklabels([])
    ax.grid(alpha=0.5)


@figures.style()
def pose_clusters(
    images: pd.DataFrame,
    joints: np.ndarray,
    train_clusters: int,
    paths: dict[str, str],
    size: tuple[int, int],
    examples: int = 2,
) -> Figure:
    """A column per pose cluster: its mean pose, the nearest photos, and its images on each side.

    Shown numbers start at 1, as those of other figures; `cluster` starts at 0.
    images: rel, cluster, side ("train", "query", "gallery" or ""), split and pid, in the order of
    `joints` (N, 24, 3). paths: file of each rel. size: height and width of a photo.
    """
    clusters = sorted(images["cluster"].unique())
    fig = plt.figure(figsize=(1.45 * len(clusters), 2.4 + 1.35 * examples))
    grid = fig.add_gridspec(1 + examples, len(clusters), height_ratios=[1.3] + [1] * examples)
    for column, cluster in enumerate(clusters):
        rows = np.flatnonzero(images["cluster"] == cluster)
        centre = joints[rows].mean(0)
        side = images["side"].iloc[rows]
        ax = fig.add_subplot(grid[0, column])
        stick_figure(ax, centre)
        use, colour = ("train", TRAIN) if cluster < train_clusters else ("test", TEST)
        in_train, in_test = (side == "train").sum(), side.isin(["query", "gallery"]).sum()
        ax.set_title(
            f"group {cluster + 1} · {use}\n{in_train} train\n{in_test} test",
            color=colour,
            fontsize=10,
        )
        distance = ((joints[rows] - centre) ** 2).sum((1, 2))
        nearest = images.iloc[rows[np.argsort(distance, kind="stable")]]
        # Different people: a pid counts anew in the training and in the test set.
        who = [nearest["split"] == "train", nearest["pid"]]
        people = nearest.groupby(who, sort=False).head(1)["rel"][:examples]
        for place, rel in enumerate(people, start=1):
            cell = fig.add_subplot(grid[place, column])
            cell.imshow(read_one(paths[rel], *size))
            cell.set_axis_off()
    return fig


def nearest_train(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Distance (N,) of each test pose (N, D) to the nearest training pose.

    In metres: root mean square over the joints (D = 3 × joints).
    """
    distance = NearestNeighbors(n_neighbors=1).fit(train).kneighbors(test)[0][:, 0]
    return distance / np.sqrt(test.shape[1] / 3)


@figures.style()
def distance_histogram(distances: dict[str, np.ndarray]) -> tuple[Figure, pd.DataFrame]:
    """Histograms of distances (N,) in metres to the nearest training pose, one line per split.

    The first is a line, the others are filled. Returns the figure and its numbers.
    """
    fig, ax = plt.subplots(figsize=(7, 3.4))
    # At least a millimetre wide, for poses that are all in training
    edges = np.linspace(0, max(max(d.max() for d in distances.values()), 1e-3), 31)
    records = []
    looks = zip(distances.items(), (("#444444", False), (TEST, True)), strict=False)
    for (name, values), (colour, fill) in looks:
        share = np.histogram(values, edges)[0] / len(values)
        ax.stairs(
            share,
            edges * 100,
            label=f"{name} (median {np.median(values) * 100:.1f} cm)",
            color=colour,
            linewidth=2,
            fill=fill,
            alpha=0.75 if fill else 1.0,
            zorder=2 if fill else 3,  # the line runs over the bars
        )
        bins = zip(edges[:-1], edges[1:], share, strict=True)
        records += [(name, low, high, s) for low, high, s in bins]
    ax.set(
        xlabel="distance of a test pose to the nearest training pose (cm per joint)",
        ylabel="share of test images",
    )
    ax.legend(frameon=False)
    return fig, pd.DataFrame(records, columns=["split", "from_m", "to_m", "share"])
