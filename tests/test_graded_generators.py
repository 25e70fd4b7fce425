"""Gain against the generator's quality: which runs are asked for, and the table over them."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from posedive_lib.bench.runs import RunStore
from posedive_lib.study import graded_generators, person_judge, persons


def test_jobs_name_the_file_of_what_was_drawn_again():
    P = SimpleNamespace(
        augment=SimpleNamespace(images_per_pid=15, tau_gen=0.5), reid=SimpleNamespace(seeds=[0, 1])
    )
    rows, drawn = (
        pd.DataFrame({"pid": [1]}),
        {
            "25 steps": "a.npy",
            graded_generators.PHASE1: "b.npy",
            "pose-dive": None,
            "oracle": "c.npy",
        },
    )
    jobs = graded_generators.jobs(P, "x", rows, drawn)
    assert [(job.arm, job.seed) for job in jobs] == [
        (arm, seed) for arm in ("real", *drawn) for seed in (0, 1)
    ]
    assert {job.arm: job.drawn for job in jobs} == {
        "real": None,
        "25 steps": "a.npy",
        graded_generators.PHASE1: "b.npy",
        "pose-dive": None,
        "oracle": None,
    }
    assert all((job.rows is None) == (job.arm == "real") for job in jobs)


def test_generators_are_graded_by_their_training(monkeypatch, tmp_path):
    trained = []
    monkeypatch.setattr(graded_generators.phase2, "training_images", lambda P: "images")
    monkeypatch.setattr(
        graded_generators,
        "variant_of",
        lambda P, images, changed, steps: SimpleNamespace(spec={"steps": steps, **changed}, P=P),
    )
    monkeypatch.setattr(graded_generators, "STORE", RunStore(tmp_path))
    monkeypatch.setattr(
        graded_generators,
        "in_processes",
        lambda work, jobs, workers, **options: trained.extend(jobs),
    )
    P = SimpleNamespace(
        seed=0,
        study=SimpleNamespace(graded_steps=[25, 75], workers=2),
        paths=SimpleNamespace(phase1=str(tmp_path)),
        scale=SimpleNamespace(scheduler=""),
    )
    found = graded_generators.generators(P)
    assert list(found) == ["25 steps", "75 steps", graded_generators.PHASE1]
    assert [job[0].spec["steps"] for job in trained] == [25, 75]
    assert all(job[0].spec["paths"] == {"phase1": None} for job in trained)
    assert len(set(found.values())) == 3
    P.paths.phase1 = None
    assert list(graded_generators.generators(P)) == ["25 steps", "75 steps"]


def test_one_table_of_right_persons_starts_with_the_images_that_train():
    named = np.array([1.0, 0, 1, 1, np.nan, 0])
    own = person_judge.rate(named, np.array([1, 1, 2, 2, 3, 3]), seed=0)
    assert own["right_percent"] == pytest.approx(60) and own["judged"] == 5
    assert own["right_low"] < 60 < own["right_high"]
    nothing = person_judge.rate(np.full(2, np.nan), np.array([1, 2]), seed=0)
    assert nothing["judged"] == 0 and np.isnan(nothing["right_percent"])
    drawn = pd.DataFrame([{"arm": "25 steps", **own}, {"arm": "pose-dive", **own}])
    unseen = pd.DataFrame(
        {
            "method": ["generated", "true-render", "generated"],
            "metric": ["identity_top1", "identity_top1", "pck"],
            "value": [0.7, 0.9, 0.5],
            "ci_low": 0.6,
            "ci_high": 0.95,
            "n": 100,
        }
    )
    figure = pd.DataFrame({"images": ["generated", "truth"], "right": [30, 36], "of": [36, 36]})
    found = persons.table("msmt17-s-cam", "market1501", drawn, unseen, figure)
    assert found.columns.tolist() == persons.COLUMNS
    assert found["value"].tolist() == pytest.approx([0.6, 0.7, 0.9, 30 / 36, 1.0])
    assert "training uses" in found["images"][0] and found["n"].tolist() == [5, 100, 100, 36, 36]
    assert (found["ci_low"] <= found["value"]).all() and (found["value"] <= found["ci_high"]).all()
    assert len(persons.table("market1501", "msmt17", drawn.iloc[:0], unseen.iloc[:0], figure)) == 2


def test_gains_and_steps_are_paired_over_seeds():
    rng = np.random.default_rng(0)
    real = rng.normal(50, 3, 6)
    values = {
        "real": real,
        "poor": real - 1 + rng.normal(0, 0.1, 6),
        "good": real + 2 + rng.normal(0, 0.1, 6),
        "oracle": real + 2 + np.array([0.5, -0.5] * 3),
    }
    runs = pd.DataFrame(
        [
            {"dataset": "x", "arm": arm, "seed": seed, "mAP": value}
            for arm, column in values.items()
            for seed, value in enumerate(column)
        ]
    )
    measured = pd.DataFrame(
        {
            "arm": ["poor", "good", "oracle"],
            "pck": [0.1, 0.8, 0.9],
            "right_percent": [1.0, 50.0, 90.0],
        }
    )
    table = graded_generators.gains(
        runs.sample(frac=1, random_state=1), measured, seed=0
    ).set_index("arm")
    assert table.index.tolist() == ["poor", "good", "oracle"] and table["pck"].tolist() == [
        0.1,
        0.8,
        0.9,
    ]
    for arm, before in (("good", "poor"), ("oracle", "good")):
        assert table.loc[arm, "gain"] == pytest.approx((values[arm] - real).mean())
        assert table.loc[arm, "step"] == pytest.approx((values[arm] - values[before]).mean())
    assert (
        np.isnan(table.loc["poor", "step"])
        and table.loc["good", "step_low"] > 0 > table.loc["oracle", "step_low"]
    )
