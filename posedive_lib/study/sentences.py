"""Results of the study in sentences and a table, from the reports alone.

No number there is typed: each comes from reports/tables.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from posedive_lib.bench.tables import span
from posedive_lib.errors import StudyError
from posedive_lib.study.evidence import matching
from posedive_lib.study.names import NAMES
from posedive_lib.study.reid_findings import dagger
from posedive_lib.study.replication_checks import FROZEN

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
        return matching(self._read[table], **wanted)


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
        f"| data set; mAP (%) with real images alone | {' | '.join(ARMS.values())} |",
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
    rows = tables.rows(table, arm="pose-dive", baseline="real", metric="rank1")
    rows = rows[rows["dataset"].isin(NAMES)].sort_values("difference")
    if rows.empty:
        return ""
    low, high = (
        f"{row['difference']:+.1f}{dagger(row)}" for _, row in rows.iloc[[0, -1]].iterrows()
    )
    return f"{verdicts(tables, table, 'rank1')} Its means change by {low} to {high}."


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
    control = "same-distribution"
    said, alone = _against(tables, table, control), []
    if not said:
        return ""
    known = set(tables.rows(table, arm="pose-dive", baseline=control, metric="mAP")["dataset"])
    for dataset, name in NAMES.items():
        over_real = gain(tables, dataset, "pose-dive", gains)
        if dataset not in known and over_real is not None and over_real["verdict"] == "gain":
            alone.append(name)
    text = (
        "Against as many generated images in the *old* poses and views, new ones are worth "
        f"{listed(said)}. This includes what the generator knows of other people's unseen sides."
    )
    if alone:
        text += f" On {listed(alone)} this control was not run, so the gain's cause is open."
    plain = []
    for dataset, name in NAMES.items():
        row = gain(tables, dataset, control, gains)
        if row is not None and row["verdict"] == "gain":
            plain.append(f"{name} ({row['difference']:+.1f})")
    if plain:
        text += f" Images in the old ones gain over real images too, on {listed(plain)}."
    return text


def other_rules(tables: Tables) -> str:
    """Whether other rules than the frozen one show the primary differences too; or nothing."""
    if not tables.has("replication_checks"):
        return ""
    table = tables.rows("replication_checks")
    table = table[table["dataset"].isin(NAMES)]  # (Cam) beyond 45° is no set of its own
    frozen = tables.rows("replication_checks", rule=FROZEN).set_index("dataset")["verdict"]
    others = table[table["rule"] != FROZEN]
    said = []
    for dataset, own in others.groupby("dataset", sort=False):
        same = int((own["verdict"] == frozen[dataset]).sum())
        said.append(f"{same} of {len(own)} on {NAMES[str(dataset)]}")
    return (
        "Other rules for new against old poses and views were tried afterwards. The same verdict "
        f"comes from {listed(said)} ([which](primary_analysis.md#the-rule))."
    )


def _against(tables: Tables, table: str, baseline: str) -> list[str]:
    """`pose-dive` minus another arm in mAP, on each data set that has both."""
    said = []
    for dataset, name in NAMES.items():
        wanted = {"arm": "pose-dive", "baseline": baseline, "metric": "mAP"}
        for _, row in tables.rows(table, dataset=dataset, **wanted).iterrows():
            said.append(f"{span(row)} mAP on {name}{found(row)}")
    return said


def against_true(tables: Tables, table: str) -> str:
    """What `pose-dive` lacks of true photos in the same poses and views; or nothing."""
    said = _against(tables, table, "oracle")
    if not said:
        return ""
    return (
        f"Against as many true photos in the same poses and views, generated ones: {listed(said)}."
    )


def persons(tables: Tables) -> str:
    """How often the right person is shown, in images used and of unseen people; true ones beside.

    True photos and renderings, and copies of the reference, only where the study has them.
    """
    used = {row["arm"]: row for row in tables.rows("generator_gain").to_dict("records")}
    said = ""
    if "pose-dive" in used:
        where = f"added to {generator_dataset(tables)}" if tables.has("reid_runs") else "used"
        said = (
            "A judge, which is a CLIP-ReID trained on other people, recognises the right person in "
            f"{right(used['pose-dive'])} of the images {where}. "
        )
        if "oracle" in used:
            said += f"Of true photos it recognises {right(used['oracle'])}, no more. "
    unseen = _shares(tables, "identity_top1")
    said += (
        f"{'A second judge was asked' if said else 'A judge was asked'} about people that the "
        f"generator never saw, with clear references: {_with_interval(unseen['generated'])}"
    )
    beside = {"true-render": "of true renderings", "copy-reference": "of copies of the reference"}
    for method in (name for name in beside if name in unseen):
        said += f", {beside[method]} {100 * unseen[method]['value']:.0f} %"
    if used:
        said += ". The two judges answer different questions: their numbers cannot be compared"
    prints = _shares(tables, "print_kept")
    if "generated" in prints:
        said += f". Of prints on shirts, {_with_interval(prints['generated'])} keep half of their"
        said += " contrast"
        if "copy-reference" in prints:
            said += f"; in copies {100 * prints['copy-reference']['value']:.0f} % do"
    return f"{said}."


def _shares(tables: Tables, metric: str) -> dict[str, dict[Hashable, Any]]:
    """Method -> its row of the generator's quality."""
    rows = tables.rows("generator_quality", metric=metric).to_dict("records")
    return {row["method"]: row for row in rows}


