"""The fresh worlds' answer by other rules than the frozen one."""

import numpy as np
import pandas as pd
import pytest
from pipeline import ROOT

from posedive_lib.study import replication_checks, replication_gains


def of_worlds(values: dict[str, list[float]]) -> pd.DataFrame:
    """Runs whose `pose-dive` and `same-distribution` differ by these values, by world."""
    rows = []
    for dataset, differences in values.items():
        for world, difference in enumerate(differences):
            arms = {"real": 0.0, "same-distribution": 0.0, "pose-dive": difference}
            for arm, gain in arms.items():
                rows.append((world, dataset, arm, 50.0 + world + gain, 60.0))
    return pd.DataFrame(rows, columns=["world", "dataset", "arm", "mAP", "rank1"])


def test_other_rules_stand_beside_the_frozen_one():
    cam, pose = replication_gains.PRIMARY_DATASETS
    small, large = [1.0, 1, 1, 1, 1, -0.2, 1, 1], [9.0, 8, 9, 8, 9, 8, 9, 8]
    runs = of_worlds({cam: small, pose: large, f"{cam}-45": small})
    found = replication_checks.checks(runs).set_index(["rule", "dataset"])
    frozen = replication_gains.gains(runs).query("family == 'primary'")
    own = found.loc[replication_checks.FROZEN]
    assert own["p"].tolist() == frozen["p_joint"].tolist()
    assert own["verdict"].tolist() == frozen["verdict"].tolist() == ["gain", "gain"]
    # Only the 70 of 256 patterns with as many minus as plus keep the large one's sum below 6.8.
    plain = found.loc["plain means"]
    assert plain.loc[cam, "p"] == 186 / 256 and plain.loc[cam, "verdict"] == "no effect shown"
    assert plain.loc[pose, "p"] == 2 / 2**8 and plain.loc[pose, "verdict"] == "gain"
    few = found.loc["first 6 worlds"]
    assert few.loc[cam, "difference"] == pytest.approx(4.8 / 6) and set(few["worlds"]) == {6}
    assert few.loc[cam, "verdict"] == "no effect shown"
    among = found.loc["family of all pairs"]
    assert among.index.tolist() == [cam, pose, f"{cam}-45"]
    assert among.loc[cam, "p"] == among.loc[f"{cam}-45", "p"]
    nothing = of_worlds({"market1501": small})
    assert replication_checks.checks(nothing).empty


def test_plain_means_are_permuted_together():
    differences = np.array([[1.0, 10.0], [2.0, -10.0]])  # sums 3 and 0
    # Of the patterns ++, +-, -+, --, the largest sums are 3, 20, 20, 3.
    assert replication_checks.plain_p(differences).tolist() == [1.0, 1.0]
    differences[1, 1] = 10.0  # sums 3 and 20; the largest: 20, 1, 1, 20
    assert replication_checks.plain_p(differences).tolist() == [0.5, 0.5]


def test_the_primary_analysis_says_how_many_verdicts_plain_means_give():
    page = " ".join((ROOT / "docs/primary_analysis.md").read_text().split())
    runs = pd.read_csv(ROOT / "reports/tables/replication.csv")
    divided, plain = (replication_checks.shown(runs, divided=way) for way in (True, False))
    assert (
        f"{plain['against real']} verdicts against `real` in mAP instead of "
        f"{divided['against real']}, and {plain['pairs']} between arms instead of "
        f"{divided['pairs']}"
    ) in page
