"""Independent pieces of work, in processes of one thread each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from transformers.utils.logging import disable_progress_bar

from posedive_lib.workers import begin_worker, reporting_lost_workers

if TYPE_CHECKING:
    from tqdm import tqdm


def in_processes(
    work: Callable[..., Any], jobs: Sequence[tuple], workers: int, bar: tqdm | None = None
) -> None:
    """`work(*job)` for every job, in at most `workers` processes; what it returns is dropped.

    Each process has one thread, so the number of processes changes no result. The first error
    stops the jobs that have not begun. StudyError where a process is killed.
    """
    count = min(workers, len(jobs))
    context = get_context("spawn")  # a fork would copy threads of torch that hold locks
    with (
        reporting_lost_workers(),
        ProcessPoolExecutor(count, mp_context=context, initializer=_begin) as pool,
    ):
        futures = [pool.submit(work, *job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
                if bar is not None:
                    bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin() -> None:
    begin_worker()
    disable_progress_bar()  # a bar per loaded model would hide the caller's bar
