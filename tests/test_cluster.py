"""Two workers of Dask, one of them killed, make what this machine's processes make alone."""

import os
import pickle
import signal
import sys
import time
from functools import partial
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import cluster_parts as parts
import distributed
import numpy as np
import pandas as pd
import pytest
import trees
from distributed import LocalCluster
from pipeline import ROOT
from test_faults import wait_until

from posedive_lib import cluster, params
from posedive_lib.augment import candidates, diversify, photo_arrays, scoring, shards
from posedive_lib.augment.confidence import PoseEstimator
from posedive_lib.augment.photo_arrays import PhotoEncoder, encoded_in_blocks
from posedive_lib.augment.training_set import Training
from posedive_lib.bench.processes import in_processes
from posedive_lib.body.poses import load_poses
from posedive_lib.body.rendering import Rendering
from posedive_lib.digests import Code, files_below
from posedive_lib.errors import StudyError
from posedive_lib.generator.arrays import TrainingArrays
from posedive_lib.own_data import fit
from posedive_lib.own_data.fitting import FitSettings
from posedive_lib.study import reid_jobs, reid_work
from posedive_lib.study.job import Job
from posedive_lib.workers import one_thread

BODY, MOTIONS = str(ROOT / "data/body/SMPL_NEUTRAL.npz"), str(ROOT / "data/motions/in-domain")
VITPOSE = str(ROOT / "data/pretrained/vitpose")


@pytest.fixture(scope="module")
def two():
    """A scheduler with two workers, each a process of one thread that is started anew if lost."""
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=None,
        silence_logs=50,
    ) as local:
        yield local


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory of this test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in files_below(folder)}


def test_a_cluster_is_a_pool_like_this_machines(two, here):
    with cluster.pieces(2, two.scheduler_address) as pool:
        with cluster.pieces(2, two.scheduler_address) as inner:
            assert inner is pool
        assert list(pool.map(parts.square, range(5))) == [0, 1, 4, 9, 16]
        with pytest.raises(ValueError, match="no 3"):
            pool.submit(parts.refuse, number=3).result()
    jobs = [(number,) for number in range(9)]
    found = dict(cluster.spread(two.scheduler_address, parts.square, jobs))
    assert found == dict(cluster.spread("", parts.square, jobs))
    with pytest.raises(ValueError, match="no 1"):
        in_processes(parts.refuse, [(1,)], 2, scheduler=two.scheduler_address)


def test_few_pieces_wait_at_a_time(two, here, monkeypatch):
    most, piece = [], cluster.Cluster.piece

    def counted(self, *arguments):
        future = piece(self, *arguments)
        most.append(len(self._remote))
        return future

    monkeypatch.setattr(cluster.Cluster, "piece", counted)
    jobs = [(number,) for number in range(20)]
    assert len(list(cluster.spread(two.scheduler_address, parts.square, jobs))) == 20
    assert max(most) <= 2 * cluster.AHEAD


@pytest.fixture
def sample(here):
    """Makes candidates of six photos in five shards, with the real renderer."""
    n, source = 6, load_poses(MOTIONS, fps=1.0)
    train = pd.DataFrame({"pid": np.repeat([2, 7, 11], 2), "camid": np.tile([0, 1], 3)})
    train["rel"] = [f"{i}.png" for i in range(n)]
    train["path"] = [str(trees.paint(here / name)) for name in train["rel"]]
    bodies = trees.standing(train["rel"], 80.0)
    training = Training(bodies, np.zeros(n), np.full(n, 10.0))
    plan = diversify.plan("market1501", train, training, source, n_per_pid=5)
    rendering = Rendering(BODY, 32, 16, 2.5, 10.5, 2.5, workers=1)
    limits = SimpleNamespace(tau_ref=0, tau_tar=0, epsilon_gen=1, tau_gen=0, keypoints="body")

    def run(name, deadly=-1, **options):
        painter = parts.Painter(here / f"{name}.log", deadly)
        maker = shards.Maker(train, training, source, parts.Estimator(), painter, rendering)
        folder = here / name
        options = {"inputs": "", "progress": False} | options
        manifest = candidates.generate(plan, maker, limits, folder, **options)
        return manifest, content(folder), sorted(map(int, painter.log.read_text().split()))

    return run


