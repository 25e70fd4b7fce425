"""Pictures of data sets and splits (§A): contact sheets, viewpoints around a person, poses as stick figures."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from posedive_lib.bench import figures
from posedive_lib.datasets.images import read_one

TRAIN, TEST = figures.COLOURS[0], figures.COLOURS[1]
BONES = [
    (0, 1),
    (1, 4),
    (4, 7),
    (7, 10),
    (0, 2),
    (2, 5),
    (5, 8),
    (8, 11),
    (0, 3),
    (3, 6),
    (6, 9),
    (9, 12),
    (12, 15),
    (9, 13),
    (13, 16),
    (16, 18),
    (18, 20),
    (20, 22),
    (9, 14),
    (14, 17),
    (17, 19),
    (19, 21),
    (21, 23),
]
LEFT = {1, 4, 7, 10, 13, 16, 18, 20, 22}
RIGHT = {2, 5, 8, 11, 14, 17, 19, 21, 23}


def well_seen(table: pd.DataFrame, count: int) -> list[int]:
    """The `count` identities that most cameras saw (equally many: the lower number first)."""
    cameras = table.groupby("pid")["camid"].nunique()
    return cameras.sort_values(ascending=False, kind="stable").index[:count].tolist()


def camera_rows(
    table: pd.DataFrame, pids: list[int], cameras: list[int], height: int, width: int
) -> list[list]:
    """One row of photos per identity, one column per camera: its first image there, None where the camera never saw the person."""
    first = (
        table.sort_values("rel")
        .drop_duplicates(["pid", "camid"])
        .set_index(["pid", "camid"])["path"]
    )
    return [
        [
            read_one(first[pid, cam], height, width) if (pid, cam) in first.index else None
            for cam in cameras
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
    """Identities × cameras: `people` training identities above `people` test identities; gaps where a camera never saw someone."""
    cameras = sorted({*train["camid"], *test["camid"]})
    groups = [("train", train, well_seen(train, people)), ("test", test, well_seen(test, people))]
    rows = [row for _, table, pids in groups for row in camera_rows(table, pids, cameras, *size)]
    labels = [f"{side}\n{pid}" for side, _, pids in groups for pid in pids]
    return figures.image_grid(
        rows,
        row_labels=labels,
        column_labels=[f"{'cam ' if i == 0 else ''}{c + 1}" for i, c in enumerate(cameras)],
        scale=scale,
        title=title,
    )


def azimuth_shares(azimuth: np.ndarray, bins: int = 24) -> np.ndarray:
    """Share of images (bins,) in each of `bins` equal sectors of azimuth, the first of which begins at 0° (front)."""
    sector = np.floor(np.mod(azimuth, 360) / (360 / bins)).astype(int) % bins
    return np.bincount(sector, minlength=bins) / max(len(azimuth), 1)


def azimuth_roses(
    panels: dict[str, dict[str, np.ndarray]],
    bins: int = 24,
    limits: dict[str, dict[str, float]] | None = None,
) -> tuple[Figure, pd.DataFrame]:
    """One rose per panel: shares of azimuths (degrees) of its "train" and "test" images around a person who faces down.

    limits: panel → side → degrees from the front where a rule ends or begins that side, drawn as dashed rays.
    Returns the figure and its numbers (panel, side, azimuth of the sector's centre, share).
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
    centres, records = (np.arange(bins) + 0.5) * 360 / bins, []
    for ax, (name, sides) in zip(axes[0], panels.items()):
        for side, colour in (("train", TRAIN), ("test", TEST)):
            share = azimuth_shares(sides[side], bins)
            ax.bar(
                np.radians(centres),
                share,
                width=np.radians(360 / bins),
                color=colour,
                alpha=0.6,
                edgecolor=colour,
                linewidth=1.2,
                hatch="" if side == "train" else "//",
                label=f"{side}, {len(sides[side]):,} images",
            )
            records += [(name, side, c if c <= 180 else c - 360, s) for c, s in zip(centres, share)]
        for side, limit in (limits or {}).get(name, {}).items():
            for angle in (limit, -limit):
                ax.plot(
                    np.radians([angle, angle]),
                    [0, ax.get_rmax()],
                    color=TRAIN if side == "train" else TEST,
                    linestyle="--",
                    linewidth=1.5,
                    marker="",
                )
        face_down(ax)
        ax.yaxis.set_major_locator(MaxNLocator(4))
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        ax.set_rlabel_position(150)
        ax.tick_params(axis="y", labelsize=7)
        ax.set_title(name, pad=12)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), frameon=False)
    return fig, pd.DataFrame(records, columns=["panel", "side", "azimuth", "share"])


