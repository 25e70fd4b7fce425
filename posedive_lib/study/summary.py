"""Results and cost in a few sentences, for the README and docs/answers.md, from the reports alone:

    python -m posedive_lib.study.summary            write them between the pages' markers
    python -m posedive_lib.study.summary --check    say whether they are those of the reports

No number there is typed: each comes from reports/tables or reports/costs.csv.
"""

import argparse
import sys
import textwrap
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from posedive_lib.bench.runs import write_text
from posedive_lib.bench.statistics import ALPHA, contains_zero
from posedive_lib.bench.tables import span
from posedive_lib.errors import StudyError, command
from posedive_lib.study.answers import answers, told
from posedive_lib.study.names import NAMES
from posedive_lib.writing import placed

README, TABLES = Path("README.md"), Path("reports/tables")
ANSWERS = Path("docs/answers.md")
COSTS = Path("reports/costs.csv")
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
            cells = ["–" if row is None else span(row) + mark(row) for row in rows]
            base = next(row["baseline_mean"] for row in rows if row is not None)
            lines.append(f"| {name}, {base:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def mark(row: pd.Series) -> str:
    """A star where the interval excludes 0 and the corrected test does not pass."""
    outside = not contains_zero(row["ci_low"], row["ci_high"])
    return "\\*" if outside and row["verdict"] not in ("gain", "loss") else ""


def found(row: pd.Series) -> str:
    """ " (gain)", " (loss)", a star, or nothing: what is shown of a difference."""
    return f" ({row['verdict']})" if row["verdict"] in ("gain", "loss") else mark(row)


def verdicts(tables: Tables, table: str = "comparison") -> str:
    """Where `pose-dive` gains, loses, or shows no effect."""
    groups: dict[str, list[str]] = {"gains": [], "loses": [], "": []}
    for dataset, name in NAMES.items():
        row = gain(tables, dataset, "pose-dive", table)
        if row is not None:
            groups[{"gain": "gains", "loss": "loses"}.get(row["verdict"], "")].append(name)
    said = [f"{word} on {listed(sets)}" for word, sets in groups.items() if word and sets]
    text = f"`pose-dive` {listed(said)}. " if said else ""
    if groups[""]:
        text += f"No effect of `pose-dive` is shown on {listed(groups[''])}."
    return text.strip()


def rank1(tables: Tables, table: str = "comparison", pairs: str = "diversity_volume") -> str:
    """What `pose-dive` changes in rank-1; and where the mean of true photos is lower."""
    said = []
    above: dict[str, list[str]] = {}
    for dataset, name in NAMES.items():
        row = gain(tables, dataset, "pose-dive", table, "rank1")
        if row is not None:
            said.append(f"{row['difference']:+.1f}{found(row)} on {name}")
            wanted = {"arm": "pose-dive", "baseline": "oracle", "metric": "rank1"}
            for _, pair in tables.rows(pairs, dataset=dataset, **wanted).iterrows():
                if pair["difference"] > 0:
                    above.setdefault(pair["verdict"], []).append(name)
    text = f"`pose-dive` changes it by {listed(said)}."
    if "gain" in above:
        text += f" True photos bring less on {listed(above.pop('gain'))}: they are no ceiling."
    if above:
        names = listed([name for group in above.values() for name in group])
        text += (
            f" The mean of true photos is lower on {names}, but no effect is shown. So nothing "
            "shows there that they are a ceiling."
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
    """One sentence: `pose-dive` by where the test of MSMT17-S (Cam) begins; or nothing."""
    if not tables.has("borders"):
        return ""
    rows = tables.rows("borders", arm="pose-dive", metric="mAP")
    said = [
        f"{row['difference']:+.1f}{found(row)} beyond {row['border']:g}°"
        for _, row in rows.iterrows()
    ]
    where = "By where the test of MSMT17-S (Cam) begins, the change in mAP is"
    return f"{where} {listed(said)} from the front." if said else ""


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
        said += ". The judge is a CLIP-ReID as well, trained on other people. "
    share = f"{100 * unseen['generated']:.0f} %"
    if "true-render" not in unseen:
        return f"{said}Of people the generator never saw, {share} are drawn as themselves."
    return (
        f"{said}Of people the generator never saw, drawn from clear photos, {share} are recognised "
        f"({100 * unseen['true-render']:.0f} % of true renderings)."
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
                f"tested). The best arm there brings {added.max():+.1f}."
            )
    return " ".join(said)


def summary(tables: Tables) -> str:
    """The whole block as Markdown; the fresh worlds lead, once they have been run."""
    seeds = int(tables.rows("comparison")["seeds"].max())
    points = {
        "mAP": verdicts(tables),
        "Rank-1": rank1(tables),
        "Diversity": diversity(tables),
        "Viewpoints": borders(tables),
        "The right person": persons(tables),
        "Drawn otherwise": phases(tables),
        "Trained otherwise": other_trainings(tables),
    }
    note = (
        f"Means of {seeds} seeds, with 95 % intervals over repeated trainings. –: not run. "
        "\\*: the interval excludes 0, but p, corrected for all comparisons, is above 0.05: no "
        f"effect is shown. {correction(tables)} "
        "[comparison.csv](reports/tables/comparison.csv) has all arms."
    )
    parts = [results_table(tables), wrapped(note), bullets(points)]
    return "\n\n".join([*fresh_worlds(tables), *parts])


def correction(tables: Tables) -> str:
    """How p is corrected, and what a correction that assumes less could show."""
    said = "The correction changes the signs of all comparisons together."
    least = tables.rows("comparison")["smallest_p_holm"].min()
    if least > ALPHA:
        said += (
            " Holm's correction, which assumes less, could pass nothing with so few seeds: its "
            f"least possible p is {least:.2f}."
        )
    return said


def trust(tables: Tables) -> str:
    """What `make replication` says of the results, or that it has not been run."""
    first = "`make replication` repeats the study in new worlds, with every setting fixed before. "
    if not tables.has("replication_gains"):
        return (
            f"{first}It has not been run to its end. Until then every result is of the one world "
            "that we looked at."
        )
    rows = tables.rows("replication_gains", family="primary", metric="mAP")
    worlds = int(rows["worlds"].max())
    parts = [told(row) for _, row in rows.iterrows()]
    return (
        f"{first}Over {worlds} such worlds, against as many generated images in the old poses and "
        f"views, new ones are worth in mAP {listed(parts)}. These worlds are new draws. The rules "
        "that draw them, the splits and the recipe are those that we chose with results in view."
    )


def fresh_worlds(tables: Tables) -> list[str]:
    """The paragraphs about `make replication`; none before it was run."""
    table = "replication_gains"
    if not tables.has(table):
        return []
    worlds = int(tables.rows(table)["worlds"].max())
    first = (
        f"In {worlds} new worlds, with every setting fixed before them, each with other people, "
        "clothes, cameras, generator and trainings (means, with 95 % intervals over worlds; "
        "[replication_gains.csv](reports/tables/replication_gains.csv) has all arms):"
    )
    after = "In the one world of the default study, whose design was chosen with results in view:"
    points = bullets(
        {
            "mAP": verdicts(tables, table),
            "Rank-1": rank1(tables, table, table),
            "Diversity": diversity(tables, table, table),
        }
    )
    return [wrapped(first), results_table(tables, table), points, wrapped(after)]


def bullets(points: Mapping[str, str]) -> str:
    """A Markdown list of those points that say anything, each after its first words in bold."""
    lines = (f"* **{lead}.** {point}" for lead, point in points.items() if point)
    return "\n".join(wrapped(line, indent="  ") for line in lines)


def wrapped(text: str, indent: str = "") -> str:
    """A paragraph in lines of at most 100 columns."""
    return textwrap.fill(text, 100, subsequent_indent=indent, break_on_hyphens=False)


def cost(costs: pd.DataFrame) -> str:
    """One sentence: how long the study's stages took together, and the most memory of one."""
    minutes, memory = costs["wall_seconds"].sum() / 60, costs["peak_gigabytes"].max()
    cores = costs["machine"].iloc[0].split(",")[0]
    return wrapped(
        f"On {cores} without a GPU, the stages took {minutes:.0f} minutes together, and at most "
        f"{memory:.1f} GB of memory ([what each cost](reports/costs.csv))."
    )


@command()
def main(arguments: list[str] | None = None) -> int:
    """Write or check the pages' blocks. Returns the exit status: 1 where not current."""
    parser = argparse.ArgumentParser(
        prog="python -m posedive_lib.study.summary", description="The README's results."
    )
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args(arguments)
    tables = Tables()
    blocks = {
        README: {
            "results": summary(tables),
            "replication": wrapped(trust(tables)),
            "cost": cost(pd.read_csv(COSTS)),
        },
        ANSWERS: {"answers": "\n".join(wrapped(one, "  ") for one in answers(tables))},
    }
    stale = False
    for page, named in blocks.items():
        text = current = page.read_text(encoding="utf-8")
        for name, block in named.items():
            current = placed(current, name, block)
        stale |= current != text
        if current != text and not options.check:
            write_text(page, current)
    if options.check:
        print("not current: run without --check" if stale else "current")
        return int(stale)
    return 0


if __name__ == "__main__":
    sys.exit(main())