def test_shards_of_two_workers_are_those_of_one_process_though_one_is_killed(two, sample):
    spread = partial(cluster.spread, two.scheduler_address)
    (alone, files, once), (other, same, painted) = (
        sample("alone"),
        sample("shared", deadly=2, spread=spread),
    )
    pd.testing.assert_frame_equal(alone, other)
    assert files == same and len(files) > 10
    assert once == painted == [0, 1, 2, 3, 4], "no finished shard was painted again"
    assert Path("killed").exists()


@pytest.fixture
def study(tmp_path):
    """Parameters of tiny Re-ID runs, and their jobs."""
    trees.market(tmp_path / "photos")
    changes = {
        "paths.datasets": str(tmp_path / "photos"),
        "paths.resnet": None,
        "reid.model": "resnet",
        "reid.image": {"height": 32, "width": 16},
        "reid.batch_size": 8,
        "reid.resnet.steps": 6,
        "reid.resnet.architecture": {
            "layer": "basic",
            "stem": 8,
            "widths": [8, 16],
            "depths": [1, 1],
        },
    }
    jobs = [Job("comparison", "market1501", "real", seed) for seed in range(4)]
    return lambda scheduler: (
        params.load(ROOT / "params/smoke.yaml", overrides=changes | {"scale.scheduler": scheduler}),
        jobs,
    )


def test_reid_runs_of_two_workers_are_those_of_one_process_though_one_is_killed(
    two, study, tmp_path, monkeypatch
):
    tables, address, killed = [], two.scheduler_address, []
    for name, scheduler in (("alone", ""), ("shared", address)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        if scheduler:
            killer = Thread(target=kill_one, args=(two, tmp_path / name / "runs/reid", killed))
            killer.start()
        with monkeypatch.context() as patched, one_thread():
            if not scheduler:  # then this process makes the runs that have no record
                patched.setattr(reid_jobs, "in_processes", lambda *jobs, **options: None)
            tables.append(reid_jobs.many(*study(scheduler))[0])
    killer.join()
    assert killed and len(tables[0]) == 4 and tables[0]["mAP"].nunique() > 1
    pd.testing.assert_frame_equal(*tables)


def kill_one(local, records: Path, killed: list[int]) -> None:
    """Kill a worker when the first run is finished."""
    wait_until(lambda: list(records.glob("*.json")), 600)
    killed.append(next(iter(local.workers.values())).pid)
    os.kill(killed[0], signal.SIGKILL)


def test_fits_scores_and_arrays_of_two_workers_are_those_of_one_process(two, here, monkeypatch):
    P = params.load(ROOT / "params.yaml")
    monkeypatch.chdir(ROOT)  # whose data/ the parameters name
    P = P.model_copy(update={"paths": P.paths.model_copy(update={"body": BODY})})
    images = pd.DataFrame({"rel": [f"{i}.png" for i in range(5)]})
    images["path"] = [str(trees.paint(here / rel, size=(64, 128))) for rel in images["rel"]]
    for module, name in ((fit, "BATCH"), (scoring, "BLOCK"), (photo_arrays, "BLOCK")):
        monkeypatch.setattr(module, name, 2)
    monkeypatch.setattr(fit, "FPS", 1.0)
    settings, estimator = FitSettings(steps=2, starts=2), PoseEstimator(VITPOSE)
    images = images.assign(pid=0, camid=0, reference_ok=True, target_ok=True)
    made = partial(PhotoEncoder.of(P).arrays, progress=False)
    found = []
    for scheduler in ("", two.scheduler_address):
        out = here / f"bodies{len(found)}.npz"
        options = {"body": BODY, "motions": MOTIONS, "estimator": VITPOSE, "focal": 2.5}
        options |= {"settings": settings, "scheduler": scheduler, "progress": False}
        fit.fit_images(images, out, **options)
        files = images["path"].tolist()
        sigma = scoring.confidence_of(estimator, files, 128, 64, scheduler=scheduler)
        blocks, by = images.assign(bodies=str(out)), partial(cluster.spread, scheduler)
        folder = here / f"arrays{len(found)}"
        encoded_in_blocks(blocks, folder, made, spread=by, progress=False)
        assert len(TrainingArrays.read(folder)) == len(sigma) == 5
        found.append((out.read_bytes(), sigma.tobytes(), content(folder)))
    assert found[0] == found[1]


def test_no_key_of_a_record_knows_of_the_cluster(study):
    jobs = study("")[1]
    alone, shared = (reid_work.spec_of(study(where)[0], jobs[0]) for where in ("", "tcp://x:1"))
    assert alone == shared
    keyed = (
        "posedive_lib.study.reid_work",
        "posedive_lib.study.redrawing",
        "posedive_lib.study.ablation_work",
        "posedive_lib.augment.shards",
        "posedive_lib.augment.confidence",
        "posedive_lib.augment.photo_arrays",
        "posedive_lib.generator.drawing",
        "posedive_lib.generator.training",
        "posedive_lib.own_data.fitting",
        "miniworld.photographs",
    )
    assert "posedive_lib.cluster" not in Code(ROOT).reached(keyed)


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("code", lambda: "other", "runs other code than this process: start the workers anew"),
        ("_mark", lambda: "other", "does not see the folder"),
        ("versions", lambda: (("python", "2.7.18"),), "but this process has 2.7.18"),
    ],
)
def test_a_worker_that_does_not_fit_is_named(two, here, monkeypatch, name, value, said):
    monkeypatch.setattr(cluster, name, value)
    with pytest.raises(StudyError, match=said):
        in_processes(parts.square, [(0,)], 1, scheduler=two.scheduler_address)


