"""The study's Re-ID runs: arms, selections of generated images, run records and the long table of results (§D, §F)."""

import shutil
from functools import lru_cache

import numpy as np
import pandas as pd
from tqdm import tqdm
from transformers.utils.logging import disable_progress_bar

from posedive_lib import datasets
from posedive_lib.datasets.images import read as read_images
from posedive_lib.reid import weights
from posedive_lib.reid.images import ImageSet, resized
from posedive_lib.reid.models import create, measure, model_class, run
from posedive_lib.seeds import rng_for
from posedive_lib.study import quality
from posedive_lib.study.generation import CANDIDATES
from posedive_lib.study.runs import RunStore, code_digest, file_digest, folder_digest, make_folder
from posedive_lib.study.statistics import identity_interval
from posedive_lib.world.oracle import Shot

STORE = RunStore("runs/reid")
COLUMNS = ["experiment", "dataset", "arm", "model", "seed", "images_per_pid", "threshold", "n_real", "n_generated", "mAP", "rank1", "rank5",
           "rank10", "mINP", "n_query", "n_valid", "n_gallery", "average_precision", "distance", "reranking",
           "split", "version", "train_val", "boxes",   # of the data set (`ReIDDataset.protocol`), then of the model (`models.protocol`)
           "height", "width", "precision", "generated_weight", "generated_max_share", "generated_camera", "camera_weight", "patch_stride"]
MODULES = ("posedive_lib.reid", "posedive_lib.datasets.images", "posedive_lib.seeds")


@lru_cache(maxsize=2)
def _photos(name: str, root: str, height: int, width: int) -> tuple[ImageSet, ImageSet, ImageSet, str, dict]:
    """Train, query and gallery of a data set in memory, a digest of their files and labels, and the data set's protocol."""
    dataset = datasets.load(name, root)
    parts = ((dataset.train, "bicubic"), (dataset.query, "bilinear"), (dataset.gallery, "bilinear"))   # as CLIP-ReID resizes
    sets = [ImageSet.from_table(frame, height, width, resample) for frame, resample in parts]
    files = [[row.rel, row.pid, row.camid, file_digest(row.path)] for frame in (dataset.train, dataset.query, dataset.gallery) for row in frame.itertuples()]
    return *sets, STORE.key({"files": files}), dataset.protocol


def generated_set(name: str, rows: pd.DataFrame, height: int, width: int) -> ImageSet:
    """Images of manifest rows, with the identity and the camera of their references."""
    paths = [CANDIDATES / name / path for path in rows["path"]]
    return ImageSet(read_images(paths, height, width), rows["pid"].to_numpy(int), rows["camid"].to_numpy(int), np.ones(len(rows), bool))


def oracle_set(P, name: str, rows: pd.DataFrame) -> ImageSet:
    """The `oracle` arm: the mini world's own photos of the same people in the same poses and views, by their references' cameras."""
    person = datasets.load(name, P.paths.datasets).train.set_index("rel")["person"]
    people = person.loc[rows["reference"]].to_numpy()
    persons, cameras = sorted(set(people)), quality.world_cameras(P, name)
    columns = ["pose_row", "azimuth", "elevation", "camid", "pid", "index"]
    shots = [Shot(persons.index(who), int(pose), float(azimuth), float(elevation), cameras[int(camid)], ("oracle", P.seed, name, pid, index))
             for who, (pose, azimuth, elevation, camid, pid, index) in zip(people, rows[columns].itertuples(index=False))]
    spec = {"rows": rows[["reference", *columns]].to_numpy().tolist(), "people": people.tolist(), **P.pick("image", "conditions", "seed"),
            "code": code_digest("posedive_lib.world", "posedive_lib.body"), "world": folder_digest(P.paths.world), "motions": folder_digest(P.paths.motions)}
    cache = RunStore("runs/oracle").folder(spec) / "images.npy"
    if not cache.is_file():
        images = np.stack([photo["image"] for photo in quality.shoot(P, persons, shots, progress=f"oracle photos of {name}")])
        np.save(cache.with_suffix(".part.npy"), images)
        cache.with_suffix(".part.npy").replace(cache)
    images = resized(np.load(cache), P.reid.image.height, P.reid.image.width, "bicubic")
    return ImageSet(images, rows["pid"].to_numpy(int), rows["camid"].to_numpy(int), np.ones(len(rows), bool))


def repeated(train: ImageSet, count_per_pid: dict[int, int], seed: int) -> ImageSet:
    """The `repeat` arm: real images repeated to the same count of each identity as the generated ones."""
    rows = []
    for pid, count in sorted(count_per_pid.items()):
        own = np.flatnonzero(train.pids == pid)
        rows.append(rng_for("repeat", seed, pid).choice(own, count, replace=count > len(own)))
    return train.take(np.concatenate(rows)) if rows else train.take(np.zeros(0, int))


