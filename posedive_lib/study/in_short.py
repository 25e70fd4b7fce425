"""What came out in four sentences, for a reader with little time; see `sentences`."""

import pandas as pd

from posedive_lib.study.names import NAMES
from posedive_lib.study.sentences import Tables, listed

WORLDS = "replication_gains"  # the table of `make replication`


def in_short(tables: Tables) -> list[str]:
    """What the new worlds say, the losses too; nothing before they were run."""
    if not tables.has(WORLDS):
        return []
    worlds = int(tables.rows(WORLDS)["worlds"].max())
    return [
        f"In {worlds} new worlds, the method's images (`pose-dive`) "
        f"{_changes(_pair(tables, 'real'))}.",
        "Against as many generated images in the old poses and views, the new ones "
        f"{_changes(_pair(tables, 'same-distribution'))}.",
        "Against as many true photos in the new poses and views, they "
        f"{_changes(_pair(tables, 'oracle'))}.",
        "Earlier designs of the mini world, in which generated images lowered mAP, are in the "
        "[design history](docs/design_history.md).",
    ]


def _pair(tables: Tables, baseline: str) -> pd.DataFrame:
    rows = tables.rows(WORLDS, arm="pose-dive", baseline=baseline, metric="mAP")
    return rows[rows["dataset"].isin(NAMES)]


def _changes(rows: pd.DataFrame) -> str:
    """ "gain mAP on A (+3.9), and lose mAP on B (-2.0), and show no effect on C" """
    said = []
    for verdict, word in (("gain", "gain mAP on"), ("loss", "lose mAP on")):
        own = rows[rows["verdict"] == verdict]
        names = [f"{NAMES[row['dataset']]} ({row['difference']:+.1f})" for _, row in own.iterrows()]
        if names:
            said.append(f"{word} {listed(names)}")
    rest = [NAMES[name] for name in rows.loc[~rows["verdict"].isin(["gain", "loss"]), "dataset"]]
    if rest:
        said.append(f"show no effect on {listed(rest)}")
    return ", and ".join(said) or "were not compared"
