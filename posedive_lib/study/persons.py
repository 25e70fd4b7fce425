"""One table: how often is the right person shown, by image set and judge (beyond the paper)?

The images that training uses stand first. Numbers of easier questions stand below them.
"""

from __future__ import annotations

import pandas as pd
from scipy.stats import binomtest

from posedive_lib.study.names import NAMES

COLUMNS = ["images", "judge", "value", "ci_low", "ci_high", "n"]


def table(
    name: str, judge: str, drawn: pd.DataFrame, unseen: pd.DataFrame, figure: pd.DataFrame
) -> pd.DataFrame:
    """Columns COLUMNS; value and interval are shares, n images (of unseen people: people).

    name: the data set of `drawn`, rows of `graded_generators.quality`, judged by a CLIP-ReID
    trained on the data set `judge`. unseen: `generator_quality.csv`. figure: rows of
    `crossing.right_person`, of the people of Fig. 6, with Wilson's interval.
    """
    rows = []
    known_by = f"CLIP-ReID trained on {NAMES[judge]}, by true photos in other poses and views"
    titles = {
        "pose-dive": f"added to {NAMES[name]}, which training uses",
        "oracle": f"true photos in the same poses and views, the judge's ceiling ({NAMES[name]})",
    }
    quality = {row["arm"]: row for row in drawn.to_dict("records")}
    for arm, title in titles.items():
        if arm in quality:
            row = quality[arm]
            ends = [row[column] / 100 for column in ("right_percent", "right_low", "right_high")]
            rows.append((title, known_by, *ends, int(row["judged"])))
    methods = {
        "generated": "people the generator never saw, clear references, uniform poses and views",
        "true-render": "true renderings of the same",
    }
    top = unseen[unseen["metric"] == "identity_top1"]
    named = {row["method"]: row for row in top.to_dict("records")}
    for method, title in methods.items():
        if method in named:
            row = named[method]
            ends = [row[column] for column in ("value", "ci_low", "ci_high")]
            known = "CLIP-ReID trained on the study's main set, by gallery photos"
            rows.append((title, known, *ends, int(row["n"])))
    for row in figure.to_dict("records"):
        interval = binomtest(int(row["right"]), int(row["of"])).proportion_ci(method="wilson")
        share = row["right"] / row["of"]
        title = f"the people of Fig. 6, {row['images']}"
        known = "CLIP-ReID trained on the study's main set, among these people alone"
        rows.append((title, known, share, interval.low, interval.high, int(row["of"])))
    return pd.DataFrame(rows, columns=COLUMNS)
