"""Re-ID runs: what determines their records, what they add, and which photos they share."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import trees
from pipeline import ROOT

from posedive_lib import datasets, params
from posedive_lib.bench import processes
from posedive_lib.bench.runs import RunStore
from posedive_lib.datasets import archives
from posedive_lib.datasets.images import read, read_blocks
from posedive_lib.digests import Code
from posedive_lib.reid.image_set import ImageSet, Joined
from posedive_lib.study import candidate_files, reid_jobs, reid_work
from posedive_lib.study.collect import RESULT
from posedive_lib.study.job import Job


@pytest.fixture
def P(tmp_path):
    trees.market(tmp_path)
    return params.load(ROOT / "params.yaml", overrides={"paths.datasets": str(tmp_path)})


@pytest.fixture
def job():
    rows = pd.DataFrame({"path": ["a.jpg", "b.jpg"], "pid": [1, 2], "camid": [0, 1]})
    return Job("comparison", "market1501", "pose-dive", 0, rows, images_per_pid=1, threshold=0.5)


def test_the_key_of_a_run_follows_the_code_that_it_uses():
    reached = Code(ROOT).reached(["posedive_lib.study.reid_work"])
    assert {
        "posedive_lib.seeds",
        "posedive_lib.datasets.images",
        "posedive_lib.datasets.market1501",
        "posedive_lib.reid.clip_reid",
        "posedive_lib.reid.sampler",
        "posedive_lib.study.candidate_files",
    } <= reached
    apart = ("miniworld", "posedive_lib.generator", "posedive_lib.augment", "posedive_lib.bench")
    assert not [name for name in reached if name.startswith(apart)]


def test_features_before_training_need_no_gpu(P, tmp_path, monkeypatch):
    """The paper's profile trains in fp16."""
    paths = P.paths.model_copy(update={"clip": str(ROOT / "data/pretrained/clip")})
    P = P.model_copy(update={"reid": P.reid.model_copy(update={"precision": "fp16"})})
    monkeypatch.chdir(tmp_path)
    found = reid_work.before_training(P.model_copy(update={"paths": paths}), "market1501")
    assert 0 <= found <= 100


def test_photos_are_read_once_and_stay_on_the_disk(P, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, reading = [], []
    monkeypatch.setattr(reid_work, "read_blocks", lambda *a: reading.append(a) or read_blocks(*a))
    for _ in range(2):
        reid_work.read_photos.cache_clear()
        found.append(reid_work.read_photos("market1501", P.paths, 32, 16))
    dataset = datasets.of_study("market1501", P.paths)
    for split, one, again in zip(dataset.tables, *found, strict=True):
        table, how = dataset.tables[split], "bicubic" if split == "train" else "bilinear"
        assert np.array_equal(one.images, read(table["path"].tolist(), 32, 16, how))
        assert np.array_equal(one.pids, table["pid"]) and not one.generated.any()
        assert np.array_equal(one.camids, table["camid"])
        assert np.array_equal(one.images, again.images) and not one.images.flags.owndata
    assert len(reading) == 3


def test_images_of_two_sets_are_one_without_a_copy():
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 256, (n, 4, 2, 3), dtype=np.uint8) for n in (3, 2))
    one, other = (
        ImageSet(part, np.arange(len(part)), np.ones(len(part))) for part in (first, second)
    )
    both, whole = one.plus(other).images, np.concatenate([first, second])
    assert isinstance(both, Joined)
    assert both.first is first and both.second is second and both.shape == whole.shape
    for rows in (0, 4, -1, slice(1, 4), slice(3, None), [4, 0, 3, 0], whole[:, 0, 0, 0] > 99):
        assert np.array_equal(both[rows], whole[rows]) and both[rows].dtype == np.uint8
    assert np.array_equal(list(both), whole)
    assert one.plus(other).pids.tolist() == [0, 1, 2, 0, 1]


def test_generated_images_are_read_from_their_archives(P, tmp_path, monkeypatch):
    """Also behind real photos, in the order of any batch."""
    monkeypatch.chdir(tmp_path)
    files = [trees.paint(tmp_path / f"drawn/{n}.png", size=(16, 32)) for n in range(5)]
    archive = candidate_files.store_of("market1501", "pose") / "shards/a.tar"
    places = archives.write(archive, [(file.name, file.read_bytes()) for file in files])
    rows = pd.DataFrame({"path": [f"shards/a.tar/{file.name}" for file in files], "arm": "pose"})
    rows[archives.PLACE] = [places[file.name] for file in files]
    rows = rows.assign(pid=[2, 2, 7, 7, 9], camid=1)
    train = reid_work.photos(P, "market1501")[0]
    made = reid_work._added(P, Job("comparison", "market1501", "pose", 0, rows), train)
    assert isinstance(made.images, archives.Archived) and made.generated.all()
    size = P.reid.image.height, P.reid.image.width
    whole = np.concatenate([train.images, read(files, *size)])
    both = train.plus(made)
    for batch in ([len(whole) - 1, 0, 3, len(whole) - 4], slice(None), whole[:, 0, 0, 0] > 99):
        assert np.array_equal(both.images[batch], whole[batch])
    assert np.array_equal(list(both.images), whole)
    in_memory = train.plus(reid_work.generated_set(rows, read(files, *size)))
    assert both.copies().tolist() == in_memory.copies().tolist()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"model": "resnet"},
        {"arm": "repeat"},
        {"rows": None},
        {"longer": 3},
        {"borders": (45.0,)},
        {"rows": pd.DataFrame({"path": ["a.jpg", "c.jpg"], "pid": [1, 2], "camid": [0, 1]})},
        {"rows": pd.DataFrame({"path": ["a.jpg", "b.jpg"], "pid": [1, 1], "camid": [0, 1]})},
    ],
)
def test_what_changes_a_result_changes_its_key(P, job, change, monkeypatch):
    monkeypatch.setattr(reid_work, "_bodies_digest", lambda name, paths: "bodies")
    key = reid_jobs.STORE.key(reid_work.spec_of(P, job))
    assert reid_jobs.STORE.key(reid_work.spec_of(P, replace(job, **change))) != key


