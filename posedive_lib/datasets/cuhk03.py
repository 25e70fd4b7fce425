"""CUHK03 under the new 767/700 protocol, as the CUHK03-NP tree: Market-1501's folders and names, two cameras.

`labeled` has hand-drawn boxes, `detected` those of a detector; results on the two are never comparable, so each has its own name.
"""

from pathlib import Path

import pandas as pd

from posedive_lib.datasets.market1501 import read_tree
from posedive_lib.datasets.table import find_folder

FOLDER = "cuhk03-np"


def read(root: Path, boxes: str) -> tuple[Path, dict[str, pd.DataFrame]]:
    """Folder and splits of CUHK03-NP with `boxes` 'labeled' or 'detected'."""
    folder = find_folder(root, (f"{FOLDER}/{boxes}", f"CUHK03-NP/{boxes}"), f"CUHK03-NP ({boxes})")
    return folder, read_tree(folder)
