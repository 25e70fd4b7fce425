"""Work that goes wrong, for processes that tests/test_faults.py starts."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from posedive_lib.writing import replacing, replacing_folder


def die(path: Path) -> None:
    """One of several ends as the system ends a process when memory runs out."""
    if path.exists():
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(100)


def fill_memory() -> None:
    np.ones(1 << 50)


def wait(file: str) -> None:
    Path(file).write_text(str(os.getpid()))
    time.sleep(100)


def write_for_ever(folder: Path) -> None:
    """A file and a folder whose parts always agree, over and over."""
    for number in range(1, sys.maxsize):
        with replacing(folder / "file") as draft:
            draft.write_text(f"{number}\n" * 10_000)
        with replacing_folder(folder / "folder") as draft:
            for part in range(3):
                (draft / str(part)).write_text(str(number))
        print(number, flush=True)


if __name__ == "__main__":  # a process to be killed
    if sys.argv[1] == "writer":
        write_for_ever(Path.cwd())
    elif sys.argv[1] == "runs":
        from posedive_lib.bench.processes import in_processes

        in_processes(wait, [("first",), ("second",)], 2)
    else:
        from posedive_lib.workers import worker_pool

        with worker_pool(2) as pool:
            list(pool.map(wait, ["first", "second"]))
