"""The planner: work counted by hand, honest about what is assumed."""

import json

import pandas as pd
import pytest
import torch
import trees
import yaml
from pipeline import ROOT

from posedive_lib import params
from posedive_lib.bench import plan, preflight, rates
from posedive_lib.bench.plan import Stage
from posedive_lib.bench.rates import ASSUMED, UNITS, Measured, Rate
from posedive_lib.bench.sizes import Size, size_of
from posedive_lib.errors import StudyError

MEASURED = Measured({name: Rate(1.0) for name in UNITS}, weights=2.0, memory=0.5)
TEN = Size(train=10, pids=5, query=3, gallery=7)


@pytest.fixture
def P():
    """Two sets of which one is studied with controls; three seeds; stages of few steps."""
    small = {
        "image.height": 64,
        "image.width": 32,
        "generator.steps": 100,
        "augment.candidates_per_pid": 20,
        "augment.images_per_pid": 10,
        "reid.seeds": [0, 1, 2],
        "study.datasets": ["msmt17", "msmt17-s-cam"],
        "study.arms": {
            "real": "all",
            "pose-dive": "all",
            "viewpoint": ["msmt17-s-cam"],
            "oracle": ["msmt17-s-cam"],
        },
        "study.longer": {
            "factor": 3,
            "datasets": ["msmt17-s-cam"],
            "arms": ["real", "pose-dive", "oracle"],
            "seeds": [0, 1],
        },
        "study.graded_steps": [1, 2, 3],
        "study.resnet_datasets": [],
        "study.resnet_arms": [],
        "study.azimuth_dataset": "msmt17",
        "study.generator_dataset": "msmt17",
        "study.count_dataset": "msmt17",
        "study.threshold_dataset": "msmt17",
        "study.counts": [0, 10, 20],
        "reid.batch_size": 4,
        "reid.instances": 2,
    }
    return params.load(ROOT / "params.yaml", overrides=small)


def test_the_memory_of_the_splits_is_what_was_measured_at_true_counts(P):
    measured = pd.read_csv(ROOT / "benchmarks/results/true_counts.csv")
    for row in measured[measured["part"] == "notebook-01"].itertuples():
        size = Size(row.count, 1, 0, 0)
        found = plan.stages_of(P, {"msmt17": size, "msmt17-s-cam": size}, MEASURED)
        assert found["01_dataset_splits"].memory == pytest.approx(row.peak_gigabytes, rel=0.1)


def test_work_is_what_one_counts_by_hand(P):
    stages = plan.stages_of(P, {"msmt17": TEN, "msmt17-s-cam": Size(8, 4, 2, 2)}, MEASURED)
    assert stages["01_dataset_splits"].memory == pytest.approx(0.5 + TEN.images * plan.SPLIT)
    third = stages["03_generator_training"]
    assert third.work["encode"] == 8  # the part's photos are the whole's
    assert third.work["train"] == 100 and third.work["sample"] == plan.UNSEEN
    array = 1.1 * 10 * 64 * 32 / 1e9
    assert third.memory == pytest.approx(0.5 + 2 * 8 * array + 5 * 2)  # 8 are less than a block
    assert third.disk == pytest.approx(2 * 8 * array + 10 * 2)
    # 5 people with 20 each, twice as many for 20 images each; 4 people in two arms.
    fourth = stages["04_augmentation_filtering"]
    assert fourth.work["sample"] == 5 * 20 * 2 + 4 * 20 * 2
    # Two files for each index: all people of a set go into one shard.
    assert fourth.files == 2 * (20 * 2 + 20 * 2)
    assert fourth.work["score"] == 10 + 8 + 2 * 360
    steps = P.reid.stage2.steps
    # Two arms trained longer on the part, and real ones: each counts as three by two seeds.
    assert stages["05_reid_comparison"].work["reid"] == ((2 + 4) * 3 + 3 * 3 * 2) * steps
    # True photos: ten of each of four people, each as three conditions.
    assert stages["05_reid_comparison"].work["render"] == 3 * 4 * 10
    assert stages["06_images_per_identity"].work["reid"] == 3 * steps  # 0 and 10 are in 05
    levels = len(P.study.thresholds) + len(P.study.quantiles)
    assert stages["07_threshold_sweep"].work["reid"] == levels * 3 * steps
    one = 10 + 10 * 5 + 3 + 7
    assert stages["07_threshold_sweep"].work["extract"] == levels * 3 * one
    eighth = stages["08_controlled_comparisons"].work
    # Three trainings and phase 1 draw ten images of five people anew.
    assert eighth["train"] == sum(P.study.graded_steps) and eighth["sample"] == 4 * 5 * 10


