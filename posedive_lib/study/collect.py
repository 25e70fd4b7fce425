"""Gather every Re-ID run of the study into reports/tables/reid_runs.csv, and the main results into reports/metrics.json:

    python -m posedive_lib.study.collect

Each Re-ID notebook leaves its runs in build/reid/NAME.csv; this checks that they speak the same columns and puts them in one order.
The metrics repeat numbers of the tables in the form that `dvc metrics diff` compares between revisions.
"""

import json
import sys
from pathlib import Path

import pandas as pd

from posedive_lib.bench.runs import write_text
from posedive_lib.bench.tables import to_csv
from posedive_lib.errors import StudyError, command

SOURCE, TABLES = Path("build/reid"), Path("reports/tables")

# What identifies a run, what it was made of, and its result; mAP, ranks and mINP in percent.
IDENTITY = ["experiment", "dataset", "arm", "model", "seed", "images_per_pid", "threshold"]
RESULT = ["n_real", "n_generated", "mAP", "rank1", "rank5", "rank10", "mINP"]
PERCENT = ["mAP", "rank1", "rank5", "rank10", "mINP"]


def collect(source: Path = SOURCE) -> pd.DataFrame:
    """All runs, sorted by what identifies them; columns beside the common ones (the protocol's) come last."""
    files = sorted(source.glob("*.csv"))
    if not files:
        raise StudyError(f"There are no Re-ID runs in {source}; `dvc repro` makes them.")
    runs = pd.concat([_read(file) for file in files], ignore_index=True)
    doubled = runs[runs.duplicated(IDENTITY)]
    if len(doubled):
        raise StudyError(
            f"{source} holds two results for one run: {doubled.iloc[0][IDENTITY].to_dict()}; each run may be listed once."
        )
    protocol = [column for column in runs.columns if column not in IDENTITY + RESULT]
    return runs.sort_values(IDENTITY, ignore_index=True)[IDENTITY + RESULT + protocol]


def _read(file: Path) -> pd.DataFrame:
    runs = pd.read_csv(file)
    missing = [column for column in IDENTITY + RESULT if column not in runs.columns]
    if missing:
        raise StudyError(
            f"{file} lacks the columns {', '.join(missing)}; delete it and run `dvc repro` again."
        )
    wrong = runs[~runs[PERCENT].apply(lambda column: column.between(0, 100)).all(axis=1)]
    if len(wrong):
        raise StudyError(
            f"{file} holds a result outside of 0 to 100 percent in row {wrong.index[0] + 2}; delete it and run `dvc repro` again."
        )
    return runs


def metrics(runs: pd.DataFrame, comparison: pd.DataFrame, quality: pd.DataFrame) -> dict:
    """mAP and Rank-1 of every data set and arm (mean over seeds, percent), gains in mAP over real images, and the generator's quality."""
    own = runs[runs["experiment"] == "comparison"]
    reid = {
        model: {
            name: {
                arm: _numbers(part[["mAP", "rank1"]].mean()) for arm, part in rows.groupby("arm")
            }
            for name, rows in table.groupby("dataset")
        }
        for model, table in own.groupby("model")
    }
    gains = {
        name: {
            row["arm"]: _numbers(row[["difference", "ci_low", "ci_high"]])
            for _, row in rows.iterrows()
        }
        for name, rows in comparison[comparison["metric"] == "mAP"].groupby("dataset")
    }
    generator = _numbers(quality[quality["method"] == "generated"].set_index("metric")["value"])
    return {"reid": reid, "gain in mAP": gains, "generator": generator}


def _numbers(values: pd.Series) -> dict:
    """Six significant digits, as in the tables; JSON has no NaN."""
    return {str(name): float(f"{value:.6g}") for name, value in values.items() if pd.notna(value)}


@command()
def main() -> int:
    runs = collect()
    write_text(TABLES / "reid_runs.csv", to_csv(runs))
    # from the tables as they were written, so that no rounding tells the two apart
    found = metrics(
        *(
            pd.read_csv(TABLES / f"{name}.csv")
            for name in ("reid_runs", "comparison", "generator_quality")
        )
    )
    write_text("reports/metrics.json", json.dumps(found, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
