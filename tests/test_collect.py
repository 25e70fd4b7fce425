"""reid_runs.csv holds every run once, in one order, with one set of columns."""

import pandas as pd
import pytest

from posedive_lib.errors import StudyError
from posedive_lib.study.collect import IDENTITY, RESULT, collect


def run(**values) -> dict:
    row = dict.fromkeys(IDENTITY + RESULT, 1.0) | {
        "experiment": "comparison",
        "dataset": "msmt17",
        "arm": "real",
        "model": "clip-reid",
    }
    return row | values


def test_runs_are_gathered_in_one_order(tmp_path):
    pd.DataFrame([run(seed=1), run(seed=0)]).to_csv(tmp_path / "05.csv", index=False)
    pd.DataFrame([run(experiment="a", threshold=None, protocol="767/700")]).to_csv(
        tmp_path / "06.csv", index=False
    )
    runs = collect(tmp_path)
    assert list(runs.columns) == IDENTITY + RESULT + ["protocol"]
    assert list(runs["experiment"]) == ["a", "comparison", "comparison"] and list(runs["seed"]) == [
        1,
        0,
        1,
    ]


@pytest.mark.parametrize(
    "rows, message",
    [
        ([], "no Re-ID runs"),
        ([run(), run()], "two results for one run"),
        ([{"seed": 0}], "lacks the columns experiment"),
        ([run(), run(seed=2, mAP=101)], "outside of 0 to 100 percent in row 3"),
        ([run(mAP=None)], "outside of 0 to 100 percent in row 2"),
    ],
)
def test_what_cannot_be_right_is_named(tmp_path, rows, message):
    if rows:
        pd.DataFrame(rows).to_csv(tmp_path / "05.csv", index=False)
    with pytest.raises(StudyError, match=message):
        collect(tmp_path)
