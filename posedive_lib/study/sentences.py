"""Results of the study in sentences and a table, from the reports alone.

No number there is typed: each comes from reports/tables.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from posedive_lib.bench.tables import span
from posedive_lib.errors import StudyError
from posedive_lib.study.names import NAMES
from posedive_lib.study.reid_findings import dagger

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

TABLES = Path("reports/tables")
ARMS = {
    "pose-dive": "+ `pose-dive`",
    "same-distribution": "+ generated, old poses and views",
    "oracle": "+ true photos, new poses and views",
}


class Tables:
    """The reports' tables, each read once."""

    def __init__(self, folder: Path = TABLES):
        self.folder = folder
        self._read: dict[str, pd.DataFrame] = {}

    def has(self, table: str) -> bool:
        """Whether there is such a table."""
        return (self.folder / f"{table}.csv").is_file()

    def rows(self, table: str, **wanted: str) -> pd.DataFrame:
        """Rows of a table whose columns have the wanted values. StudyError without the table."""
        if table not in self._read:
            path = self.folder / f"{table}.csv"
            if not path.is_file():
                raise StudyError(f"There is no {path}: run `dvc repro` first.")
            self._read[table] = pd.read_csv(path)
        found = self._read[table]
        for column, value in wanted.items():
            found = found[found[column] == value]
        return found


def gain(
    tables: Tables, dataset: str, arm: str, table: str, metric: str = "mAP"
) -> pd.Series | None:
    """The comparison of an arm with real images; None where it was not run."""
    rows = tables.rows(table, dataset=dataset, arm=arm, baseline="real", metric=metric)
    return rows.iloc[0] if len(rows) else None


