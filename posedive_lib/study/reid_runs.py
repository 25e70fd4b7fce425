"""The study's Re-ID runs: arms, selections of generated images, run records and the long table of results (§D, §F)."""

import shutil
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache, lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm
from transformers.utils.logging import disable_progress_bar

from posedive_lib import datasets
from posedive_lib.bench.runs import RunStore, make_folder
from posedive_lib.bench.statistics import identity_interval
from posedive_lib.body.camera import viewpoint
from posedive_lib.digests import code_digest, file_digest, folder_digest
from posedive_lib.reid import weights
from posedive_lib.reid.breakdown import azimuth_bins
from posedive_lib.reid.image_set import ImageSet, resized
from posedive_lib.reid.loop import Machine
from posedive_lib.reid.models import create, load, measure, model_class, run
from posedive_lib.reid.torch_model import MODEL_FILE, TorchBaseline
from posedive_lib.seeds import rng_for
from posedive_lib.study import mini_world
from posedive_lib.study.candidate_files import candidate_images
from posedive_lib.study.generation import bodies_of

STORE = RunStore("runs/reid")
COLUMNS = [
    "experiment",
    "dataset",
    "arm",
    "model",
    "seed",
    "images_per_pid",
    "threshold",
    "n_real",
    "n_generated",
    "mAP",
    "rank1",
    "rank5",
    "rank10",
    "mINP",
    "n_query",
    "n_valid",
    "n_gallery",
    "average_precision",
    "distance",
    "reranking",
    "split",
    "version",
    "train_val",
    "boxes",  # of the data set (`ReIDDataset.protocol`), then of the model (`models.protocol`)
    "height",
    "width",
    "precision",
    "generated_weight",
    "generated_max_share",
    "generated_camera",
    "camera_weight",
    "patch_stride",
]
ORACLES = (
    "oracle",
    "oracle-same",
)  # true photos in the poses and views of pose-dive, of the training set
SECTORS = 8  # of 45° azimuth
MODULES = (
    "posedive_lib.reid",
    "posedive_lib.precision",
    "posedive_lib.datasets.images",
    "posedive_lib.seeds",
)


_code_digest, _folder_digest = (
    lru_cache(code_digest),
    lru_cache(folder_digest),
)  # hundreds of specs share them


@lru_cache(maxsize=2)
def _photos(name: str, root: str, height: int, width: int) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Train, query and gallery of a data set in memory."""
    dataset = datasets.load(name, root).require_test()  # before anything is trained
    parts = (
        (dataset.train, "bicubic"),
        (dataset.query, "bilinear"),
        (dataset.gallery, "bilinear"),
    )  # as CLIP-ReID resizes
    return tuple(ImageSet.from_table(frame, height, width, resample) for frame, resample in parts)


@cache
def _protocol(name: str, root: str) -> dict:
    """Which version and split of a data set this is (`ReIDDataset.protocol`)."""
    return datasets.load(name, root).protocol


@cache
def _data_digest(name: str, root: str) -> str:
    """Digest of a data set's files and labels."""
    dataset = datasets.load(name, root)
    frames = (dataset.train, dataset.query, dataset.gallery)
    return STORE.key(
        {
            "files": [
                [row.rel, row.pid, row.camid, file_digest(row.path)]
                for frame in frames
                for row in frame.itertuples()
            ]
        }
    )


@cache
def _bodies_digest(name: str, root: str) -> str:
    return file_digest(datasets.load(name, root).folder / "smpl.npz")


@cache
def _test_azimuths(name: str, root: str) -> tuple[np.ndarray, np.ndarray]:
    """Sector (centre, degrees) of the viewpoint of each query and gallery image."""
    dataset = datasets.load(name, root)
    bodies = [bodies_of(dataset, frame) for frame in (dataset.query, dataset.gallery)]
    return tuple(
        azimuth_bins(viewpoint(body.global_orient, body.cam_t)[0], SECTORS) for body in bodies
    )


def stored_images(P, file: Path) -> np.ndarray:
    """Images (N, H, W, 3) of a file at the size of the Re-ID images."""
    return resized(
        np.load(file, allow_pickle=False), P.reid.image.height, P.reid.image.width, "bicubic"
    )


def generated_set(rows: pd.DataFrame, images: np.ndarray) -> ImageSet:
    """Images (N, H, W, 3) of plan rows, with the identity and the camera of their references."""
    return ImageSet(
        images, rows["pid"].to_numpy(int), rows["camid"].to_numpy(int), np.ones(len(rows), bool)
    )


