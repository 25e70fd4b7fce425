"""Candidates: every planned image rendered as conditions, painted, scored (Eq. 2) and listed in a manifest (§B, §E).

All candidates are painted and scored, also those that a threshold rejects, so another threshold is a selection of rows (see
`posedive_lib.augment.selection`) and never a new generation. The work is cut into shards of one index each; a shard is a folder named after
everything that determines it and appears whole or not at all, so an interrupted run resumes and a longer plan only adds shards. What a full
disk or a crash left of one is made anew.
"""

import fcntl
import hashlib
import io
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from posedive_lib.augment import filtering
from posedive_lib.augment.confidence import PoseEstimator, keypoint_subset
from posedive_lib.augment.distribution import Training
from posedive_lib.augment.diversify import oriented
from posedive_lib.augment.selection import SIGMA_GEN, SIGMA_TAR, judge
from posedive_lib.body.poses import PoseSource
from posedive_lib.body.rendering import Rendering, render_fitted_later, rendering_processes
from posedive_lib.body.table import BodyTable
from posedive_lib.datasets.images import read as read_images
from posedive_lib.errors import StudyError

# painter(rows, bodies, conditions, references (R, H, W, 3), reference_index (N,)) -> images uint8 (N, H, W, 3)
Painter = Callable[..., np.ndarray]


def usable_references(
    train: pd.DataFrame, sigma: np.ndarray, *, tau_ref: float, keypoints: str = "body"
) -> pd.DataFrame:
    """Eq. 3: the training images that may serve as references, with `reference_min` and `reference_passed`.

    train: (pid, rel, camid, …), sigma (N, 17) in its order. An identity none of whose images passes keeps its best one, marked as not passed.
    """
    sigma = np.asarray(sigma)[:, keypoint_subset(keypoints)]
    table = train.assign(
        reference_min=sigma.min(axis=1) if len(sigma) else [],
        reference_passed=filtering.keep_reference(sigma, tau_ref),
    )
    ranked = table.sort_values(["pid", "reference_min", "rel"], ascending=[True, False, True])
    best = ~ranked.duplicated("pid")
    none_passed = ~ranked.groupby("pid")["reference_passed"].transform("any").astype(bool)
    return ranked[ranked["reference_passed"] | (best & none_passed)].sort_values(
        ["pid", "rel"], ignore_index=True
    )


def diffusion(
    generator,
    *,
    steps: int | None = None,
    guidance: float | None = None,
    batch_size: int | None = None,
) -> Painter:
    """A painter from `posedive_lib.generator.Generator`; None takes the value of its own `sampling` parameters."""

    def paint(rows, bodies, conditions, references, reference_index):
        return generator.generate(
            references,
            reference_index,
            conditions.skeleton,
            conditions.depth,
            conditions.normals,
            rows["seed"].to_numpy(),
            steps=steps,
            guidance=guidance,
            batch_size=batch_size,
            progress=False,
        )

    return paint


def generate(
    plan: pd.DataFrame,
    train: pd.DataFrame,
    training: Training,
    source: PoseSource,
    *,
    estimator: PoseEstimator,
    painter: Painter,
    rendering: Rendering,
    limits,
    out: str | Path,
    key: str,
    images_per_pid: int | None = None,
    shard: int = 256,
    block: int = 512,
    progress: bool = True,
) -> pd.DataFrame:
    """Makes the candidates of the plan that `out` does not hold yet; returns the manifest, also written to `out/manifest.csv`.

    train: training images (path, rel); limits: has tau_ref, tau_tar, epsilon_gen, tau_gen and keypoints (params.augment); key: names
    everything else that decides a pixel or a score (weights of generator and estimator, sampling steps, pose source).
    images_per_pid: the plan is then a budget, and an identity gets no more candidates once that many of its images are kept;
    None: every row of the plan. shard, block: images written and rendered at a time; a block is rendered while the one before is painted.
    StudyError where `out` cannot be written, or another run is making candidates there.
    """
    out = Path(out)
    manifest = judge(pd.DataFrame(columns=[*plan.columns, *SIGMA_GEN, *SIGMA_TAR, "path"]), limits)
    with (
        _alone_in(out),
        tqdm(desc="candidates", unit="image", disable=not progress) as bar,
        rendering_processes(rendering.workers) as pool,
    ):
        maker = _Maker(train, training, source, estimator, painter, rendering, pool)
        while len(rows := _still_wanted(plan, manifest, images_per_pid)):
            bar.total = len(manifest) + len(rows)
            shards = [
                (out / "shards" / _digest(part, rendering, key), part)
                for part in _shards(rows, shard)
            ]
            tables = {folder: _finished(folder, part) for folder, part in shards}
            missing = [item for item in shards if tables[item[0]] is None]
            _count_found(bar, len(rows) - sum(len(part) for _, part in missing))
            maker.make(_blocks(missing, block), bar)
            for folder, part in missing:
                tables[folder] = _finished(folder, part)
                if tables[folder] is None:
                    raise StudyError(f"{folder} was written but is not whole: check the disk")
            made = (
                [manifest[next(iter(tables.values())).columns], *tables.values()]
                if len(manifest)
                else list(tables.values())
            )
            manifest = judge(pd.concat(made, ignore_index=True), limits)
        _write_atomically(out / "manifest.csv", manifest)
    return manifest


