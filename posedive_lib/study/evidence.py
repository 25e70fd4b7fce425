"""The study's tables as evidence for its claims."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from posedive_lib.errors import StudyError


def matching(table: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """Rows of a table with these values; there may be none."""
    for column, value in values.items():
        table = table[table[column] == value]
    return table


class NotCovered(Exception):
    """The study's parameters leave out what a claim needs. The message names it."""


class Evidence:
    """Tables below a folder of reports, read when they are asked for.

    seed: of the bootstraps that a claim needs.
    """

    def __init__(self, reports: Path, seed: int):
        self.reports = Path(reports)
        self.seed = seed
        self._read: dict[str, pd.DataFrame] = {}

    def table(self, name: str) -> pd.DataFrame:
        """reports/NAME.csv, such as "tables/failures"."""
        if name not in self._read:
            path = self.reports / f"{name}.csv"
            if not path.is_file():
                raise StudyError(
                    f"The table of claims needs {path}, which does not exist; `dvc repro` makes it."
                )
            self._read[name] = pd.read_csv(path)
        return self._read[name]

    def rows(self, name: str, **values: Any) -> pd.DataFrame:
        """Rows of a table with these values, at least one; `NotCovered` where there is none."""
        table = self.table(name)
        for column, value in values.items():
            if column not in table or not (table[column] == value).any():
                raise NotCovered(f"this study has no rows with {column} = {value} in {name}.csv")
            table = table[table[column] == value]
        return table

    def some(self, name: str, **values: Any) -> pd.DataFrame:
        """Rows of a table with these values; there may be none."""
        return matching(self.table(name), **values)

    def row(self, name: str, **values: Any) -> pd.Series:
        """The first of `rows`."""
        return self.rows(name, **values).iloc[0]

    def runs(self, **values: Any) -> pd.DataFrame:
        """Runs of CLIP-ReID, the main Re-ID model."""
        return self.rows("tables/reid_runs", model="clip-reid", **values)
