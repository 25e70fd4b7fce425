"""Gather all Re-ID runs and the main results of the study:

    python -m posedive_lib.study.collect

Each Re-ID notebook leaves its runs in build/reid/NAME.csv. They go into one order in
tables/reid_runs.csv of the reports. metrics.json there repeats numbers of the tables, in the form
that `dvc metrics diff` compares between revisions.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from posedive_lib.bench import reports
from posedive_lib.bench.runs import write_text
from posedive_lib.bench.tables import to_csv
from posedive_lib.errors import StudyError, command

SOURCE = Path("build/reid")

# What identifies a run, what it was made of, and its result; mAP, ranks and mINP in percent.
IDENTITY = ["experiment", "dataset", "arm", "model", "seed", "images_per_pid", "threshold"]
PERCENT = ["mAP", "rank1", "rank5", "rank10", "mINP"]
RESULT = ["n_real", "n_generated", *PERCENT]


def collect(source: Path = SOURCE) -> pd.DataFrame:
    """All runs, sorted by what identifies them; columns of the protocol come last.

    StudyError for a file without the common columns, for a percentage that cannot be, and for a run
    that is there twice.
    """
    files = sorted(source.glob("*.csv"))
    if not files:
        raise StudyError(f"There are no Re-ID runs in {source}; `dvc repro` makes them.")
    runs = pd.concat([_read(file) for file in files], ignore_index=True)
    doubled = runs[runs.duplicated(IDENTITY)]
    if len(doubled):
        raise StudyError(
            f"{source} holds two results for one run: {doubled.iloc[0][IDENTITY].to_dict()}; "
            "each run may be listed once."
        )
    protocol = [column for column in runs.columns if column not in IDENTITY + RESULT]
    return runs.sort_values(IDENTITY, ignore_index=True)[IDENTITY + RESULT + protocol]


def _read(file: Path) -> pd.DataFrame:
    again = "delete it and run `dvc repro` again"
    runs = pd.read_csv(file)
    missing = [column for column in IDENTITY + RESULT if column not in runs.columns]
    if missing:
        raise StudyError(f"{file} lacks the columns {', '.join(missing)}; {again}.")
    possible = runs[PERCENT].apply(lambda column: column.between(0, 100)).all(axis=1)
    if not possible.all():
        line = int((~possible).to_numpy().argmax()) + 2  # of the file, after its header
        raise StudyError(
            f"{file} holds a result outside of 0 to 100 percent in row {line}; {again}."
        )
    return runs


def metrics(
    runs: pd.DataFrame, comparison: pd.DataFrame, quality: pd.DataFrame
) -> dict[str, dict[str, Any]]:
    """The main results: mAP and Rank-1, gains in mAP over real images, the generator's quality.

    mAP and Rank-1 of every model, data set and arm are means over seeds, in percent.
    """
    own = runs[runs["experiment"] == "comparison"]
    reid: dict[Any, Any] = {}
    for (model, name, arm), part in own.groupby(["model", "dataset", "arm"]):
        means = _numbers(part[["mAP", "rank1"]].mean())
        reid.setdefault(model, {}).setdefault(name, {})[arm] = means
    gains: dict[str, Any] = {}
    for _, row in comparison[comparison["metric"] == "mAP"].iterrows():
        interval = _numbers(row[["difference", "ci_low", "ci_high"]])
        gains.setdefault(row["dataset"], {})[row["arm"]] = interval
    generated = quality[quality["method"] == "generated"].set_index("metric")["value"]
    return {"reid": reid, "gain in mAP": gains, "generator": _numbers(generated)}


def _numbers(values: pd.Series) -> dict[str, float]:
    """Six significant digits, as in the tables; JSON has no NaN."""
    return {str(name): float(f"{value:.6g}") for name, value in values.items() if pd.notna(value)}


@command()
def main() -> int:
    """Write the table of runs and the metrics. Returns the exit status."""
    where = reports.folder()
    write_text(where / "tables/reid_runs.csv", to_csv(collect()))
    # From the tables as they were written, so that no rounding tells the two apart.
    names = ("reid_runs", "comparison", "generator_quality")
    found = metrics(*(pd.read_csv(where / f"tables/{name}.csv") for name in names))
    write_text(where / "metrics.json", json.dumps(found, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
