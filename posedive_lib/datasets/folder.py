"""One's own data: a folder with `images.csv`, one line per image: `path,pid,camid,split` and any columns more.

`path` is relative to the folder, `pid` a whole number (-1 is junk and is dropped), `camid` a whole number from 0, `split` train, query or
gallery; photos that are only to be augmented are all train. Identities share one numbering: a pid in training and in a test split would
be the same person. Columns beyond those (azimuth, say) come along; `generated` marks generated images.
"""

import os
from pathlib import Path, PurePosixPath

import pandas as pd

from posedive_lib.datasets.table import (
    GENERATED,
    SPLITS,
    TRUTH,
    find_folder,
    protocol,
    read_table,
    typed,
)
from posedive_lib.errors import StudyError

TABLE = "images.csv"
FOLDER = "folder"
NEEDED = ("path", "pid", "camid", "split")
TAKEN = (
    TABLE,
    TRUTH,
    "smpl.npz",
    "augmented.json",
    "manifest.csv",
    "contact_sheet.jpg",
)  # what lies beside the photos, here or once augmented


def _read_table(path: Path) -> pd.DataFrame:
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
    return table


def _refuse(path: Path, table: pd.DataFrame, bad: pd.Series, column: str, expected: str) -> None:
    if bad.any():
        line = table.index[bad][0]
        raise StudyError(
            f"Line {line} of {path} has {column} '{table.at[line, column]}': expected {expected}."
        )


def _outside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name


def read(root: Path) -> tuple[Path, dict[str, pd.DataFrame], dict]:
    """Folder, splits and protocol of one's own data at `root` (or `root/folder`)."""
    has_table = lambda folder: (folder / TABLE).is_file()
    folder = find_folder(
        root,
        [("", has_table), (FOLDER, has_table)],
        "A data set as folder and table",
        f"{TABLE} ({','.join(NEEDED)})",
    )
    path = folder / TABLE
    table = _read_table(path)
    _refuse(path, table, ~table["split"].isin(SPLITS), "split", "train, query or gallery")
    _refuse(
        path,
        table,
        ~table["pid"].str.fullmatch(r"-1|\d{1,18}"),
        "pid",
        "a whole number, -1 for junk",
    )
    _refuse(
        path, table, ~table["camid"].str.fullmatch(r"\d{1,9}"), "camid", "a whole number from 0"
    )
    _refuse(path, table, table["path"].map(_outside), "path", "a path below the folder, with '/'")
    table["path"] = table["path"].map(
        lambda name: PurePosixPath(name).as_posix()
    )  # ./a.jpg and b//a.jpg have one spelling each
    _refuse(path, table, table.duplicated(["split", "path"]), "path", "each image once in a split")
    _refuse(
        path,
        table,
        table["path"].str.split("/").str[0].str.lower().isin(TAKEN),
        "path",
        f"another name than {', '.join(TAKEN)}, which lie beside the photos",
    )
    _refuse(
        path,
        table,
        ~table["path"].map(lambda name: os.path.isfile(folder / name)),
        "path",
        f"a file in {folder}",
    )
    table = table.astype({"pid": "int64", "camid": "int64"})
    if "generated" in table.columns:
        text = table["generated"].str.lower()
        _refuse(path, table, ~text.isin(["true", "false"]), "generated", "True or False")
        table["generated"] = text == "true"
    else:
        table["generated"] = table["path"].map(
            lambda p: bool(GENERATED.search(PurePosixPath(p).stem))
        )
    table = table[table["pid"] != -1].rename(columns={"path": "rel"})
    table.insert(0, "path", [str(folder / rel) for rel in table["rel"]])
    columns = ["path", "rel", "pid", "camid", "generated"]
    known = [name for name in table.columns if name not in (*columns, "split")]
    for name in known:
        table[name] = typed(table[name])
    splits = {
        split: table.loc[table["split"] == split, columns + known].sort_values(
            "rel", ignore_index=True
        )
        for split in SPLITS
    }
    return folder, splits, protocol("folder", TABLE)
