"""Tables of runs: pairing by seed, Holm's family, neighbours of a peak, the share of the oracle."""

import numpy as np
import pandas as pd
import pytest

from posedive_lib.bench.statistics import NO_EFFECT, holm, joint_p
from posedive_lib.errors import StudyError
from posedive_lib.study import comparison


def runs(values: dict, column: str, dataset: str = "d") -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "dataset": dataset,
                "arm": level if column == "arm" else "pose-dive",
                column: level,
                "seed": seed,
                "mAP": value,
                "rank1": value,
                "n_generated": 1,
            }
            for level, row in values.items()
            for seed, value in enumerate(row)
        ]
    )


def test_an_arm_is_compared_with_the_same_seeds_of_the_baseline():
    table = runs({"real": [10.0, 20, 30], "pose-dive": [11.0, 22, 33, 99]}, "arm").sample(
        frac=1, random_state=0
    )
    row = comparison.against(table, "real", seed=0).query("metric == 'mAP'").iloc[0]
    assert (row["difference"], row["p"], row["seeds"]) == (pytest.approx(2), pytest.approx(0.25), 3)
    assert row["verdict"] == NO_EFFECT  # Student's interval of three seeds is wide
    assert row["ci_low"] < 0 < row["bca_low"] < 2 < row["bca_high"] < row["ci_high"]


def test_verdicts_go_by_the_corrected_p():
    """An arm whose own p is 0.03 shows nothing where the family's is larger."""
    rng = np.random.default_rng(3)
    noise = {f"arm{i}": rng.normal(0, 1, 6) for i in range(30)}
    steady = {"real": np.zeros(6), "weak": np.array([0.30, 0.31, 0.29, 0.30, 0.32, 0.31])}
    odd = {"spread": np.array([9.0, 0.1, 0.2, 0.1, 0.3, 0.2])}
    found = comparison.against(runs({**steady, **odd, **noise}, "arm"), "real", seed=0)
    found = found[found["metric"] == "mAP"].set_index("arm")
    assert found.loc["weak", "verdict"] == "gain"
    assert found.loc["spread", "p"] == 2 / 2**6 < 0.05 < found.loc["spread", "p_joint"]
    assert found.loc["spread", "verdict"] == NO_EFFECT


def test_arms_without_a_common_seed_are_refused():
    table = runs({"real": [10.0], "pose-dive": [11.0]}, "arm")
    table.loc[table["arm"] == "real", "seed"] = 7
    with pytest.raises(StudyError, match="arm and baseline have no seed in common"):
        comparison.against(table, "real", seed=0)


def test_holm_runs_over_each_metrics_family():
    rng = np.random.default_rng(0)
    sets = [
        runs(
            {
                "real": rng.normal(50, 1, 6),
                "pose-dive": rng.normal(52, 1, 6),
                "repeat": rng.normal(50, 1, 6),
            },
            "arm",
            name,
        )
        for name in "ab"
    ]
    table = comparison.against(pd.concat(sets), "real", seed=0)
    for _, family in table.groupby("metric"):
        assert family["p_holm"].to_numpy() == pytest.approx(holm(family["p"].to_numpy()))
        assert (family["smallest_p_holm"] == 4 * 2 / 2**6).all() and (
            family["p_holm"] >= family["smallest_p_holm"] - 1e-12
        ).any()


def test_p_is_corrected_jointly_over_the_seeds_that_all_have():
    rng = np.random.default_rng(0)
    noise = {name: rng.normal(0, 0.1, 6) for name in ("real", "good", "bad")}
    table = runs(
        {"real": noise["real"] + 50, "good": noise["good"] + 52, "bad": noise["bad"] + 50}, "arm"
    )
    found = comparison.against(table, "real", seed=0).query("metric == 'mAP'").set_index("arm")
    differences = np.stack(
        [noise["good"] - noise["real"] + 2, noise["bad"] - noise["real"]], axis=1
    )
    assert (
        found["p_joint"].to_numpy() == pytest.approx(joint_p(differences, seed=0))
        and found.loc["good", "p_joint"] == 2 / 2**6
    )
    fewer = table[~((table["arm"] == "bad") & (table["seed"] > 2))]
    assert (
        comparison.against(fewer, "real", seed=0).query("arm == 'good'")["p_joint"].tolist()
        == [2 / 2**3] * 2
    )  # three are left to both
    few = comparison.against(fewer, "real", seed=0).query("arm == 'good'")["verdict"]
    assert set(few) == {"gain, too few seeds to test"}  # though this pair has six
    apart = table[
        ~((table["arm"] == "bad") & (table["seed"] > 2))
        & ~((table["arm"] == "good") & (table["seed"] <= 2))
    ]
    assert comparison.against(apart, "real", seed=0)["p_joint"].isna().all()


