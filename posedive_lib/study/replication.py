"""The study in fresh worlds: does what was found hold where nobody chose anything?

    python -m posedive_lib.study.replication freeze   write down what is frozen, before the run
    python -m posedive_lib.study.replication plan     what the run will cost on this machine
    python -m posedive_lib.study.replication run      every world, then the two tables

The worlds' seeds, data sets and arms are in replication/params.yaml. The freeze, in
replication/freeze.json, holds digests of all parameters, of the code and of the inputs. `run`
refuses to go on where one of them has changed, and a new freeze refuses worlds that an earlier one
has begun. A finished world is kept in replication/worlds, which git tracks, and its folder is
removed. The tables are written when all worlds are finished, so that nobody stops at a result:
tables/replication.csv of the reports (a row per world, data set and arm) and
tables/replication_gains.csv (`gains`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from posedive_lib import params
from posedive_lib.bench import plan, rates
from posedive_lib.bench.runs import RunStore, make_folder, write_text
from posedive_lib.bench.sizes import size_of
from posedive_lib.bench.tables import to_csv
from posedive_lib.digests import code_digest, folder_digest
from posedive_lib.errors import StudyError, command
from posedive_lib.intake.files import read_json
from posedive_lib.params import Params, Replication
from posedive_lib.study.comparison import against, between

FOLDER = Path("replication")
FREEZE = FOLDER / "freeze.json"
STORE = RunStore(FOLDER / "worlds")  # in git: hours of work, and few lines
REPORTS = Path("reports")  # of the mini world
WORK = Path("build/replication")  # a folder per world, while it runs
CODE = "posedive_lib.study.replication_world"
OWN_PATHS = {"world", "datasets", "bodies", "splits", "reports"}  # of a world, below its folder
# The primary comparison (docs/primary_analysis.md): a family of its own, so corrected alone.
PRIMARY = ("pose-dive", "same-distribution")
PRIMARY_DATASETS = ("msmt17-s-cam", "msmt17-s-pose")
PAIRS = (
    ("pose-dive", "same-distribution"),
    ("pose-dive", "repeat"),
    ("oracle", "oracle-same"),
    ("pose-dive", "oracle"),
)


def world_values(r: Replication, seed: int) -> dict[str, Any]:
    """All parameters of a world: the frozen study's, with what replication/params.yaml names.

    Inputs are named by absolute paths, for a world has a folder of its own.
    """
    values = params.load(r.study).model_dump()
    for name, path in values["paths"].items():
        if name not in OWN_PATHS and path and Path(path).exists():
            values["paths"][name] = str(Path(path).resolve())
    values["paths"] |= {"world": "world", "datasets": "build/world"}
    values["paths"] |= {name: f"build/{name}" for name in ("bodies", "splits", "reports")}
    parts = [name for name in r.datasets if name.startswith("msmt17-s-")]
    first = ["msmt17"] if parts and "msmt17" not in r.datasets else []
    values["seed"], values["reid"]["seeds"] = seed, [seed]
    kinds = ("azimuth_dataset", "generator_dataset", "count_dataset", "threshold_dataset")
    values["study"] |= dict.fromkeys(kinds, r.datasets[0]) | {
        "datasets": [*first, *r.datasets],
        "arms": {arm: r.datasets for arm in r.arms},
        "resnet_datasets": [],
        "resnet_arms": [],
        "counts": [0],
    }
    return values


def frozen(r: Replication) -> dict[str, str]:
    """Digests of all that decides a world's results, but for its seed."""
    values = world_values(r, 0)
    inputs = {
        name: folder_digest(path) if Path(path).is_dir() else _file(path)
        for name, path in values["paths"].items()
        if name not in OWN_PATHS and path
    }
    # Where this copy of the project lies decides nothing.
    values["paths"] = dict.fromkeys(values["paths"])
    return {
        "parameters": _digest(values),
        "code": code_digest(CODE),
        "inputs": _digest(inputs),
    }


