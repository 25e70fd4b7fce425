"""CUHK03 under the new 767/700 protocol: `cuhk-03.mat`, or CUHK03-NP with Market-1501's layout.

`labeled` has hand-drawn boxes, `detected` those of a detector. Results on the two are never
comparable, so each has its own name. The camera is the view (1 or 2) of a camera pair. A person is
seen by one pair only, so the pair does not matter for leaving out same-camera matches. Identities
are the labels 1 to 1467 in both layouts.
"""

from pathlib import Path

import numpy as np

from posedive_lib.datasets import cuhk03_mat
from posedive_lib.datasets.market1501 import is_tree, read_tree
from posedive_lib.datasets.table import Read, Tables, find_folder, frame_of, protocol
from posedive_lib.errors import StudyError

FOLDER = "cuhk03-np"
TREES = (FOLDER, "CUHK03-NP", "cuhk03", "CUHK03", "cuhk03_np")
MATS = ("", "cuhk03", "CUHK03")


def read(root: Path, boxes: str, unpacked: Path | None = None, workers: int | None = None) -> Read:
    """Folder, splits and protocol of CUHK03 at or below `root`.

    boxes: "labeled" or "detected". unpacked, workers: as `cuhk03_mat.extracted` takes them.
    StudyError names what is missing or damaged.
    """

    def own_tree(folder: Path) -> bool:
        return folder.name == boxes and is_tree(folder)

    def has_mat(folder: Path) -> bool:
        extracted = folder / cuhk03_mat.images_folder(boxes)
        return cuhk03_mat.raw_file(folder) is not None or extracted.is_dir()

    places = [(f"{name}/{boxes}", own_tree) for name in TREES]
    places += [("", own_tree), (boxes, own_tree)]
    places += [(name, has_mat) for name in MATS]
    content = f"the CUHK03-NP tree of {boxes} boxes, or cuhk-03.mat"
    folder = find_folder(root, places, f"CUHK03 ({boxes})", content)
    if is_tree(folder):
        splits = read_tree(folder)
    else:
        config = cuhk03_mat.read_config(folder, boxes)
        images = cuhk03_mat.extracted(folder, boxes, unpacked, workers)
        folder, splits = images.parent, _tables(config, images)
    return folder, splits, protocol("cuhk03", "767/700 identities", boxes=boxes)


def _tables(config: cuhk03_mat.Config, images: Path) -> Tables:
    there = {entry.name for entry in images.iterdir()}
    gone = [name for name in config.names if name not in there]
    if gone:
        raise StudyError(
            f"{images} lacks {gone[0]} ({len(gone)} images in all): "
            "remove that folder, and it is extracted again from cuhk-03.mat."
        )
    splits = {}
    for split, rows in config.rows.items():
        order = rows[np.argsort(np.array(config.names)[rows], kind="stable")]
        entries = [
            (
                f"{images.name}/{config.names[i]}",
                int(config.labels[i]),
                int(config.cameras[i]) - 1,
            )
            for i in order
        ]
        splits[split] = frame_of(images.parent, entries)
    return splits
