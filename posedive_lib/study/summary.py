"""Results and cost in words, for the README and two pages of docs/, from the reports alone:

    python -m posedive_lib.study.summary            write them between the pages' markers
    python -m posedive_lib.study.summary --check    say whether they are those of the reports

The sentences are those of `sentences` and `answers`.
"""

import argparse
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from posedive_lib.bench.runs import write_text
from posedive_lib.bench.statistics import ALPHA
from posedive_lib.errors import command
from posedive_lib.study.answers import answers
from posedive_lib.study.border_sentences import beyond, border_ends, borders
from posedive_lib.study.in_short import WORLDS, in_short
from posedive_lib.study.names import NAMES
from posedive_lib.study.reid_findings import captured
from posedive_lib.study.sentences import (
    Tables,
    against_true,
    baseline,
    diversity,
    listed,
    other_rules,
    parts,
    persons,
    phases,
    rank1,
    rank1_span,
    results_table,
    verdicts,
)
from posedive_lib.writing import placed

README, RESULTS, ANSWERS = Path("README.md"), Path("docs/results.md"), Path("docs/answers.md")
COSTS = Path("reports/costs.csv")
DRAWN = "../reports/figures/replication/worlds.png"  # its figure
DAGGER = (
    "†: the interval excludes 0, but p, corrected for all comparisons, is above 0.05: no effect is "
    "shown."
)


def summary(tables: Tables) -> str:
    """What came out, as Markdown for docs/results.md; fresh worlds lead, once they were run."""
    seeds = int(tables.rows("comparison")["seeds"].max())
    points = {
        "mAP": verdicts(tables),
        "Rank-1": rank1_span(tables),
        "Diversity": diversity(tables),
        "Viewpoints": border_ends(tables),
        "Parts": parts(tables),
        "The baseline": baseline(tables),
        "The right person": persons(tables),
    }
    note = (
        f"Means of {seeds} seeds, with 95 % intervals over repeated trainings. –: not run. "
        f"{DAGGER} [comparison.csv](../reports/tables/comparison.csv) has all arms."
    )
    paragraphs = [results_table(tables), wrapped(note), bullets(points)]
    return "\n\n".join([*fresh_worlds(tables), *paragraphs])


def first_table(tables: Tables) -> str:
    """The README's table: the new worlds', or the default study's before they were run."""
    if not tables.has(WORLDS):
        return f"{results_table(tables)}\n\n{wrapped(f'Means of seeds, in one world. {DAGGER}')}"
    worlds = int(tables.rows(WORLDS)["worlds"].max())
    note = f"Means of {worlds} new worlds, with 95 % intervals over worlds. {DAGGER}"
    return f"{results_table(tables, WORLDS)}\n\n{wrapped(note)}"


def details(tables: Tables) -> str:
    """What else came out, for docs/answers.md, as a Markdown list."""
    points = {
        "Rank-1": rank1(tables),
        "Viewpoints": borders(tables),
        "Drawn otherwise": phases(tables),
        "Correction of p": correction(tables),
    }
    if tables.has(WORLDS):
        first = {"Rank-1 in new worlds": rank1(tables, WORLDS, WORLDS)}
        if tables.has("replication_shares"):
            share = tables.rows("replication_shares")
            first["Shares in new worlds"] = (
                "Of the true photos' effect, generated images have, with Fieller's intervals over "
                f"worlds: {captured(share[share['dataset'].isin(NAMES)])}"
            )
        points = first | points
    return bullets(points)


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
    first = (
        "`make replication` repeats the study in new worlds, with every setting fixed before "
        "([how, and by which commit](../replication/README.md)). The settings are those that we "
        "chose with results in view: people, cameras, photos and trainings are new. "
    )
    if not tables.has(WORLDS):
        return (
            f"{first}It has not been run to its end. Until then every result is of the one world "
            "that we looked at."
        )
    said = []
    for _, row in tables.rows(WORLDS, family="primary", metric="mAP").iterrows():
        pair = {name: row[name] for name in ("dataset", "arm", "baseline", "metric")}
        before = tables.rows("diversity_volume", **pair)
        if len(before):
            place = NAMES[row["dataset"]]
            here = f"{before['difference'].iloc[0]:+.1f} in the default study's world"
            said.append(f"{row['difference']:+.1f} on {place} ({here})")
    if said:
        first += (
            "Against as many generated images in the old poses and views, new ones are worth "
            f"{listed(said)}. "
        )
    return f"{first}Phase 1, the other pre-trained models and the motions are the same in all."


def fresh_worlds(tables: Tables) -> list[str]:
    """The paragraphs about `make replication`; none before it was run."""
    if not tables.has(WORLDS):
        return []
    worlds = int(tables.rows(WORLDS)["worlds"].max())
    first = (
        f"Every setting was fixed before these {worlds} worlds. Each has other people, clothes, "
        "cameras and photos, and other trainings of the generator and of Re-ID."
    )
    note = (
        f"Means of {worlds} worlds, with 95 % intervals over worlds. {DAGGER} "
        "[replication_gains.csv](../reports/tables/replication_gains.csv) has all arms."
    )
    after = (
        "The design of this world was chosen with results in view. It has more data sets and more "
        "arms."
    )
    points = bullets(
        {
            "mAP": verdicts(tables, WORLDS),
            "Rank-1": rank1_span(tables, WORLDS),
            "Diversity": " ".join(
                filter(None, (diversity(tables, WORLDS, WORLDS), beyond(tables, WORLDS)))
            ),
            "The rule": other_rules(tables),
            "True photos": against_true(tables, WORLDS),
        }
    )
    picture = (
        "[![A dot for each new world and a mean with its interval, for five pairs of arms on five "
        f"test sets]({DRAWN})](../replication/README.md)"
    )
    below = (
        "*Small dots: the difference in one world. Large dots: the mean, with its interval; open "
        "where no effect is shown. `same-distribution`: generated, old poses and views; `oracle`: "
        "true photos, new poses and views. Beyond 45°: the models of (Cam), tested further from "
        "the front.*"
    )
    table = results_table(tables, WORLDS)
    drawn = [wrapped(picture), wrapped(below)]
    here = [wrapped(first), table, wrapped(note), points, *drawn]
    return ["## New worlds", *here, "## The world of the default study", wrapped(after)]


def bullets(points: Mapping[str, str]) -> str:
    """A Markdown list of those points that say anything, each after its first words in bold."""
    lines = (f"* **{lead}.** {point}" for lead, point in points.items() if point)
    return "\n".join(wrapped(line, indent="  ") for line in lines)


def wrapped(text: str, indent: str = "") -> str:
    """A paragraph in lines of at most 100 columns; a number stays with its percent sign."""
    kept = text.replace(" %", "\N{NO-BREAK SPACE}%")
    lines = textwrap.fill(kept, 100, subsequent_indent=indent, break_on_hyphens=False)
    return lines.replace("\N{NO-BREAK SPACE}%", " %")


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
        prog="python -m posedive_lib.study.summary", description="Results in words."
    )
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args(arguments)
    tables = Tables()
    blocks = {
        README: {
            "short": "\n".join(wrapped(f"* {one}", "  ") for one in in_short(tables)),
            "table": first_table(tables),
            "cost": cost(pd.read_csv(COSTS)),
        },
        RESULTS: {"results": summary(tables), "replication": wrapped(trust(tables))},
        ANSWERS: {
            "answers": "\n".join(wrapped(one, "  ") for one in answers(tables)),
            "details": details(tables),
        },
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