def repeated(train: ImageSet, count_per_pid: dict[int, int], seed: int) -> ImageSet:
    """The `repeat` arm: real images repeated to the same count of each identity as the generated ones."""
    rows = []
    for pid, count in sorted(count_per_pid.items()):
        own = np.flatnonzero(train.pids == pid)
        rows.append(rng_for("repeat", seed, pid).choice(own, count, replace=count > len(own)))
    return train.take(np.concatenate(rows)) if rows else train.take(np.zeros(0, int))


@lru_cache
def _weights_digest(source: str) -> list[str]:
    return [_folder_digest(folder) for folder in weights.files_of(source)]


def pretrained(P, model: str) -> str | None:
    """Published weights that a Re-ID model starts from: a folder or hub id; None for a ResNet from scratch."""
    return getattr(P.paths, model_class(model).weights)


def _spec(
    P,
    name: str,
    arm: str,
    seed: int,
    rows: pd.DataFrame | None,
    model: str,
    by_azimuth: bool,
    drawn: Path | None = None,
) -> dict:
    """Everything that determines a run."""
    source = pretrained(P, model)
    added = (
        None
        if rows is None
        else mini_world.true_photos_spec(P, name, rows)
        if arm in ORACLES
        else [[r.path, r.pid, r.camid] for r in rows.itertuples()]
    )
    if drawn is not None:
        added = {"drawn": file_digest(drawn), "rows": added}
    return {
        **P.pick("image"),
        "reid": {
            k: v
            for k, v in P.reid.model_dump().items()
            if k not in ("seeds", "model", "checkpoint_every")
        },
        "data": _data_digest(name, P.paths.datasets),
        "arm": arm if arm in ("repeat", *ORACLES) else "",
        "model": model,
        "seed": seed,
        "added": added or [],
        "weights": _weights_digest(source) if source else [],
        "precision": Machine(None, P.reid.precision).precision,
        "azimuth": _bodies_digest(name, P.paths.datasets) if by_azimuth else "",
        "code": _code_digest(*MODULES),
    }


def _added(
    P,
    name: str,
    arm: str,
    seed: int,
    rows: pd.DataFrame | None,
    drawn: Path | None,
    train: ImageSet,
) -> ImageSet | None:
    """What an arm adds to the real training images."""
    if rows is None or not len(rows):
        return None
    if arm == "repeat":
        return repeated(train, rows["pid"].value_counts().to_dict(), seed)
    if arm in ORACLES:
        drawn = mini_world.true_photos(P, name, rows)
    return generated_set(
        rows, stored_images(P, drawn) if drawn else candidate_images(name, rows, P.reid.image, arm)
    )


def reid_run(
    P,
    experiment: str,
    name: str,
    arm: str,
    seed: int,
    rows: pd.DataFrame | None = None,
    *,
    images_per_pid: int | None = None,
    threshold: float | None = None,
    model: str | None = None,
    by_azimuth: bool = False,
    drawn: Path | None = None,
) -> dict:
    """One run, from its record if it was made before: a row of `reid_runs.csv` plus per-query results under `queries`.

    rows: the manifest or plan rows added to the real images (`repeat`: whose counts are imitated); None for `real`. model: by default
    reid.model. by_azimuth: with mAP for every pair of query and gallery azimuth sectors, under `azimuth` ([query, gallery, mAP, queries]). drawn: .npy file with other images (N, H, W, 3) of the rows.
    """
    model = model or P.reid.model
    spec = _spec(P, name, arm, seed, rows, model, by_azimuth, drawn)

    def work() -> dict:
        train, query, gallery = photos(P, name)
        extra = _added(P, name, arm, seed, rows, drawn, train)
        checkpoints = STORE.folder(spec) if P.reid.checkpoint_every else None
        return run(
            train if extra is None else train.plus(extra),
            query,
            gallery,
            P.reid,
            pretrained=pretrained(P, model),
            seed=seed,
            model=model,
            checkpoints=checkpoints,
            groups=_test_azimuths(name, P.paths.datasets) if by_azimuth else None,
        )

    result = STORE.get_or_run(spec, work)
    if P.reid.checkpoint_every:
        shutil.rmtree(STORE.folder(spec))
    n_generated = 0 if rows is None or arm == "repeat" else len(rows)
    record = {
        k: _protocol(name, P.paths.datasets)[k] for k in ("split", "version", "train_val", "boxes")
    }
    record |= {
        "experiment": experiment,
        "dataset": name,
        "arm": arm,
        "model": model,
        "seed": seed,
        "images_per_pid": images_per_pid,
        "threshold": threshold,
        "n_real": result["n_train"] - n_generated,
        "n_generated": n_generated,
    }
    record |= {k: result[k] for k in COLUMNS if k not in record} | {
        "queries": {k: result[k] for k in ("query_ap", "query_valid", "query_first_rank")}
    }
    return record | {"azimuth": result.get("group_cells"), "seconds": result["seconds"]}


