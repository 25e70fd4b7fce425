"""Shards: candidates rendered, painted, scored (Eq. 2) and written, an archive at a time (§B, §E).

A shard is a tar archive in WebDataset's layout: `KEY.jpg` and `KEY.json` (the row of the plan, and
the scores) of each candidate, and first `__shard__/bodies.npz` with the bodies of all. Its table
beside it says where each image lies. Both are named after everything that determines them. The
table is written last, so what a crash or a full disk left of a shard is made anew.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from posedive_lib.augment.manifest import SIGMA_GEN, SIGMA_TAR
from posedive_lib.augment.targets import start_rendering
from posedive_lib.body.table import BodyTable
from posedive_lib.datasets import archives
from posedive_lib.datasets.images import read as read_images
from posedive_lib.devices import processes
from posedive_lib.errors import StudyError
from posedive_lib.intake.images import decode
from posedive_lib.workers import one_thread
from posedive_lib.writing import replacing, writing

if TYPE_CHECKING:
    from posedive_lib.augment.confidence import PoseEstimator
    from posedive_lib.augment.training_set import Training
    from posedive_lib.body.conditions import Conditions
    from posedive_lib.body.poses import PoseSource
    from posedive_lib.body.rendering import Rendering

SIZE = 256  # images of a shard, at most
BODIES = "__shard__/bodies.npz"  # WebDataset passes such members by


@dataclass(frozen=True)
class Wanted:
    """What a painter draws: N rows of a plan, with their bodies and conditions.

    references (R, H, W, 3): photos. reference_index (N,): the photo of each row. pool: processes
    that may help.
    """

    rows: pd.DataFrame
    bodies: BodyTable
    conditions: Conditions
    references: np.ndarray
    reference_index: np.ndarray
    pool: Executor | None = None


class Painter(Protocol):
    """Draws people in given poses. `key` names everything that decides its pixels."""

    @property
    def key(self) -> str: ...

    def __call__(self, wanted: Wanted) -> np.ndarray:
        """Images (N, H, W, 3) uint8."""


@dataclass(frozen=True)
class Shard:
    """Rows of a plan, all with one index, and the archive of their candidates."""

    archive: Path
    rows: pd.DataFrame

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def keys(self) -> list[str]:
        """Names of the samples."""
        pairs = zip(self.rows["pid"], self.rows["index"], strict=True)
        return [f"{pid:04d}_{index:03d}" for pid, index in pairs]

    @property
    def names(self) -> list[str]:
        """Names of the images."""
        return [f"{key}.jpg" for key in self.keys]

    @property
    def table(self) -> Path:
        """The file with the rows, their scores and the places of their images."""
        return self.archive.with_suffix(".csv")

    def finished(self) -> pd.DataFrame | None:
        """The rows with scores, places and paths; None where the shard is missing or not whole."""
        try:
            # A photo may have a number as its name.
            texts = {name: str for name in self.rows.select_dtypes(exclude=["number", "bool"])}
            table = pd.read_csv(self.table, keep_default_na=False, dtype=texts)
            scored = np.isfinite(table[[*SIGMA_GEN, *SIGMA_TAR]].to_numpy(float)).all()
            whole = archives.is_whole(self.archive, table[archives.PLACE].sum(axis=1).max())
        except (OSError, ValueError, KeyError, TypeError):  # an empty or cut CSV file
            return None
        if not (scored and whole) or len(table) != len(self):
            return None
        place = "/".join(self.archive.parts[-3:])
        return table.assign(path=[f"{place}/{name}" for name in self.names])


def cut(plan: pd.DataFrame, size: int, store: Path, key: str) -> Iterator[Shard]:
    """The shards of a plan, with `size` rows at most. key: what decides a candidate but its row."""
    for _, rows in plan.groupby("index"):
        rows = rows.sort_values("pid")
        for start in range(0, len(rows), size):
            part = rows.iloc[start : start + size].reset_index(drop=True)
            text = f"{key}\n{part.to_csv(index=False, float_format='%.9g')}"
            name = hashlib.sha256(text.encode()).hexdigest()[:16]
            # Folders of some hundred files: a writer looks through all of its folder for drafts.
            yield Shard(store / "shards" / name[:2] / f"{name}.tar", part)


def _blocks(shards: Iterable[Shard], size: int) -> Iterator[list[Shard]]:
    """Groups of shards with about `size` images, to be rendered together."""
    group: list[Shard] = []
    for shard in shards:
        if group and sum(map(len, group)) + len(shard) > size:
            yield group
            group = []
        group.append(shard)
    if group:
        yield group


@dataclass(frozen=True)
class Maker:
    """Makes candidates of a plan's rows.

    train: training images (path, rel). training: their bodies and viewpoints, row by row.
    source: the poses that the plan counts in. estimator: gives σ_k of images (Eq. 2).
    """

    train: pd.DataFrame
    training: Training
    source: PoseSource
    estimator: PoseEstimator
    painter: Painter
    rendering: Rendering

    @cached_property
    def _paths(self) -> dict[str, str]:
        return dict(zip(self.train["rel"], self.train["path"], strict=True))

    def key(self, inputs: str) -> str:
        """What decides a candidate but its row. inputs: digests of the files that `self` is of."""
        settings = {k: v for k, v in asdict(self.rendering).items() if k not in ("body", "workers")}
        return f"{inputs}\n{self.painter.key}\n{sorted(settings.items())}"

    def make_one(self, shard: Shard) -> None:
        """Write one shard, by this process alone, where it is not there yet."""
        if shard.finished() is None:
            with tqdm(disable=True) as bar:
                self.make([shard], len(shard), None, bar)

    def make(self, shards: Iterable[Shard], block: int, pool: Executor | None, bar: tqdm) -> None:
        """Write the shards; at any time two blocks of them are in work, and one shard is written.

        The pool renders the next block while this one is painted, and a shard is scored and written
        while the next one is painted. Of several processes that `accelerate launch` started, all
        paint and the first one writes.
        """
        written: list[Future] = []
        with one_thread(), ThreadPoolExecutor(1) as writer:
            for current, bodies, conditions in self._rendered(_blocks(shards, block), pool):
                painted = self._painted(current, bodies, conditions, pool)
                for shard, own, images, sigma_tar in painted:
                    if written:
                        written.pop().result()
                    if processes().is_main_process:
                        work = writer.submit(self._write, shard, own, images, sigma_tar)
                        written.append(work)
                    bar.update(len(shard))
            if written:
                written.pop().result()
        processes().wait_for_everyone()  # the first may still be writing

    def _rendered(
        self, blocks: Iterator[list[Shard]], pool: Executor | None
    ) -> Iterator[tuple[list[Shard], BodyTable, Conditions]]:
        """Block after block with its bodies and conditions, while the pool renders the next."""
        current = next(blocks, None)
        begun = None if current is None else self._begin(current, pool)
        while current is not None and begun is not None:
            bodies, conditions = begun()
            following = next(blocks, None)
            begun = None if following is None else self._begin(following, pool)
            yield current, bodies, conditions
            current = following

    def _begin(
        self, shards: list[Shard], pool: Executor | None
    ) -> Callable[[], tuple[BodyTable, Conditions]]:
        rows = pd.concat([shard.rows for shard in shards], ignore_index=True)
        unknown = sorted(set(rows["reference"]) - set(self._paths))
        if unknown:
            raise StudyError(
                f"The plan's reference {unknown[0]} is not among the training images: "
                "plan and train on the same data set"
            )
        return start_rendering(rows, self.training, self.source, self.rendering, pool)

    def _painted(
        self, shards: list[Shard], bodies: BodyTable, conditions: Conditions, pool: Executor | None
    ) -> Iterator[tuple[Shard, BodyTable, np.ndarray, np.ndarray]]:
        """Shard after shard with its bodies, images and σ_tar (Eq. 4, on the neutral rendering)."""
        _, sigma_tar = self.estimator.estimate(conditions.neutral)
        start = 0
        for shard in shards:
            span = slice(start, start + len(shard))
            names, index = np.unique(shard.rows["reference"], return_inverse=True)
            size = self.rendering.height, self.rendering.width
            photos = read_images([self._paths[name] for name in names], *size)
            own = replace(_part(bodies, span), path=np.array(shard.names))
            wanted = Wanted(shard.rows, own, _part(conditions, span), photos, index, pool)
            yield shard, own, self.painter(wanted), sigma_tar[span]
            start += len(shard)

    def _write(
        self, shard: Shard, bodies: BodyTable, images: np.ndarray, sigma_tar: np.ndarray
    ) -> None:
        files = [_jpeg(image) for image in images]
        # Scored as stored: that is what the Re-ID model will see.
        seen = np.stack([np.asarray(decode(file)) for file in files])
        estimated, sigma_gen = self.estimator.estimate(seen)
        scores = pd.DataFrame(
            np.hstack([sigma_gen, sigma_tar]).astype(float).round(6),
            columns=[*SIGMA_GEN, *SIGMA_TAR],
        )
        table = pd.concat([shard.rows, scores], axis=1)
        members = [(BODIES, _packed(bodies, estimated))]
        lines = table.to_json(orient="records", lines=True).splitlines()
        for key, file, line in zip(shard.keys, files, lines, strict=True):
            members += [(f"{key}.jpg", file), (f"{key}.json", line.encode())]
        with writing(shard.table):
            shard.table.unlink(missing_ok=True)  # of an archive that was not whole
        places = archives.write(shard.archive, members)
        found = pd.DataFrame([places[name] for name in shard.names], columns=archives.PLACE)
        with replacing(shard.table) as draft:
            pd.concat([table, found], axis=1).to_csv(draft, index=False)


def _packed(bodies: BodyTable, estimated: np.ndarray) -> bytes:
    """An `.npz` of the bodies, and of the key points (N, 17, 2) found on their images."""
    columns = {field.name: getattr(bodies, field.name) for field in fields(bodies)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **columns, estimated=estimated)
    return buffer.getvalue()


def _jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _part(table: Any, rows: slice) -> Any:
    """Rows of a dataclass of arrays."""
    return type(table)(**{field.name: getattr(table, field.name)[rows] for field in fields(table)})
