"""The tables that every data set is read into, and how its folder is found."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from posedive_lib.errors import StudyError, shown
from posedive_lib.intake.tables import read_table

Tables = dict[str, pd.DataFrame]  # one per split
Protocol = dict[str, Any]
Read = tuple[Path, Tables, Protocol]  # what a reader returns: folder, tables, protocol

GENERATED = re.compile(r"_gen\d+$")
SPLITS = ("train", "query", "gallery")
TRUTH = "truth.csv"
BODIES = "smpl.npz"  # see `posedive_lib.body.table`
RENDERED = ".miniworld"  # a file in every data set's folder that the mini world made
MISSING = ("", "nan", "NaN", "NA")  # among numbers; elsewhere only "" is
_FLOAT = r"-?(?:inf|(?:0|[1-9][0-9]{0,14})(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,2})?)"
# A column is of a kind if every cell looks like it; the second name is the kind with missing cells.
# 007 is a name, and so is a number that is too long to keep, or too large (1e999).
KINDS = {
    r"(?:0|-?[1-9][0-9]{0,17})": ("int64", "Int64"),
    _FLOAT: ("float64", "float64"),
    r"(?i:true|false)": ("bool", "boolean"),
}


@dataclass(frozen=True)
class ReIDDataset:
    """One data set: `folder` holds its images below `root`; tables as in `datasets.load`.

    bodies: the file of its SMPL bodies, which may be missing.
    protocol: what a number must be reported with (see `protocol`).
    """

    name: str
    root: Path
    folder: Path
    train: pd.DataFrame
    query: pd.DataFrame
    gallery: pd.DataFrame
    bodies: Path
    protocol: Protocol = field(default_factory=dict)

    @property
    def tables(self) -> Tables:
        """Split → its table, in the order of `SPLITS`."""
        return {split: getattr(self, split) for split in SPLITS}

    @property
    def shared_pids(self) -> bool:
        """Whether equal numbers in training and test mean the same person.

        They do not in MSMT17, which counts both from 0.
        """
        return not self.name.startswith("msmt17")

    def images(self) -> pd.DataFrame:
        """All rows with `split` and `identity`, which replace columns of these names.

        identity: the pid, with "test/" before it where the test counts its people anew.
        """
        parts = []
        for split, frame in self.tables.items():
            prefix = "test/" if split != "train" and not self.shared_pids else ""
            parts.append(frame.assign(split=split, identity=prefix + frame["pid"].astype(str)))
        return pd.concat(parts, ignore_index=True)

    def require_test(self) -> "ReIDDataset":
        """This data set; StudyError if it has training images only."""
        if self.query.empty or self.gallery.empty:
            raise StudyError(
                f"{self.folder} has training images only, which can be augmented but not "
                "evaluated: add query and gallery images."
            )
        return self

    def counts(self) -> pd.DataFrame:
        """Images, identities and cameras of each split, one row per split.

        Distractors (pid 0 in Market-1501's gallery) are included.
        """
        rows = [
            {
                "dataset": self.name,
                "split": split,
                "images": len(frame),
                "identities": frame["pid"].nunique(),
                "cameras": frame["camid"].nunique(),
            }
            for split, frame in self.tables.items()
        ]
        return pd.DataFrame(rows)


def protocol(
    dataset: str,
    split: str,
    *,
    version: str | None = None,
    train_val: bool | None = None,
    boxes: str | None = None,
) -> Protocol:
    """The record beside every result; fields that do not apply are None.

    split: the rule that divides the images. version: "V1" or "V2" of MSMT17. train_val: whether
    MSMT17's list_val trains too. boxes: "labeled" or "detected" of CUHK03.
    """
    return {
        "dataset": dataset,
        "version": version,
        "train_val": train_val,
        "boxes": boxes,
        "split": split,
    }


def find_folder(
    root: Path, places: Sequence[tuple[str, Callable[[Path], bool]]], what: str, content: str
) -> Path:
    """The one folder below `root` that holds the data set.

    places: (name below `root`, "" for `root` itself; test of the folder there). Two names of one
    folder (links) count once. StudyError if none or more than one passes: a choice made silently
    would be a protocol that nobody wrote down.
    """
    found: dict[tuple[int, int], Path] = {}
    for name, holds in places:
        folder = root / name if name else root
        if folder.is_dir() and holds(folder):
            status = folder.stat()
            found.setdefault((status.st_dev, status.st_ino), folder)
    if len(found) > 1:
        first, second = list(found.values())[:2]
        raise StudyError(
            f"{what} is there twice, in {first} and in {second}: "
            "give the one that you mean as the root, or move the other away."
        )
    if found:
        return next(iter(found.values()))
    usual = next(name for name, _ in places if name)
    raise StudyError(
        f"{what} not found: neither {root} nor {root / usual} is a folder with {content}; "
        "put the data set there or change the root (paths.datasets in params.yaml)."
    )


def frame_of(folder: Path, rows: list[tuple[str, int, int]]) -> pd.DataFrame:
    """Table from (rel, pid, camid) rows.

    `generated` is read from the end of the file name (`_gen07`).
    """
    frame = pd.DataFrame(rows, columns=["rel", "pid", "camid"])
    frame = frame.astype({"pid": "int64", "camid": "int64"})
    frame.insert(0, "path", [str(folder / rel) for rel in frame["rel"]])
    frame["generated"] = [bool(GENERATED.search(rel.rsplit(".", 1)[0])) for rel in frame["rel"]]
    return frame


def typed(text: pd.Series) -> pd.Series:
    """A column of text as numbers or truth values where it holds nothing else, by `KINDS`.

    Missing cells are NA. Blanks around a number or a truth value do not count.
    """
    bare = text.str.strip()
    filled = bare[~bare.isin(MISSING)]
    for pattern, (plain, with_gaps) in KINDS.items():
        if filled.empty or not filled.str.fullmatch(pattern).all():
            continue
        values: Any = filled.str.lower() == "true" if plain == "bool" else filled
        if len(filled) == len(text):
            return values.astype(plain)
        return values.astype(with_gaps).reindex(text.index)
    return text.mask(text == "")


def with_truth(folder: Path, splits: Tables) -> Tables:
    """Join `truth.csv` of the data set's folder (if there is one) by the relative path.

    Identity and camera stay those of the data set. StudyError if the file is no such table, or
    names none of the images.
    """
    path = folder / TRUTH
    if not path.is_file():
        return splits
    truth = read_table(path)
    if "path" not in truth.columns or truth["path"].duplicated().any():
        raise StudyError(
            f"{path} needs a column 'path' that names every image once: write the file anew."
        )
    truth = pd.DataFrame({name: typed(truth[name]) for name in truth} | {"rel": truth["path"]})
    images = pd.concat([frame["rel"] for frame in splits.values()])
    if len(images) and not truth["rel"].isin(images).any():
        raise StudyError(
            f"{path} names none of the data set's images: it begins with "
            f"{shown(truth['rel'].iloc[0])}, and the first image is {shown(images.iloc[0])}; write "
            f"paths relative to {folder}, or move the file away."
        )
    joined = {}
    for split, frame in splits.items():
        taken = {*frame.columns, "split"}
        known = ["rel", *(column for column in truth.columns if column not in taken)]
        joined[split] = frame.merge(truth[known], on="rel", how="left", validate="one_to_one")
    return joined
