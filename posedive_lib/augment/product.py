"""An augmented data set as it is given away: the tree, its manifest, a contact sheet and a card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from posedive_lib.augment.candidates import for_writing
from posedive_lib.augment.card import NAME as CARD
from posedive_lib.augment.card import card
from posedive_lib.augment.contact_sheet import contact_sheet
from posedive_lib.datasets.write import write_augmented

if TYPE_CHECKING:
    from posedive_lib.datasets import ReIDDataset
    from posedive_lib.params import Params


def write(
    P: Params,
    dataset: ReIDDataset,
    manifest: pd.DataFrame,
    added: pd.DataFrame,
    out: Path,
    store: Path,
    *,
    arm: str,
    generator: Path | None,
    painter: str = "",
    overwrite: bool = False,
) -> ReIDDataset:
    """Write `dataset` with the rows `added` of a manifest; returns it as `datasets.load` reads it.

    manifest: all candidates, judged; in the tree it has a column added. store: the folder that the
    paths of the manifest are relative to. generator, painter: as in `card`. StudyError as
    `write_augmented`; then there is no tree, or the old one.
    """
    manifest = manifest.assign(added=_pairs(manifest).isin(_pairs(added)))
    about = card(P, dataset, manifest, arm=arm, generator=generator, painter=painter)
    size = {"height": P.image.height, "width": P.image.width}
    sheet = contact_sheet(manifest, dataset.train, store, **size)

    def describe(tree: Path) -> None:
        manifest.to_csv(tree / "manifest.csv", index=False, lineterminator="\n")
        sheet.save(tree / "contact_sheet.jpg", quality=92)
        (tree / CARD).write_text(about, encoding="utf-8")

    images = for_writing(added, store)
    return write_augmented(dataset, images, out, overwrite=overwrite, also=describe)


def _pairs(table: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(table[["pid", "index"]])
