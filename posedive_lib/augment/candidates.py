"""Candidates: every planned image rendered, painted, scored (Eq. 2) and listed (§B, §E).

All candidates are painted and scored, also those that a threshold rejects. So another threshold is
a selection of rows (`posedive_lib.augment.selection`) and never a new generation. The work is cut
into shards of one index each. An interrupted run resumes, and a longer plan only adds shards.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tqdm import tqdm

from posedive_lib.augment import shards
from posedive_lib.augment.manifest import SIGMA_GEN, SIGMA_TAR
from posedive_lib.augment.selection import judge
from posedive_lib.augment.shards import Maker, Shard
from posedive_lib.body.table import BodyTable
from posedive_lib.datasets.images import FLAT, inspect
from posedive_lib.devices import processes
from posedive_lib.errors import StudyError
from posedive_lib.intake.arrays import read_npz
from posedive_lib.workers import worker_pool
from posedive_lib.writing import alone_in, replacing

if TYPE_CHECKING:
    from posedive_lib.params import Augment


def generate(
    plan: pd.DataFrame,
    maker: Maker,
    limits: Augment,
    out: str | Path,
    *,
    inputs: str,
    images_per_pid: int | pd.Series | None = None,
    shard: int = 256,
    block: int = 512,
    progress: bool = True,
) -> pd.DataFrame:
    """Make what `out` lacks of the plan's candidates; returns the manifest, also written there.

    inputs: digests of the maker's files and code (weights, body, photos, …). images_per_pid: the
    plan is then a budget; an identity gets no more candidates once so many of its images are kept.
    A series has the number by pid, 0 where it has none. None: every row of the plan. shard, block:
    images written and rendered at a time.
    StudyError where `out` cannot be written, or another run is making candidates there.
    """
    out, key = Path(out), maker.key(inputs)
    empty = pd.DataFrame(columns=[*plan.columns, *SIGMA_GEN, *SIGMA_TAR, "path"])
    tables: list[pd.DataFrame] = []
    made: list[Shard] = []
    manifest = judge(empty, limits)
    with (
        alone_in(out / "shards", "making candidates", first=processes().is_main_process),
        tqdm(desc="candidates", unit="image", disable=not progress) as bar,
        worker_pool(maker.rendering.workers) as pool,
    ):
        while len(rows := _still_wanted(plan, manifest, images_per_pid)):
            bar.total = len(manifest) + len(rows)
            parts = shards.cut(rows, shard, out, key)
            missing = [part for part in parts if part.finished() is None]
            _count_found(bar, len(rows) - sum(map(len, missing)))
            maker.make(missing, block, pool, bar)
            made += missing
            for part in parts:
                table = part.finished()
                if table is None:
                    raise StudyError(f"{part.folder} was written but is not whole: check the disk")
                tables.append(table)
            manifest = judge(pd.concat(tables, ignore_index=True), limits)
        if processes().is_main_process:
            with replacing(out / "manifest.csv") as draft:
                manifest.to_csv(draft, index=False, lineterminator="\n")
            _warn_of_odd(made)
    return manifest


def _warn_of_odd(made: list[Shard]) -> None:
    """One sentence on new images that show nothing, or that are equal byte for byte."""
    files = [shard.folder / name for shard in made for name in shard.names]
    found = inspect(files)
    looks = [image.look or b"\0\xff" for image in found]
    blank = np.array([max(look) - min(look) < FLAT for look in looks], bool)
    equal = pd.Series([image.digest for image in found]).duplicated(keep=False).to_numpy(bool)
    if (blank | equal).any():
        logging.getLogger(__name__).warning(
            "%d of %d generated images are blank and %d are equal to others, %s is the first: look "
            "at them before training, for their generator may be damaged.",
            blank.sum(),
            len(files),
            equal.sum(),
            files[(blank | equal).argmax()],
        )


def _count_found(bar: tqdm, count: int) -> None:
    """Images that were there already: done, but no sign of the rate."""
    if not bar.disable:
        bar.initial, bar.n = bar.initial + count, bar.n + count
        bar.refresh()


def _still_wanted(
    plan: pd.DataFrame, manifest: pd.DataFrame, images_per_pid: int | pd.Series | None
) -> pd.DataFrame:
    """The plan's next rows: all of them, or of each identity as many as it lacks.

    They follow from what is kept so far and from nothing else. So a resumed run asks for the same
    rows in the same rounds.
    """
    if images_per_pid is None:
        return plan if not len(manifest) else plan.iloc[:0]
    kept_rows = manifest[manifest["kept"].astype(bool)]
    made = plan["pid"].map(manifest["pid"].value_counts()).fillna(0)
    kept = plan["pid"].map(kept_rows["pid"].value_counts()).fillna(0)
    wanted = images_per_pid
    if isinstance(wanted, pd.Series):
        wanted = plan["pid"].map(wanted).fillna(0)
    place = plan.groupby("pid").cumcount()  # plans are ordered by index
    return plan[(place >= made) & (place < made + wanted - kept)]


def for_writing(rows: pd.DataFrame, out: str | Path) -> pd.DataFrame:
    """The table that `datasets.write.write_augmented` takes."""
    folder = Path(out).resolve()
    return rows[["pid", "camid", "index", "reference"]].assign(
        image_path=[str(folder / path) for path in rows["path"]]
    )


def load_bodies(rows: pd.DataFrame, out: str | Path) -> tuple[BodyTable, np.ndarray]:
    """Target bodies of manifest rows, and the key points (N, 17, 2) estimated on their images.

    The bodies' path is the manifest's; their keypoints are the wanted ones.
    """
    tables: list[BodyTable] = []
    estimates: dict[str, np.ndarray] = {}
    for folder in sorted({str(Path(path).parent) for path in rows["path"]}):
        file = Path(out) / folder / "bodies.npz"
        table = BodyTable.load(file)
        tables.append(replace(table, path=np.array([f"{folder}/{name}" for name in table.path])))
        estimated = read_npz(file, ("estimated",), what="the bodies of candidates")["estimated"]
        estimates |= zip(tables[-1].path.tolist(), estimated, strict=True)
    if not tables:
        raise StudyError(
            f"No candidates of {out} were asked for: give at least one row of its manifest"
        )
    bodies = BodyTable.joined(tables).select(rows["path"].tolist())
    return bodies, np.stack([estimates[path] for path in rows["path"]])
