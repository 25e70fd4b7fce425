"""One's own data: a folder with `images.csv`, one line per image: `path,pid,camid,split` and more.

`path` is relative to the folder, `pid` a whole number (-1 is junk and is dropped), `camid` a whole
number from 0, `split` train, query or gallery; photos that are only to be augmented are all train.
Identities share one numbering: a pid in training and in a test split would be the same person.
Columns beyond those (azimuth, say) come along; `generated` marks generated images.
"""

import os
from pathlib import Path, PurePosixPath

import pandas as pd

from posedive_lib.datasets.table import (
    BODIES,
    GENERATED,
    SPLITS,
    TRUTH,
    Read,
    find_folder,
    protocol,
    typed,
)
from posedive_lib.errors import StudyError
from posedive_lib.intake.tables import read_table

TABLE = "images.csv"
FOLDER = "folder"
NEEDED = ("path", "pid", "camid", "split")
# What lies beside the photos, here or once augmented.
TAKEN = (TABLE, TRUTH, BODIES, "augmented.json", "manifest.csv", "contact_sheet.jpg", "CARD.md")


def read(root: Path) -> Read:
    """Folder, splits and protocol of one's own data at `root` (or `root/folder`).

    StudyError names the line, the column and what is expected there.
    """

    def has_table(folder: Path) -> bool:
        return (folder / TABLE).is_file()

    folder = find_folder(
        root,
        [("", has_table), (FOLDER, has_table)],
        "A data set as folder and table",
        f"{TABLE} ({','.join(NEEDED)})",
    )
    path = folder / TABLE
    table = lines(path)
    _check_cells(path, table)
    table = table.astype({"pid": "int64", "camid": "int64"})
    table["generated"] = _generated(path, table)
    table = table[table["pid"] != -1].rename(columns={"path": "rel"})
    table.insert(0, "path", [str(folder / rel) for rel in table["rel"]])
    columns = ["path", "rel", "pid", "camid", "generated"]
    known = [name for name in table.columns if name not in (*columns, "split")]
    for name in known:
        table[name] = typed(table[name])
    table = table.sort_values("rel", kind="stable")
    splits = {
        split: table.loc[table["split"] == split, columns + known].reset_index(drop=True)
        for split in SPLITS
    }
    return folder, splits, protocol("folder", TABLE)


def lines(path: Path) -> pd.DataFrame:
    """The cells of `images.csv` as text, with one spelling for each path: `a.jpg` for `./a.jpg`.

    StudyError as `read_table`, and where a column is missing or a path leads out of the folder.
    """
    table = read_table(path)
    missing = [name for name in NEEDED if name not in table.columns]
    if missing:
        raise StudyError(
            f"{path} lacks the column(s) {', '.join(missing)}: it needs {', '.join(NEEDED)}."
        )
    if "rel" in table.columns:
        raise StudyError(
            f"{path} has a column 'rel', which the tables use for the relative path: rename it."
        )
    outside = table["path"].map(_outside)
    _refuse(path, table, outside, "path", "a path below the folder, with '/'")
    for name in ("pid", "camid", "split"):
        table[name] = table[name].str.strip()  # blanks around a number or a word say nothing
    table["path"] = [PurePosixPath(name).as_posix() for name in table["path"]]
    return table


def _outside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name


def _check_cells(path: Path, table: pd.DataFrame) -> None:
    """StudyError for the first line whose cell is not what its column needs."""
    first_part = table["path"].str.split("/").str[0].str.lower()
    there = pd.Series(
        [os.path.isfile(path.parent / name) for name in table["path"]],  # any name may be tried
        index=table.index,
        dtype=bool,
    )
    beside = f"another name than {', '.join(TAKEN)}, which lie beside the photos"
    for good, column, expected in (
        (table["split"].isin(SPLITS), "split", "train, query or gallery"),
        (table["pid"].str.fullmatch("-1|[0-9]{1,18}"), "pid", "a whole number, -1 for junk"),
        (table["camid"].str.fullmatch("[0-9]{1,9}"), "camid", "a whole number from 0"),
        (~table.duplicated(["split", "path"]), "path", "each image once in a split"),
        (~first_part.isin([name.lower() for name in TAKEN]), "path", beside),
        (there, "path", f"a file in {path.parent}"),
    ):
        _refuse(path, table, ~good, column, expected)


def _generated(path: Path, table: pd.DataFrame) -> pd.Series:
    """Whether each image is generated: as the table says, or by the end of its name."""
    if "generated" not in table.columns:
        return table["path"].map(lambda name: bool(GENERATED.search(PurePosixPath(name).stem)))
    text = table["generated"].str.strip().str.lower()
    _refuse(path, table, ~text.isin(["true", "false"]), "generated", "True or False")
    return text == "true"


def _refuse(path: Path, table: pd.DataFrame, bad: pd.Series, column: str, expected: str) -> None:
    if bad.any():
        line = table.index[bad.astype(bool)][0]
        raise StudyError(
            f"Line {line} of {path} has {column} {table.at[line, column]!r}: expected {expected}."
        )
