"""Where the test of MSMT17-S (Cam) begins, in sentences from the reports alone; see `sentences`."""

import pandas as pd

from posedive_lib.bench.tables import span
from posedive_lib.study.reid_findings import at_the_last_border
from posedive_lib.study.sentences import Tables, found, listed

MARGIN = 45  # degrees from the front, beyond which params/paper.yaml tests MSMT17-S (Cam)


def beyond(tables: Tables, table: str) -> str:
    """What new views are worth on (Cam) tested beyond 45°, as the paper's profile; or nothing."""
    wanted = {"arm": "pose-dive", "baseline": "same-distribution", "metric": "mAP"}
    rows = tables.rows(table, dataset=f"msmt17-s-cam-{MARGIN}", **wanted)
    return "".join(
        f"Tested beyond {MARGIN}° from the front, with a margin to training, new ones are worth "
        f"{span(row)}{found(row)} on MSMT17-S (Cam)."
        for _, row in rows.iterrows()
    )


def border_ends(tables: Tables) -> str:
    """The gain on MSMT17-S (Cam) by the first and last border of its test; or nothing."""
    if not tables.has("borders"):
        return ""
    rows = tables.rows("borders", arm="pose-dive", metric="mAP").sort_values("border")
    if len(rows) < 2:
        return ""
    ends = " to ".join(_by_border(rows.iloc[[0, -1]]))
    text = f"By where the test of MSMT17-S (Cam) begins, `pose-dive` brings {ends}."
    return f"{text} {_last(tables)}".strip()


def borders(tables: Tables) -> str:
    """`pose-dive` and true photos by where the test of MSMT17-S (Cam) begins; or nothing."""
    if not tables.has("borders"):
        return ""
    said = {}
    for arm in ("pose-dive", "oracle"):
        rows = tables.rows("borders", arm=arm, metric="mAP")
        said[arm] = _by_border(rows)
    where = "By where the test of MSMT17-S (Cam) begins, the change in mAP is"
    text = f"{where} {listed(said['pose-dive'])} from the front." if said["pose-dive"] else ""
    if text and said["oracle"]:
        text += f" Of true photos it is {listed(said['oracle'])}."
    rows = tables.rows("borders", arm="pose-dive", metric="rank1")
    shown = _by_border(rows[rows["verdict"].isin(["gain", "loss"])])
    if text and len(rows):
        rest = ", and no effect at any other border" if 0 < len(shown) < len(rows) else ""
        text += f" In rank-1 `pose-dive` shows {listed(shown) or 'no effect at any border'}{rest}."
        text += " Here p is corrected over all borders and arms, a family of its own."
    return f"{text} {_last(tables)}".strip() if text else ""


def _by_border(rows: pd.DataFrame) -> list[str]:
    """ "+4.9 (gain) beyond 30°" of each row."""
    return [
        f"{row['difference']:+.1f}{found(row)} beyond {row['border']:g}°"
        for _, row in rows.iterrows()
    ]


def _last(tables: Tables) -> str:
    there = tables.has("border_pairs")
    return at_the_last_border(tables.rows("border_pairs")) if there else ""