def test_a_peak_is_reported_with_its_neighbours():
    table = runs(
        {0: [1.0, 2, 3], 5: [4.0, 5, 6], 9: [3.0, 6, 5], 20: [0.0, 0, 0]}, "images_per_pid"
    )
    assert comparison.best_level(table, "images_per_pid", "mAP") == 5
    sentence = comparison.best_sentence(table, "images_per_pid", "mAP", seed=0)
    assert sentence.startswith(
        "Highest mean mAP: 5.00 at 5; "
        "+3.00 [+3.00, +3.00] against 0 (gain, too few seeds to test); "
    )
    assert sentence.endswith("against 9 (no effect shown).") and "against 20" not in sentence


def test_a_step_has_the_p_and_the_verdict_of_the_family_of_all_steps():
    values = {0: [1.0, 2, 3, 4, 5, 6], 5: [2.0, 3.1, 4, 5, 6, 7], 9: [2.0, 3, 4, 5.1, 6, 6.9]}
    table = comparison.by_level(runs(values, "n"), "n", seed=0).query("metric == 'mAP'")
    before, after = (np.array([values[level] for level in some]).T for some in ((0, 5), (5, 9)))
    corrected = joint_p(after - before, seed=0)
    first, *steps = table["step_p_joint"]
    assert np.isnan(first) and steps == pytest.approx(corrected.tolist())
    assert table["step_verdict"].tolist()[1:] == ["gain", NO_EFFECT]
    assert steps[0] <= 0.05 < steps[1]


def test_a_level_is_compared_with_every_other_one():
    table = comparison.level_against_others(
        runs({0: [1.0, 2, 3], 5: [4.0, 5, 7], 9: [3.0, 6, 5]}, "images_per_pid"),
        "images_per_pid",
        0,
        metric="mAP",
        seed=0,
    )
    assert table["other"].tolist() == [5, 9] and table["beside"].tolist() == [True, False]
    assert table["difference"].tolist() == pytest.approx([-10 / 3, -8 / 3])
    with pytest.raises(StudyError, match="no run with images_per_pid 15; there are 0, 5"):
        comparison.level_against_others(
            runs({0: [1.0], 5: [1.0]}, "images_per_pid"), "images_per_pid", 15, metric="mAP", seed=0
        )


def shares(table: pd.DataFrame) -> pd.DataFrame:
    compared = [
        comparison.against(table, "real", seed=0),
        comparison.between(table, [("oracle", "oracle-same")], seed=0),
    ]
    return comparison.oracle_shares(table, pd.concat(compared))


def test_shares_of_the_oracle():
    defined = runs(
        {"real": [10.0, 11, 12], "oracle": [14.0, 15, 17], "pose-dive": [11.0, 12, 14]}, "arm", "a"
    )
    undefined = runs(
        {"real": [10.0, 11, 12], "oracle": [9.0, 12, 12], "pose-dive": [11.0, 12, 14]}, "arm", "b"
    )
    without = runs({"real": [10.0], "pose-dive": [11.0]}, "arm", "c")
    losing = runs(
        {"real": [10.0, 11, 12], "oracle": [6.0, 7, 9], "pose-dive": [11.0, 12, 14]}, "arm", "d"
    )
    table = shares(pd.concat([defined, undefined, without, losing]))
    assert set(table["of"]) == {"gain"}
    assert table["dataset"].tolist() == ["a", "b", "d"]
    assert (
        table["share"].iloc[0] == pytest.approx(100 * 4 / 13)
        and table["share"].iloc[1:].isna().all()
    )
    assert table["note"].tolist() == ["", "not defined", "not defined"]
    controls = runs(
        {"same-distribution": [10.0, 11, 13], "oracle-same": [12.0, 13, 14.5]}, "arm", "a"
    )
    both = shares(pd.concat([defined, controls])).set_index("of")
    assert both.loc["diversity", "share"] == pytest.approx(100 * 3 / 6.5) and both.loc[
        "gain", "share"
    ] == pytest.approx(100 * 4 / 13)


def test_an_interval_above_zero_is_no_gain_where_the_test_does_not_pass():
    """A share of an effect that the verdicts do not show is not defined."""
    table = runs(
        {"real": [0.0] * 6, "oracle": [1.0, 2, 1, 2, 1, 2], "pose-dive": [1.0] * 6}, "arm", "a"
    )
    against = comparison.against(table, "real", seed=0)
    assert comparison.oracle_shares(table, against)["note"].tolist() == [""]
    against["verdict"] = "no effect shown"
    found = comparison.oracle_shares(table, against)
    assert found["note"].tolist() == ["not defined"] and found["share"].isna().all()


def test_a_study_without_pairs_has_an_empty_table_with_its_columns():
    found = comparison.between(runs({"real": [1.0, 2]}, "arm"), seed=0)
    assert found.empty and {"metric", "arm", "verdict", "p_joint"} <= set(found.columns)