def test_other_images_of_the_same_rows_have_another_key(P, job, tmp_path):
    keys = set()
    for value in (0, 1):
        file = tmp_path / f"{value}.npy"
        np.save(file, np.full((2, 4, 2, 3), value, np.uint8))
        keys.add(reid_jobs.STORE.key(reid_work.spec_of(P, replace(job, drawn=file))))
    assert len(keys | {reid_jobs.STORE.key(reid_work.spec_of(P, job))}) == 3


def test_what_only_names_a_run_keeps_its_key(P, job):
    key = reid_jobs.STORE.key(reid_work.spec_of(P, job))
    for change in (
        {"experiment": "threshold"},
        {"images_per_pid": 9, "threshold": 0.9},
        {"model": P.reid.model},
        {"arm": "viewpoint"},
    ):
        assert reid_jobs.STORE.key(reid_work.spec_of(P, replace(job, **change))) == key
    overrides = {"paths.datasets": P.paths.datasets, "reid.checkpoint_every": 7, "reid.seeds": [5]}
    other = params.load(ROOT / "params.yaml", overrides=overrides)
    assert reid_jobs.STORE.key(reid_work.spec_of(other, job)) == key


def test_true_photos_are_taken_once_for_all_seeds(P, job, monkeypatch):
    asked = []

    def true_photos(P, name, rows):
        asked.append(rows)
        return f"{len(asked)}.npy"

    monkeypatch.setattr(reid_jobs, "true_photos", true_photos)
    jobs = [replace(job, arm="oracle", seed=seed) for seed in (0, 1)]
    jobs += [replace(job, arm="oracle-same", rows=job.rows.copy()), job]
    found = reid_jobs._with_true_photos(P, jobs)
    assert [job.drawn for job in found] == ["1.npy", "1.npy", "2.npy", None]


def test_longer_training_keeps_the_course_of_the_rates(P):
    reid = P.reid
    thrice = reid_work.longer(reid, 3)
    assert thrice.stage2.steps == 3 * reid.stage2.steps
    assert thrice.stage2.epochs == reid.stage2.epochs  # through which the steps walk
    assert thrice.stage1.steps == 3 * reid.stage1.steps
    assert thrice.resnet.steps == 3 * reid.resnet.steps
    assert reid_work.longer(reid, 1) is reid
    passes = reid.model_copy(update={"stage2": reid.stage2.model_copy(update={"steps": None})})
    stage = reid_work.longer(passes, 2).stage2
    assert stage.steps is None and stage.epochs == 2 * reid.stage2.epochs
    assert stage.milestones == [2 * epoch for epoch in reid.stage2.milestones]
    assert stage.warmup_epochs == 2 * reid.stage2.warmup_epochs


def test_borders_choose_the_photos_beyond_them(P, job, monkeypatch):
    azimuths = np.array([-170.0, -40.0, 35.0]), np.array([31.0, -46.0, 45.0, 100.0])
    monkeypatch.setattr(reid_work, "_test_azimuths", lambda name, paths: azimuths)
    found = reid_work.beyond(replace(job, borders=(30.0, 45.0)), P.paths)
    assert list(found) == ["30", "45"]
    assert found["30"][0].all() and found["30"][1].all()
    assert found["45"][0].tolist() == [True, False, False]
    assert found["45"][1].tolist() == [False, True, False, True]
    assert reid_work.beyond(job, P.paths) == {}


def test_repeat_gives_every_identity_the_count_of_the_generated_images():
    train = ImageSet(
        np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8),
        np.array([1, 1, 2, 2, 2]),
        np.zeros(5, int),
    )
    again = reid_work.repeated(train, {1: 3, 2: 2}, seed=0)
    assert np.bincount(again.pids).tolist() == [0, 3, 2]
    assert (reid_work.repeated(train, {1: 3, 2: 2}, seed=0).images == again.images).all()
    # Every photo equally often: seven of two photos are three and four of each.
    copies = np.unique(reid_work.repeated(train, {1: 7}, seed=0).images, return_counts=True)[1]
    assert sorted(copies.tolist()) == [3 * 12, 4 * 12]


def test_recorded_runs_give_the_table_and_nothing_is_trained(P, job, tmp_path, monkeypatch):
    monkeypatch.setattr(reid_jobs, "STORE", RunStore(tmp_path / "runs"))
    monkeypatch.setattr(reid_jobs, "in_processes", None)
    jobs = [job, replace(job, arm="repeat"), replace(job, arm="real", rows=None, model="resnet")]
    measured = dict.fromkeys([*RESULT, *reid_jobs.OF_TEST, *reid_jobs.OF_MODEL], 1.0)
    queries = dict.fromkeys(["query_ap", "query_valid", "query_first_rank"], [1])
    for count, asked in enumerate(jobs, start=7):
        result = {**measured, **queries, "n_train": count, "seconds": 2.0}
        reid_jobs.STORE.put(reid_work.spec_of(P, asked), result)
    table, records = reid_jobs.many(P, jobs)
    assert table.columns.tolist() == reid_jobs.COLUMNS
    assert table["model"].tolist() == ["clip-reid", "clip-reid", "resnet"]
    assert table["n_generated"].tolist() == [2, 0, 0] and table["n_real"].tolist() == [5, 8, 9]
    assert [record["queries"] for record in records] == [queries] * 3


def test_no_jobs_need_no_processes():
    processes.in_processes(print, [], 2)