def _with_interval(row: Mapping[Hashable, Any]) -> str:
    """A share from 0 to 1 with its interval, in percent: "78 % [70, 84]"."""
    return percent(*(100 * row[name] for name in ("value", "ci_low", "ci_high")))


def baseline(tables: Tables) -> str:
    """That real images alone may teach more by a longer training or another model; or nothing."""
    said = []
    if tables.has("training_length"):
        rows = tables.rows("training_length", arm="pose-dive", metric="mAP").sort_values("length")
        for dataset, own in rows.groupby("dataset", sort=False):
            first, last = own.iloc[0], own.iloc[-1]
            rise = last["baseline_mean"] - first["baseline_mean"]
            added = tables.rows("comparison", dataset=str(dataset), metric="mAP")["difference"]
            said.append(
                f"On {NAMES[str(dataset)]}, training {last['length'] / first['length']:g} times as "
                f"long on real images alone brings {rise:+.1f} ({last['seeds']:.0f} seeds, not "
                f"tested); the best added images bring {added.max():+.1f}."
            )
        if said:
            said.append("On other sets longer training was not tried.")
    if tables.has("resnet"):
        rows = tables.rows("resnet", arm="pose-dive", baseline="real", metric="mAP")
        changes = [
            f"{row['baseline_mean']:.1f} on {NAMES[row['dataset']]}, where `pose-dive` brings "
            f"{row['difference']:+.1f}{found(row)}"
            for _, row in rows.iterrows()
        ]
        usual = [gain(tables, name, "pose-dive", "comparison") for name in rows["dataset"]]
        pairs = zip(usual, rows["baseline_mean"], strict=True)
        better = all(row is not None and row["baseline_mean"] < base for row, base in pairs)
        if changes:
            said.append(
                f"A ResNet trained on real images alone {'is better: it ' * better}has "
                f"{'; '.join(changes)}."
            )
    return " ".join(said)


def parts(tables: Tables) -> str:
    """Which parts of the method matter, and which are not shown to; or nothing.

    On the data set where generators are compared, which has most arms.
    """
    if not (tables.has("reid_runs") and tables.has("generator_gain")):
        return ""
    name = generator_dataset(tables)
    asked = {
        "viewpoint": "new poses beside new views",
        "uniform": "drawing rare poses more often than others",
        "unfiltered": "the filter (Eq. 4 to 6)",
    }
    shown: dict[str, list[str]] = {}
    rows = tables.rows("diversity_volume", arm="pose-dive", metric="mAP")
    for _, row in rows[rows["dataset"].map(NAMES) == name].iterrows():
        if row["baseline"] in asked:
            said = f"{asked[row['baseline']]} ({row['difference']:+.1f})"
            shown.setdefault(row["verdict"], []).append(said)
    for last in tables.rows("generator_gain", arm="pose-dive").to_dict("records"):
        said = f"training the generator on these data sets, its phase 2 ({last['step']:+.1f})"
        shown.setdefault(str(last["step_verdict"]), []).append(said)
    words = {"gain": "a gain", "loss": "a loss", "no effect shown": "no effect"}
    return " ".join(
        f"On {name} {words[verdict]} in mAP is shown of {listed(found_parts)}."
        for verdict, found_parts in shown.items()
        if verdict in words
    )


def right(row: Mapping[Hashable, Any]) -> str:
    """A row's share of right persons with its interval: "59 % [54, 64]"."""
    return percent(*(row[f"right_{name}"] for name in ("percent", "low", "high")))


def percent(value: float, low: float, high: float) -> str:
    """Percent with the ends of their interval: "59 % [54, 64]"."""
    return f"{value:.0f} % [{low:.0f}, {high:.0f}]"


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
        "The generator is trained twice: on general photos of people (phase 1), then once on the "
        "training photos of the study's data sets together (phase 2). "
        f"Drawn by *{before['arm']}*, the same images show {right(before)} right persons and "
        f"gain {span(gained)} mAP. Those of `pose-dive` show {right(own)} right persons and gain "
        f"{change(own['step'])} than that ({own['step_verdict']})."
    )


def change(points: float) -> str:
    """ "1.2 less" or "1.2 more"."""
    return f"{abs(points):.1f} {'less' if points < 0 else 'more'}"
