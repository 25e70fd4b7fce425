"""The study's data sets: how people write their names, and which of them share photos."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

NAMES = {
    "msmt17-s-cam": "MSMT17-S (Cam)",
    "msmt17-s-pose": "MSMT17-S (Pose)",
    "market1501": "Market-1501",
    "msmt17": "MSMT17",
    "cuhk03-labeled": "CUHK03 (L)",
    "cuhk03-detected": "CUHK03 (D)",
    "folder": "own photos",
}
MEASURES = {"pck": "PCK", "identity_top1": "top-1", "psnr": "PSNR", "ssim": "SSIM"}  # of images
WORDS = NAMES | {"rank1": "rank-1"}  # what pages call data sets and metrics
SPLIT_OF_MSMT17 = "msmt17-s-"


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """A table with its data sets in the order of NAMES, as every page has them; others last."""
    places = {name: place for place, name in enumerate(NAMES)}
    rank = table["dataset"].map(places).fillna(len(places))
    return table.iloc[rank.argsort(kind="stable")].reset_index(drop=True)


def sources(names: Iterable[str]) -> list[str]:
    """Of a study's data sets those that share no photo: the first of each source.

    CUHK03's detected boxes show the photos of its labeled ones, MSMT17-S is a part of MSMT17.
    """
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(name.split("-")[0], name)
    return list(first.values())
