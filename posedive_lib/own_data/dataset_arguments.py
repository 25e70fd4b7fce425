"""Where the commands for one data set find it: the arguments that they share."""

from __future__ import annotations

import argparse

from posedive_lib import datasets


def add_to(parser: argparse.ArgumentParser) -> None:
    """The data set's name and folder, and places beside it for what cannot be written there."""
    parser.add_argument("dataset", choices=datasets.NAMES)
    parser.add_argument("root", help="folder that holds the data set")
    parser.add_argument(
        "--bodies",
        help="folder whose table DATASET.npz takes the place of smpl.npz in the data set's folder",
    )
    parser.add_argument(
        "--unpacked", help="folder for the images of cuhk-03.mat (default: beside the file)"
    )


def load(given: argparse.Namespace) -> datasets.ReIDDataset:
    """The data set that the arguments name. StudyError as `datasets.load`."""
    return datasets.load(given.dataset, given.root, bodies=given.bodies, unpacked=given.unpacked)