def test_the_stages_are_the_study_s(P):
    stages = plan.stages_of(P, {"msmt17": TEN, "msmt17-s-cam": TEN}, MEASURED)
    assert {*stages} <= {*yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]}


def test_time_and_truth_stand_side_by_side_and_assumed_rates_are_no_time_here(P):
    stages = {"01": Stage({"decode": 7200}, 1.0), "02": Stage({"decode": 1, "train": 1}, 1.0)}
    half = Measured({**MEASURED.rates, "train": Rate(ASSUMED["train"], "no weights")}, 2.0, 0.5)
    truth = {"01": {"wall_seconds": 1800, "peak_gigabytes": 3.5}}
    table = plan.table(P, stages, half, truth, cores=2).set_index("stage")
    assert table.loc["01", "hours"] == 1.0 and table.loc["01", "true hours"] == 0.5
    assert table.loc["01", "true memory GB"] == 3.5
    assert table.loc["02", ["hours", "true hours", "1 GPU"]].isna().all()
    true_size = P.image.model_copy(update={"height": 384, "width": 192})
    large = plan.table(P.model_copy(update={"image": true_size}), stages, half, truth, cores=2)
    assert large.loc[1, "1 GPU"] == pytest.approx((ASSUMED["decode"] + ASSUMED["train"]) / 3600)
    assert large.loc[1, "8 GPUs"] == pytest.approx(large.loc[1, "1 GPU"] * (0.1 + 0.9 / 8))


def test_sizes_of_sets_that_are_not_there(P, tmp_path):
    def at(folder):
        return P.model_copy(update={"paths": P.paths.model_copy(update={"datasets": folder})})

    world = P.world.msmt17
    mine = size_of(at("build/none"), "msmt17")
    assert mine.train == world.train_pids * world.images_per_train_pid
    assert mine.source == "params.world"
    real = size_of(at(str(tmp_path)), "msmt17")
    assert (real.train, real.pids, real.query, real.gallery) == (32621, 1041, 11659, 82161)
    assert "published" in real.source
    assert "assumed" in size_of(at(str(tmp_path)), "msmt17-s-cam").source
    with pytest.raises(Exception, match="folder was not found"):
        size_of(at(str(tmp_path)), "folder")