@lru_cache
def _weights_digest(source: str) -> list[str]:
    return [folder_digest(folder) for folder in weights.files_of(source)]


def pretrained(P, model: str) -> str | None:
    """Published weights that a Re-ID model starts from: a folder or hub id; None for a ResNet from scratch."""
    return getattr(P.paths, model_class(model).weights)


def reid_run(P, experiment: str, name: str, arm: str, seed: int, rows: pd.DataFrame | None = None, *,
             images_per_pid: int | None = None, threshold: float | None = None, model: str | None = None) -> dict:
    """One run, from its record if it was made before: a row of `reid_runs.csv` plus per-query results under `queries`.

    rows: the manifest rows added to the real images (`repeat`: whose counts are imitated); None for `real`. model: by default reid.model.
    """
    model, height, width = model or P.reid.model, P.reid.image.height, P.reid.image.width
    source = pretrained(P, model)
    train, query, gallery, digest, protocol = _photos(name, P.paths.datasets, height, width)
    chosen = [] if rows is None else [[r.path, r.pid, r.camid] for r in rows.itertuples()]
    spec = {**P.pick("image"), "reid": {k: v for k, v in P.reid.model_dump().items() if k not in ("seeds", "model", "checkpoint_every")}, "data": digest, "arm": arm if arm in ("repeat", "oracle") else "",
            "model": model, "seed": seed, "generated": chosen, "weights": _weights_digest(source) if source else [],
            "code": code_digest(*MODULES)}

    def work() -> dict:
        extra = None
        if rows is not None and len(rows):
            extra = repeated(train, rows["pid"].value_counts().to_dict(), seed) if arm == "repeat" else oracle_set(P, name, rows) if arm == "oracle" else generated_set(name, rows, height, width)
        checkpoints = STORE.folder(spec) if P.reid.checkpoint_every else None
        return run(train if extra is None else train.plus(extra), query, gallery, P.reid, pretrained=source, seed=seed, model=model, checkpoints=checkpoints)

    result = STORE.get_or_run(spec, work)
    if P.reid.checkpoint_every:
        shutil.rmtree(STORE.folder(spec))
    n_generated = 0 if rows is None or arm == "repeat" else len(rows)
    record = {k: protocol[k] for k in ("split", "version", "train_val", "boxes")}
    record |= {"experiment": experiment, "dataset": name, "arm": arm, "model": model, "seed": seed, "images_per_pid": images_per_pid, "threshold": threshold,
              "n_real": result["n_train"] - n_generated, "n_generated": n_generated}
    return record | {k: result[k] for k in COLUMNS if k not in record} | {"queries": {k: result[k] for k in ("query_ap", "query_valid", "query_first_rank")}, "seconds": result["seconds"]}


def photos(P, name: str) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Train, query and gallery of a data set in memory."""
    return _photos(name, P.paths.datasets, P.reid.image.height, P.reid.image.width)[:3]


def before_training(P, name: str) -> float:
    """mAP (percent) of the pre-trained CLIP features on a data set's test images, before any Re-ID training."""
    _, query, gallery = photos(P, name)
    baseline = create("clip-reid", P.reid, P.paths.clip, P.reid.image.height, P.reid.image.width, "cpu").start()
    return measure(baseline, query, gallery)["mAP"]


def table_path(number: str) -> Path:
    """Where a notebook leaves its runs for `posedive_lib.study.collect`."""
    return make_folder("build/reid") / f"{number}.csv"


def identity_differences(P, records: list[dict], baseline: str) -> pd.DataFrame:
    """Every arm against a baseline on the same queries: difference in mAP (points) with its interval over queried identities."""
    rows = []
    for name in dict.fromkeys(r["dataset"] for r in records):
        query = photos(P, name)[1]
        pids = query.pids[np.array(next(r for r in records if r["dataset"] == name)["queries"]["query_valid"], bool)]
        ap = lambda arm: np.mean([r["queries"]["query_ap"] for r in records if r["dataset"] == name and r["arm"] == arm], axis=0)
        for arm in dict.fromkeys(r["arm"] for r in records if r["dataset"] == name and r["arm"] != baseline):
            interval = identity_interval(100 * (ap(arm) - ap(baseline)), pids, seed=P.seed)
            rows.append({"dataset": name, "arm": arm, "baseline": baseline, "difference": interval.mean, "ci_low": interval.low, "ci_high": interval.high, "identities": interval.n})
    return pd.DataFrame(rows)


def many(P, jobs: list[dict]) -> tuple[pd.DataFrame, list[dict]]:
    """Runs with a progress bar; the table of results (COLUMNS) and the full records. Jobs are keyword arguments of `reid_run`."""
    disable_progress_bar()  # one bar of weights per run would hide the bar of runs
    records = [reid_run(P, **job) for job in tqdm(jobs, desc="Re-ID runs", unit="run")]
    return pd.DataFrame([{k: r[k] for k in COLUMNS} for r in records], columns=COLUMNS), records