def face_down(ax) -> None:
    """Polar axes seen from above: the front (0°) points down to the reader, the person's left (+90°) to the reader's right."""
    ax.set_theta_zero_location("S")
    ax.set_theta_direction(1)
    ax.set_xticks(
        np.radians([0, 60, 90, 120, 180, 240, 270, 300]),
        ["front 0°", "60°", "left\n90°", "120°", "back 180°", "-120°", "right\n-90°", "-60°"],
        fontsize=8,
    )
    ax.set_yticklabels([])
    ax.grid(alpha=0.5)


def stick_figure(ax, joints: np.ndarray, turn: float = 30.0) -> None:
    """Draw joints (24, 3), metres, y up: red right side, blue left side, seen `turn` degrees from the front."""
    angle = np.radians(turn)
    across = joints[:, 0] * np.cos(angle) - joints[:, 2] * np.sin(angle)
    for a, b in BONES:
        colour = "#0173b2" if b in LEFT else "#d55e00" if b in RIGHT else "#444444"
        ax.plot(
            across[[a, b]],
            joints[[a, b], 1],
            color=colour,
            linewidth=3.2,
            linestyle="-",
            marker="",
            solid_capstyle="round",
        )
    ax.scatter(across[15], joints[15, 1] + 0.08, s=150, color="#444444", zorder=3, marker="o")
    ax.set(aspect="equal", xlim=(-0.95, 0.95), ylim=(-1.15, 1.0), xticks=[], yticks=[])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def pose_clusters(
    images: pd.DataFrame,
    joints: np.ndarray,
    train_clusters: int,
    paths: dict[str, str],
    size: tuple[int, int],
    examples: int = 2,
) -> Figure:
    """One column per pose cluster: its mean pose, the photos nearest to it, and how many images it gives to each side.

    images: rel, cluster, side ("train", "query", "gallery" or ""), in the order of `joints` (N, 24, 3); paths: file of each rel.
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
        ax.set_title(
            f"pose {cluster} · {use}\n{(side == 'train').sum()} train\n{side.isin(['query', 'gallery']).sum()} test",
            color=colour,
            fontsize=10,
        )
        nearest = rows[np.argsort(((joints[rows] - centre) ** 2).sum((1, 2)), kind="stable")]
        for place, index in enumerate(_different_people(images, nearest, examples)):
            cell = fig.add_subplot(grid[1 + place, column])
            cell.imshow(read_one(paths[images["rel"].iloc[index]], *size))
            cell.set_axis_off()
    return fig


def _different_people(images: pd.DataFrame, order: np.ndarray, count: int) -> list[int]:
    """The first `count` rows of `order` that show different people."""
    chosen, seen = [], set()
    for index in order:
        who = (images["split"].iloc[index] == "train", images["pid"].iloc[index])
        if who not in seen and len(chosen) < count:
            seen.add(who)
            chosen.append(index)
    return chosen


def nearest_train(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Distance (N,) of each test pose (N, D) to the nearest training pose, as root mean square metres per joint (D = 3 × joints)."""
    from sklearn.neighbors import NearestNeighbors

    distance = NearestNeighbors(n_neighbors=1).fit(train).kneighbors(test)[0][:, 0]
    return distance / np.sqrt(test.shape[1] / 3)


def distance_histogram(distances: dict[str, np.ndarray]) -> tuple[Figure, pd.DataFrame]:
    """Histograms of distances (N,) in metres of test images to the nearest training pose, one line per split; figure and numbers."""
    fig, ax = plt.subplots(figsize=(7, 3.4))
    edges = np.linspace(0, max(max(d.max() for d in distances.values()), 1e-3), 31)
    records = []
    for (name, values), colour in zip(distances.items(), (figures.COLOURS[7], TEST)):
        share = np.histogram(values, edges)[0] / len(values)
        ax.stairs(
            share,
            edges * 100,
            label=f"{name} (median {np.median(values) * 100:.1f} cm)",
            color=colour,
            linewidth=2,
            fill=name != list(distances)[0],
            alpha=0.75,
        )
        records += [(name, low, high, s) for low, high, s in zip(edges[:-1], edges[1:], share)]
    ax.set(
        xlabel="distance of a test pose to the nearest training pose (cm per joint)",
        ylabel="share of test images",
    )
    ax.legend(frameon=False)
    return fig, pd.DataFrame(records, columns=["split", "from_m", "to_m", "share"])
