"""What would stop a study of one's own data, one sentence each, before anything long starts.

Files, models, data sets and what this machine can compute; no photo is decoded. That is what
`python -m posedive_lib.datasets.preflight` does, and notebook 01.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from posedive_lib import datasets
from posedive_lib.bench import reports
from posedive_lib.bench.inputs import input_checks
from posedive_lib.bench.rates import FULL, UNITS
from posedive_lib.bench.sizes import PUBLISHED
from posedive_lib.devices import chosen_precision, processes
from posedive_lib.errors import StudyError

if TYPE_CHECKING:
    import pandas as pd

    from posedive_lib.bench.rates import Measured
    from posedive_lib.params import Params

LOCK = Path("requirements.lock")


def problems(P: Params, params_file: str) -> list[str]:
    """Of every input and data set; where the mini world will be rendered, there are none yet."""
    device, checks = processes().device, list[Callable[[], object]]()
    if reports.own_data(P.paths.datasets):
        checks = [*input_checks(P, params_file), partial(reports.folder, params_file)]
        checks += [partial(_check_set, P, name) for name in P.study.whole]
    for section in ("generator", "reid"):
        precision = getattr(P, section).precision
        checks.append(partial(chosen_precision, device, precision, f"{section}.precision"))
    found = []
    for check in checks:
        try:
            check()
        except StudyError as error:
            found.append(str(error))
    return found


def _check_set(P: Params, name: str) -> None:
    """StudyError where a data set is not there, not whole, or lacks the bodies that it needs."""
    data = datasets.of_study(name, P.paths)
    counts = len(data.train), data.train["pid"].nunique(), len(data.query), len(data.gallery)
    if name in PUBLISHED and counts != PUBLISHED[name]:
        raise StudyError(
            f"{data.folder} has {counts[0]} training photos of {counts[1]} people, {counts[2]} "
            f"queries and {counts[3]} gallery photos, but the published {name} has "
            f"{', '.join(map(str, PUBLISHED[name]))}: unpack it again, unless it is a part on "
            "purpose."
        )
    if P.bodies.source == "truth" and not data.bodies.is_file():
        raise StudyError(f"{data.bodies} is missing: set bodies.source to fit, or to hmr2.")


def room(stages: pd.DataFrame, here: Path = Path()) -> Iterator[str]:
    """Of the disk and the memory, by the columns of `bench.plan.table`."""
    disk, memory = stages["disk GB"].sum(), stages["memory GB"].max()
    free = shutil.disk_usage(here).free / 1e9
    if disk > free:
        yield f"{here.resolve()} has {free:.1f} GB free, but {disk:.1f} GB are needed."
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    if memory > there:
        yield (
            f"This machine has {there:.1f} GB of memory, but {memory:.1f} GB are needed: "
            "set study.workers lower, or take another machine."
        )


def gpu_memory(measured: Measured) -> Iterator[str]:
    """Of the GPU, by what was tried on it with the study's own batches."""
    full: dict[str, list[str]] = {}
    for name, rate in measured.rates.items():
        if rate.assumed.startswith(FULL):
            full.setdefault(rate.assumed, []).append(UNITS[name])
    for reason, units in full.items():
        yield (
            f"{reason}; what was tried is a {' and a '.join(units)}: lower batch_size under "
            "generator, generator.sampling or reid, or raise generator.gradient_accumulation."
        )


def versions(lock: Path = LOCK) -> Iterator[str]:
    """Of packages whose version is not that of the lock: one sentence, or none."""
    if not lock.is_file():
        return
    lines = (line.strip() for line in lock.read_text(encoding="utf-8").splitlines())
    pinned = dict(line.split("==") for line in lines if "==" in line and line[0] != "#")
    other = []
    for name, version in pinned.items():
        try:
            here = metadata.version(name).split("+")[0]  # +cu128 says how torch was built
        except metadata.PackageNotFoundError:
            here = "missing"
        if here != version:
            other.append(f"{name} {version} (here {here})")
    if other:
        more = f" and {len(other) - 5} more" if len(other) > 5 else ""
        yield (
            f"{lock} has {', '.join(other[:5])}{more}: run `make setup`, or expect results that "
            "differ in their last digits."
        )
