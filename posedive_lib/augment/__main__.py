"""One command from a data set to its augmented self:

    python -m posedive_lib.augment DATASET ROOT --out FOLDER

FOLDER gets the data set in its own layout with the generated training images, `manifest.csv`
(every candidate with its scores and the rule that rejected it), `contact_sheet.jpg` and `CARD.md`
(what made it, and what it may be used for). The candidates lie in FOLDER.candidates, where an
interrupted run goes on. `--help` lists the options.
"""

import argparse
import sys
from os.path import expanduser

from posedive_lib import params
from posedive_lib.augment.diversify import ARMS
from posedive_lib.datasets.arguments import add_dataset, add_params
from posedive_lib.errors import command


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m posedive_lib.augment",
        description="Augment a Re-ID data set with generated images.",
    )
    add_dataset(parser)
    parser.add_argument("--out", type=expanduser, required=True, help="folder for the result")
    parser.add_argument(
        "--generator", type=expanduser, default="build/generator", help="default: %(default)s"
    )
    add_params(parser)
    parser.add_argument("--images-per-pid", type=int, help="to keep, at most")
    parser.add_argument("--candidates-per-pid", type=int, help="to make, at most")
    parser.add_argument("--arm", default="pose-dive", choices=[*ARMS], help="default: %(default)s")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace it; candidates are used again"
    )
    return parser.parse_args(arguments)


@command("Stopped: the same command goes on from here.")
def main(arguments: list[str] | None = None) -> int:
    given = parse(arguments)
    counts = {
        "augment.images_per_pid": given.images_per_pid,
        "augment.candidates_per_pid": given.candidates_per_pid,
    }
    overrides = {key: value for key, value in counts.items() if value is not None}
    P = params.load(given.params, overrides=overrides)
    # torch and OpenGL only once the arguments are right
    from posedive_lib.own_data.augment import augment

    made = augment(
        given.dataset,
        given.root,
        given.out,
        P,
        generator=given.generator,
        arm=given.arm,
        overwrite=given.overwrite,
        bodies=given.bodies,
        unpacked=given.unpacked,
    )
    people = made.added["pid"].nunique()
    added, generated = len(made.added), len(made.manifest)
    print(f"{added} images of {people} identities added, of {generated} generated: {given.out}")
    if len(made.short):
        fewest = made.short.sort_values("kept").head(8)
        pairs = zip(fewest["pid"], fewest["kept"], strict=True)
        worst = ", ".join(f"{pid} ({kept})" for pid, kept in pairs)
        print(
            f"{len(made.short)} identities have fewer than {P.augment.images_per_pid} images "
            f"within the budget: {worst}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
