"""Filters compared at the same loss, and what the filter catches."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import fisher_exact

from posedive_lib.augment.filter_quality import auc
from posedive_lib.study import failure_samples, failure_views, failures, filter_report


def test_auc_equals_the_share_of_ordered_pairs():
    score, positive = np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, True, False, True])
    assert auc(score, positive) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert np.isnan(auc(score, np.ones(4, bool)))


def test_filters_are_compared_at_the_same_loss(monkeypatch):
    """Candidates of two people, half of each in the wrong colour.

    A similarity to the real photos' colour is the perfect filter for the person.
    """
    colours = np.array([[200, 0, 0], [0, 0, 200]], np.uint8)
    pids = np.repeat([0, 1], 4)
    shown = np.where(np.arange(8) % 2 == 0, pids, 1 - pids)
    photos = {f"{i}.png": np.broadcast_to(colours[shown[i]], (4, 2, 3)) for i in range(8)} | {
        f"real{p}.png": np.broadcast_to(colours[p], (4, 2, 3)) for p in (0, 1)
    }
    manifest = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(8)],
            "pid": pids,
            "reference_min": 0.9,
            "reference_passed": True,
            **{
                f"sigma_{kind}_{k:02d}": [0.9] * 4 + [0.9 if kind == "tar" else 0.1] * 4
                for kind in ("tar", "gen")
                for k in range(17)
            },
        }
    )
    train = pd.DataFrame({"path": ["real0.png", "real1.png"], "pid": [0, 1]})
    monkeypatch.setattr(filter_report.datasets, "of_study", lambda *_: SimpleNamespace(train=train))
    monkeypatch.setattr(
        filter_report,
        "read_blocks",
        lambda paths, *_: [np.stack([photos[str(path).split("/")[-1]] for path in paths])],
    )
    wanted = np.tile(np.stack([np.linspace(0, 9, 17), np.linspace(0, 99, 17)], axis=1), (8, 1, 1))
    bodies = SimpleNamespace(keypoints=wanted, visible=np.full((8, 17), 2))
    found = wanted.copy()
    found[:2] += 60  # the first two are in a wrong pose
    monkeypatch.setattr(filter_report, "load_bodies", lambda *_: (bodies, found))
    P = SimpleNamespace(
        image=SimpleNamespace(height=4, width=2),
        paths=SimpleNamespace(datasets=""),
        augment=SimpleNamespace(
            keypoints="body", tau_ref=0.35, tau_tar=0.5, epsilon_gen=0.18, tau_gen=0.55
        ),
    )

    def colour(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1, 3).mean(1) + 1.0

    images = np.stack([photos[path] for path in manifest["path"]])
    table = filter_report.filters_compared(
        P, "x", manifest, colour(images), shown == pids, colour
    ).set_index(["score", "truth"])
    assert (table["lost_percent"] <= 50).all() and table.loc[
        ("all rules", "right person"), "lost_percent"
    ] == 50
    assert table.loc[
        ("Re-ID similarity", "right person"), ["precision", "recall", "auc"]
    ].tolist() == [1, 1, 1]
    assert (
        table.loc[("all rules", "right person"), "precision"] == 0.5
        and table.loc[("all rules", "right pose"), "precision"] == 0.5
    )
    assert (
        table.loc[("key points", "right pose"), "auc"] == 1
        and table.loc[("confidence", "right pose"), "auc"] < 0.5
    )
    assert table["good_percent"].groupby("truth").first().to_dict() == {
        "both": 37.5,
        "right person": 50.0,
        "right pose": 75.0,
    }


def test_what_the_filter_catches_is_counted_and_tested():
    samples = SimpleNamespace(table=pd.DataFrame({"kept": [True] * 10 + [False] * 5}))
    flagged = pd.DataFrame(
        {kind: [0.0] * 9 + [1.0] + [1.0] * 4 + [np.nan] for kind in failures.MEASURED}
    )
    row = failure_views.caught(samples, flagged).set_index("kind").loc["wrong colours"]
    assert (row["kept count"], row["kept of"], row["rejected count"], row["rejected of"]) == (
        1,
        10,
        4,
        4,
    )
    assert (
        row["p"] == pytest.approx(fisher_exact([[1, 9], [4, 0]]).pvalue)
        and row["kept high"] < row["rejected low"] + 0.2
    )


def test_references_of_each_state_are_drawn_alike(monkeypatch):
    """Rare states too, one image of each person before a second one."""
    rows = [
        {"pid": pid, "index": index, "reference": f"{pid}", "kept": "True"}
        for pid in range(20)
        for index in range(10)
    ]
    train = pd.DataFrame({"rel": [str(pid) for pid in range(20)], "path": "x", "person": "p"})
    train = train.assign(low_quality=[True] * 3 + [False] * 17, occluded=[False] * 18 + [True] * 2)
    monkeypatch.setattr(
        failure_samples.candidate_files, "load_manifest", lambda name: pd.DataFrame(rows)
    )
    dataset = SimpleNamespace(train=train)
    monkeypatch.setattr(failure_samples.datasets, "of_study", lambda name, paths: dataset)
    monkeypatch.setattr(
        failure_samples.mini_world,
        "people",
        lambda P, persons: pd.DataFrame({"bag": ["none"] * len(persons)}),
    )
    P = SimpleNamespace(seed=0, paths=None, study=SimpleNamespace(datasets=["d"]))
    table = failure_samples.draw_by_reference(P, 12)
    assert table["state"].value_counts().to_dict() == {"clear": 12, "blurred": 12, "occluded": 12}
    per = table.groupby(["state", "pid"]).size()
    assert per["clear"].max() == 1 and per["blurred"].tolist() == [4] * 3
    assert per["occluded"].tolist() == [6] * 2 and table["kept"].all()
    pd.testing.assert_frame_equal(table, failure_samples.draw_by_reference(P, 12))
    flagged = pd.DataFrame({"wrong key points": table["state"] == "blurred", "wrong colours": 0.0})
    false = pd.DataFrame({"wrong key points": 0.0, "wrong colours": table["state"] == "clear"})
    found = failure_views.reference_table(
        table["state"], flagged.astype(float), false.astype(float)
    )
    found = found.set_index(["reference", "kind"])
    assert found.loc[("blurred", "wrong key points"), ["count", "of"]].tolist() == [12, 12]
    assert found.loc[("clear", "wrong colours"), ["count", "true photos"]].tolist() == [0, 1.0]
