"""Where the commands for one data set find it: the arguments that they share."""

from __future__ import annotations

import argparse
from os.path import expanduser

from posedive_lib import datasets


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """The data set's name and folder, and places elsewhere for what cannot be written there."""
    names = ", ".join(datasets.NAMES)
    parser.add_argument("dataset", choices=datasets.NAMES, metavar="DATASET", help=names)
    parser.add_argument(
        "root", type=expanduser, metavar="ROOT", help="the data set's folder, or the one it is in"
    )
    parser.add_argument(
        "--bodies",
        type=expanduser,
        help="folder whose table DATASET.npz takes the place of smpl.npz in the data set's folder",
    )
    parser.add_argument(
        "--unpacked",
        type=expanduser,
        help="folder for the images of cuhk-03.mat (default: beside the file)",
    )


def add_params(parser: argparse.ArgumentParser, what: str = "default: %(default)s") -> None:
    """The parameter file. what: which of its parameters count, for the help."""
    parser.add_argument("--params", type=expanduser, default="params.yaml", help=what)


def dataset_of(given: argparse.Namespace, *, train_val: bool = True) -> datasets.ReIDDataset:
    """The data set that the arguments name. StudyError as `datasets.load`."""
    places = {"bodies": given.bodies, "unpacked": given.unpacked}
    return datasets.load(given.dataset, given.root, train_val=train_val, **places)
