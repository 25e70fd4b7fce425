"""Sampling on a machine that is shared: processes of one thread each, against threads.

`python -m benchmarks.shared [--images 128] [--repeats 3] [--neighbours 0 1 2]`. A neighbour is a
process that keeps one core busy. The generator is that of `paths.phase1`, the pictures are noise.
Load that was there before is in all rows alike.
"""

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from statistics import median

import numpy as np
import torch

from benchmarks.measure import report, table
from posedive_lib import params
from posedive_lib.generator.drawing import SavedGenerator
from posedive_lib.workers import worker_pool


def spin() -> None:
    while True:
        pass


@contextmanager
def neighbours(count: int):
    """`count` processes that do nothing but keep a core busy."""
    busy = [get_context("spawn").Process(target=spin, daemon=True) for _ in range(count)]
    for process in busy:
        process.start()
    try:
        yield
    finally:
        for process in busy:
            process.terminate()


def rate(draw, inputs: tuple, pool: ProcessPoolExecutor | None, threads: int) -> float:
    """Images per second of one call."""
    torch.set_num_threads(threads)
    started = time.perf_counter()
    draw(*inputs, pool)
    return len(inputs[-1]) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--neighbours", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    P, count, cores = params.load("params.yaml"), options.images, len(os.sched_getaffinity(0))
    sampling = P.generator.sampling.model_copy(update={"batch_size": 32})
    saved = SavedGenerator.of(P.paths.phase1, P.paths.stable_diffusion, sampling)
    rng = np.random.default_rng(0)
    size = P.image.height, P.image.width
    picture = partial(rng.integers, 0, 256, dtype=np.uint8)
    inputs = (picture((8, *size, 3)), np.arange(count) % 8)
    inputs += tuple(picture((count, *size, channels)) for channels in (3, 1, 3))
    inputs += (np.arange(count),)
    rows = []
    with worker_pool(cores) as pool:
        few = tuple(array[: 32 * cores] if len(array) == count else array for array in inputs)
        rate(saved.draw, few, pool, 1)  # every process loads the generator
        rate(saved.draw, few, None, cores)
        ways = {"threads": (None, cores), "processes": (pool, 1)}
        for busy in options.neighbours:
            with neighbours(busy):
                time.sleep(1)
                runs = [
                    {name: rate(saved.draw, inputs, *way) for name, way in ways.items()}
                    for _ in range(options.repeats)
                ]
            found = [median(run[name] for run in runs) for name in ways]
            rows.append([busy, *(f"{value:.1f}" for value in found), f"{found[1] / found[0]:.2f}"])
    header = [
        "busy neighbours",
        f"{cores} threads, images/s",
        f"{cores} processes, images/s",
        "ratio",
    ]
    report("shared", table(header, rows))


if __name__ == "__main__":
    main()
