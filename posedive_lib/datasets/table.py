"""The tables that every data set is read into."""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from posedive_lib.errors import StudyError

COLUMNS = ["path", "rel", "pid", "camid"]
GENERATED = re.compile(r"_gen\d+$")


@dataclass(frozen=True)
class ReIDDataset:
    """One data set: `folder` holds its images below `root`; tables as in `posedive_lib.datasets.load`."""

    name: str
    root: Path
    folder: Path
    train: pd.DataFrame
    query: pd.DataFrame
    gallery: pd.DataFrame

    def counts(self) -> pd.DataFrame:
        """Images, identities and cameras of each split, one row per split (distractors, pid 0 in Market-1501's gallery, included)."""
        rows = [
            {"dataset": self.name, "split": split, "images": len(frame), "identities": frame["pid"].nunique(), "cameras": frame["camid"].nunique()}
            for split, frame in (("train", self.train), ("query", self.query), ("gallery", self.gallery))
        ]
        return pd.DataFrame(rows)


def find_folder(root: Path, names: tuple[str, ...], what: str) -> Path:
    """The first of `names` that is a folder below `root`; StudyError names the one expected."""
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise StudyError(f"{what} not found: there is no folder {root / names[0]}; put the data set there or change paths.datasets in params.yaml.")


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
