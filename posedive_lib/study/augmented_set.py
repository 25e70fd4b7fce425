"""A data set of the study with the generated images of one arm, in its own layout, on request:

    python -m posedive_lib.study.augmented_set DATASET ARM --out FOLDER

The study itself trains on the candidates where they lie. FOLDER gets real and generated training
images, query and gallery as they were, `manifest.csv` (every candidate, and whether it was added),
`contact_sheet.jpg` and `CARD.md`. So any Re-ID code can train on what the study trained on.
"""

from __future__ import annotations

import argparse
import sys
from os.path import expanduser
from pathlib import Path
from typing import TYPE_CHECKING

from posedive_lib import datasets, params
from posedive_lib.augment.diversify import CONTROLS
from posedive_lib.datasets.arguments import add_params
from posedive_lib.errors import StudyError, command
from posedive_lib.intake.paths import resolved
from posedive_lib.places import refuse_tracked

if TYPE_CHECKING:
    from posedive_lib.params import Params

# Arms of generated images; the others add photos, or images that notebook 08 draws.
ARMS = ["pose-dive", *CONTROLS, "unfiltered", "with-bags", "without-bags"]


def write(P: Params, name: str, arm: str, out: str | Path) -> datasets.ReIDDataset:
    """Write the set to `out`; returns it as `datasets.load` reads it.

    StudyError where `out` has content, lies below paths.datasets or cannot be written, and where
    the arm's candidates are missing or none of them are added.
    """
    # torch and the models only once the arguments are right
    from posedive_lib.augment import product
    from posedive_lib.study import candidate_files, design
    from posedive_lib.study.phase2_work import GENERATOR

    place = _checked(P, resolved(out))
    drawn = arm if arm in CONTROLS else "pose-dive"
    listed = candidate_files.candidates_folder(name, drawn) / "manifest.csv"
    if not listed.is_file():
        raise StudyError(
            f"{listed} is missing, so there are no candidates of {arm} on {name}: choose an arm "
            "that study.arms names for it, and run `dvc repro 04_augmentation_filtering`."
        )
    rows = design.images(P, name, [arm])[arm]
    if rows is None or rows.empty:
        raise StudyError(f"The arm {arm} adds no image to {name}: lower the limits of `augment`.")
    return product.write(
        P,
        datasets.of_study(name, P.paths),
        candidate_files.load_manifest(name, drawn),
        rows,
        place,
        candidate_files.store_of(name, drawn),
        arm=arm,
        generator=Path(GENERATOR),
    )


def _checked(P: Params, out: Path) -> Path:
    """`out`, if a data set may be written there."""
    if out.is_relative_to(resolved(P.paths.datasets)):
        raise StudyError(
            f"{out} lies in {P.paths.datasets} (paths.datasets), where nothing is ever written: "
            "choose another folder."
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StudyError(f"{out} has content, which is not replaced: choose a new folder.")
    refuse_tracked(out, "the augmented data set")
    return out


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m posedive_lib.study.augmented_set",
        description="Write a data set of the study with the generated images of one arm.",
    )
    made.add_argument("dataset", choices=datasets.NAMES)
    made.add_argument("arm", choices=ARMS)
    made.add_argument("--out", type=expanduser, required=True, help="new folder for the data set")
    add_params(made)
    return made


@command()
def main(arguments: list[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    made = write(params.load(given.params), given.dataset, given.arm, given.out)
    generated = made.train["generated"].sum()
    print(f"{len(made.train)} training images, {generated} of them generated: {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
