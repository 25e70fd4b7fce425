"""What each stage of the pipeline costs: wall time, processor time and memory.

    python -m posedive_lib.bench.costs STAGE COMMAND ...    run a command as this stage, record it
    python -m posedive_lib.bench.costs                      gather them in costs.csv of the reports

Times differ from run to run, so they are no result: records lie in runs/costs/, the table lies
beside the reports' tables and not among them, and no stage depends on it. A stage that found the
files of earlier runs in runs/ keeps the cost of the run that made them, while its parameters are
the same. A stage that was stopped and went on costs all its sittings together. What they cost so
far lies in runs/costs/unfinished/ until the stage has succeeded.
"""

import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import reduce
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pandas as pd
import yaml

from posedive_lib.bench import reports
from posedive_lib.bench.pipeline import Stages, read
from posedive_lib.bench.runs import RunStore, write_text
from posedive_lib.bench.tables import to_csv
from posedive_lib.errors import command

RECORDS, WORK = RunStore("runs/costs"), Path("runs")
SITTINGS = RunStore("runs/costs/unfinished")
EVERY = 20.0  # seconds between notes of a sitting: so much of it a kill may lose
TARGET = "costs.csv"  # in `paths.reports`
COLUMNS = ["stage", "wall_seconds", "cpu_seconds", "peak_gigabytes", "files_made", "machine"]
DIGITS = {"wall_seconds": 1, "cpu_seconds": 1, "peak_gigabytes": 2}


@contextmanager
def measured(stage: str, params_file: str = "params.yaml") -> Iterator[None]:
    """Record what the block and its child processes cost, unless it raises.

    With the cost of its earlier sittings, which raised or were killed, if their parameters were the
    same. Of a killed one the processor time of child processes that were at work is not known.
    """
    cost, ended = _meter(stage, params_file), Event()
    notes = Thread(target=_note, args=(stage, cost, ended), daemon=True)
    notes.start()
    try:
        yield
    finally:
        ended.set()
        notes.join()
    whole, known = cost(), RECORDS.get({"stage": stage})
    # A stage that found earlier files did not do the work: its cost then stays.
    if (
        known is None
        or known["params"] != whole["params"]
        or known["files_made"] <= whole["files_made"]
    ):
        RECORDS.put({"stage": stage}, whole)
    SITTINGS.put({"stage": stage}, whole).unlink()


def _meter(stage: str, params_file: str) -> Callable[[], dict[str, Any]]:
    """A function that says what the stage cost so far, from now on and in earlier sittings."""
    start, clock, before = time.time(), time.monotonic(), _cpu()
    earlier = SITTINGS.get({"stage": stage})

    def cost() -> dict[str, Any]:
        now = {
            "wall_seconds": time.monotonic() - clock,
            "cpu_seconds": _cpu() - before,
            "peak_gigabytes": _peak(),
            "files_made": _made(start),
            "machine": f"{len(os.sched_getaffinity(0))} CPU cores, {platform.machine()}",
            "params": RECORDS.key(parameters_of(stage, params_file)),
        }
        if earlier is None or earlier["params"] != now["params"]:
            return now
        sums = ("wall_seconds", "cpu_seconds", "files_made")
        peak = max(earlier["peak_gigabytes"], now["peak_gigabytes"])
        return now | {name: earlier[name] + now[name] for name in sums} | {"peak_gigabytes": peak}

    return cost


def _note(stage: str, cost: Callable[[], dict[str, Any]], ended: Event) -> None:
    """Write down what an unfinished stage cost so far, now and then and at the end."""
    over = False
    while not over:
        over = ended.wait(EVERY)
        # Where this fails, the stage itself has an error to show; and a cost is worth no stop.
        with suppress(Exception):
            SITTINGS.put({"stage": stage}, cost())


def parameters_of(stage: str, params_file: str) -> dict[str, Any]:
    """What the stage reads of the parameters, or all where no pipeline knows the stage."""
    values = yaml.safe_load(Path(params_file).read_text(encoding="utf-8"))
    names = _stages().get(stage, {"params": values}).get("params", [])
    return {
        name: reduce(lambda section, key: section[key], name.split("."), values) for name in names
    }


def _stages() -> Stages:
    return read() if Path("dvc.yaml").is_file() else {}


def _usage() -> list[resource.struct_rusage]:
    return [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]


def _cpu() -> float:
    return sum(use.ru_utime + use.ru_stime for use in _usage())


def _peak() -> float:
    """The largest single process, in GB (Linux counts KiB)."""
    return max(use.ru_maxrss for use in _usage()) * 1024 / 1e9


def _made(since: float) -> int:
    """Files written since then in the stores of runs: 0 for a stage that found everything done."""
    stores = [folder for folder in WORK.glob("*") if folder.name not in ("costs", "notebooks")]
    files = [file for folder in stores for file in folder.rglob("*") if file.is_file()]
    return sum(file.stat().st_mtime >= since for file in files)


def gather(known: pd.DataFrame | None, stages: list[str]) -> pd.DataFrame:
    """One row per stage in the pipeline's order.

    A stage without a record on this machine keeps its row of the `known` table.
    """
    old = {} if known is None else {row["stage"]: row for row in known.to_dict("records")}
    rows = []
    for stage in stages:
        cost = RECORDS.get({"stage": stage})
        if cost is not None:
            rows.append({**cost, "stage": stage})
        elif stage in old:
            rows.append(old[stage])
    return pd.DataFrame(rows, columns=COLUMNS).round(DIGITS)


@command()
def main(arguments: list[str] | None = None) -> int:
    """The command. Returns its exit status: that of the stage's command, or 2 for wrong usage."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) == 1:
        print("usage: python -m posedive_lib.bench.costs [STAGE COMMAND ...]", file=sys.stderr)
        return 2
    if not arguments:
        target = reports.folder() / TARGET
        known = pd.read_csv(target) if target.is_file() else None
        write_text(target, to_csv(gather(known, list(_stages()))))
        return 0
    with measured(arguments[0]):
        status = subprocess.run(arguments[1:], check=False).returncode
        if status:
            raise SystemExit(status)
    return 0


if __name__ == "__main__":
    sys.exit(main())
