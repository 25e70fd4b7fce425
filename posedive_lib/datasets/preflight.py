"""Before anything long starts: what is in a data set, and what would spoil a result, with cause and mend.

    python -m posedive_lib.datasets.preflight market1501 ~/data

prints a table of the splits and one sentence per finding. *Problems* make numbers wrong or a run fail (exit status 1); *notes* are facts
that a reader of the numbers should know. Every image is decoded once.
"""

import argparse
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from posedive_lib import datasets
from posedive_lib.datasets import compatibility
from posedive_lib.datasets.images import inspect
from posedive_lib.datasets.table import SPLITS, ReIDDataset
from posedive_lib.errors import StudyError, command

SMALLEST = 16  # pixels: a side below it shows no person
OWN = [
    "path",
    "rel",
    "pid",
    "camid",
    "generated",
    "split",
    "identity",
]  # columns of every data set; others may have the name of something found


@dataclass(frozen=True)
class Finding:
    """One sentence about a data set; `problem` if results would be wrong or a run would fail."""

    problem: bool
    text: str

    def __str__(self) -> str:
        return f"{'PROBLEM' if self.problem else 'note'}: {self.text}"


@dataclass(frozen=True)
class Report:
    """What `preflight` found: `table` has one row per split, `images` one per file (path, split, identity, width, height, error, turned)."""

    dataset: ReIDDataset
    table: pd.DataFrame
    images: pd.DataFrame
    findings: list[Finding]

    @property
    def problems(self) -> list[str]:
        return [finding.text for finding in self.findings if finding.problem]

    @property
    def notes(self) -> list[str]:
        return [finding.text for finding in self.findings if not finding.problem]

    def require(self) -> "Report":
        """This report; StudyError with the first problem if there is one."""
        if self.problems:
            more = (
                f" ({len(self.problems) - 1} more: python -m posedive_lib.datasets.preflight {self.dataset.name} {shlex.quote(str(self.dataset.root))})"
                if len(self.problems) > 1
                else ""
            )
            raise StudyError(self.problems[0] + more)
        return self

    def __str__(self) -> str:
        facts = ", ".join(
            f"{key} {value}" for key, value in self.dataset.protocol.items() if value is not None
        )
        return "\n".join(
            [
                f"{self.dataset.folder} ({facts})",
                self.table.drop(columns="dataset").to_string(index=False),
                *map(str, self.findings),
            ]
        )


def preflight(
    dataset: ReIDDataset,
    *,
    batch_size: int = 64,
    instances: int = 4,
    workers: int | None = None,
    progress: bool = False,
) -> Report:
    """Inspect a loaded data set; batches of `batch_size` images with `instances` of each identity are what training will draw (P × K)."""
    images = dataset.images()[OWN]
    files = images["path"].drop_duplicates()
    found = pd.DataFrame(
        inspect(files, workers, f"{dataset.name}: images" if progress else None),
        index=files.to_numpy(),
    )
    images = images.join(found, on="path")
    findings = [
        *unreadable(images),
        *matches(dataset),
        *shared_identities(dataset),
        *sampler(dataset, batch_size, instances),
        *cameras(dataset),
        *duplicates(images),
        *sizes(images),
        *turned(images),
        *version(dataset),
        *(Finding(False, text) for text in compatibility.misread(dataset)),
    ]
    return Report(dataset, _table(dataset, images), images.drop(columns="digest"), findings)


def _table(dataset: ReIDDataset, images: pd.DataFrame) -> pd.DataFrame:
    """Images, identities, cameras, fewest images of an identity, generated images and sizes of each split."""
    rows = []
    for split in SPLITS:
        own = images[images["split"] == split]
        good = own[own["error"] == ""]
        span = lambda values: (
            "-"
            if values.empty
            else f"{values.min()}"
            if values.min() == values.max()
            else f"{values.min()}-{values.max()}"
        )
        rows.append(
            {
                "fewest": own["pid"].value_counts().min() if len(own) else 0,
                "generated": int(own["generated"].sum()),
                "size": f"{span(good['height'])} x {span(good['width'])}",
            }
        )
    return pd.concat([dataset.counts(), pd.DataFrame(rows)], axis=1)


def _some(items, count: int = 3) -> str:
    items = [str(item) for item in items]
    return ", ".join(items[:count]) + (
        f" and {len(items) - count:,} more" if len(items) > count else ""
    )


