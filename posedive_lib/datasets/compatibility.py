"""What other code bases would make of a data set's names, where they read something else.

CLIP-ReID, TransReID, fast-reid and torchreid search the *whole path* of a Market-1501 image for
`<digits>_c<one digit>`, in files ending in `.jpg`, and stop at identities above 1501 or cameras
above 6. MSMT17's camera is the third `_` field of a list's path, below 16, and the identities of a
list are 0, 1, 2, ….
"""

import re
from collections.abc import Iterator

from posedive_lib.datasets.market1501 import is_tree
from posedive_lib.datasets.table import ReIDDataset
from posedive_lib.errors import shown

ANYWHERE = re.compile(r"([-\d]+)_c(\d)")
MAX_PID, MAX_CAMERA, MSMT17_CAMERAS = 1501, 6, 15


def misread(dataset: ReIDDataset) -> Iterator[str]:
    """One sentence for each way in which the usual readers would fail or read something else."""
    if dataset.name.startswith("msmt17"):
        yield from _msmt17(dataset)
    elif is_tree(dataset.folder):
        yield from _market(dataset)


def _market(dataset: ReIDDataset) -> Iterator[str]:
    images = dataset.images()
    wrong = []
    for path, pid, camid in zip(images["path"], images["pid"], images["camid"], strict=True):
        match = ANYWHERE.search(path)
        read = (match[1], match[2]) if match else ("", "")
        if read != (str(pid).rjust(len(read[0]), "0"), str(camid + 1)):
            wrong.append((path, match))
    if wrong:
        path, match = wrong[0]
        found = f"identity {match[1]} and camera {match[2]}" if match else "nothing"
        yield (
            f"Code bases that search the whole path would read {found} from {shown(path)} "
            f"({len(wrong):,} images in all): cameras of two digits and folder names like "
            "exp_12_c3 mislead them, so move the data set or number cameras from 1 to 9."
        )
    if images["pid"].max() > MAX_PID or images["camid"].max() >= MAX_CAMERA:
        yield (
            f"Code bases that expect Market-1501 refuse identities above {MAX_PID} and cameras "
            f"above {MAX_CAMERA}; here they go to {images['pid'].max()} and "
            f"{images['camid'].max() + 1}."
        )
    other = images[~images["rel"].str.endswith(".jpg")]
    if dataset.name == "market1501" and len(other):
        yield (
            f"Code bases look for names in .jpg only and would miss {len(other):,} images "
            f"({shown(other['rel'].iloc[0])})."
        )


def _msmt17(dataset: ReIDDataset) -> Iterator[str]:
    images = dataset.images()
    wrong = []
    for rel, camid in zip(images["rel"], images["camid"], strict=True):
        fields = rel.split("/", 1)[1].split("_")
        if len(fields) < 3 or not fields[2].isdecimal() or int(fields[2]) != camid + 1:
            wrong.append(rel)
    if wrong:
        yield (
            "Code bases that count '_' from the start of a list's path would read another camera "
            f"from {shown(wrong[0])} ({len(wrong):,} images in all): avoid '_' in folder names."
        )
    if images["camid"].max() >= MSMT17_CAMERAS:
        yield (
            f"Code bases that expect MSMT17 have {MSMT17_CAMERAS} cameras; "
            f"here they go to {images['camid'].max() + 1}."
        )
    if dataset.name != "msmt17":
        return
    for split, frame in dataset.tables.items():
        identities, highest = frame["pid"].nunique(), frame["pid"].max()
        if highest + 1 != identities:
            yield (
                "CLIP-ReID and TransReID insist that the identities of a list are 0, 1, 2, …: "
                f"those of {split} leave numbers out ({identities:,} identities up to {highest})."
            )
