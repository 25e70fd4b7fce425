"""The study's Re-ID runs: their records, their processes and the long table of results (§D, §F)."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from tqdm import tqdm

from posedive_lib import datasets
from posedive_lib.bench.processes import in_processes
from posedive_lib.bench.runs import RunStore, make_folder
from posedive_lib.reid.models import load_trained
from posedive_lib.reid.torch_model import MODEL_FILE, TorchReIDModel
from posedive_lib.study.collect import IDENTITY, RESULT
from posedive_lib.study.job import Job
from posedive_lib.study.mini_world import true_photos
from posedive_lib.study.reid_work import photos, result_of, save_trained_on_real, spec_of

if TYPE_CHECKING:
    from posedive_lib.params import Params
    from posedive_lib.params.sections import Paths

STORE = RunStore("runs/reid")
# Arms of true photos: in the poses and views of `pose-dive`, and in those of the training set.
ORACLES = ("oracle", "oracle-same")
OF_DATASET = ["split", "version", "train_val", "boxes"]  # see `ReIDDataset.protocol`
OF_MODEL = [  # see `reid.models.protocol`
    "height",
    "width",
    "precision",
    "generated_weight",
    "generated_max_share",
    "generated_camera",
    "camera_weight",
    "patch_stride",
]
OF_TEST = ["n_query", "n_valid", "n_gallery", "average_precision", "distance", "reranking"]
COLUMNS = [*IDENTITY, *RESULT, *OF_TEST, *OF_DATASET, *OF_MODEL]


def many(P: Params, jobs: list[Job]) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Make the runs that have no record yet, in `study.workers` processes, with a bar.

    Returns the table of results (COLUMNS) and the records of `record_of`, in the order of the jobs.
    """
    jobs = _with_true_photos(P, jobs)
    specs = [spec_of(P, job) for job in jobs]
    waiting = {  # by key, because two experiments may ask for the same run
        STORE.key(spec): job
        for spec, job in zip(specs, jobs, strict=True)
        if STORE.get(spec) is None
    }
    done = len(jobs) - len(waiting)
    with tqdm(total=len(jobs), initial=done, desc="Re-ID runs", unit="run") as bar:
        if waiting:
            # Jobs of one data set follow each other: a process reads its images once.
            ordered = sorted(waiting.values(), key=lambda job: job.dataset)
            if P.scale.scheduler:  # what all runs read is written once, not by every machine
                for name in dict.fromkeys(job.dataset for job in ordered):
                    photos(P, name)
            own = [(P, job) for job in ordered]
            in_processes(_make, own, P.study.workers, bar, scheduler=P.scale.scheduler)
    records = [record_of(P, job) for job in jobs]
    rows = [{name: record[name] for name in COLUMNS} for record in records]
    return pd.DataFrame(rows, columns=COLUMNS), records


def record_of(P: Params, job: Job) -> dict[str, Any]:
    """A row of `reid_runs.csv`, from the record of the run if there is one, with more about it.

    queries: results per query. azimuth: [query sector, gallery sector, mAP, queries], or None.
    borders: border -> [mAP, rank-1, queries], or None.
    seconds: what the run took.
    """
    result = _make(P, job)
    protocol = _protocol(job.dataset, P.paths)
    record = {
        "experiment": job.experiment,
        "dataset": job.dataset,
        "arm": job.arm,
        "model": job.model or P.reid.model,
        "seed": job.seed,
        "images_per_pid": job.images_per_pid,
        "threshold": job.threshold,
        "n_real": result["n_train"] - job.n_generated,
        "n_generated": job.n_generated,
        **{name: protocol[name] for name in OF_DATASET},
    }
    return {
        **record,
        **{name: result[name] for name in COLUMNS if name not in record},
        "queries": {name: result[name] for name in ("query_ap", "query_valid", "query_first_rank")},
        "azimuth": result.get("group_cells"),
        "borders": result.get("subsets"),
        "seconds": result["seconds"],
    }


@cache
def _protocol(name: str, paths: Paths) -> dict[str, Any]:
    return datasets.of_study(name, paths).protocol


def _make(P: Params, job: Job) -> dict[str, Any]:
    """The result of a run, from its record if there is one, which ends the need of checkpoints."""
    spec = spec_of(P, job)
    if not P.reid.checkpoint_every:
        return STORE.get_or_run(spec, lambda: result_of(P, job))
    result = STORE.get_or_run(spec, lambda: result_of(P, job, STORE.folder(spec)))
    shutil.rmtree(STORE.folder(spec))
    return result


def _with_true_photos(P: Params, jobs: list[Job]) -> list[Job]:
    """The jobs, those of oracle arms with the file of their photos; each is rendered once."""
    files: dict[int, Path] = {}
    found = []
    for job in jobs:
        if job.arm in ORACLES and job.rows is not None and job.drawn is None:
            if id(job.rows) not in files:  # all seeds share one table of rows
                files[id(job.rows)] = true_photos(P, job.dataset, job.rows)
            job = replace(job, drawn=files[id(job.rows)])
        found.append(job)
    return found


def trained_on_real(P: Params, name: str) -> TorchReIDModel:
    """CLIP-ReID trained on a data set's real images with the seed `P.seed`, as in the arm `real`.

    Trained once, then loaded.
    """
    job = Job("trained-on-real", name, "real", P.seed, model="clip-reid")
    folder = STORE.folder({**spec_of(P, job), "keeps": "weights"})
    if not (folder / MODEL_FILE).is_file():
        in_processes(save_trained_on_real, [(P, name, folder)], 1, scheduler=P.scale.scheduler)
    return load_trained(folder)


def table_path(number: str) -> Path:
    """Where a notebook leaves its runs for `posedive_lib.study.collect`."""
    return make_folder("build/reid") / f"{number}.csv"
