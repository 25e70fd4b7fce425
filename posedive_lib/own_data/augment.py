"""Augment a data set: its folder in, the same layout with generated training images out (§B, §E).

With a manifest, a contact sheet and a card. The candidates stay in a folder beside the result. So
an interrupted run goes on where it was, and other thresholds or more images per identity use what
is there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from posedive_lib import datasets
from posedive_lib.augment import product
from posedive_lib.augment.augmenter import Augmenter
from posedive_lib.augment.selection import select, shortfall
from posedive_lib.datasets.record import check_free
from posedive_lib.devices import processes
from posedive_lib.errors import StudyError, is_folder, require_readable
from posedive_lib.intake.frames import check_frames
from posedive_lib.intake.paths import resolved
from posedive_lib.own_data import made_for
from posedive_lib.places import refuse_tracked

if TYPE_CHECKING:
    from posedive_lib.augment.shards import Painter
    from posedive_lib.params import Params


@dataclass(frozen=True)
class Augmented:
    """What `augment` made.

    dataset: the augmented set. manifest: all candidates with their scores. added: the rows that
    were added. short: identities with fewer images than wanted.
    """

    dataset: datasets.ReIDDataset
    manifest: pd.DataFrame
    added: pd.DataFrame
    short: pd.DataFrame


def augment(
    name: str,
    root: str | Path,
    out: str | Path,
    P: Params,
    *,
    generator: str | Path | None = None,
    painter: Painter | None = None,
    arm: str = "pose-dive",
    overwrite: bool = False,
    bodies: str | Path | None = None,
    unpacked: str | Path | None = None,
    progress: bool = True,
) -> Augmented:
    """Diversify, generate, filter and write a data set.

    name, root, bodies, unpacked: as in `datasets.load`. out: folder of the augmented data set;
    candidates go to `<out>.candidates`. generator: a saved generator's folder; or a `painter`
    instead of one. arm: which of `diversify.ARMS` to make. StudyError where an input is missing,
    before anything long starts. StudyError where no photo may be a reference. StudyError where the
    filter keeps nothing: no set is written, the candidates stay.
    """
    out = resolved(out)
    if painter is None:
        generator = checked_generator(generator)
        made_for.require(P, generator)
    dataset = datasets.load(name, root, bodies=bodies, unpacked=unpacked)
    check_free(dataset, out, overwrite)
    store = out.with_name(f"{out.name}.candidates")
    _check_store(store)
    check_frames(P.paths.motions)
    augmenter = Augmenter.of(P, dataset)
    wanted = P.augment.images_per_pid
    rows = augmenter.plan(arm, P.augment.candidates_per_pid, "references" if progress else None)
    rows = rows[rows["reference_passed"]].reset_index(drop=True)  # Eq. 3 would reject the others
    if rows.empty:
        raise StudyError(
            f"No training photo of {dataset.folder} may be a reference (Eq. 3): lower "
            f"augment.tau_ref ({P.augment.tau_ref}) in the parameters, or look at the photos."
        )
    if painter is None:
        painter = _diffusion(P, checked_generator(generator))
    manifest = augmenter.make(rows, painter, store, images_per_pid=wanted, progress=progress)
    added = select(manifest, P.augment, images_per_pid=wanted)
    if added.empty:
        raise StudyError(_nothing_kept(manifest, store))
    written = None
    if processes().is_main_process:
        written = product.write(
            P,
            dataset,
            manifest,
            added,
            out,
            store,
            arm=arm,
            generator=None if generator is None else Path(generator),
            painter=painter.key,
            overwrite=overwrite,
        )
    processes().wait_for_everyone()
    short = shortfall(dataset.train["pid"], added, wanted)
    return Augmented(written or datasets.load(name, out), manifest, added, short)


def _check_store(store: Path) -> None:
    """StudyError unless the folder for candidates is new, empty, or one of them, and not in git."""
    refuse_tracked(store, "the candidates")
    if len(os.fsencode(store.name)) > 255:
        raise StudyError(f"{store.name} is too long for a name: choose a shorter --out.")
    if store.is_dir() and any(store.iterdir()) and not (store / "shards").is_dir():
        raise StudyError(
            f"{store} holds something else than candidates (it has no folder shards): "
            "choose another --out."
        )


def checked_generator(folder: str | Path | None) -> Path:
    """A trained generator's folder, also where that of its training is given; else StudyError."""
    if folder is None or not is_folder(folder):
        raise StudyError(
            f"There is no generator at {folder}: train one (`python -m "
            "posedive_lib.own_data.train`, or `dvc repro 03_generator_training`) or name its "
            "folder."
        )
    from posedive_lib.generator.saved import SETTINGS

    require_readable(folder)
    for found in (Path(folder), Path(folder) / "generator"):
        if (found / SETTINGS).is_file():
            return found
    raise StudyError(
        f"{folder} holds no trained generator (it has no {SETTINGS}; "
        "Stable Diffusion alone follows no pose): name a generator's folder."
    )


def _diffusion(P: Params, folder: str | Path) -> Painter:
    # diffusers only where it is needed: it takes seconds to import
    from posedive_lib.augment.painting import Diffusion

    return Diffusion.of(P, folder)


def _nothing_kept(manifest: pd.DataFrame, store: Path) -> str:
    counts = manifest["rejected_by"].value_counts()
    rules = ", ".join(f"{rule} {count}" for rule, count in counts.items())
    return (
        f"The filter keeps none of {len(manifest)} generated images (rejected by {rules}): "
        f"look at them in the archives of {store}, and lower the limits of `augment` in the "
        "parameters. No data set was written."
    )
