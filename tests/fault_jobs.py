"""Work that goes wrong, for processes that tests/test_faults.py starts."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np


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


if __name__ == "__main__":  # a parent to be killed
    if sys.argv[1] == "runs":
        from posedive_lib.bench.processes import in_processes

        in_processes(wait, [("first",), ("second",)], 2)
    else:
        from posedive_lib.body.rendering import rendering_processes

        with rendering_processes(2) as pool:
            list(pool.map(wait, ["first", "second"]))
