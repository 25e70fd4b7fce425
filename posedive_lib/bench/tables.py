"""Tables of the study: a CSV each in reports/tables; the same numbers, rounded, in the notebook."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from posedive_lib.bench import reports
from posedive_lib.bench.runs import write_text
from posedive_lib.errors import StudyError

LONGEST = 12  # rows that a notebook shows at once; a longer table is folded under its caption


def save(
    table: pd.DataFrame,
    name: str,
    *,
    caption: str,
    digits: int = 2,
    columns: Sequence[str] | None = None,
    names: Mapping[str, str] | None = None,
) -> None:
    """Write `tables/NAME.csv` of the reports and show the table with `digits` decimals.

    columns: those that the page shows, in this order; the file has all.
    names: cells of the file that the page calls otherwise, and how. StudyError without a caption.
    """
    _check(caption, f"Table {name}")
    write_text(reports.folder() / f"tables/{name}.csv", to_csv(table))
    shown = table if columns is None else table[list(columns)]
    show(shown, caption=caption, digits=digits, names=names)


def rendered(where: Path) -> bool:
    """Whether the reports are of the mini world: only there is a generator held against truth."""
    path = where / "tables/generator_quality.csv"
    return path.is_file() and "true-render" in set(pd.read_csv(path)["method"])


def to_csv(table: pd.DataFrame) -> str:
    """CSV text without an index, floats with six significant digits, plain line feeds."""
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def rounded(value: Any, digits: int = 2) -> str:
    """A cell as text: floats with `digits` decimals, "–" for what is not there."""
    if pd.isna(value):
        return "–"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def span(row: Mapping[Hashable, Any] | pd.Series, digits: int = 1) -> str:
    """A row's difference with its 95 % interval: "+6.4 [+6.2, +6.8]"."""
    values = (row[column] for column in ("difference", "ci_low", "ci_high"))
    middle, low, high = (f"{value:+.{digits}f}" for value in values)
    return f"{middle} [{low}, {high}]"


def to_markdown(table: pd.DataFrame, digits: int = 2) -> str:
    """A table for a Markdown page."""
    lines = [list(table.columns), ["---"] * table.shape[1]]
    for row in table.itertuples(index=False):
        texts = [" ".join(rounded(value, digits).split()) for value in row]
        lines.append([text.replace("|", "\\|") for text in texts])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def show(
    table: pd.DataFrame,
    *,
    caption: str,
    digits: int = 2,
    names: Mapping[str, str] | None = None,
) -> None:
    """Display a table with its caption in a notebook; elsewhere nothing is shown.

    names: as in `save`. A table of more than LONGEST rows is folded: its caption opens it.
    StudyError without a caption.
    """
    from IPython import get_ipython
    from IPython.display import HTML, display

    _check(caption, f"A table of {', '.join(map(str, table.columns))}")
    if get_ipython() is None:
        return
    if names:
        table = table.replace(dict(names))
    html = table.to_html(
        index=False, border=0, na_rep="–", float_format=lambda value: f"{value:.{digits}f}"
    )
    caption = " ".join(caption.split())
    if len(table) > LONGEST:
        opened = f"<summary>{caption} ({len(table)} rows)</summary>"
        display(HTML(f"<details>{opened}\n{html}\n</details>"))
        return
    head, _, body = html.partition(">\n")
    display(HTML(f"{head}>\n<caption>{caption}</caption>\n{body}"))


def _check(caption: str, table: str) -> None:
    if not caption.strip():
        raise StudyError(f"{table} has no caption; say in a sentence what it shows.")
