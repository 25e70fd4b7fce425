"""Worker processes: they end with the process that started them, and a lost one is reported."""

import os
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from threading import Thread

import torch

from posedive_lib.errors import StudyError


def begin_worker() -> None:
    """What a worker process does first: take one thread, and watch its parent.

    A parent that is killed cannot stop its workers. They would work on beside the next run, and
    then wait for ever.
    """
    torch.set_num_threads(1)
    parent = parent_process()
    if parent is not None:
        Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


@contextmanager
def reporting_lost_workers() -> Iterator[None]:
    """A worker process of a pool that was killed becomes a StudyError."""
    try:
        yield
    except BrokenProcessPool:
        raise StudyError(
            "A worker process was killed, most likely because memory ran out: free memory, or set "
            "study.workers and world.workers lower in params.yaml, and start again; finished work "
            "is kept."
        ) from None
