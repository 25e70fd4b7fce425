"""Before anything long starts: what is in a data set, and what would spoil a result.

    python -m posedive_lib.datasets.preflight market1501 ~/data

prints a table of the splits and one sentence per finding, with cause and mend. *Problems* make
numbers wrong or a run fail (exit status 1); *notes* are facts that a reader of the numbers should
know. Every image is decoded once.
"""

import argparse
import shlex
import sys
from dataclasses import dataclass

import pandas as pd

from posedive_lib.datasets import checks, compatibility
from posedive_lib.datasets.arguments import add_dataset, dataset_of
from posedive_lib.datasets.checks import Finding
from posedive_lib.datasets.images import inspect
from posedive_lib.datasets.table import SPLITS, ReIDDataset
from posedive_lib.errors import StudyError, command

COMMAND = "python -m posedive_lib.datasets.preflight"
# Columns of every data set; others may have the name of something that is found here.
OWN = ["path", "rel", "pid", "camid", "generated", "split", "identity"]


@dataclass(frozen=True)
class Report:
    """What `preflight` found.

    table: one row per split. images: one row per file and split, with path, split, identity, width,
    height (pixels), error ("" if none) and turned.
    """

    dataset: ReIDDataset
    table: pd.DataFrame
    images: pd.DataFrame
    findings: list[Finding]

    @property
    def problems(self) -> list[str]:
        """The sentences of findings that make numbers wrong or a run fail."""
        return [finding.text for finding in self.findings if finding.problem]

    @property
    def notes(self) -> list[str]:
        """The sentences of the other findings."""
        return [finding.text for finding in self.findings if not finding.problem]

    def require(self) -> "Report":
        """This report; StudyError with the first problem if there is one."""
        if not self.problems:
            return self
        more = ""
        if len(self.problems) > 1:
            root = shlex.quote(str(self.dataset.root))
            more = f" ({len(self.problems) - 1} more: {COMMAND} {self.dataset.name} {root})"
        raise StudyError(self.problems[0] + more)

    def __str__(self) -> str:
        protocol = self.dataset.protocol.items()
        facts = ", ".join(f"{key} {value}" for key, value in protocol if value is not None)
        table = self.table.drop(columns="dataset").to_string(index=False)
        return "\n".join([f"{self.dataset.folder} ({facts})", table, *map(str, self.findings)])


def preflight(
    dataset: ReIDDataset,
    *,
    batch_size: int = 64,
    instances: int = 4,
    workers: int | None = None,
    progress: bool = False,
) -> Report:
    """Inspect a loaded data set.

    batch_size, instances: training will draw batches of so many images, with so many of each
    identity (P × K). workers: threads that decode images. progress: show a bar.
    """
    images = dataset.images()[OWN]
    files = images["path"].drop_duplicates()
    found = pd.DataFrame(
        inspect(files, workers, f"{dataset.name}: images" if progress else None),
        index=files.to_numpy(),
    )
    images = images.join(found, on="path")
    findings = [
        *checks.unreadable(images),
        *checks.unread(dataset),
        *checks.matches(dataset),
        *checks.shared_identities(dataset),
        *checks.sampler(dataset, batch_size, instances),
        *checks.cameras(dataset),
        *checks.duplicates(images),
        *checks.look_alikes(images),
        *checks.sizes(images),
        *checks.turned(images),
        *checks.version(dataset),
        *(Finding(False, text) for text in compatibility.misread(dataset)),
    ]
    return Report(
        dataset, _table(dataset, images), images.drop(columns=["digest", "look"]), findings
    )


def _table(dataset: ReIDDataset, images: pd.DataFrame) -> pd.DataFrame:
    """One row per split: counts, fewest images of an identity, generated images and sizes."""
    rows = []
    for split in SPLITS:
        own = images[images["split"] == split]
        good = own[own["error"] == ""]
        rows.append(
            {
                "fewest": own["pid"].value_counts().min() if len(own) else 0,
                "generated": int(own["generated"].sum()),
                "size": f"{_span(good['height'])} x {_span(good['width'])}",
            }
        )
    return pd.concat([dataset.counts(), pd.DataFrame(rows)], axis=1)


def _span(values: pd.Series) -> str:
    """Lowest and highest value, or the one that all have."""
    if values.empty:
        return "-"
    if values.min() == values.max():
        return str(values.min())
    return f"{values.min()}-{values.max()}"


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=COMMAND, description="Check a Re-ID data set before training on it."
    )
    add_dataset(parser)
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
    return parser.parse_args(argv)


@command("Stopped: nothing was written.")
def main(argv: list[str] | None = None) -> int:
    """The command; 0 if there is no problem, else 1."""
    options = _options(argv)
    try:
        dataset = dataset_of(options, train_val=not options.train_only)
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
        f"{len(report.problems)} problems, {len(report.notes)} notes "
        f"in {len(report.images):,} images."
    )
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
