"""Time, processor time and peak memory of one call, and tables of them."""

import os
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np

RESULTS = Path(__file__).parent / "results"
SECONDS = (
    "Wall-clock seconds, in brackets processor seconds of all threads; the machine may be shared, "
    "so trust ratios and processor time more. "
)


def peak_memory() -> float:
    """Largest resident memory of this process so far, GB (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9


def peaks() -> float:
    """Largest resident memory so far of this process or of one that it started and awaited, GB."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    return max(peak_memory(), children)


def used(call) -> tuple[float, float]:
    """Wall-clock and processor seconds of a call, with those of the processes that it awaited."""
    wall, before = time.perf_counter(), os.times()
    call()
    after = os.times()
    return time.perf_counter() - wall, sum(after[:4]) - sum(before[:4])


def timed(call) -> tuple[float, float, object]:
    """Wall-clock and processor seconds of a call, and what it returned."""
    wall, cpu = time.perf_counter(), time.process_time()
    value = call()
    return time.perf_counter() - wall, time.process_time() - cpu, value


def in_turn(calls: dict, repeats: int) -> dict:
    """Median (wall, processor) seconds and last value of each call.

    They run in turn, so that other load on the machine meets all alike.
    """
    runs = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            runs[name].append(timed(call))
    return {
        name: (median(run[0] for run in done), median(run[1] for run in done), done[-1][2])
        for name, done in runs.items()
    }


def alone(function, *arguments):
    """`function(*arguments)` in a new process, so that its peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def features(
    n_query: int,
    n_gallery: int,
    people: int,
    cameras: int,
    *,
    dim: int,
    noise: float,
    distractors: int = 0,
    seed: int = 0,
) -> tuple:
    """(query features float32, pids, camids, gallery features, pids, camids).

    People are points, images lie around them.
    """
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(people + 1, dim)).astype(np.float32)

    def draw(pids):
        images = centres[pids] + noise * rng.standard_normal((len(pids), dim), dtype=np.float32)
        images[pids == 0] = rng.standard_normal((int((pids == 0).sum()), dim), dtype=np.float32)
        return images, pids, rng.integers(0, cameras, len(pids))

    query = draw(rng.integers(1, people + 1, n_query))
    others = rng.integers(1, people + 1, n_gallery - distractors)
    return *query, *draw(np.append(np.zeros(distractors, int), others))


def table(header: list[str], rows: list[list]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def report(name: str, text: str) -> None:
    """Print the text and write it to benchmarks/results/NAME.md, with command and machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = (
        f"load average at the end {os.getloadavg()[0]:.1f}"
        if hasattr(os, "getloadavg")
        else "load unknown"
    )
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    machine = f"{cores} CPU cores · OMP_NUM_THREADS {threads} · {load}"
    text = f"`python -m benchmarks.{name}` · {machine}\n\n{text}\n"
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
