"""Gain against the generator's quality: which runs are asked for, and the table over them."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from posedive_lib.study import graded_generators


def test_jobs_name_the_file_of_what_was_drawn_again():
    P = SimpleNamespace(
        augment=SimpleNamespace(images_per_pid=15, tau_gen=0.5), reid=SimpleNamespace(seeds=[0, 1])
    )
    rows, drawn = (
        pd.DataFrame({"pid": [1]}),
        {
            graded_generators.UNTAUGHT: "a.npy",
            graded_generators.UNGUIDED: "b.npy",
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
        graded_generators.UNTAUGHT: "a.npy",
        graded_generators.UNGUIDED: "b.npy",
        "pose-dive": None,
        "oracle": None,
    }
    assert all((job.rows is None) == (job.arm == "real") for job in jobs)


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