def _file(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if Path(path).is_file() else path


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def freeze(r: Replication) -> dict[str, Any]:
    """Write the freeze; StudyError for a world that an earlier one has begun."""
    begun = _read()["begun"] if FREEZE.is_file() else []
    seen = sorted(set(begun) & set(r.worlds))
    if seen:
        raise StudyError(
            f"World {seen[0]} was begun under an earlier freeze, so its results may be known: name "
            f"other seeds in {FOLDER}/params.yaml."
        )
    record = {**frozen(r), "worlds": r.worlds, "begun": begun}
    write_text(FREEZE, json.dumps(record, indent=2) + "\n")
    return record


def held(r: Replication) -> dict[str, Any]:
    """The freeze, if everything is as it says; StudyError otherwise."""
    if not FREEZE.is_file():
        raise StudyError(
            f"There is no {FREEZE}: run `python -m posedive_lib.study.replication freeze`, and "
            "commit it, before anything runs."
        )
    record = _read()
    now = {**frozen(r), "worlds": r.worlds}
    changed = [name for name, value in now.items() if record[name] != value]
    if changed:
        raise StudyError(
            f"The {' and the '.join(changed)} changed after the freeze in {FREEZE}: put them back, "
            "or freeze anew with worlds that nothing has seen."
        )
    return record


def _read() -> dict[str, Any]:
    record = read_json(FREEZE, "parameters", "code", "inputs", "worlds", "begun")
    return dict(record)


def run(r: Replication) -> pd.DataFrame:
    """Every world that has no result yet, then both tables; returns that of all runs."""
    record = held(r)
    key = {name: record[name] for name in ("parameters", "code", "inputs")}
    rows = []
    for number, seed in enumerate(r.worlds, start=1):
        spec = {**key, "world": seed}
        if STORE.get(spec) is None:
            print(f"World {seed}, {number} of {len(r.worlds)}", flush=True)
            record["begun"] = sorted({*record["begun"], seed})
            write_text(FREEZE, json.dumps(record, indent=2) + "\n")
            STORE.put(spec, one_world(r, seed, WORK / f"{seed}-{STORE.key(spec)}"))
        rows += [{"world": seed, **row} for row in STORE.get(spec) or []]
    table = pd.DataFrame(rows, columns=["world", "dataset", "arm", "mAP", "rank1"])
    folder = make_folder(REPORTS / "tables")
    write_text(folder / "replication.csv", to_csv(table))
    write_text(folder / "replication_gains.csv", to_csv(gains(table)))
    return table


def one_world(r: Replication, seed: int, folder: Path) -> list[dict[str, Any]]:
    """The rows of one world, made in `folder`, which is removed afterwards.

    In a process of its own: what a process remembers of files by their names must not reach
    another world. StudyError where it fails; what is finished stays in the folder.
    """
    values = json.loads(json.dumps(world_values(r, seed)))  # YAML would link lists that are shared
    write_text(make_folder(folder) / "params.yaml", yaml.safe_dump(values))
    root = str(Path(__file__).resolve().parents[2])
    search = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    variables = {**os.environ, "PYTHONPATH": search}
    done = subprocess.run([sys.executable, "-m", CODE], cwd=folder, env=variables, check=False)
    if done.returncode:
        raise StudyError(
            f"World {seed} stopped with status {done.returncode}; its reason stands above. Start "
            f"again to go on; what is finished is in {folder}."
        )
    rows = pd.read_csv(folder / "result.csv").to_dict("records")
    shutil.rmtree(folder)
    return rows  # type: ignore[return-value]


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """PRIMARY in mAP, each arm against `real`, then PAIRS; the replicate is the world.

    Columns as in comparison.csv, and first `family`: primary, or secondary. The interval and the
    test speak of other people, cameras, generators and trainings at once. Corrected over the
    comparisons of each part.
    """
    runs = table.rename(columns={"world": "seed"})
    first = runs[runs["dataset"].isin(PRIMARY_DATASETS)]
    primary = between(first, [PRIMARY], seed=0, metrics=["mAP"])
    others = [against(runs, "real", seed=0), between(runs, PAIRS, seed=0)]
    named = [("primary", primary), *(("secondary", part) for part in others)]
    parts = [part.assign(family=family) for family, part in named if len(part)]
    found = pd.concat(parts, ignore_index=True)
    # A primary comparison has one verdict.
    found = found.drop_duplicates(["dataset", "arm", "baseline", "metric"])
    found.insert(0, "family", found.pop("family"))
    return found.rename(columns={"seeds": "worlds"})


def cost(r: Replication) -> pd.DataFrame:
    """Hours, memory, disk and files of each stage of one world on this machine, as `make plan`.

    Figures, statistics and longer trainings are no part of a world.
    """
    P = Params.model_validate(world_values(r, r.worlds[0]))
    longer = P.study.longer.model_copy(update={"seeds": []})
    P = P.model_copy(update={"study": P.study.model_copy(update={"longer": longer})})
    measured = rates.known(P)
    sizes: plan.Sizes = {name: size_of(P, name) for name in P.study.datasets}
    wanted = ("world", "03", "04", "05")
    stages = plan.stages_of(P, sizes, measured)
    stages = {name: stage for name, stage in stages.items() if name.startswith(wanted)}
    table = plan.table(P, stages, measured, {}, len(os.sched_getaffinity(0)))
    return table[["stage", "hours", "memory GB", "disk GB", "files"]]


@command()
def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m posedive_lib.study.replication",
        description="The frozen study in worlds that no choice has seen.",
    )
    parser.add_argument("do", choices=["freeze", "plan", "run"])
    wanted = parser.parse_args(arguments).do
    r = params.load_replication(FOLDER / "params.yaml")
    if wanted == "freeze":
        record = freeze(r)
        print(f"{FREEZE}: parameters {record['parameters'][:12]}, code {record['code'][:12]}.")
    elif wanted == "plan":
        table = cost(r)
        print(table.to_string(index=False, na_rep="–", float_format="{:.2f}".format))
        hours = table["hours"].sum(skipna=False)
        print(f"\n{hours:.1f} hours for a world, {hours * len(r.worlds):.1f} for all.")
    else:
        run(r)
    return 0


if __name__ == "__main__":
    sys.exit(main())
