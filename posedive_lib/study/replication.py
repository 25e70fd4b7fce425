"""The study in fresh worlds: does what was found hold where nobody chose anything?

    python -m posedive_lib.study.replication freeze   write down what is frozen, before the run
    python -m posedive_lib.study.replication plan     what the run will cost on this machine
    python -m posedive_lib.study.replication run      every world, then the tables

The worlds' seeds, data sets and arms are in replication/params.yaml. The freeze, in
replication/freeze.json, holds digests of what decides the result (`frozen`). `run` refuses to go on
where one of them has changed. A new freeze refuses worlds that an earlier one has begun; these are
in replication/begun.json. A finished world is kept in replication/worlds, which git tracks, and its
folder is removed. The tables are written when all worlds are finished, so that nobody stops at a
result: tables/replication.csv of the reports (a row per world, data set and arm) and
tables/replication_gains.csv (`replication_gains.gains`). Beside them stand replication_checks.csv
and replication_shares.csv (`replication_checks`), and a figure of every world
(figures/replication/worlds).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml

from posedive_lib import params
from posedive_lib.bench import figures, plan, rates, reports
from posedive_lib.bench.charts import worlds
from posedive_lib.bench.runs import RunStore, make_folder, write_text
from posedive_lib.bench.sizes import size_of
from posedive_lib.bench.tables import to_csv
from posedive_lib.digests import code_digest, folder_digest
from posedive_lib.errors import StudyError, command
from posedive_lib.intake.files import read_json, read_text
from posedive_lib.params import Params, Replication
from posedive_lib.study import replication_checks
from posedive_lib.study.evidence import matching
from posedive_lib.study.names import NAMES
from posedive_lib.study.replication_gains import gains

FOLDER = Path("replication")
FREEZE = FOLDER / "freeze.json"
BEGUN = FOLDER / "begun.json"  # seeds of every world that ever began
STORE = RunStore(FOLDER / "worlds")  # in git: hours of work, and few lines
REPORTS = Path("reports")  # of the mini world
WORK = Path("build/replication")  # a folder per world, while it runs
CODE = "posedive_lib.study.replication_world"
ANALYSIS = "posedive_lib.study.replication_gains"
OF_A_WORLD = ("parameters", "code", "inputs", "arithmetic")
DRAWN = (  # pairs of arms in the figure
    ("pose-dive", "same-distribution"),
    ("pose-dive", "real"),
    ("same-distribution", "real"),
    ("oracle", "real"),
    ("pose-dive", "oracle"),
)
# Data sets in the figure, in its order. (Cam) beyond 45° is no set of its own, so NAMES lacks it.
PANELS = {
    "msmt17-s-cam": NAMES["msmt17-s-cam"],
    "msmt17-s-cam-45": f"{NAMES['msmt17-s-cam']},\nbeyond 45°",
    **NAMES,
}
OWN_PATHS = {"world", "datasets", "bodies", "splits", "reports"}  # of a world, below its folder


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
    # `auto` would depend on the processor, and worlds may run on several machines.
    values["generator"]["precision"] = values["reid"]["precision"] = "fp32"
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
    """Digests of all that decides the result, but for the worlds' seeds.

    Of a world (OF_A_WORLD): parameters, code, inputs, and the arithmetic: the versions of PyTorch
    and of the locked packages. Of all worlds together: the code of the analysis.
    """
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
        "analysis": code_digest(ANALYSIS),
        "inputs": _digest(inputs),
        "arithmetic": _digest([torch.__version__, _file("requirements.lock")]),
    }


def _file(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if Path(path).is_file() else path


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def freeze(r: Replication) -> dict[str, Any]:
    """Write the freeze; StudyError for a world that an earlier one has begun."""
    seen = sorted(set(_begun()) & set(r.worlds))
    if seen:
        raise StudyError(
            f"World {seen[0]} was begun under an earlier freeze, so its results may be known: name "
            f"other seeds in {FOLDER}/params.yaml."
        )
    record = {**frozen(r), "worlds": r.worlds}
    write_text(FREEZE, json.dumps(record, indent=2) + "\n")
    return record


def held(r: Replication) -> dict[str, Any]:
    """The freeze, if everything is as it says; StudyError otherwise.

    Once all worlds are finished, only the worlds have to be as they were: the tables can be made
    again when the study has moved on (`run` says what the analysis may do).
    """
    if not FREEZE.is_file():
        raise StudyError(
            f"There is no {FREEZE}: run `python -m posedive_lib.study.replication freeze`, and "
            "commit it, before anything runs."
        )
    record = dict(read_json(FREEZE, *OF_A_WORLD, "analysis", "worlds"))
    finished = all(STORE.get(_world(record, seed)) is not None for seed in record["worlds"])
    now = {**({} if finished else frozen(r)), "worlds": r.worlds}
    changed = [name for name, value in now.items() if record[name] != value]
    if changed:
        raise StudyError(
            f"The {' and the '.join(changed)} changed after the freeze in {FREEZE}: put them back, "
            "or freeze anew with worlds that nothing has seen."
        )
    return record


def _begun() -> list[int]:
    return list(read_json(BEGUN, "worlds")["worlds"]) if BEGUN.is_file() else []


def _world(record: dict[str, Any], seed: int) -> dict[str, Any]:
    """What the rows of a world are kept under."""
    return {**{name: record[name] for name in OF_A_WORLD}, "world": seed}


def run(r: Replication) -> pd.DataFrame:
    """Every world that has no result yet, then the tables; returns that of all runs.

    Code of the analysis that has changed since the freeze must give the two tables of the analysis
    that are there, to the byte: StudyError otherwise.
    """
    record = held(r)
    rows = []
    for number, seed in enumerate(r.worlds, start=1):
        spec = _world(record, seed)
        if STORE.get(spec) is None:
            print(f"World {seed}, {number} of {len(r.worlds)}", flush=True)
            begun = {"worlds": sorted({*_begun(), seed})}
            write_text(BEGUN, json.dumps(begun, indent=2) + "\n")
            folder = WORK / f"{seed}-{STORE.key(spec)}"
            STORE.put(spec, one_world(r, seed, folder))
            shutil.rmtree(folder, ignore_errors=True)  # only when its rows are safe
        rows += [{"world": seed, **row} for row in STORE.get(spec) or []]
    first = ["world", "dataset", "arm", "mAP", "rank1"]
    table = pd.DataFrame(rows)
    table = table[[*first, *[column for column in table if column not in first]]]
    folder = make_folder(REPORTS / "tables")
    found = gains(table)
    texts = {folder / "replication.csv": to_csv(table)}
    texts[folder / "replication_gains.csv"] = to_csv(found)
    if record["analysis"] != code_digest(ANALYSIS):
        _check_same(texts)
    texts[folder / "replication_checks.csv"] = to_csv(replication_checks.checks(table))
    texts[folder / "replication_shares.csv"] = to_csv(replication_checks.shares(table, found))
    for path, text in texts.items():
        write_text(path, text)
    if reports.folder() == REPORTS:  # figures of other data go elsewhere
        draw(table, found)
    return table


def draw(runs: pd.DataFrame, found: pd.DataFrame) -> None:
    """The figure figures/replication/worlds: mAP of DRAWN in every world, and on average."""
    each, means = [], []
    mAP = runs.pivot(index=["dataset", "world"], columns="arm", values="mAP")
    for (arm, baseline), dataset in product(DRAWN, PANELS):
        place = {"panel": PANELS[dataset], "pair": f"{arm}\nagainst {baseline}"}
        rows = matching(found, dataset=dataset, arm=arm, baseline=baseline, metric="mAP")
        if rows.empty:
            continue
        difference = (mAP[arm] - mAP[baseline]).loc[dataset]
        each.append(pd.DataFrame({**place, "difference": difference}))
        means.append(rows[["difference", "ci_low", "ci_high", "verdict"]].assign(**place))
    figures.save(
        worlds.differences(pd.concat(each), pd.concat(means)),
        "replication/worlds",
        svg=False,  # the tables beside it have its numbers
        caption=(
            f"{runs['world'].nunique()} worlds that no choice has seen. Small dots: the difference "
            "in one world. Large dots: the mean, with its 95 % interval over worlds; open where no "
            "effect is shown. `same-distribution` adds as many generated images in the old poses "
            "and views as `pose-dive` in new ones, `oracle` true photos in those of `pose-dive`. "
            "Beyond 45°: the same trained models as in (Cam), tested only on photos that show the "
            "person from further than 45° from the front."
        ),
        alt=(
            "A panel for each test set; in each a row for every pair of arms, with a dot for each "
            "world and their mean with an interval, left or right of a line at zero."
        ),
    )


def _check_same(texts: dict[Path, str]) -> None:
    """StudyError where a table that is to be written is another one than is there."""
    for path, text in texts.items():
        if not path.is_file() or read_text(path) != text:
            raise StudyError(
                f"The analysis changed after the freeze in {FREEZE}, and {path} is not what it "
                "gives now: restore the table from git, or put the code back."
            )


def one_world(r: Replication, seed: int, folder: Path) -> list[dict[str, Any]]:
    """The rows of one world, made in `folder`.

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
    return rows  # type: ignore[return-value]


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