def results_table(tables: Tables, table: str = "comparison") -> str:
    """Markdown: a row per data set; mAP with real images alone, and what each addition changes."""
    there = set(tables.rows(table)["dataset"])
    lines = [
        f"| data set, mAP (%) of real images | {' | '.join(ARMS.values())} |",
        "|---|---|---|---|",
    ]
    for dataset, name in NAMES.items():
        if dataset in there:
            rows = [gain(tables, dataset, arm, table) for arm in ARMS]
            cells = ["–" if row is None else span(row) + dagger(row) for row in rows]
            base = next(row["baseline_mean"] for row in rows if row is not None)
            lines.append(f"| {name}, {base:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def found(row: pd.Series) -> str:
    """ " (gain)", " (loss)", a dagger, or nothing: what is shown of a difference."""
    return f" ({row['verdict']})" if row["verdict"] in ("gain", "loss") else dagger(row)


def verdicts(tables: Tables, table: str = "comparison", metric: str = "mAP") -> str:
    """Where `pose-dive` gains, loses, or shows no effect."""
    groups: dict[str, list[str]] = {"gains": [], "loses": [], "": []}
    for dataset, name in NAMES.items():
        row = gain(tables, dataset, "pose-dive", table, metric)
        if row is not None:
            groups[{"gain": "gains", "loss": "loses"}.get(row["verdict"], "")].append(name)
    said = [f"{word} on {listed(sets)}" for word, sets in groups.items() if word and sets]
    text = f"`pose-dive` {listed(said)}. " if said else ""
    if groups[""]:
        where = f"on {listed(groups[''])}" if said or len(groups[""]) == 1 else "on any set"
        text += f"No effect of `pose-dive` is shown {where}."
    return text.strip()


def rank1_span(tables: Tables, table: str = "comparison") -> str:
    """Where `pose-dive` gains or loses rank-1, and between which values its means lie."""
    rows = tables.rows(table, arm="pose-dive", baseline="real", metric="rank1")["difference"]
    if rows.empty:
        return ""
    said = verdicts(tables, table, "rank1")
    return f"{said} Its means change by {rows.min():+.1f} to {rows.max():+.1f}."


def rank1(tables: Tables, table: str = "comparison", pairs: str = "diversity_volume") -> str:
    """What `pose-dive` changes in rank-1; and where its mean is above that of true photos."""
    said: list[str] = []
    above: dict[str, str] = {}  # what is said of a set, with its verdict
    for dataset, name in NAMES.items():
        row = gain(tables, dataset, "pose-dive", table, "rank1")
        if row is not None:
            said.append(f"{row['difference']:+.1f}{found(row)} on {name}")
            wanted = {"arm": "pose-dive", "baseline": "oracle", "metric": "rank1"}
            for _, pair in tables.rows(pairs, dataset=dataset, **wanted).iterrows():
                if pair["difference"] > 0:
                    above[f"{pair['difference']:+.1f}{found(pair)} on {name}"] = pair["verdict"]
    text = f"`pose-dive` changes it by {listed(said)}."
    if above:
        text += f" Its mean is higher than that of true photos by {listed(list(above))}."
        shown = "gain" in above.values()
        text += (
            " Where this is a gain, true photos are no upper limit."
            if shown
            else " That may be chance: no effect is shown."
        )
    return text


def listed(words: list[str]) -> str:
    """ "a, b and c" """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def diversity(tables: Tables, table: str = "diversity_volume", gains: str = "comparison") -> str:
    """What new poses and views add to as many images in the old ones; or nothing."""
    said, alone = [], []
    wanted = {"arm": "pose-dive", "baseline": "same-distribution", "metric": "mAP"}
    for dataset, name in NAMES.items():
        pair = tables.rows(table, dataset=dataset, **wanted)
        said += [f"{span(row)} mAP on {name}{found(row)}" for _, row in pair.iterrows()]
        over_real = gain(tables, dataset, "pose-dive", gains)
        if pair.empty and over_real is not None and over_real["verdict"] == "gain":
            alone.append(name)
    if not said:
        return ""
    text = (
        "Against as many generated images in the *old* poses and views, new ones are worth "
        f"{listed(said)}. This includes what the generator knows of other people's unseen sides."
    )
    if alone:
        text += f" On {listed(alone)} this control was not run, so the gain's cause is open."
    return text


def borders(tables: Tables) -> str:
    """`pose-dive` and true photos by where the test of MSMT17-S (Cam) begins; or nothing."""
    if not tables.has("borders"):
        return ""
    said = {}
    for arm in ("pose-dive", "oracle"):
        rows = tables.rows("borders", arm=arm, metric="mAP")
        said[arm] = [
            f"{row['difference']:+.1f}{found(row)} beyond {row['border']:g}°"
            for _, row in rows.iterrows()
        ]
    where = "By where the test of MSMT17-S (Cam) begins, the change in mAP is"
    text = f"{where} {listed(said['pose-dive'])} from the front." if said["pose-dive"] else ""
    if text and said["oracle"]:
        text += f" Of true photos it is {listed(said['oracle'])}."
    return text


def persons(tables: Tables) -> str:
    """How often the right person is shown, in images used and of unseen people; true ones beside.

    True photos and renderings only where the study has them.
    """
    used = {row["arm"]: row for row in tables.rows("generator_gain").to_dict("records")}
    unseen = tables.rows("generator_quality", metric="identity_top1").set_index("method")["value"]
    said = ""
    if "pose-dive" in used:
        where = f"added to {generator_dataset(tables)}" if tables.has("reid_runs") else "used"
        said = f"Of the images {where}, {right(used['pose-dive'])} show the right person"
        if "oracle" in used:
            said += f"; of true photos, {right(used['oracle'])}"
        said += ". Another CLIP-ReID, trained on other people, judges this. "
    share = f"{100 * unseen['generated']:.0f} %"
    if "true-render" not in unseen:
        return f"{said}Of people the generator never saw, {share} are drawn as themselves."
    prints = tables.rows("generator_quality", method="generated", metric="print_kept")["value"]
    kept = ""
    if len(prints):
        kept = f" Of prints on shirts, {100 * prints.iloc[0]:.0f} % keep half of their contrast."
    beside = " The two pairs of numbers cannot be compared." if said else ""
    return (
        f"{said}By a second such judge, {share} of the images of people that the generator never "
        "saw, drawn from clear photos, show the right person "
        f"({100 * unseen['true-render']:.0f} % of true renderings)."
        f"{beside}{kept}"
    )


def right(row: Mapping[Hashable, Any]) -> str:
    """A row's share of right persons with its interval: "59 % [54, 64]"."""
    low, high = (f"{row[f'right_{end}']:.0f}" for end in ("low", "high"))
    return f"{row['right_percent']:.0f} % [{low}, {high}]"


def generator_dataset(tables: Tables) -> str:
    """The name of the data set on which generators are compared."""
    return NAMES[tables.rows("reid_runs", experiment="generator")["dataset"].iloc[0]]


def phases(tables: Tables) -> str:
    """What the same images teach by the generator before phase 2; or nothing."""
    rows = tables.rows("generator_gain").to_dict("records")
    place = [row["arm"] for row in rows].index("pose-dive") if rows else 0
    if place == 0:
        return ""
    own, before = rows[place], rows[place - 1]
    ends = {"difference": "gain", "ci_low": "gain_low", "ci_high": "gain_high"}
    gained = pd.Series({name: before[column] for name, column in ends.items()})
    return (
        "The generator is trained twice: on general photos of people (phase 1), then on each data "
        f"set. Drawn by *{before['arm']}*, the same images show {right(before)} right persons and "
        f"gain {span(gained)} mAP. Those of `pose-dive` show {right(own)} right persons and gain "
        f"{change(own['step'])} than that ({own['step_verdict']})."
    )


def change(points: float) -> str:
    """ "1.2 less" or "1.2 more"."""
    return f"{abs(points):.1f} {'less' if points < 0 else 'more'}"


def other_trainings(tables: Tables) -> str:
    """The second Re-ID model, and real images trained longer; or nothing."""
    said = []
    if tables.has("resnet"):
        rows = tables.rows("resnet", arm="pose-dive", baseline="real", metric="mAP")
        changes = [
            f"{row['difference']:+.1f}{found(row)} on {NAMES[row['dataset']]} "
            f"(real images: {row['baseline_mean']:.1f})"
            for _, row in rows.iterrows()
        ]
        before = [gain(tables, name, "pose-dive", "comparison") for name in rows["dataset"]]
        pairs = zip(before, rows["baseline_mean"], strict=True)
        stronger = all(row is not None and row["baseline_mean"] < base for row, base in pairs)
        which = ", the stronger model here," if stronger else ""
        if changes:
            said.append(f"With a ResNet{which} the changes in mAP are {listed(changes)}.")
    if tables.has("training_length"):
        rows = tables.rows("training_length", arm="pose-dive", metric="mAP").sort_values("length")
        if len(rows) > 1:
            first, last = rows.iloc[0], rows.iloc[-1]
            rise = last["baseline_mean"] - first["baseline_mean"]
            added = tables.rows("comparison", dataset=last["dataset"], metric="mAP")["difference"]
            said.append(
                f"Training {last['length'] / first['length']:g} times as long on real images alone "
                f"brings {rise:+.1f} on {NAMES[last['dataset']]} ({last['seeds']:.0f} seeds, not "
                f"tested). The best arm there brings {added.max():+.1f}. After the longer training "
                f"`pose-dive` changes mAP by {span(last)}."
            )
    return " ".join(said)
