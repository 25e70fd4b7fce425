"""Worker processes: they end with the process that started them, and a lost one is reported."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Any

import torch

from posedive_lib.errors import StudyError


def begin_worker() -> None:
    """What a worker process does first: take one thread, and watch its parent.

    The processes are the parallelism. Threads that wait for each other would halve it. A parent
    that is killed cannot stop its workers. They would work on beside the next run, and then wait
    for ever.
    """
    torch.set_num_threads(1)
    parent = parent_process()
    if parent is not None:
        Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let this process compute in one thread, beside workers that keep the other cores busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# the pools that are open in this process, by size and first work
_open: dict[tuple[int, Callable[[], None]], ProcessPoolExecutor] = {}


@contextmanager
def worker_pool(
    count: int, begin: Callable[[], None] = begin_worker
) -> Iterator[ProcessPoolExecutor]:
    """A pool of at most `count` processes; each starts with the first work that it gets.

    Inside another pool of the same kind it is that pool: starting processes costs seconds.
    At the end, also after an exception, work that has not begun is dropped. Ctrl-C also stops work
    that has begun. StudyError where a process is lost; the others are then stopped at once.
    """
    kind = count, begin
    if kind in _open:
        yield _open[kind]
        return
    crew = _Crew()
    pool = ProcessPoolExecutor(count, mp_context=crew, initializer=begin)
    _open[kind] = pool
    try:
        yield pool
    except BrokenProcessPool:
        raise StudyError(
            "A worker process was killed, most likely because memory ran out: free memory, or set "
            "study.workers and world.workers lower in params.yaml, and start again; finished work "
            "is kept."
        ) from None
    except KeyboardInterrupt:
        crew.stop()
        raise
    finally:
        del _open[kind]
        crew.ends = True
        pool.shutdown(cancel_futures=True)


class _Worker(SpawnProcess):
    """A process that ignores Ctrl-C, which reaches all processes of a terminal, from its start.

    The process that started it decides what then happens to it.
    """

    def start(self) -> None:
        crew = vars(self).pop("crew")  # stays here: all else of this object goes to the process
        # A child inherits the blocked signals.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        crew.watch(self)


class _Crew(SpawnContext):
    """Starts the processes of one pool, and stops all of them when one is lost.

    The pool itself may notice the loss of a later process only when another one answers. A fork
    would copy threads of torch that hold locks; so the processes are spawned.
    """

    def __init__(self) -> None:
        self.workers: list[_Worker] = []
        self.ends = False  # then processes end as they should

    def Process(self, *args: Any, **options: Any) -> _Worker:  # type: ignore[override]
        worker = _Worker(*args, **options)
        vars(worker)["crew"] = self
        return worker

    def watch(self, worker: _Worker) -> None:
        self.workers.append(worker)
        Thread(target=self._await_end, args=(worker,), daemon=True).start()

    def _await_end(self, worker: _Worker) -> None:
        wait([worker.sentinel])
        if not self.ends:
            self.stop()

    def stop(self) -> None:
        for worker in self.workers:
            worker.terminate()
