"""Independent pieces of work, in processes of one thread each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import torch
from transformers.utils.logging import disable_progress_bar

if TYPE_CHECKING:
    from tqdm import tqdm


def in_processes(
    work: Callable[..., Any], jobs: Sequence[tuple], workers: int, bar: tqdm | None = None
) -> None:
    """`work(*job)` for every job, in at most `workers` processes; what it returns is dropped.

    Each process has one thread, so the number of processes changes no result. The first error
    stops the jobs that have not begun.
    """
    count = min(workers, len(jobs))
    context = get_context("spawn")  # a fork would copy threads of torch that hold locks
    with ProcessPoolExecutor(count, mp_context=context, initializer=_one_thread) as pool:
        futures = [pool.submit(work, *job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
                if bar is not None:
                    bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _one_thread() -> None:
    torch.set_num_threads(1)
    disable_progress_bar()  # a bar per loaded model would hide the caller's bar