def _count_found(bar: tqdm, count: int) -> None:
    """Images that were there already: done, but no sign of the rate."""
    if not bar.disable:
        bar.initial, bar.n = bar.initial + count, bar.n + count
        bar.refresh()


def _still_wanted(
    plan: pd.DataFrame, manifest: pd.DataFrame, images_per_pid: int | None
) -> pd.DataFrame:
    """The plan's next rows: all of them, or of each identity as many as it lacks. Follows from what is kept so far and from nothing
    else, so a resumed run asks for the same rows in the same rounds."""
    if images_per_pid is None:
        return plan if not len(manifest) else plan.iloc[:0]
    made = plan["pid"].map(manifest["pid"].value_counts()).fillna(0)
    kept = (
        plan["pid"].map(manifest.loc[manifest["kept"].astype(bool), "pid"].value_counts()).fillna(0)
    )
    place = plan.groupby("pid").cumcount()  # plans are ordered by index
    return plan[(place >= made) & (place < made + images_per_pid - kept)]


def _shards(plan: pd.DataFrame, size: int) -> list[pd.DataFrame]:
    levels = (rows.sort_values("pid") for _, rows in plan.groupby("index"))
    return [
        rows.iloc[start : start + size].reset_index(drop=True)
        for rows in levels
        for start in range(0, len(rows), size)
    ]


def _blocks(shards: list, size: int) -> list[list]:
    """Groups of shards with about `size` images, for what is worth doing for many at a time."""
    groups: list[list] = []
    for item in shards:
        if not groups or sum(len(rows) for _, rows in groups[-1]) + len(item[1]) > size:
            groups.append([])
        groups[-1].append(item)
    return groups


def _digest(rows: pd.DataFrame, rendering: Rendering, key: str) -> str:
    settings = {name: value for name, value in asdict(rendering).items() if name != "workers"}
    text = f"{key}\n{sorted(settings.items())}\n{rows.to_csv(index=False, float_format='%.9g')}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _finished(folder: Path, rows: pd.DataFrame) -> pd.DataFrame | None:
    """The rows of a shard with their scores and paths; None where it is not there or not whole."""
    names = _names(rows)
    try:
        if not all((folder / name).stat().st_size for name in (*names, "bodies.npz")):
            return None
        table = pd.read_csv(folder / "scores.csv", keep_default_na=False)
        scored = np.isfinite(table[[*SIGMA_GEN, *SIGMA_TAR]].to_numpy(float)).all()
    except (
        OSError,
        ValueError,
        KeyError,
    ):  # pandas has ValueErrors for an empty file and for a cut one
        return None
    return (
        table.assign(path=[f"shards/{folder.name}/{name}" for name in names])
        if scored and len(table) == len(rows)
        else None
    )


def _names(rows: pd.DataFrame) -> list[str]:
    return [
        f"{pid:04d}_{index:03d}.jpg" for pid, index in zip(rows["pid"], rows["index"], strict=True)
    ]


def _write_atomically(path: Path, table: pd.DataFrame) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(partial, index=False, lineterminator="\n")
        partial.replace(path)
    except OSError as error:
        raise StudyError(
            f"{path} cannot be written ({error}): free space or choose a writable folder"
        ) from error


