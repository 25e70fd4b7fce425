"""The tables that every data set is read into, and how its folder is found."""

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from posedive_lib.errors import StudyError

GENERATED = re.compile(r"_gen\d+$")
SPLITS = ("train", "query", "gallery")
TRUTH = "truth.csv"
MISSING = ("", "nan", "NaN", "NA")  # among numbers; elsewhere only "" is
# What a column is read as if every cell looks like it, and as what if cells are missing; 007 is a name, and so is a number too long to keep.
KINDS = {
    r"(?:0|-?[1-9]\d{0,17})": ("int64", "Int64"),
    r"-?(?:inf|(?:0|[1-9]\d{0,14})(?:\.\d+)?(?:[eE][-+]?\d+)?)": ("float64", "float64"),
    r"(?i:true|false)": ("bool", "boolean"),
}


@dataclass(frozen=True)
class ReIDDataset:
    """One data set: `folder` holds its images below `root`; tables as in `posedive_lib.datasets.load`.

    `protocol` is what a number must be reported with: `dataset`; `version` ("V1" or "V2", MSMT17 only); `train_val` (whether list_val
    trains too, MSMT17 only); `boxes` ("labeled" or "detected", CUHK03 only); `split`, the rule that divides the images. Fields that do
    not apply are None.
    """

    name: str
    root: Path
    folder: Path
    train: pd.DataFrame
    query: pd.DataFrame
    gallery: pd.DataFrame
    protocol: dict = field(default_factory=dict)

    @property
    def shared_pids(self) -> bool:
        """Whether equal numbers in training and test mean the same person: not in MSMT17, which counts both from 0."""
        return not self.name.startswith("msmt17")

    def images(self) -> pd.DataFrame:
        """All rows with `split` and `identity`: the pid, with "test/" before it where the test counts its people anew (a column of that
        name gives way)."""
        parts = []
        for split in SPLITS:
            frame = getattr(self, split)
            prefix = "test/" if split != "train" and not self.shared_pids else ""
            parts.append(frame.assign(split=split, identity=prefix + frame["pid"].astype(str)))
        return pd.concat(parts, ignore_index=True)

    def require_test(self) -> "ReIDDataset":
        """This data set; StudyError if it has training images only."""
        if self.query.empty or self.gallery.empty:
            raise StudyError(
                f"{self.folder} has training images only, which can be augmented but not evaluated: add query and gallery images."
            )
        return self

    def counts(self) -> pd.DataFrame:
        """Images, identities and cameras of each split, one row per split (distractors, pid 0 in Market-1501's gallery, included)."""
        rows = [
            {
                "dataset": self.name,
                "split": split,
                "images": len(frame),
                "identities": frame["pid"].nunique(),
                "cameras": frame["camid"].nunique(),
            }
            for split, frame in ((split, getattr(self, split)) for split in SPLITS)
        ]
        return pd.DataFrame(rows)


def protocol(
    dataset: str,
    split: str,
    *,
    version: str | None = None,
    train_val: bool | None = None,
    boxes: str | None = None,
) -> dict:
    """The record beside every result (see `ReIDDataset`)."""
    return {
        "dataset": dataset,
        "version": version,
        "train_val": train_val,
        "boxes": boxes,
        "split": split,
    }


def find_folder(
    root: Path, places: list[tuple[str, Callable[[Path], bool]]], what: str, content: str
) -> Path:
    """The one folder among `places` below `root` ("" is `root` itself) that holds the data set, by its test.

    Two names of one folder (links) count once. StudyError if none or more than one does: a choice made silently would be a protocol
    that nobody wrote down.
    """
    found = {}
    for name, holds in places:
        folder = root / name if name else root
        if folder.is_dir() and holds(folder):
            status = folder.stat()
            found.setdefault((status.st_dev, status.st_ino), folder)
    if len(found) > 1:
        first, second = list(found.values())[:2]
        raise StudyError(
            f"{what} is there twice, in {first} and in {second}: give the one that you mean as the root, or move the other away."
        )
    if found:
        return next(iter(found.values()))
    usual = next(name for name, _ in places if name)
    raise StudyError(
        f"{what} not found: neither {root} nor {root / usual} is a folder with {content}; put the data set there or change the root (paths.datasets in params.yaml)."
    )


def frame_of(folder: Path, rows: list[tuple[str, int, int]]) -> pd.DataFrame:
    """Table from (rel, pid, camid) rows; `generated` is read from the file name's end (`_gen07`)."""
    frame = pd.DataFrame(rows, columns=["rel", "pid", "camid"]).astype(
        {"pid": "int64", "camid": "int64"}
    )
    frame.insert(0, "path", [str(folder / rel) for rel in frame["rel"]])
    frame["generated"] = [bool(GENERATED.search(rel.rsplit(".", 1)[0])) for rel in frame["rel"]]
    return frame


def read_table(path: Path) -> pd.DataFrame:
    """The cells of a CSV file as text, each row under the number of its line, so that nothing changes on the way to another file.

    StudyError if it cannot be read, is separated by something else, names a column twice, or has a line with more or fewer fields than
    the header.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            rows = {reader.line_num: row for row in reader if row}
    except (OSError, ValueError, csv.Error) as error:
        raise StudyError(
            f"{path} cannot be read as a table ({error}): write it as CSV in UTF-8, with a header."
        ) from None
    if not rows:
        raise StudyError(
            f"{path} cannot be read as a table (it is empty): write it as CSV in UTF-8, with a header."
        )
    header = rows.pop(next(iter(rows)))
    other = next(
        (name for mark, name in ((";", "semicolons"), ("\t", "tabs")) if mark in header[0]), None
    )
    if other:
        raise StudyError(f"{path} separates its columns by {other}: use commas.")
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise StudyError(f"{path} has two columns '{twice}': rename or remove one.")
    for number, row in rows.items():
        if len(row) != len(header):
            raise StudyError(
                f"Line {number} of {path} has {len(row)} fields and the header {len(header)}: mend the line; text with a comma in it stands in double quotes."
            )
    return pd.DataFrame(list(rows.values()), index=list(rows), columns=header, dtype="str")


def typed(text: pd.Series) -> pd.Series:
    """A column of text as whole numbers, numbers or truth values where it holds nothing else, by `KINDS`; missing cells are NA."""
    filled = text[~text.isin(MISSING)]
    for pattern, (plain, with_gaps) in KINDS.items():
        if len(filled) and filled.str.fullmatch(pattern).all():
            values = filled.str.lower() == "true" if plain == "bool" else filled
            return (
                values.astype(plain)
                if len(filled) == len(text)
                else values.astype(with_gaps).reindex(text.index)
            )
    return text.mask(text == "")


def with_truth(folder: Path, splits: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Join `truth.csv` of the data set's folder (if there is one) by the relative path; identity and camera stay those of the data set."""
    path = folder / TRUTH
    if not path.is_file():
        return splits
    truth = read_table(path)
    if "path" not in truth.columns or truth["path"].duplicated().any():
        raise StudyError(
            f"{path} needs a column 'path' that names every image once: write the file anew."
        )
    truth = pd.DataFrame({name: typed(truth[name]) for name in truth} | {"rel": truth["path"]})
    joined = {}
    for split, frame in splits.items():
        known = [
            "rel",
            *(column for column in truth.columns if column not in (*frame.columns, "split")),
        ]
        joined[split] = frame.merge(truth[known], on="rel", how="left", validate="one_to_one")
    return joined