def test_a_piece_that_kills_its_workers_is_reported_in_one_sentence(two, here, monkeypatch):
    monkeypatch.setattr(two.scheduler, "allowed_failures", 0)
    said = "has lost its worker 1 times, most likely because memory ran out"
    with pytest.raises(StudyError, match=said):
        in_processes(parts.die, [(0,)], 1, scheduler=two.scheduler_address)


def test_a_worker_of_several_threads_is_refused(monkeypatch):
    worker = SimpleNamespace(address="tcp://a:1", state=SimpleNamespace(nthreads=4))
    monkeypatch.setattr(distributed, "get_worker", lambda: worker)
    there = pickle.dumps(cluster.Here("", "", "", ()))
    with pytest.raises(StudyError, match="tcp://a:1 has 4 threads: start workers with --nthreads"):
        cluster.run(there, pickle.dumps(parts.square), pickle.dumps((1,)))


def test_no_scheduler_is_named_in_one_sentence(here, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 1)
    (here / "file.json").write_text('{"workers": {}}')
    begun = time.monotonic()
    for scheduler, said in (
        ("tcp://127.0.0.1:9", "No Dask scheduler answers at scale.scheduler, tcp://127.0.0.1:9"),
        ("nowhere://1", "No Dask scheduler answers at scale.scheduler, nowhere://1"),
        ("file.json", "No Dask scheduler answers at scale.scheduler, file.json"),
        ("missing.json", "missing.json is no file of a Dask scheduler"),
    ):
        with pytest.raises(StudyError, match=said) as caught, cluster.pieces(1, scheduler):
            pass
        assert "\n" not in str(caught.value)
    assert time.monotonic() - begun < 15


def test_a_scheduler_without_dask_is_one_sentence(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(StudyError, match="Dask is not installed: pip install distributed"):
        in_processes(parts.square, [(0,)], 1, scheduler="tcp://127.0.0.1:9")
    assert list(cluster.spread("", parts.square, [(2,)])) == [(0, 4)]
