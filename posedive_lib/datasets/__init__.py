"""Market-1501, MSMT17, CUHK03, MSMT17-S and one's own data: one loader, one kind of table.

`load(name, root)` gives the same tables for every data set, whatever its layout on disk.
`write.write_augmented` writes a data set with generated training images back, for whichever code
base is to read it. `python -m posedive_lib.datasets.preflight NAME ROOT` looks for what would spoil
a result.
"""

from posedive_lib.datasets.loading import NAMES, load, of_study
from posedive_lib.datasets.table import ReIDDataset

__all__ = ["NAMES", "ReIDDataset", "load", "of_study"]