@contextmanager
def _alone_in(out: Path):
    """Makes the folder and holds its lock, which the system lets go of with the process; StudyError before anything long starts."""
    try:
        (out / "shards").mkdir(parents=True, exist_ok=True)
        lock = (out / "shards" / ".lock").open("w")
    except OSError as error:
        raise StudyError(
            f"{out} cannot be written ({error}): choose a writable folder for the candidates"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StudyError(
                f"Another run is making candidates in {out}: wait for its end, or choose another folder"
            ) from None
        except OSError:
            pass  # a file system without locks
        yield


class _Maker:
    """Renders, paints and scores shards."""

    def __init__(self, train, training, source, estimator, painter, rendering, pool):
        self.paths = dict(zip(train["rel"], train["path"], strict=True))
        self.training, self.source, self.estimator = training, source, estimator
        self.painter, self.rendering, self.pool = painter, rendering, pool

    def make(self, blocks: list, bar) -> None:
        """Block after block: while one is painted here, other processes render the next."""
        rendered = self._begin(blocks[0]) if blocks else None
        for shards, following in zip(blocks, [*blocks[1:], None]):
            bodies, conditions = rendered()
            rendered = self._begin(following) if following else None
            self._finish(shards, bodies, conditions, bar)

    def _begin(self, shards: list[tuple[Path, pd.DataFrame]]) -> Callable:
        rows = pd.concat([rows for _, rows in shards], ignore_index=True)
        unknown = sorted(set(rows["reference"]) - set(self.paths))
        if unknown:
            raise StudyError(
                f"The plan's reference {unknown[0]} is not among the training images: plan and train on the same data set"
            )
        return start_rendering(rows, self.training, self.source, self.rendering, self.pool)

    def _finish(
        self, shards: list[tuple[Path, pd.DataFrame]], bodies: BodyTable, conditions, bar
    ) -> None:
        """σ_tar (Eq. 4, on the neutral rendering) of all of a block's shards, then shard after shard."""
        _, sigma_tar = self.estimator.estimate(conditions.neutral)
        start = 0
        for folder, part in shards:
            span = slice(start, start + len(part))
            own = _cut(conditions, span)
            names, references = np.unique(part["reference"], return_inverse=True)
            photos = read_images(
                [self.paths[name] for name in names], self.rendering.height, self.rendering.width
            )
            table = replace(_cut(bodies, span), path=np.array(_names(part)))
            images = self.painter(part, table, own, photos, references)
            self._write(folder, part, table, images, sigma_tar[span])
            bar.update(len(part))
            start += len(part)

    def _write(
        self,
        folder: Path,
        rows: pd.DataFrame,
        bodies: BodyTable,
        images: np.ndarray,
        sigma_tar: np.ndarray,
    ) -> None:
        files = [_jpeg(image) for image in images]
        seen = np.stack(
            [np.asarray(Image.open(io.BytesIO(file))) for file in files]
        )  # what the Re-ID model will see is what is scored
        estimated, sigma_gen = self.estimator.estimate(seen)
        scores = pd.DataFrame(
            np.hstack([sigma_gen, sigma_tar]).astype(float).round(6),
            columns=[*SIGMA_GEN, *SIGMA_TAR],
        )
        partial = folder.with_name(f".{folder.name}.partial")
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            for name, file in zip(bodies.path, files, strict=True):
                (partial / name).write_bytes(file)
            columns = {field.name: getattr(bodies, field.name) for field in fields(bodies)}
            np.savez_compressed(partial / "bodies.npz", **columns, estimated=estimated)
            pd.concat([rows, scores], axis=1).to_csv(partial / "scores.csv", index=False)
            shutil.rmtree(folder, ignore_errors=True)  # what is not whole
            partial.rename(folder)
        except OSError as error:
            raise StudyError(
                f"{folder} cannot be written ({error}): free space or choose a writable folder"
            ) from error


def _jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _cut(table, rows: slice):
    """Rows of a dataclass of arrays."""
    return type(table)(**{field.name: getattr(table, field.name)[rows] for field in fields(table)})


def start_rendering(
    rows: pd.DataFrame, training: Training, source: PoseSource, rendering: Rendering, pool=None
):
    """Begins to render a plan's rows in the processes of `pool`: the reference person's shape, re-centred and scaled. Call the result for
    the bodies (BodyTable, path = the reference) and their conditions."""
    orientation, body_pose = oriented(rows, training, source)
    betas, r = training.bodies.select(rows["reference"].tolist()).betas, rendering
    drawn = render_fitted_later(orientation, body_pose, betas, r, pool=pool)

    def finish():
        cam_t, conditions = drawn()
        bodies = BodyTable(
            path=rows["reference"].to_numpy(str),
            global_orient=orientation,
            body_pose=body_pose,
            betas=betas,
            cam_t=cam_t,
            focal=np.full(len(rows), r.focal * r.height),
            keypoints=conditions.keypoints,
            visible=conditions.visible,
        )
        return bodies, conditions

    return finish


def for_writing(rows: pd.DataFrame, out: str | Path) -> pd.DataFrame:
    """The table that `posedive_lib.datasets.write.write_augmented` takes: image_path, pid, camid, index."""
    return rows[["pid", "camid", "index"]].assign(
        image_path=[str(Path(out).resolve() / path) for path in rows["path"]]
    )


def load_bodies(rows: pd.DataFrame, out: str | Path) -> tuple[BodyTable, np.ndarray]:
    """Target bodies of manifest rows (path as in the manifest; keypoints are the true targets) and estimated key points (N, 17, 2)."""
    tables, estimates = [], []
    for folder in sorted({str(Path(path).parent) for path in rows["path"]}):
        table = BodyTable.load(Path(out) / folder / "bodies.npz")
        tables.append(replace(table, path=np.array([f"{folder}/{name}" for name in table.path])))
        with np.load(Path(out) / folder / "bodies.npz", allow_pickle=False) as file:
            estimates.append(dict(zip(tables[-1].path.tolist(), file["estimated"], strict=True)))
    if not tables:
        raise StudyError(
            f"No candidates of {out} were asked for: give at least one row of its manifest"
        )
    everything = BodyTable.joined(tables)
    known = {path: estimate for some in estimates for path, estimate in some.items()}
    return everything.select(rows["path"].tolist()), np.stack(
        [known[path] for path in rows["path"]]
    )
