"""Market-1501: `bounding_box_{train,test}/` and `query/` with names `PPPP_cCsS_FFFFFF_DD.jpg`.

Identity -1 is junk (bad detections) and is dropped: it counts neither for nor against a ranking.
Identity 0 is background and stays in the gallery as a distractor that matches nobody. The real one
has 12,936 / 3,368 / 15,913 images.
"""

import re
from pathlib import Path

from posedive_lib.datasets.listing import image_names
from posedive_lib.datasets.table import Read, Tables, find_folder, frame_of, protocol
from posedive_lib.errors import StudyError

FOLDER = "Market-1501-v15.09.15"
SPLITS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
NAME = re.compile("(-1|[0-9]{1,18})_c([0-9]{1,9})(?![0-9])")  # numbers of 64 bits
IMAGES = {".jpg", ".jpeg", ".png"}
NAMES = (FOLDER, "", "market1501", f"market1501/{FOLDER}", "Market-1501", "Market")


def parse(name: str, where: Path) -> tuple[int, int]:
    """(pid, camid counted from 0) from a file name; cameras may have several digits.

    Only the name is read, because folders above it may hold anything. StudyError if it has another
    form.
    """
    match = NAME.match(name)
    if match is None or int(match[2]) < 1:
        raise StudyError(
            f"Cannot read identity and camera from {name!r} in {where}: expected a name like "
            "0002_c1s1_000451_03.jpg, where cameras count from 1."
        )
    return int(match[1]), int(match[2]) - 1


def is_tree(folder: Path) -> bool:
    """Whether a folder has some of Market-1501's inner folders; one may be missing, to be named."""
    return any((folder / name).is_dir() for name in (SPLITS["train"], SPLITS["gallery"]))


def read_tree(folder: Path) -> Tables:
    """The three splits of a tree with Market-1501's folders and names.

    StudyError names a missing folder or a file name of another form.
    """
    splits = {}
    for split, name in SPLITS.items():
        where = folder / name
        if not where.is_dir():
            raise StudyError(
                f"The folder {where} is missing: unpack the whole data set into {folder}."
            )
        rows = []
        for file in image_names(where, IMAGES):
            pid, camid = parse(file, where)
            if pid != -1:
                rows.append((f"{name}/{file}", pid, camid))
        splits[split] = frame_of(folder, rows)
    return splits


def read(root: Path) -> Read:
    """Folder, splits and protocol of Market-1501 at or below `root`."""
    places = [(name, is_tree) for name in NAMES]
    content = f"{SPLITS['train']}, query and {SPLITS['gallery']}"
    folder = find_folder(root, places, "Market-1501", content)
    return folder, read_tree(folder), protocol("market1501", "751/750 identities")