def photos(P, name: str) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Train, query and gallery of a data set in memory."""
    return _photos(name, P.paths.datasets, P.reid.image.height, P.reid.image.width)


def before_training(P, name: str) -> float:
    """mAP (percent) of the pre-trained CLIP features on a data set's test images, before any Re-ID training."""
    _, query, gallery = photos(P, name)
    baseline = create(
        "clip-reid", P.reid, P.paths.clip, P.reid.image.height, P.reid.image.width, "cpu"
    ).start()
    return measure(baseline, query, gallery)["mAP"]


def trained_on_real(P, name: str) -> TorchBaseline:
    """CLIP-ReID trained on a data set's real images with the seed `P.seed`, as in the arm `real`; trained once, then loaded."""
    spec = _spec(P, name, "real", P.seed, None, "clip-reid", False) | {"keeps": "weights"}
    folder = STORE.folder(spec)
    if not (folder / MODEL_FILE).is_file():
        in_processes(_save_trained_on_real, [(P, name, folder)], 1)
    return load(folder)


def _save_trained_on_real(P, name: str, folder: Path) -> None:
    reid = create("clip-reid", P.reid, P.paths.clip, P.reid.image.height, P.reid.image.width)
    reid.fit(photos(P, name)[0], seed=P.seed)
    reid.save(folder)


def table_path(number: str) -> Path:
    """Where a notebook leaves its runs for `posedive_lib.study.collect`."""
    return make_folder("build/reid") / f"{number}.csv"


def identity_differences(P, records: list[dict], pairs: pd.DataFrame) -> pd.DataFrame:
    """The comparisons of `pairs` (dataset, arm, baseline) on the same queries: difference in mAP (points) with its interval over queried identities."""
    rows = []
    for name, wanted in (
        pairs[["dataset", "arm", "baseline"]].drop_duplicates().groupby("dataset", sort=False)
    ):
        query = datasets.load(name, P.paths.datasets).query["pid"].to_numpy()
        pids = query[
            np.array(
                next(r for r in records if r["dataset"] == name)["queries"]["query_valid"], bool
            )
        ]
        ap = lambda arm: np.mean(
            [r["queries"]["query_ap"] for r in records if r["dataset"] == name and r["arm"] == arm],
            axis=0,
        )
        for pair in wanted.itertuples():
            interval = identity_interval(
                100 * (ap(pair.arm) - ap(pair.baseline)), pids, seed=P.seed
            )
            rows.append(
                {
                    "dataset": name,
                    "arm": pair.arm,
                    "baseline": pair.baseline,
                    "difference": interval.mean,
                    "ci_low": interval.low,
                    "ci_high": interval.high,
                    "identities": interval.n,
                }
            )
    return pd.DataFrame(
        rows,
        columns=["dataset", "arm", "baseline", "difference", "ci_low", "ci_high", "identities"],
    )


def look_alike_differences(P, records: list[dict], baseline: str) -> pd.DataFrame:
    """Every arm against a baseline, apart for queries of people with a look-alike in the test set and of the others: difference in mAP and
    rank-1 (points) with its interval over queried identities. Without rows for data sets whose `people.csv` is not there."""
    rows = []
    for name in dict.fromkeys(r["dataset"] for r in records):
        dataset = datasets.load(name, P.paths.datasets)
        alike = mini_world.look_alikes(dataset)
        if alike is None:
            continue
        own = [r for r in records if r["dataset"] == name]
        query = dataset.query[np.array(own[0]["queries"]["query_valid"], bool)]
        groups = {
            "look-alikes": query["person"].isin(alike).to_numpy(),
            "others": ~query["person"].isin(alike).to_numpy(),
        }
        measures = {
            "mAP": lambda r: np.array(r["queries"]["query_ap"]),
            "rank1": lambda r: np.array(r["queries"]["query_first_rank"]) == 0,
        }
        for arm in dict.fromkeys(r["arm"] for r in own if r["arm"] != baseline):
            for metric, measure in measures.items():
                mean = {
                    who: 100 * np.mean([measure(r) for r in own if r["arm"] == who], axis=0)
                    for who in (arm, baseline)
                }
                for group, chosen in groups.items():
                    if chosen.any():
                        interval = identity_interval(
                            (mean[arm] - mean[baseline])[chosen],
                            query["pid"].to_numpy()[chosen],
                            seed=P.seed,
                        )
                        rows.append(
                            {
                                "dataset": name,
                                "arm": arm,
                                "baseline": baseline,
                                "metric": metric,
                                "people": group,
                                "baseline_mean": mean[baseline][chosen].mean(),
                                "difference": interval.mean,
                                "ci_low": interval.low,
                                "ci_high": interval.high,
                                "identities": interval.n,
                            }
                        )
    return pd.DataFrame(
        rows,
        columns=[
            "dataset",
            "arm",
            "baseline",
            "metric",
            "people",
            "baseline_mean",
            "difference",
            "ci_low",
            "ci_high",
            "identities",
        ],
    )


