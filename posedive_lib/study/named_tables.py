"""Tables as `bench.tables` has them, whose pages call data sets as people write their names."""

from collections.abc import Sequence

import pandas as pd

from posedive_lib.bench import reports, tables
from posedive_lib.bench.runs import write_text
from posedive_lib.study.names import NAMES


def save(
    table: pd.DataFrame,
    name: str,
    *,
    caption: str,
    digits: int = 2,
    columns: Sequence[str] | None = None,
) -> None:
    """Write `tables/NAME.csv` of the reports with the names of the parameters, and show the table.

    columns: those that the page shows, in this order; the file has all.
    """
    write_text(reports.folder() / f"tables/{name}.csv", tables.to_csv(table))
    show(table if columns is None else table[list(columns)], caption=caption, digits=digits)


def show(table: pd.DataFrame, *, caption: str, digits: int = 2) -> None:
    """Display a table with its caption in a notebook; elsewhere nothing happens."""
    tables.show(table.replace(NAMES), caption=caption, digits=digits)
