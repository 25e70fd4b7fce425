"""Tables of the study: a CSV each in reports/tables; the same numbers, rounded, in the notebook."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from posedive_lib.bench import reports
from posedive_lib.bench.runs import write_text
from posedive_lib.errors import StudyError

LONGEST = 12  # rows that a notebook shows at once; a longer table is folded under its caption
# columns that a page may show with their interval: where its ends are, and how a value is written
ENDS = {
    "difference": ("ci_low", "ci_high"),
    "value": ("ci_low", "ci_high"),
    "rate": ("low", "high"),
}
UNSIGNED = ("value", "rate")  # shares, which have no sign


def save(
    table: pd.DataFrame,
    name: str,
    *,
    caption: str,
    digits: int = 2,
    columns: Sequence[str] | None = None,
    names: Mapping[str, str] | None = None,
    page: pd.DataFrame | None = None,
) -> None:
    """Write `tables/NAME.csv` of the reports and show the table with `digits` decimals.

    columns: those that the page shows, in this order; the file has all.
    names: cells of the file that the page calls otherwise, and how.
    page: what the page shows instead, as `brief` shapes it, with the whole table folded below.
    StudyError without a caption.
    """
    _check(caption, f"Table {name}")
    write_text(reports.folder() / f"tables/{name}.csv", to_csv(table))
    if page is not None:
        show(page, caption=caption, digits=digits, names=names, whole=table)
        return
    shown = table if columns is None else table[list(columns)]
    show(shown, caption=caption, digits=digits, names=names)


def brief(
    table: pd.DataFrame,
    first: str,
    columns: Sequence[str],
    *,
    title: str = "comparison",
    names: Mapping[str, str] | None = None,
    digits: int = 2,
) -> pd.DataFrame:
    """A table in few columns, for a page: what each row compares, then `columns`.

    first: the text of the first column, called `title`, with names of columns in braces:
    "{dataset}: {arm} against {baseline}". A column whose interval is in the table too has it in the
    same cell. names: as in `save`, for the cells that `first` joins.
    """
    named = table.replace(dict(names)) if names else table
    records = [{str(key): value for key, value in row.items()} for row in named.to_dict("records")]
    cells: dict[str, list[Any]] = {title: [first.format_map(row) for row in records]}
    for column in columns:
        low, high = ENDS.get(column, (f"{column}_low", f"{column}_high"))
        if not {low, high} <= set(table):
            cells[column] = named[column].tolist()
            continue
        sign = "" if column in UNSIGNED else "+"
        rows = zip(table[column], table[low], table[high], strict=True)
        cells[f"{column} [95 %]"] = [_span(*row, digits, sign) for row in rows]
    return pd.DataFrame(cells)


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
    middle, low, high = (row[column] for column in ("difference", "ci_low", "ci_high"))
    return _span(middle, low, high, digits)


def _span(middle: float, low: float, high: float, digits: int, sign: str = "+") -> str:
    if pd.isna(middle):
        return rounded(middle)
    middle_text, *ends = (f"{value:{sign}.{digits}f}" for value in (middle, low, high))
    return f"{middle_text} [{', '.join(ends)}]"


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
    whole: pd.DataFrame | None = None,
) -> None:
    """Display a table with its caption in a notebook; elsewhere nothing is shown.

    names: as in `save`. A table of more than LONGEST rows is folded: its caption opens it.
    whole: the table with all its columns, folded below. StudyError without a caption.
    """
    from IPython import get_ipython
    from IPython.display import HTML, display

    _check(caption, f"A table of {', '.join(map(str, table.columns))}")
    if get_ipython() is None:
        return
    html = _html(table, digits, names)
    caption = " ".join(caption.split())
    if len(table) > LONGEST:
        html = f"<details><summary>{caption} ({len(table)} rows)</summary>\n{html}\n</details>"
    else:
        head, _, body = html.partition(">\n")
        html = f"{head}>\n<caption>{caption}</caption>\n{body}"
    if whole is not None:
        summary = f"All {whole.shape[1]} columns of this table"
        wide = f'<div style="overflow-x: auto">\n{_html(whole, digits, names)}\n</div>'
        html += f"\n<details><summary>{summary}</summary>\n{wide}\n</details>"
    display(HTML(html))


def folded(summary: str, text: str) -> str:
    """Markdown that a click on `summary` opens."""
    return f"<details><summary>{summary}</summary>\n\n{text.strip()}\n\n</details>"


def _html(table: pd.DataFrame, digits: int, names: Mapping[str, str] | None) -> str:
    if names:
        table = table.replace(dict(names))
    return table.to_html(
        index=False, border=0, na_rep="–", float_format=lambda value: f"{value:.{digits}f}"
    )


def _check(caption: str, table: str) -> None:
    if not caption.strip():
        raise StudyError(f"{table} has no caption; say in a sentence what it shows.")
