"""ablation/generator_ablation.csv, the result of `make ablation`, and what can be said of it (§B).

It is of the mini world, so nothing here needs the generator.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from posedive_lib.bench.tables import span
from posedive_lib.body.conditions import CONDITIONS
from posedive_lib.errors import StudyError
from posedive_lib.intake.tables import read_table
from posedive_lib.study.names import MEASURES

TABLE = Path("ablation/generator_ablation.csv")
NAMES = ["variant", "baseline", "metric"]
COUNTS = ["steps", "seeds", "n"]
COLUMNS = [
    "variant",
    "baseline",
    "steps",
    "metric",
    "value",
    "difference",
    "ci_low",
    "ci_high",
    "seed_low",
    "seed_high",
    "seeds",
    "n",
]
# Least difference that counts (ours; PSNR in dB).
RELEVANT = {"pck": 0.01, "identity_top1": 0.01, "psnr": 0.1, "ssim": 0.01}
UNITS = {"psnr": " dB"}
AS_TRAINED = "as trained"  # the variant in which nothing differs


def empty() -> pd.DataFrame:
    """A table without rows: nothing was measured."""
    return pd.DataFrame(columns=COLUMNS)


def read(path: Path = TABLE) -> pd.DataFrame:
    """The table, or `empty()` where there is none.

    StudyError for another table: other columns, an unknown measure, or a word for a number.
    """
    if not path.exists():
        return empty()
    mend = "restore it from git, or run `make ablation`"
    cells = read_table(path)
    if cells.columns.tolist() != COLUMNS:
        raise StudyError(f"{path} has other columns than {', '.join(COLUMNS)}: {mend}.")
    unknown = sorted(set(cells["metric"]) - set(RELEVANT))
    if unknown:
        raise StudyError(f"{path} has a measure {unknown[0]!r} that nothing here knows: {mend}.")
    numbers = [name for name in COLUMNS if name not in NAMES]
    try:
        found = cells.astype(dict.fromkeys(numbers, float)).astype(dict.fromkeys(COUNTS, int))
    except ValueError as error:
        raise StudyError(f"{path} has a word for a number ({error}): {mend}.") from None
    return found.reset_index(drop=True)


def compared(result: pd.DataFrame) -> pd.DataFrame:
    """The rows of variants that are compared with another one."""
    return result[result["variant"] != result["baseline"]]


def made(result: pd.DataFrame) -> str:
    """How its variants were trained, in a few words, such as "2 seeds, 300 or 1500 steps"."""
    if result.empty:
        return "none on these data"
    steps = " or ".join(map(str, sorted(set(result["steps"]))))
    return f"{result['seeds'].max()} seeds, {steps} steps"


def limits() -> str:
    """RELEVANT in words: "0.01 in PCK, top-1 or SSIM, 0.1 dB in PSNR"."""
    by_limit: dict[str, list[str]] = {}
    for metric, limit in RELEVANT.items():
        by_limit.setdefault(f"{limit:g}{UNITS.get(metric, '')}", []).append(MEASURES[metric])
    said = []
    for words, (*names, last) in by_limit.items():
        said.append(f"{words} in {', '.join(names)} or {last}" if names else f"{words} in {last}")
    return ", ".join(said)


def verdict(result: pd.DataFrame) -> str:
    """Which variants beat what they are compared with by at least RELEVANT, which is named."""
    if result.empty:
        return (
            "The variants of the generator were not compared on these data: `make ablation` does "
            "that, in the mini world."
        )
    better = result[_sure(result, 1)]
    if better.empty:
        return (
            f"We count changes of at least {limits()}, by the interval over people and in every "
            "seed. No variant is shown to be better than the parameters as they are."
        )
    found = ", ".join(
        f"{row.variant} in {row.metric} (+{row.difference:.3f})" for row in better.itertuples()
    )
    return (
        f"The default is not the best in everything: {found}, by the interval over people and in "
        f"every seed. Our limits are {limits()}."
    )


def needed(result: pd.DataFrame) -> str:
    """Sentences: which variants are worse, which parts can be spared, and how objectives compare.

    They follow `verdict`, which names the limits. "" for a table without rows.
    """
    if result.empty:
        return ""
    said = [f"Surely worse are: {'; '.join(worse(result)) or 'none'}."]
    spare, cheap = spare_conditions(result)
    if spare:
        said.append(f"Training can do without {' or without '.join(spare)}.")
    if cheap:
        said.append(
            f"Without {' or '.join(cheap)} no measure falls by one of these limits on average."
        )
    others = compared(result)
    for pair, rows in others[others["baseline"] != AS_TRAINED].groupby(["variant", "baseline"]):
        changes = ", ".join(
            f"{row.metric} {row.difference:+.3f} [{row.ci_low:+.3f}, {row.ci_high:+.3f}]"
            for row in rows.itertuples()
        )
        said.append(f"{pair[0]} against {pair[1]} ({rows['steps'].max()} steps): {changes}.")
    return " ".join(said)


def worse(result: pd.DataFrame) -> list[str]:
    """Variants that are surely worse than the generator as trained, the worst first, and by what.

    By the measure that falls most, in units of RELEVANT: "without depth, PCK -0.05 [-0.07, -0.03]".
    """
    rows = result[_sure(result, -1) & (result["baseline"] == AS_TRAINED)]
    size = (rows["difference"] / rows["metric"].map(RELEVANT)).abs()
    rows = rows.assign(size=size).sort_values("size", ascending=False, kind="stable")
    return [
        f"{row['variant']}, {MEASURES[row['metric']]} {span(row, 2)}"
        for _, row in rows.drop_duplicates("variant").iterrows()
    ]


def _sure(result: pd.DataFrame, sign: int) -> pd.Series:
    """Rows that are better (sign 1) or worse (-1) by RELEVANT, in the interval and every seed."""
    low, high = sign * result["ci_low"], sign * result["ci_high"]
    seeds = sign * result["seed_low"], sign * result["seed_high"]
    sure = (low > 0) & (high > 0) & (seeds[0] > 0) & (seeds[1] > 0)
    return sure & (sign * result["difference"] >= result["metric"].map(RELEVANT))


def spare_conditions(result: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Conditions that training can do without, and those whose absence is not shown to cost much.

    The first: the interval of every measure's change lies within ±RELEVANT. The second: the mean of
    every change is above -RELEVANT, although intervals reach further.
    """
    without = result[result["variant"].isin([f"without {name}" for name in CONDITIONS])]
    names = without["variant"].str.removeprefix("without ")
    relevant = without["metric"].map(RELEVANT)
    largest = without[["ci_low", "ci_high"]].abs().max(axis=1)
    sure = (largest < relevant).groupby(names, sort=False).all()
    small = (without["difference"] > -relevant).groupby(names, sort=False).all()
    return sure.index[sure].tolist(), small.index[small & ~sure].tolist()
