"""The design of the comparison: which arms run where, on which images; and differences of runs."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pipeline import ROOT
from scipy.spatial.transform import Rotation

from posedive_lib import params
from posedive_lib.bench.runs import RunStore
from posedive_lib.bench.statistics import holm
from posedive_lib.body.camera import orient
from posedive_lib.errors import StudyError
from posedive_lib.study import (
    comparison,
    design,
    failure_samples,
    failures,
    generation,
    hard_samples,
    reid_analysis,
)

SIX = 6


@pytest.fixture
def P():
    """The study with its controls where this test wants them, and the second model."""
    controls = ("same-distribution", "viewpoint", "pose", "uniform", "unfiltered")
    arms: dict = dict.fromkeys(("real", "repeat", "pose-dive"), "all")
    arms |= dict.fromkeys((*controls, "with-bags", "without-bags"), ["msmt17-s-cam"])
    arms |= dict.fromkeys(("oracle", "oracle-same"), ["msmt17-s-cam", "msmt17-s-pose"])
    overrides = {"study.arms": arms, "study.resnet_datasets": ["msmt17-s-cam"]}
    return params.load(ROOT / "params.yaml", overrides=overrides)


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


def test_a_data_set_without_arms_needs_no_candidates(P, monkeypatch, tmp_path):
    """MSMT17 is there for its splits alone where a study names arms for these only."""
    monkeypatch.chdir(tmp_path)
    assert design.images(P, "msmt17", []) == {}
    with pytest.raises(FileNotFoundError):
        design.images(P, "msmt17", ["pose-dive"])


def test_controls_run_on_their_data_sets_and_generated_ones_on_fewer(P):
    assert design.arms(P, "market1501") == ["real", "repeat", "pose-dive"]
    assert design.arms(P, "msmt17-s-pose") == [
        "real",
        "repeat",
        "pose-dive",
        "oracle",
        "oracle-same",
    ]
    assert set(design.arms(P, "msmt17-s-cam")) == set(P.study.arms)
    assert design.generated_arms(P, "msmt17-s-pose") == []
    assert set(design.generated_arms(P, "msmt17-s-cam")) == {*design.CONTROLS}
    assert design.controlled(P) == ["msmt17-s-cam", "msmt17-s-pose"]


def test_every_arm_gets_its_images_and_every_seed(P, monkeypatch):
    asked = []
    for module in (design, generation):
        monkeypatch.setattr(
            module,
            "load_manifest",
            lambda name, arm="pose-dive": manifest(3 if arm == "pose-dive" else 2).assign(arm=arm),
        )
    bags = {"with-bags": manifest(1), "without-bags": manifest(1)}
    monkeypatch.setattr(design.hard_samples, "arms", lambda P, name, base: bags)
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
    assert len(rows["pose-dive"]) == 6 and rows["with-bags"] is bags["with-bags"]
    for arm in design.CONTROLS:  # one of three is filled up with what the filter rejects
        assert set(rows[arm]["arm"]) == {arm} and rows[arm]["pid"].tolist() == [1, 1, 1, 2, 2, 2]
        assert rows[arm].groupby("pid")["kept"].sum().tolist() == [2, 2]
    assert rows["unfiltered"]["index"].tolist() == [0, 1, 2, 0, 1, 2]
    second = jobs[jobs["model"] == "resnet"]
    assert set(second["dataset"]) == set(P.study.resnet_datasets) and set(second["arm"]) == set(
        P.study.resnet_arms
    )
    assert set(jobs.loc[jobs["by_azimuth"], "dataset"]) == {P.study.azimuth_dataset}
    bordered = jobs[jobs["borders"].map(bool)]
    assert set(bordered["dataset"]) == {"msmt17-s-cam"} and set(bordered["model"]) == {"clip-reid"}
    assert bordered["borders"].iloc[0] == tuple(P.study.borders)


def test_arms_with_and_without_bags_have_as_many_images_of_each_identity():
    kept = pd.DataFrame(
        {"pid": [1] * 5 + [2] * 3 + [3] * 2, "index": [0, 1, 2, 3, 4, 0, 1, 2, 0, 1]}
    )
    bag = np.array([0, 1, 0, 1, 0, 1, 1, 0, 1, 1], bool)
    arms = hard_samples.matched(kept, bag, pd.Series({1: 3, 2: 3, 3: 2}))
    chosen = {arm: list(zip(rows["pid"], rows["index"], strict=True)) for arm, rows in arms.items()}
    # The first person has three images without a bag, the second one, the third none.
    assert chosen["without-bags"] == [(1, 0), (1, 2), (1, 4), (2, 2)]
    assert chosen["with-bags"] == [(1, 0), (1, 1), (1, 3), (2, 0)]


def test_bags_are_asked_of_people_without_one_alone(P, monkeypatch, tmp_path):
    rows = pd.DataFrame(
        {"pid": [1, 2, 3], "index": 0, "camid": 0, "reference": ["a", "b", "c"], "path": "x"}
    )
    train = pd.DataFrame({"rel": ["a", "b", "c"], "person": ["p", "q", "r"]})
    for file in ("truth.csv", "people.csv"):
        (tmp_path / file).write_text("")
    dataset = SimpleNamespace(train=train, folder=tmp_path)
    monkeypatch.setattr(hard_samples.datasets, "of_study", lambda name, paths: dataset)
    bags = pd.DataFrame({"bag": ["none", "backpack", "none"]})
    monkeypatch.setattr(hard_samples.mini_world, "people", lambda P, persons: bags)
    monkeypatch.setattr(hard_samples, "load_bodies", lambda rows, folder: (None, None))
    monkeypatch.setattr(hard_samples, "candidate_images", lambda name, rows, size: rows)
    monkeypatch.setattr(
        failure_samples, "Studio", lambda P, table, bodies: table["person"].tolist()
    )
    judged = []

    def scores(studio, images):
        judged.append(studio)
        return pd.DataFrame({"bag appeared": [2.0, np.nan]})

    monkeypatch.setattr(failures, "bag_scores", scores)
    monkeypatch.setattr(hard_samples, "STORE", RunStore(tmp_path / "runs"))
    monkeypatch.setattr(
        hard_samples,
        "in_processes",
        lambda work, jobs, workers, **options: [work(*job) for job in jobs],
    )
    for _ in range(2):  # the second time from the record
        found = hard_samples.bag_appeared(P, "msmt17-s-cam", rows)
        assert found.tolist() == [True, False, False] and judged == [["p", "r"]]
    assert len(hard_samples.bag_appeared(P, "msmt17-s-cam", rows.iloc[:0])) == 0
    monkeypatch.setattr(hard_samples.mini_world, "has_people", lambda table: False)
    with pytest.raises(StudyError, match="leave with-bags and without-bags out of study.arms"):
        hard_samples.bag_appeared(P, "msmt17-s-cam", rows)


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


def test_gains_by_border_are_of_models_that_are_tested_again():
    """True photos gain 3 beyond 30 degrees and lose 2 beyond 90, in both seeds of six."""
    rng = np.random.default_rng(0)
    records = []
    for seed in range(SIX):
        base = rng.normal(50, 1, 2)
        for arm, gain in (("real", (0.0, 0.0)), ("oracle", (3.0, -2.0))):
            cells = {
                border: [value + change, 40.0, queries]
                for border, queries, value, change in zip(
                    ("30", "90"), (9, 4), base, gain, strict=True
                )
            }
            record = {"dataset": "msmt17-s-cam", "arm": arm, "seed": seed, "borders": cells}
            records.append(record)
    records.append({"dataset": "market1501", "arm": "oracle", "seed": 0, "borders": None})
    found = reid_analysis.border_gains(records, seed=0)
    found = found[found["metric"] == "mAP"].set_index("border")
    assert found["difference"].to_dict() == pytest.approx({30.0: 3.0, 90.0: -2.0})
    assert found["verdict"].tolist() == ["gain", "loss"] and found["queries"].tolist() == [9, 4]
    empty = reid_analysis.border_gains(records[-1:], seed=0)
    assert empty.empty and {"border", "queries", "difference"} <= set(empty)


def test_new_views_are_held_against_old_ones_beyond_each_border():
    """True photos in new views gain 4 beyond 30 degrees, and lose 2 beyond 90."""
    records, arms = [], {"oracle-same": (1.0, 1.0), "oracle": (5.0, -1.0), "real": (0.0, 0.0)}
    for seed in range(SIX):
        for arm, gains in arms.items():
            cells = {
                border: [50.0 + seed + 0.01 * seed * gain + gain, 40.0, 9]
                for border, gain in zip(("30", "90"), gains, strict=True)
            }
            record = {"dataset": "msmt17-s-cam", "arm": arm, "seed": seed, "borders": cells}
            records.append(record)
    found = reid_analysis.border_pairs(records, seed=0)
    assert list(zip(found["border"], found["arm"], found["baseline"], strict=True)) == [
        (30.0, "oracle", "oracle-same"),
        (90.0, "oracle", "oracle-same"),
    ]
    assert found["difference"].tolist() == pytest.approx([4.1, -2.05])
    assert found["verdict"].tolist() == ["gain", "loss"] and set(found["metric"]) == {"mAP"}
    empty = reid_analysis.border_pairs([], seed=0)
    assert empty.empty and {"border", "queries", "arm", "p_joint"} <= set(empty)


def test_longer_runs_are_held_against_the_same_seeds_of_the_usual_ones():
    def runs(change, seeds):
        return pd.DataFrame(
            [
                {"dataset": "d", "arm": arm, "seed": seed, "mAP": 50 + seed + gain, "rank1": 1.0}
                for arm, gain in (("real", 0.0), ("oracle", change), ("repeat", 9.0))
                for seed in seeds
            ]
        )

    usual, longer = runs(-4.0, range(SIX)), runs(1.0, range(3))
    longer = longer[longer["arm"] != "repeat"]
    found = reid_analysis.longer_gains(longer, usual, 3, seed=0)
    found = found[found["metric"] == "mAP"]
    assert found["length"].tolist() == [1, 3] and found["arm"].tolist() == ["oracle"] * 2
    assert found["difference"].tolist() == pytest.approx([-4.0, 1.0])
    assert found["seeds"].tolist() == [3, 3]


def test_longer_jobs_are_those_of_the_parameters(P, monkeypatch):
    monkeypatch.setattr(generation, "load_manifest", lambda name, arm="pose-dive": manifest(3))
    jobs = pd.DataFrame([vars(job) for job in design.longer_jobs(P)])
    longer = P.study.longer
    assert set(jobs["longer"]) == {longer.factor} and set(jobs["experiment"]) == {design.LONGER}
    assert set(jobs["dataset"]) == set(longer.datasets) and set(jobs["seed"]) == set(longer.seeds)
    by = jobs.groupby("dataset")["arm"].agg(set)
    assert by.to_dict() == {name: set(longer.arms) for name in longer.datasets}


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
        ["a", "same-distribution", "repeat"],
    ]
    part = found[found["metric"] == "mAP"]
    assert part["p_holm"].to_numpy() == pytest.approx(holm(part["p"].to_numpy()))
    assert comparison.between(table[table["dataset"] == "b"], seed=0).empty
