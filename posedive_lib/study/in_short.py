"""What came out in a few sentences, for a reader with little time; see `sentences`."""

import pandas as pd

from posedive_lib.study.names import NAMES
from posedive_lib.study.sentences import Tables, listed, rank1_span

WORLDS = "replication_gains"  # the table of `make replication`


def in_short(tables: Tables) -> list[str]:
    """What the new worlds say, the losses too; nothing before they were run."""
    if not tables.has(WORLDS):
        return []
    worlds = int(tables.rows(WORLDS)["worlds"].max())
    first = f"In {worlds} new rendered worlds, the method's images (`pose-dive`)"
    as_many = "Against as many {} poses and views,".format
    return [
        f"{_told(first, _pair(tables, 'real'))} In rank-1: {_lowered(rank1_span(tables, WORLDS))}",
        _told(
            f"{as_many('generated images in the *old*')} the new ones",
            _pair(tables, "same-distribution"),
        ),
        _told(f"{as_many('true photos in the new')} they", _pair(tables, "oracle")),
        "In earlier designs of the mini world generated images lowered mAP: see the "
        "[design history](docs/design_history.md).",
    ]


def _pair(tables: Tables, baseline: str) -> pd.DataFrame:
    rows = tables.rows(WORLDS, arm="pose-dive", baseline=baseline, metric="mAP")
    return rows[rows["dataset"].isin(NAMES)]


def _told(who: str, rows: pd.DataFrame) -> str:
    """ "WHO gain mAP on A (+3.9) and lose mAP on B (-2.0). No effect is shown on C." """
    said = []
    for verdict, word in (("gain", "gain mAP on"), ("loss", "lose mAP on")):
        own = rows[rows["verdict"] == verdict]
        names = [f"{NAMES[row['dataset']]} ({row['difference']:+.1f})" for _, row in own.iterrows()]
        if names:
            said.append(f"{word} {listed(names)}")
    rest = [NAMES[name] for name in rows.loc[~rows["verdict"].isin(["gain", "loss"]), "dataset"]]
    if not said:
        return f"{who} show no effect on mAP." if rest else f"{who} were not compared."
    nothing = f" No effect is shown on {listed(rest)}." if rest else ""
    return f"{who} {' and '.join(said)}.{nothing}"


def _lowered(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
