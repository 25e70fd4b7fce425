"""Ranked-gallery pictures: a query and the images found nearest to it, each with a mark.

The mark says whether an image is right, wrong or not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from posedive_lib.errors import StudyError
from posedive_lib.reid.distances import GRID, JUNK, Array, pair_of_features
from posedive_lib.reid.image_set import ImageSet
from posedive_lib.reid.retrieval import evaluate

# Colour, line and sign all tell the three apart.
MARKS: dict[str, tuple[str, Any, str]] = {
    "right": ("#0173b2", "-", "✓"),
    "wrong": ("#d55e00", (0, (4, 2)), "✗"),
    "not counted": ("#949494", (0, (1, 1.5)), "–"),
}
WIDTH = 0.95  # inches, of one picture
PER_LINE = 5  # gallery images in a line, so that a page need not shrink the picture


def ranked_gallery(
    query_features: Array,
    query: ImageSet,
    gallery_features: Array,
    gallery: ImageSet,
    queries: Sequence[int] | None = None,
    *,
    count: int = 4,
    top: int = 10,
    removed: bool = True,
) -> pd.DataFrame:
    """The `top` nearest gallery images of each query by cosine distance, ties by gallery index.

    queries: row numbers; None for `count` of `typical_queries`. Columns: query, query_ap (fraction,
    NaN where the query has no match), place (1-based), gallery, pid and camid (of that image), kind
    ("right", "wrong", "not counted"), rank (1-based among counted images). Images that the protocol
    removes are listed where they would stand, as "not counted" and without a rank; removed: False
    leaves them out.
    """
    result = evaluate(
        query_features, query.pids, query.camids, gallery_features, gallery.pids, gallery.camids
    )
    precision = np.full(len(query), np.nan)
    precision[result.valid] = result.average_precision
    rows = typical_queries(precision, count) if queries is None else queries
    chosen = np.asarray(rows, dtype=np.int64)
    if chosen.ndim != 1 or not len(chosen) or chosen.min() < 0 or chosen.max() >= len(query):
        raise StudyError(
            f"queries are {chosen.tolist()}: give row numbers from 0 to {len(query) - 1}."
        )
    if top < 1:
        raise StudyError(f"top is {top}: show at least one gallery image.")
    q, g = pair_of_features(query_features, gallery_features)
    lists = []
    for number in chosen:
        nearest = np.argsort(GRID - g @ q[number], kind="stable")
        found = _judged(nearest, gallery, query.pids[number], query.camids[number])
        found = (found if removed else found[found["kind"] != "not counted"])[:top]
        found.insert(0, "place", np.arange(1, len(found) + 1))
        found.insert(0, "query_ap", precision[number])
        found.insert(0, "query", number)
        lists.append(found)
    return pd.concat(lists, ignore_index=True)


def _judged(nearest: np.ndarray, gallery: ImageSet, pid: int, camid: int) -> pd.DataFrame:
    """The list of a query of that identity and camera, nearest gallery image first."""
    same = gallery.pids[nearest] == pid
    removed = (gallery.pids[nearest] == JUNK) | (same & (gallery.camids[nearest] == camid))
    rank = pd.array(np.cumsum(~removed), dtype="Int64")
    rank[removed] = pd.NA
    return pd.DataFrame(
        {
            "gallery": nearest,
            "pid": gallery.pids[nearest],
            "camid": gallery.camids[nearest],
            "kind": np.where(removed, "not counted", np.where(same, "right", "wrong")),
            "rank": rank,
        }
    )


def typical_queries(average_precision: np.ndarray, count: int) -> np.ndarray:
    """Row numbers of at most `count` queries, from well to badly found, of AP (N, NaN: not valid).

    At even steps of the valid queries in order of AP: with four, those an eighth, three, five and
    seven eighths down the list. So a picture shows what is usual, not what is worst.
    """
    order = np.argsort(-average_precision, kind="stable")[: np.isfinite(average_precision).sum()]
    count = min(count, len(order))
    return order[((np.arange(count) + 0.5) / max(count, 1) * len(order)).astype(np.int64)]


def picture(table: pd.DataFrame, query: ImageSet, gallery: ImageSet) -> Figure:
    """The queries of `ranked_gallery`, each before its list in lines of PER_LINE images.

    A picture is named by sign and rank alone; the table has its identity and camera.
    """
    numbers = table["query"].drop_duplicates().tolist()
    longest = int(table["place"].max())
    wide = min(PER_LINE, longest)
    lines = -(-longest // wide)  # of one query
    height = WIDTH * query.images.shape[1] / query.images.shape[2]
    size = WIDTH * (1 + wide) * 1.12, (height + 0.45) * lines * len(numbers) + 0.45
    fig = Figure(figsize=size, layout="constrained")
    axes = fig.subplots(lines * len(numbers), 1 + wide, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for own, number in zip(np.split(axes, len(numbers)), numbers, strict=True):
        found = table[table["query"] == number]
        precision = found["query_ap"].iloc[0]
        score = "no match" if np.isnan(precision) else f"AP {100 * precision:.0f} %"
        _show(own[0, 0], query.images[number], f"query\n{score}", "black", "-")
        places = own[:, 1:].flat  # a list may be shorter
        for ax, row in zip(places, found.itertuples(), strict=False):
            colour, style, sign = MARKS[row.kind]
            title = sign if row.kind == "not counted" else f"{sign} {row.rank}"
            _show(ax, gallery.images[row.gallery], title, colour, style)
    frames = [
        _frame(colour, style, linewidth=2, label=f"{sign} {kind}")
        for kind, (colour, style, sign) in MARKS.items()
        if kind in ("right", "wrong") or (table["kind"] == kind).any()
    ]
    fig.legend(
        handles=frames, loc="outside lower center", ncols=len(frames), frameon=False, fontsize=9
    )
    return fig


def _frame(colour: str, style: Any, **options: Any) -> Rectangle:
    return Rectangle((0, 0), 1, 1, fill=False, edgecolor=colour, linestyle=style, **options)


def _show(ax: Axes, image: np.ndarray, title: str, colour: str, style: Any) -> None:
    ax.imshow(image, aspect="equal", interpolation="nearest")
    ax.set_title(title, fontsize=10, color="black", pad=4)
    frame = _frame(colour, style, linewidth=2.5, transform=ax.transAxes, clip_on=False)
    ax.add_patch(frame)
