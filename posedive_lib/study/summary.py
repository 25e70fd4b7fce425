"""Results and cost in a few sentences, for the README, from the reports alone:

    python -m posedive_lib.study.summary            write them between the README's markers
    python -m posedive_lib.study.summary --check    say whether they are those of the reports

No number there is typed: each comes from reports/tables or reports/costs.csv.
"""

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from posedive_lib.bench.runs import write_text
from posedive_lib.errors import StudyError, command
from posedive_lib.study.names import NAMES
from posedive_lib.writing import placed

README, TABLES = Path("README.md"), Path("reports/tables")
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


def interval(row: pd.Series, column: str = "difference", digits: int = 1) -> str:
    """A difference with its 95 % interval: "+6.4 [+6.2, +6.8]"."""
    values = [row[column], row["ci_low"], row["ci_high"]]
    middle, low, high = (f"{value:+.{digits}f}" for value in values)
    return f"{middle} [{low}, {high}]"


def gain(tables: Tables, dataset: str, arm: str, table: str) -> pd.Series | None:
    """The comparison of an arm with real images in mAP; None where it was not run."""
    found = tables.rows(table, dataset=dataset, arm=arm, baseline="real", metric="mAP")
    return found.iloc[0] if len(found) else None


def results_table(tables: Tables, table: str = "comparison") -> str:
    """Markdown: a row per data set; mAP with real images alone, and what each addition changes."""
    there = set(tables.rows(table)["dataset"])
    lines = [f"| mAP (%) | real images | {' | '.join(ARMS.values())} |", "|---|---|---|---|---|"]
    for dataset, name in NAMES.items():
        if dataset in there:
            rows = [gain(tables, dataset, arm, table) for arm in ARMS]
            cells = ["–" if row is None else interval(row) for row in rows]
            base = next(row["baseline_mean"] for row in rows if row is not None)
            lines.append(f"| {name} | {base:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def verdicts(tables: Tables, table: str = "comparison") -> str:
    """One sentence: where `pose-dive` gains, loses, or shows no effect."""
    groups: dict[str, list[str]] = {"gains": [], "loses": [], "shows no effect": []}
    for dataset, name in NAMES.items():
        row = gain(tables, dataset, "pose-dive", table)
        if row is not None:
            word = {"gain": "gains", "loss": "loses"}.get(row["verdict"], "shows no effect")
            groups[word].append(name)
    said = [f"{word} on {listed(sets)}" for word, sets in groups.items() if sets]
    return f"`pose-dive` {listed(said)}."


def listed(words: list[str]) -> str:
    """ "a, b and c" """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def diversity(tables: Tables, table: str = "diversity_volume") -> str:
    """One sentence: what new poses and views add to as many images in the old ones; or none."""
    said = []
    wanted = {"arm": "pose-dive", "baseline": "same-distribution", "metric": "mAP"}
    for dataset in ("msmt17-s-cam", "msmt17-s-pose"):
        for _, row in tables.rows(table, dataset=dataset, **wanted).iterrows():
            said.append(f"{interval(row)} mAP on {NAMES[dataset]} ({row['verdict']})")
    if not said:
        return ""
    return (
        "Against generated images in the *old* poses and views, new ones are worth "
        f"{listed(said)}. What is left of the gain is not diversity."
    )


def persons(tables: Tables) -> str:
    """How often the right person is drawn, in images used and of unseen people; true ones beside.

    True photos and renderings only where the study has them.
    """
    used = tables.rows("generator_gain").set_index("arm")["right_percent"]
    unseen = tables.rows("generator_quality", metric="identity_top1").set_index("method")["value"]
    said = ""
    if "pose-dive" in used:
        said += (
            f"Of the images that training uses, {used['pose-dive']:.0f} % show the right person to "
            "an independent judge"
        )
        said += f"; of true photos {used['oracle']:.0f} % do. " if "oracle" in used else ". "
    share = f"{100 * unseen['generated']:.0f} %"
    if "true-render" not in unseen:
        return f"{said}Of people the generator never saw, {share} are drawn as themselves."
    return (
        f"{said}Of people the generator never saw, asked under good conditions, it is {share} "
        f"({100 * unseen['true-render']:.0f} % of true renderings)."
    )


def summary(tables: Tables) -> str:
    """The whole block as Markdown; the fresh worlds lead, once they have been run."""
    seeds = int(tables.rows("comparison")["seeds"].max())
    points = (verdicts(tables), diversity(tables), persons(tables))
    note = (
        f"Means of {seeds} seeds, with 95 % intervals over repeated trainings. "
        "[comparison.csv](reports/tables/comparison.csv) has all arms."
    )
    parts = [results_table(tables), wrapped(note), bullets(points)]
    return "\n\n".join([*fresh_worlds(tables), *parts])


def fresh_worlds(tables: Tables) -> list[str]:
    """The paragraphs about `make replication`; none before it was run."""
    table = "replication_gains"
    if not (tables.folder / f"{table}.csv").is_file():
        return []
    worlds = int(tables.rows(table)["worlds"].max())
    first = (
        f"In {worlds} worlds that no choice had seen, each with other people, clothes, cameras, "
        "generator and trainings (means, with 95 % intervals over worlds; "
        "[replication_gains.csv](reports/tables/replication_gains.csv) has all arms):"
    )
    after = "In the one world of the default study, whose design was chosen with results in view:"
    points = bullets((verdicts(tables, table), diversity(tables, table)))
    return [wrapped(first), results_table(tables, table), points, wrapped(after)]


def bullets(points: Sequence[str]) -> str:
    """A Markdown list of those points that say anything."""
    return "\n".join(wrapped(f"* {point}", indent="  ") for point in points if point)


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
    """Write or check the README's blocks. Returns the exit status: 1 where not current."""
    parser = argparse.ArgumentParser(
        prog="python -m posedive_lib.study.summary", description="The README's results."
    )
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args(arguments)
    text = README.read_text(encoding="utf-8")
    current = placed(text, "results", summary(Tables()))
    current = placed(current, "cost", cost(pd.read_csv(COSTS)))
    if options.check:
        print("current" if current == text else "not current: run without --check")
        return int(current != text)
    write_text(README, current)
    return 0


if __name__ == "__main__":
    sys.exit(main())
