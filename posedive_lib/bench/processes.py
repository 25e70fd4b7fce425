"""Independent pieces of work, in processes of one thread each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from typing import TYPE_CHECKING, Any

from posedive_lib.cluster import pieces
from posedive_lib.workers import begin_worker

if TYPE_CHECKING:
    from tqdm import tqdm


def in_processes(
    work: Callable[..., Any],
    jobs: Sequence[tuple],
    workers: int,
    bar: tqdm | None = None,
    *,
    scheduler: str = "",
) -> None:
    """`work(*job)` for every job, in at most `workers` processes; what it returns is dropped.

    Or by the workers of a Dask scheduler (`scale.scheduler`). Each process has one thread, so the
    number of processes changes no result. The first error stops the jobs that have not begun.
    StudyError where a process of this machine is lost.
    """
    if not jobs:
        return
    with pieces(min(workers, len(jobs)), scheduler, _begin) as pool:
        futures = [pool.submit(work, *job) for job in jobs]
        for future in as_completed(futures):
            future.result()
            if bar is not None:
                bar.update()


def _begin() -> None:
    from transformers.utils.logging import disable_progress_bar  # takes a second

    begin_worker()
    disable_progress_bar()  # a bar per loaded model would hide the caller's bar
