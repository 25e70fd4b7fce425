"""Tables in CSV files, every cell as the text that stands there."""

import csv
import io
from pathlib import Path

import pandas as pd

from posedive_lib.errors import StudyError, unreadable
from posedive_lib.intake.files import read_bytes

MAX_CELL = 4096  # letters, as long as a path may be


def read_table(path: Path) -> pd.DataFrame:
    """The cells of a CSV file as text, each row under the number of its line.

    As text, nothing changes on the way to another file. Only where blanks stand around names of
    columns, as in `path, pid`, those around names and cells are left out.

    StudyError if the file cannot be read, is separated by something else, names a column twice, or
    has a line with more or fewer fields than the header.
    """
    not_a_table = "cannot be read as a table"
    mend = "write it as CSV in UTF-8, with a header"
    try:
        text = read_bytes(path).decode("utf-8-sig")
        if "\0" in text:
            raise ValueError("it holds zero bytes")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows = dict((reader.line_num, row) for row in reader if row)
    except (OSError, ValueError, csv.Error) as error:
        raise unreadable(path, error, not_a_table, mend) from None
    if not rows:
        raise StudyError(f"{path} {not_a_table} (it is empty): {mend}.")
    header = rows.pop(next(iter(rows)))
    if not rows:
        raise StudyError(f"{path} {not_a_table} (nothing follows its first line): {mend}.")
    for mark, name in ((";", "semicolons"), ("\t", "tabs")):
        if mark in header[0]:
            raise StudyError(f"{path} separates its columns by {name}: use commas.")
    if any(name != name.strip() for name in header):
        header = [name.strip() for name in header]
        rows = {number: [cell.strip() for cell in row] for number, row in rows.items()}
    for name in header:
        if header.count(name) > 1:
            raise StudyError(f"{path} has two columns {name!r}: rename or remove one.")
    for number, row in rows.items():
        if max(map(len, row)) > MAX_CELL:
            raise StudyError(
                f"Line {number} of {path} has a cell of {max(map(len, row)):,} letters: "
                "mend the line; a quotation mark may be open."
            )
        if len(row) != len(header):
            raise StudyError(
                f"Line {number} of {path} has {len(row)} fields and the header {len(header)}: "
                "mend the line; text with a comma in it stands in double quotes."
            )
    return pd.DataFrame(list(rows.values()), index=list(rows), columns=header, dtype="str")