def unreadable(images: pd.DataFrame) -> Iterator[Finding]:
    """Files that cannot be decoded."""
    bad = images[images["error"] != ""].drop_duplicates("path")
    if len(bad):
        more = f", and {len(bad) - 1:,} more: {_some(bad['path'].iloc[1:])}" if len(bad) > 1 else ""
        yield Finding(
            True,
            f"{bad['path'].iloc[0]} is not a readable image ({bad['error'].iloc[0]}){more}: restore them, or remove them and their lines in the lists.",
        )


def valid_queries(query: pd.DataFrame, gallery: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """(has a true match at all, has one from another camera), boolean per query row."""
    seen = gallery[["pid", "camid"]].drop_duplicates()
    total = query["pid"].map(seen["pid"].value_counts()).fillna(0)
    own = (
        query[["pid", "camid"]]
        .merge(seen.assign(own=1), on=["pid", "camid"], how="left")["own"]
        .fillna(0)
        .to_numpy()
    )
    return total > 0, total - own > 0


def matches(dataset: ReIDDataset) -> Iterator[Finding]:
    """Queries that cannot be scored, because every true match comes from their own camera or there is none."""
    if dataset.query.empty:
        yield Finding(
            False,
            "There are training images only: they can be augmented and trained on, but nothing can be evaluated; for that add query and gallery images.",
        )
        return
    known, valid = valid_queries(dataset.query, dataset.gallery)
    count, same, none = len(valid), int((known & ~valid).sum()), int((~known).sum())
    if same == count:
        cams = sorted({*dataset.query["camid"] + 1, *dataset.gallery["camid"] + 1})
        one = f" (all are camera {cams[0]})" if len(cams) == 1 else ""
        yield Finding(
            True,
            f"All {count:,} queries share their camera with every true match{one}, so none can be scored: camera numbers were lost or never set; give each camera its own, in query and gallery alike.",
        )
    elif none == count:
        yield Finding(
            True,
            f"None of the {count:,} queries has its identity in the gallery: query and gallery must number identities alike, so check the names or lists of both.",
        )
    elif not valid.any():
        yield Finding(
            True,
            f"None of the {count:,} queries can be scored: {same:,} share their camera with every true match, and {none:,} have no image of their identity in the gallery; check identities and cameras.",
        )
    elif same + none:
        yield Finding(
            False,
            f"{same + none:,} of {count:,} queries have no valid match ({same:,} share their camera with every true match, {none:,} have none in the gallery) and do not count in mAP and ranks.",
        )


def shared_identities(dataset: ReIDDataset) -> Iterator[Finding]:
    """People who are in training and in test, where the numbers say so."""
    if dataset.shared_pids:
        both = set(dataset.train["pid"]) & (
            {*dataset.query["pid"], *dataset.gallery["pid"]}
            - ({0} if dataset.name == "market1501" else set())
        )
        if both:
            yield Finding(
                True,
                f"{len(both):,} identities are in training and in test ({_some(sorted(both))}): results would be too good; remove them from one side, or number the test anew if they are other people.",
            )


def sampler(dataset: ReIDDataset, batch_size: int, instances: int) -> Iterator[Finding]:
    """Whether training can draw batches of P identities × K images."""
    per_person, people = dataset.train["pid"].value_counts(), batch_size // instances
    if len(per_person) < 2:
        yield Finding(
            True,
            f"Training has {len(per_person)} identity: Re-ID training needs at least two, so add people to the training set.",
        )
    elif len(per_person) < people:
        yield Finding(
            False,
            f"Training has {len(per_person):,} identities, fewer than the {people} of a batch (P = {batch_size} / {instances}): batches hold more images of each here, but other code bases draw no batch at all; lower the batch size there.",
        )
    few = int((per_person < instances).sum())
    if few:
        yield Finding(
            False,
            f"{few:,} training identities have fewer than {instances} images (K of PK sampling): some of theirs repeat within a batch.",
        )


def cameras(dataset: ReIDDataset) -> Iterator[Finding]:
    """Cameras that a camera embedding (SIE) would not know."""
    trained = set(dataset.train["camid"])
    new = sorted({*dataset.query["camid"], *dataset.gallery["camid"]} - trained)
    if new:
        yield Finding(
            False,
            f"Test cameras {_some([c + 1 for c in new], 6)} are not in training: a camera embedding (SIE) has nothing learned for them, so leave it off.",
        )
    if max(trained) + 1 != len(trained):
        yield Finding(
            False,
            f"Training cameras are {_some([c + 1 for c in sorted(trained)], 8)}: numbers are left out, and code bases that count cameras for their embedding (SIE) would fail; number them 1, 2, ….",
        )


def duplicates(images: pd.DataFrame) -> Iterator[Finding]:
    """Equal files: in training and test, in query and gallery, under two identities, or merely twice."""
    files = images[(images["digest"] != "") & images.duplicated("digest", keep=False)]
    kinds: dict[str, list[str]] = {"leak": [], "self": [], "labels": [], "twice": []}
    for _, group in files.groupby("digest", sort=False):
        splits = set(group["split"])
        query, gallery = (group[group["split"] == split] for split in ("query", "gallery"))
        crossing = query.merge(gallery, on="identity")
        kind = (
            "leak"
            if "train" in splits and len(splits) > 1
            else "self"
            if (crossing["camid_x"] != crossing["camid_y"]).any()
            else "labels"
            if group["identity"].nunique() > 1
            else "twice"
        )
        kinds[kind].append(" = ".join(group["rel"].iloc[:2]))
    for kind, problem, text in (
        ("leak", True, "are in training and in test: remove them from one side"),
        (
            "self",
            True,
            "are query and gallery at once, under two cameras, and find themselves: remove them from the gallery",
        ),
        ("labels", False, "carry two identities: find out which is right"),
        ("twice", False, "occur more than once"),
    ):
        if kinds[kind]:
            yield Finding(
                problem,
                f"{len(kinds[kind]):,} files with equal content {text} ({_some(kinds[kind], 2)}).",
            )


def sizes(images: pd.DataFrame) -> Iterator[Finding]:
    """Boxes that hold no upright person."""
    good = images[images["error"] == ""].drop_duplicates("path")
    wide, small = (
        good[good["width"] > good["height"]],
        good[good[["width", "height"]].min(axis=1) < SMALLEST],
    )
    for odd, text in (
        (wide, "are wider than tall: whole scenes, or boxes turned by 90°"),
        (small, f"have a side below {SMALLEST} pixels: boxes of almost nothing"),
    ):
        if len(odd):
            row = odd.iloc[0]
            yield Finding(
                False,
                f"{len(odd):,} images {text} ({row['rel']} is {row['height']} x {row['width']}, height x width); look at them, and remove what shows no person.",
            )


def turned(images: pd.DataFrame) -> Iterator[Finding]:
    """Photos that other code bases see lying on their side."""
    odd = images[images["turned"]].drop_duplicates("path")
    if len(odd):
        yield Finding(
            False,
            f"{len(odd):,} images are turned by their EXIF orientation here and in fast-reid, but not in CLIP-ReID, TransReID and torchreid ({odd['rel'].iloc[0]}); save them upright for those.",
        )


def version(dataset: ReIDDataset) -> Iterator[Finding]:
    """MSMT17's version 2."""
    if dataset.protocol.get("version") == "V2":
        yield Finding(
            False,
            "This is MSMT17 version 2, with masked faces: results differ by 2 to 5 points of mAP from version 1, so never compare the two.",
        )


@command("Stopped: nothing was written.")
def main(argv: list[str] | None = None) -> int:
    """The command; 0 if there is no problem, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m posedive_lib.datasets.preflight",
        description="Check a Re-ID data set before training on it.",
    )
    parser.add_argument(
        "name", choices=datasets.NAMES, metavar="NAME", help=", ".join(datasets.NAMES)
    )
    parser.add_argument(
        "root", type=Path, metavar="ROOT", help="the data set's folder, or the one it is in"
    )
    parser.add_argument(
        "--train-only", action="store_true", help="MSMT17: leave list_val out of training"
    )
    parser.add_argument(
        "--batch-size", type=int, default=64, help="images of a training batch (64)"
    )
    parser.add_argument(
        "--instances", type=int, default=4, help="images of an identity in a batch (4)"
    )
    parser.add_argument("--workers", type=int, help="threads that decode images (one per core)")
    options = parser.parse_args(argv)
    try:
        dataset = datasets.load(options.name, options.root, train_val=not options.train_only)
    except StudyError as error:
        print(Finding(True, str(error)))
        return 1
    report = preflight(
        dataset,
        batch_size=options.batch_size,
        instances=max(1, options.instances),
        workers=options.workers,
        progress=sys.stderr.isatty(),
    )
    print(report)
    print(
        f"{len(report.problems)} problems, {len(report.notes)} notes in {len(report.images):,} images."
    )
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
