"""The design of the comparison: which arms run where, on which images; and differences of runs."""

import numpy as np
import pandas as pd
import pytest
from pipeline import ROOT
from scipy.spatial.transform import Rotation

from posedive_lib import params
from posedive_lib.bench.statistics import holm
from posedive_lib.body.camera import orient
from posedive_lib.study import comparison, design, reid_analysis

SIX = 6


@pytest.fixture
def P():
    """The default study with every control and the second model switched on."""
    return params.load(
        ROOT / "params.yaml",
        overrides={
            "study.generated_control_datasets": ["msmt17-s-cam"],
            "study.resnet_datasets": ["msmt17-s-cam"],
        },
    )


def manifest(kept: int) -> pd.DataFrame:
    """Two identities with `kept` confident candidates and one that no threshold keeps."""
    rows = [
        {
            "pid": pid,
            "index": index,
            "path": f"{pid}_{index}",
            "camid": 1,
            "reference_min": 1.0,
            "level": 0.9 if index < kept else 0.0,
        }
        for pid in (1, 2)
        for index in range(kept + 1)
    ]
    table = pd.DataFrame(rows)
    return table.assign(
        **{f"sigma_{side}_{k:02d}": table["level"] for side in ("gen", "tar") for k in range(17)}
    )


def test_controls_run_on_their_data_sets_and_generated_ones_on_fewer(P):
    assert design.arms(P, "market1501") == ["real", "repeat", "pose-dive"]
    assert design.arms(P, "msmt17-s-pose") == [
        "real",
        "repeat",
        "pose-dive",
        "oracle",
        "oracle-same",
    ]
    assert set(design.arms(P, "msmt17-s-cam")) == {
        "real",
        "repeat",
        "pose-dive",
        "same-distribution",
        "viewpoint",
        "pose",
        "oracle",
        "oracle-same",
    }
    assert (
        design.generated_arms(P, "msmt17-s-pose") == []
        and len(design.generated_arms(P, "msmt17-s-cam")) == 3
    )


def test_every_arm_gets_its_images_and_every_seed(P, monkeypatch):
    asked = []
    monkeypatch.setattr(
        design,
        "load_manifest",
        lambda name, arm="pose-dive": manifest(3 if arm == "pose-dive" else 2).assign(arm=arm),
    )
    monkeypatch.setattr(
        design,
        "training_rows",
        lambda P, name, counts: (
            asked.append((name, counts.to_dict())) or pd.DataFrame({"pid": [1]})
        ),
    )
    jobs = pd.DataFrame([vars(job) for job in design.jobs(P)])
    clip = jobs[jobs["model"] == "clip-reid"]
    assert (
        clip.groupby(["dataset", "arm"])["seed"].apply(list).map(tuple) == tuple(P.reid.seeds)
    ).all()
    assert asked == [("msmt17-s-cam", {1: 3, 2: 3}), ("msmt17-s-pose", {1: 3, 2: 3})]
    rows = clip[clip["dataset"] == "msmt17-s-cam"].drop_duplicates("arm").set_index("arm")["rows"]
    assert rows["real"] is None and rows["oracle"] is rows["pose-dive"] is rows["repeat"]
    assert (
        len(rows["pose-dive"]) == 6
        and set(rows["viewpoint"]["arm"]) == {"viewpoint"}
        and len(rows["viewpoint"]) == 4
    )
    second = jobs[jobs["model"] == "resnet"]
    assert set(second["dataset"]) == set(P.study.resnet_datasets) and set(second["arm"]) == set(
        P.study.resnet_arms
    )
    assert set(jobs.loc[jobs["by_azimuth"], "dataset"]) == {P.study.azimuth_dataset}


def test_the_tilt_that_the_oracle_photographs_gives_back_the_orientation():
    rng = np.random.default_rng(0)
    orientation, azimuth, elevation = (
        Rotation.random(20, rng=0),
        rng.uniform(-180, 180, 20),
        rng.uniform(0, 30, 20),
    )
    upright = Rotation.from_rotvec(orient(np.zeros((20, 3)), azimuth, elevation))
    tilt = (upright.inv() * orientation).as_rotvec()
    again = Rotation.from_rotvec(orient(tilt, azimuth, elevation))
    assert (again.inv() * orientation).magnitude() == pytest.approx(np.zeros(20), abs=1e-9)


def test_azimuth_differences_are_means_over_the_seeds_of_both():
    cells = {
        ("real", 0): [[0.0, 0.0, 50.0, 4], [0.0, 90.0, 20.0, 2]],
        ("real", 1): [[0.0, 0.0, 52.0, 4], [0.0, 90.0, 20.0, 2]],
        ("oracle", 0): [[0.0, 0.0, 53.0, 4], [0.0, 90.0, 10.0, 2]],
        ("oracle", 1): [[0.0, 0.0, 53.0, 4], [0.0, 90.0, 20.0, 2]],
    }
    records = [{"arm": arm, "seed": seed, "azimuth": found} for (arm, seed), found in cells.items()]
    table = reid_analysis.azimuth_differences(
        [*records, {"arm": "oracle", "seed": 2, "azimuth": cells["real", 0]}], "oracle"
    )
    assert table.to_numpy().tolist() == [[0, 0, 2, 1, 3, 4], [0, 90, -5, -10, 0, 2]]


def test_the_azimuth_summary_weights_pairs_by_their_queries():
    table = pd.DataFrame(
        [(0, 45, 2.0, 1), (-45, 0, 4.0, 3), (0, 90, 1.0, 2), (180, 135, -6.0, 5)],
        columns=["query", "gallery", "difference", "queries"],
    )
    found = reid_analysis.azimuth_summary(table)
    assert found.to_numpy().tolist() == [
        ["both", 2, 4, 3.5],
        ["one", 1, 2, 1.0],
        ["none", 1, 5, -6.0],
    ]


def test_arm_against_arm_with_holm_over_the_family():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        [
            {"dataset": name, "arm": arm, "seed": seed, "mAP": level + rng.normal(), "rank1": level}
            for name, arms in (
                ("a", ("real", "repeat", "pose-dive", "same-distribution")),
                ("b", ("real", "pose-dive")),
            )
            for level, arm in enumerate(arms)
            for seed in range(SIX)
        ]
    )
    found = comparison.between(table, seed=0)
    assert found[["dataset", "arm", "baseline"]].drop_duplicates().to_numpy().tolist() == [
        ["a", "pose-dive", "repeat"],
        ["a", "pose-dive", "same-distribution"],
    ]
    part = found[found["metric"] == "mAP"]
    assert part["p_holm"].to_numpy() == pytest.approx(holm(part["p"].to_numpy()))
    assert comparison.between(table[table["dataset"] == "b"], seed=0).empty