def test_what_would_stop_the_study_is_said_before_it_starts(P, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes = {"datasets": "sets", "reports": "reports", "body": "licensed/SMPL.pkl"}
    own = P.model_copy(
        update={
            "paths": P.paths.model_copy(update=changes),
            "reid": P.reid.model_copy(update={"precision": "fp16"}),
        }
    )
    (tmp_path / "params.yaml").write_text("paths: {datasets: sets, reports: reports}\n")
    trees.msmt17(tmp_path / "sets/MSMT17_V1")
    said = preflight.problems(own, "params.yaml")
    *missing, reports, counts, precision = said
    assert "paths.body names licensed/SMPL.pkl, which does not exist" in missing[0]
    # Every input that is missing, each model among them, and not the first alone.
    models = "motions", "stable_diffusion", "clip", "resnet", "pose_estimator", "phase1"
    assert len(missing) == 1 + len(models)
    for name, sentence in zip(models, missing[1:], strict=True):
        assert f"paths.{name} names data/" in sentence and "dvc pull data.dvc" in sentence
    assert "paths.reports is reports, but the data sets in sets are your own" in reports
    assert "18 training photos of 3 people, 9 queries and 9 gallery photos, but the" in counts
    assert "32621, 1041, 11659, 82161" in counts and "fp16 needs a GPU" in precision
    assert preflight.problems(P, "params.yaml") == []  # the mini world, not rendered yet
    rows = pd.DataFrame({"disk GB": [1e9, 1.0], "memory GB": [1e9, 1.0]})
    assert "GB free, but 1000000001.0 GB are needed" in next(preflight.room(rows))
    assert len(list(preflight.room(rows))) == 2 and not list(preflight.room(rows * 0))


def test_a_full_gpu_is_a_problem_with_its_mend(P, monkeypatch):
    def full(P):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore")

    def missing(P):
        raise StudyError("nowhere")

    for name, work in {"_decode": full, "_render": missing, "_score": missing}.items():
        monkeypatch.setattr(rates, name, work)
    for name in ("_generator", "_reid"):
        monkeypatch.setattr(rates, name, lambda P: pytest.fail("is to stay out"))
    found = rates.measure(P, but=("train", "reid"))
    assert {*found.rates} == {"decode", "render", "score"}
    (said,) = preflight.gpu_memory(found)
    assert said.startswith("The GPU's memory is full (CUDA out of memory. Tried to allocate 2 GiB)")
    assert "what was tried is a photo: lower batch_size under generator, " in said


def test_versions_that_are_not_the_lock_s_are_one_note(tmp_path, monkeypatch):
    here = {"numpy": "2.4.6", "torch": "2.13.0+cu128", "pandas": "3.0.0"}
    monkeypatch.setattr(preflight.metadata, "version", lambda name: _version(here, name))
    lock = tmp_path / "requirements.lock"
    assert not list(preflight.versions(lock))
    lock.write_text("# Every package\nnumpy==2.4.6\ntorch==2.13.0\n")
    assert not list(preflight.versions(lock))
    lock.write_text("numpy==2.4.6\ntorch==2.12.0\npandas==3.1.1\nscipy==1.17.1\n")
    (said,) = preflight.versions(lock)
    assert "has torch 2.12.0 (here 2.13.0), pandas 3.1.1 (here 3.0.0), scipy 1.17.1 (here" in said
    assert "missing): run `make setup`" in said
    lock.write_text("".join(f"p{n}==1\n" for n in range(7)))
    assert "p4 1 (here missing) and 2 more: run" in next(preflight.versions(lock))


def _version(here, name):
    if name not in here:
        raise preflight.metadata.PackageNotFoundError(name)
    return here[name]


def test_truth_counts_only_for_the_same_parameters(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports").mkdir()
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    (tmp_path / "dvc.yaml").write_text("stages: {one: {cmd: x, params: [seed]}}\n")
    (tmp_path / "reports/costs.csv").write_text("stage,wall_seconds\none,5\ntwo,6\n")
    assert plan.true_costs("params.yaml") == {}
    lock = {"stages": {"one": {"params": {"params.yaml": {"seed": 0}}}}}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(lock))
    assert plan.true_costs("params.yaml") == {"one": {"stage": "one", "wall_seconds": 5}}
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    assert plan.true_costs("params.yaml") == {}


def test_rates_are_measured_once_and_assumed_with_the_reason(P, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    missing = P.paths.model_copy(update={"pose_estimator": "nowhere"})
    for name in ("_decode", "_render"):
        monkeypatch.setattr(rates, name, lambda P: [0.5])
    monkeypatch.setattr(rates, "_generator", lambda P: [1.0, 2.0, 3.0, 4.0])
    monkeypatch.setattr(rates, "_reid", lambda P: [1.0, 2.0, 3.0])
    found = rates.known(P.model_copy(update={"paths": missing}))
    assert found.rates["decode"] == Rate(0.5) and found.weights == 4.0 and found.memory > 0.1
    assert (
        found.rates["score"].seconds == ASSUMED["score"]
        and "nowhere" in found.rates["score"].assumed
    )
    assert {*found.rates} == {*UNITS} == {*ASSUMED}
    monkeypatch.setattr(rates, "measure", lambda P: pytest.fail("measured twice"))
    assert rates.known(P.model_copy(update={"paths": missing})) == found
    other = json.loads((tmp_path / "runs/plan.json").read_text())
    (tmp_path / "runs/plan.json").write_text(json.dumps({**other, "key": "another machine"}))
    with pytest.raises(pytest.fail.Exception):
        rates.known(P.model_copy(update={"paths": missing}))


def test_the_small_models_rates_are_measured(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(rates, "LONG", 0.0)
    found = rates.measure(params.load(ROOT / "params.yaml"))
    assert all(rate.seconds > 0 and not rate.assumed for rate in found.rates.values())
    assert 0.01 < found.weights < 0.1
