"""The tables that every data set is read into, and how its folder is found."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from posedive_lib.errors import StudyError

GENERATED = re.compile(r"_gen\d+$")
SPLITS = ("train", "query", "gallery")


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
        """All rows with `split` and `identity`: the pid, with "test/" before it where the test counts its people anew."""
        parts = []
        for split in SPLITS:
            frame = getattr(self, split)
            prefix = "test/" if split != "train" and not self.shared_pids else ""
            parts.append(frame.assign(split=split, identity=prefix + frame["pid"].astype(str)))
        return pd.concat(parts, ignore_index=True)

    def counts(self) -> pd.DataFrame:
        """Images, identities and cameras of each split, one row per split (distractors, pid 0 in Market-1501's gallery, included)."""
        rows = [
            {"dataset": self.name, "split": split, "images": len(frame), "identities": frame["pid"].nunique(), "cameras": frame["camid"].nunique()}
            for split, frame in ((split, getattr(self, split)) for split in SPLITS)
        ]
        return pd.DataFrame(rows)


def protocol(dataset: str, split: str, *, version: str | None = None, train_val: bool | None = None, boxes: str | None = None) -> dict:
    """The record beside every result (see `ReIDDataset`)."""
    return {"dataset": dataset, "version": version, "train_val": train_val, "boxes": boxes, "split": split}


def find_folder(root: Path, places: list[tuple[str, Callable[[Path], bool]]], what: str, content: str) -> Path:
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
        raise StudyError(f"{what} is there twice, in {first} and in {second}: give the one that you mean as the root, or move the other away.")
    if found:
        return next(iter(found.values()))
    usual = next(name for name, _ in places if name)
    raise StudyError(f"{what} not found: neither {root} nor {root / usual} is a folder with {content}; put the data set there or change the root (paths.datasets in params.yaml).")


def frame_of(folder: Path, rows: list[tuple[str, int, int]]) -> pd.DataFrame:
    """Table from (rel, pid, camid) rows; `generated` is read from the file name's end (`_gen07`)."""
    frame = pd.DataFrame(rows, columns=["rel", "pid", "camid"]).astype({"pid": "int64", "camid": "int64"})
    frame.insert(0, "path", [str(folder / rel) for rel in frame["rel"]])
    frame["generated"] = [bool(GENERATED.search(rel.rsplit(".", 1)[0])) for rel in frame["rel"]]
    return frame


def with_truth(folder: Path, splits: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Join `truth.csv` of the data set's folder (if there is one) by the relative path; identity and camera stay those of the data set."""
    path = folder / "truth.csv"
    if not path.is_file():
        return splits
    truth = pd.read_csv(path)
    if "path" not in truth.columns or truth["path"].duplicated().any():
        raise StudyError(f"{path} needs a column 'path' that names every image once: write the file anew.")
    truth = truth.rename(columns={"path": "rel"})
    joined = {}
    for split, frame in splits.items():
        known = [column for column in truth.columns if column == "rel" or column not in (*frame.columns, "split")]
        joined[split] = frame.merge(truth[known], on="rel", how="left", validate="one_to_one")
    return joined