def many(P, jobs: list[dict]) -> tuple[pd.DataFrame, list[dict]]:
    """Runs that no record holds yet in `study.workers` processes, with a bar; the table of results (COLUMNS) and the full records.

    Jobs are keyword arguments of `reid_run`. Every run has a process with one thread, so the number of processes changes no result.
    """
    asked = lambda job: _spec(
        P,
        job["name"],
        job["arm"],
        job["seed"],
        job.get("rows"),
        job.get("model") or P.reid.model,
        job.get("by_azimuth", False),
        job.get("drawn"),
    )
    waiting = {
        STORE.key(spec): job for job in jobs if STORE.get(spec := asked(job)) is None
    }  # the same run may be asked for twice
    for job in waiting.values():
        if job["arm"] in ORACLES:
            # rendered here, once, by processes of its own
            mini_world.true_photos(P, job["name"], job["rows"])
    with tqdm(
        total=len(jobs), initial=len(jobs) - len(waiting), desc="Re-ID runs", unit="run"
    ) as bar:
        if waiting:
            # jobs of one data set follow each other, so that a process reads its images once
            in_processes(
                _record,
                [(P, job) for job in sorted(waiting.values(), key=lambda job: job["name"])],
                P.study.workers,
                bar,
            )
    records = [reid_run(P, **job) for job in jobs]
    return pd.DataFrame([{k: r[k] for k in COLUMNS} for r in records], columns=COLUMNS), records


def in_processes(work, jobs: list[tuple], workers: int, bar: tqdm | None = None) -> None:
    """`work(*job)` for every job, in at most `workers` processes of one thread each. The first error stops what has not begun."""
    with ProcessPoolExecutor(
        min(workers, len(jobs)), mp_context=get_context("spawn"), initializer=_one_thread
    ) as pool:
        futures = [pool.submit(work, *job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
                if bar is not None:
                    bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _one_thread() -> None:
    """For a process of its own: one thread, so that the number of processes changes no result."""
    torch.set_num_threads(1)
    disable_progress_bar()  # one bar of weights per run would hide the bar of runs


def _record(P, job: dict) -> None:
    reid_run(P, **job)


def azimuth_differences(records: list[dict], arm: str, baseline: str = "real") -> pd.DataFrame:
    """mAP of an arm minus a baseline (points) for each pair of query and gallery azimuth sectors: query, gallery (degrees), difference
    (mean over the seeds of both), low, high (least and greatest of the seeds), queries."""
    parts = {
        name: pd.DataFrame(
            [
                (r["seed"], *cell)
                for r in records
                if r["arm"] == name and r["azimuth"]
                for cell in r["azimuth"]
            ],
            columns=["seed", "query", "gallery", "mAP", "queries"],
        )
        for name in (arm, baseline)
    }
    both = parts[arm].merge(
        parts[baseline], on=["seed", "query", "gallery", "queries"], suffixes=("", "_baseline")
    )
    both = both[both["queries"] > 0].assign(difference=lambda t: t["mAP"] - t["mAP_baseline"])
    return both.groupby(["query", "gallery"], as_index=False).agg(
        difference=("difference", "mean"),
        low=("difference", "min"),
        high=("difference", "max"),
        queries=("queries", "first"),
    )


def azimuth_summary(table: pd.DataFrame, *, front: float = 45.0) -> pd.DataFrame:
    """A table of `azimuth_differences` in three rows: pairs with both photos within `front` degrees of the front, one of them, none; pairs,
    queries, and the mean difference weighted by queries."""
    frontal = (
        (table[["query", "gallery"]].abs() <= front)
        .sum(axis=1)
        .map({2: "both", 1: "one", 0: "none"})
    )
    weighted = table.assign(
        frontal=frontal, weighted=table["difference"] * table["queries"]
    ).groupby("frontal", sort=False)
    rows = weighted.agg(
        pairs=("queries", "size"), queries=("queries", "sum"), weighted=("weighted", "sum")
    )
    return (
        rows.assign(difference=rows["weighted"] / rows["queries"])
        .drop(columns="weighted")
        .reindex(["both", "one", "none"])
        .dropna()
        .reset_index()
    )
