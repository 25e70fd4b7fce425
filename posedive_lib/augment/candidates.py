"""Candidates: every planned image rendered, painted, scored (Eq. 2) and listed (§B, §E).

All candidates are painted and scored, also those that a threshold rejects. So another threshold is
a selection of rows (`posedive_lib.augment.selection`) and never a new generation. The work is cut
into shards of one index each. An interrupted run resumes, and a longer plan only adds shards.

Images stay in the shards' archives. A row of the manifest says where its image lies, and
`posedive_lib.datasets.archives.Archived` reads it. Shards are planned, made and collected one after
the other: only the table of all rows grows with their number.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
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
from posedive_lib.datasets import archives
from posedive_lib.datasets.images import FLAT, inspect_bytes
from posedive_lib.devices import processes
from posedive_lib.errors import StudyError
from posedive_lib.intake.arrays import read_npz
from posedive_lib.workers import one_thread, worker_pool
from posedive_lib.writing import alone_in, replacing

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from posedive_lib.cluster import Spread
    from posedive_lib.params import Augment

JOINED = 256  # tables of shards that are kept apart, at most


def generate(
    plan: pd.DataFrame,
    maker: Maker,
    limits: Augment,
    out: str | Path,
    *,
    inputs: str,
    images_per_pid: int | pd.Series | None = None,
    shard: int = shards.SIZE,
    block: int = 512,
    spread: Spread | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Make what `out` lacks of the plan's candidates; returns the manifest, also written there.

    inputs: digests of the maker's files and code (weights, body, photos, …). images_per_pid: the
    plan is then a budget; an identity gets no more candidates once so many of its images are kept.
    A series has the number by pid, 0 where it has none. None: every row of the plan. shard, block:
    images written and rendered at a time. spread: who makes each shard; None: this process, which
    `maker.rendering.workers` processes help.
    StudyError where `out` cannot be written, or another run is making candidates there.
    """
    out, key = Path(out), maker.key(inputs)
    columns = [*plan.columns, *SIGMA_GEN, *SIGMA_TAR, *archives.PLACE, "path"]
    empty = pd.DataFrame(columns=columns)
    table = empty
    manifest = judge(empty, limits)
    with (
        alone_in(out / "shards", "making candidates", first=processes().is_main_process),
        tqdm(desc="candidates", unit="image", disable=not progress) as bar,
        _helpers(maker.rendering.workers) as pool,
    ):
        while len(rows := _still_wanted(plan, manifest, images_per_pid)):
            bar.total = len(manifest) + len(rows)
            missing = _missing(shards.cut(rows, shard, out, key), bar)
            if spread is None:
                maker.make(missing, block, pool, bar)
            else:
                _spread(spread, maker, missing, bar)
            table = _joined(table, shards.cut(rows, shard, out, key))
            manifest = judge(table, limits)
        if processes().is_main_process:
            # Before the manifest is there: a run that is stopped here looks at them again.
            new = ~manifest["path"].isin(_listed(out / "manifest.csv"))
            _warn_of_odd(archives.Archived(manifest[new], out, 0, 0))
            with replacing(out / "manifest.csv") as draft:
                manifest.to_csv(draft, index=False, lineterminator="\n")
    return manifest


def _helpers(workers: int) -> AbstractContextManager[Executor | None]:
    """Processes that help this one; one alone would help only where a GPU draws meanwhile."""
    alone = workers == 1 and processes().device.type == "cpu"
    return one_thread() if alone else worker_pool(workers)


def _listed(manifest: Path) -> list[str]:
    """Paths of the images that an earlier run has listed; none where it has not come so far."""
    try:
        return pd.read_csv(manifest, usecols=["path"])["path"].tolist()
    except (OSError, ValueError):  # an empty, cut or foreign file is no manifest
        return []


def _missing(parts: Iterable[Shard], bar: tqdm) -> Iterator[Shard]:
    """The shards that are to be made; the bar counts the others."""
    for part in parts:
        if part.finished() is None:
            yield part
        else:
            _count_found(bar, len(part))


def _spread(spread: Spread, maker: Maker, parts: Iterable[Shard], bar: tqdm) -> None:
    """Let the workers of a cluster make shards, a shard each at a time."""
    sizes: list[int] = []

    def jobs() -> Iterator[tuple[Shard]]:
        for part in parts:
            sizes.append(len(part))
            yield (part,)

    for i, _ in spread(maker.make_one, jobs()):
        bar.update(sizes[i])


def _joined(table: pd.DataFrame, parts: Iterable[Shard]) -> pd.DataFrame:
    """The table with the rows of finished shards behind it."""
    tables = [table] if len(table) else []
    for part in parts:
        found = part.finished()
        if found is None:
            raise StudyError(f"{part.archive} was written but is not whole: check the disk")
        tables.append(found)
        if len(tables) == JOINED:  # a table of a few rows takes more memory than its rows do
            tables = [pd.concat(tables, ignore_index=True)]
    return pd.concat(tables, ignore_index=True)


def _warn_of_odd(images: archives.Archived) -> None:
    """One sentence on new images that show nothing, or that are equal byte for byte."""
    blank, digests = np.zeros(len(images), bool), np.zeros(len(images), "S16")
    for row in range(len(images)):
        found = inspect_bytes(images.bytes_of(row))
        look = found.look or b"\0\xff"
        blank[row], digests[row] = max(look) - min(look) < FLAT, found.digest[:16]
    equal = pd.Series(digests).duplicated(keep=False).to_numpy(bool)
    if (blank | equal).any():
        logging.getLogger(__name__).warning(
            "%d of %d generated images are blank and %d are equal to others, %s is the first: look "
            "at them before training, for their generator may be damaged.",
            blank.sum(),
            len(images),
            equal.sum(),
            images.folder / images.paths[(blank | equal).argmax()],
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
    return rows[["pid", "camid", "index", "reference", *archives.PLACE]].assign(
        image_path=[str(folder / path) for path in rows["path"]]
    )


def load_bodies(rows: pd.DataFrame, out: str | Path) -> tuple[BodyTable, np.ndarray]:
    """Target bodies of manifest rows, and the key points (N, 17, 2) estimated on their images.

    The bodies' path is the manifest's; their keypoints are the wanted ones.
    """
    tables: list[BodyTable] = []
    estimates: dict[str, np.ndarray] = {}
    for archive in sorted({str(Path(path).parent) for path in rows["path"]}):
        file = Path(out) / archive
        columns = read_npz(file, what="the bodies of candidates", content=archives.first(file))
        table = BodyTable.of(columns, file)
        tables.append(replace(table, path=np.array([f"{archive}/{name}" for name in table.path])))
        estimates |= zip(tables[-1].path.tolist(), columns["estimated"], strict=True)
    if not tables:
        raise StudyError(
            f"No candidates of {out} were asked for: give at least one row of its manifest"
        )
    bodies = BodyTable.joined(tables).select(rows["path"].tolist())
    return bodies, np.stack([estimates[path] for path in rows["path"]])
