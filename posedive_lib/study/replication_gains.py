"""What the fresh worlds say together: the analysis that docs/primary_analysis.md wrote down.

A module of its own, for the freeze holds its digest: nobody changes it when results are in.
"""

import pandas as pd

from posedive_lib.study.comparison import against, between

# The primary comparison: a family of its own, so corrected alone.
PRIMARY = ("pose-dive", "same-distribution")
PRIMARY_DATASETS = ("msmt17-s-cam", "msmt17-s-pose")
PAIRS = (
    ("pose-dive", "same-distribution"),
    ("pose-dive", "repeat"),
    ("same-distribution", "repeat"),
    ("oracle", "oracle-same"),
    ("pose-dive", "oracle"),
)


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """PRIMARY in mAP, each arm against `real`, then PAIRS; the replicate is the world.

    Columns as in comparison.csv, and first `family`: primary, or secondary. The interval and the
    test speak of other people, cameras, generators and trainings at once. Corrected over the
    comparisons of each part.
    """
    runs = table.rename(columns={"world": "seed"})
    first = runs[runs["dataset"].isin(PRIMARY_DATASETS)]
    primary = between(first, [PRIMARY], seed=0, metrics=["mAP"])
    others = [against(runs, "real", seed=0), between(runs, PAIRS, seed=0)]
    named = [("primary", primary), *(("secondary", part) for part in others)]
    parts = [part.assign(family=family) for family, part in named if len(part)]
    found = pd.concat(parts, ignore_index=True)
    # A primary comparison has one verdict.
    found = found.drop_duplicates(["dataset", "arm", "baseline", "metric"])
    found.insert(0, "family", found.pop("family"))
    return found.rename(columns={"seeds": "worlds"})
