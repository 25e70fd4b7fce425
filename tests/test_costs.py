"""Costs: measured around a command, and kept when nothing was computed."""

import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from pipeline import ROOT, stages

from posedive_lib.bench import costs

ENDS = nullcontext()  # a block that raises nothing


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("seed: 0\nreid: {steps: 1, seeds: [0]}\n")
    Path("dvc.yaml").write_text(
        "stages:\n"
        + "".join(
            f'  "{name}": {{cmd: x, params: [seed, reid.steps]}}\n'
            for name in ("busy", "broken", "05", "b")
        )
    )
    return tmp_path


def test_a_command_is_timed_and_a_failing_one_is_not():
    work = (
        "import time; s = b'x' * 80_000_000; t = time.process_time()\n"
        "while time.process_time() - t < 0.3: pass"
    )
    assert costs.main(["busy", sys.executable, "-c", work]) == 0
    cost = costs.RECORDS.get({"stage": "busy"})
    assert (
        0.3 <= cost["cpu_seconds"] < 5
        and cost["wall_seconds"] >= 0.3
        and cost["peak_gigabytes"] > 0.08
    )
    with pytest.raises(SystemExit) as status:
        costs.main(["broken", sys.executable, "-c", "raise SystemExit(3)"])
    assert status.value.code == 3 and costs.RECORDS.get({"stage": "broken"}) is None


def test_a_stage_that_found_its_records_keeps_the_cost_of_making_them():
    with costs.measured("05"):
        costs.RunStore("runs/reid").put({"run": 1}, 1)
    first = costs.RECORDS.get({"stage": "05"})
    assert first["files_made"] == 1
    with costs.measured("05"):
        pass
    assert costs.RECORDS.get({"stage": "05"}) == first
    Path("params.yaml").write_text(
        "seed: 0\nreid: {steps: 1, seeds: [0, 1]}\n"
    )  # nothing that the stage reads
    with costs.measured("05"):
        pass
    assert costs.RECORDS.get({"stage": "05"}) == first
    Path("params.yaml").write_text("seed: 0\nreid: {steps: 2, seeds: [0, 1]}\n")
    with costs.measured("05"):
        pass
    assert costs.RECORDS.get({"stage": "05"})["files_made"] == 0


def sitting(seconds: float, files: int, monkeypatch, *, fails: bool = False) -> None:
    """One of stage 05 that makes some files; its clock goes forward by so many seconds."""
    clock = iter([0.0, *[seconds] * 9])
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError) if fails else ENDS:
        patch.setattr(costs, "time", SimpleNamespace(time=time.time, monotonic=lambda: next(clock)))
        with costs.measured("05"):
            for number in range(files):
                costs.RunStore("runs/reid").put({"run": time.monotonic(), "n": number}, 1)
            if fails:
                raise ZeroDivisionError


def test_a_stage_that_was_stopped_costs_all_its_sittings(monkeypatch):
    sitting(60.0, 2, monkeypatch, fails=True)
    sitting(30.0, 1, monkeypatch, fails=True)
    assert costs.RECORDS.get({"stage": "05"}) is None
    sitting(10.0, 1, monkeypatch)
    first = costs.RECORDS.get({"stage": "05"})
    assert (first["wall_seconds"], first["files_made"]) == (100.0, 4)
    assert not [*costs.SITTINGS.path.iterdir()]
    sitting(7.0, 0, monkeypatch, fails=True)  # nothing made anew, before and after the stop
    sitting(7.0, 0, monkeypatch)
    assert costs.RECORDS.get({"stage": "05"}) == first
    sitting(50.0, 2, monkeypatch, fails=True)
    Path("params.yaml").write_text("seed: 0\nreid: {steps: 2, seeds: [0]}\n")
    sitting(5.0, 1, monkeypatch)  # of other parameters: the sitting before was not of this work
    assert costs.RECORDS.get({"stage": "05"})["wall_seconds"] == 5.0


def test_a_killed_sitting_counts_until_its_last_note(monkeypatch):
    work = (
        "import time\nfrom pathlib import Path\nfrom posedive_lib.bench import costs\n"
        "costs.EVERY = 0.05\nwith costs.measured('05'):\n    time.sleep(100)"
    )
    killed = subprocess.Popen([sys.executable, "-c", work])
    for _ in range(600):
        noted = costs.SITTINGS.get({"stage": "05"})
        if noted is not None and noted["wall_seconds"] > 0.2:
            break
        time.sleep(0.1)
    killed.kill()
    killed.wait()
    before = costs.SITTINGS.get({"stage": "05"})["wall_seconds"]
    sitting(10.0, 0, monkeypatch)
    assert costs.RECORDS.get({"stage": "05"})["wall_seconds"] == pytest.approx(10.0 + before)
    assert before > 0.2


def test_the_table_has_the_pipelines_order_and_keeps_what_it_knows():
    with costs.measured("b"):
        pass
    known = pd.DataFrame(
        [{"stage": stage, "wall_seconds": 7.0} for stage in ("gone", "a", "b")]
    ).reindex(columns=costs.COLUMNS)
    table = costs.gather(known, ["a", "b", "c"])
    assert (
        table["stage"].tolist() == ["a", "b"]
        and table["wall_seconds"].iloc[0] == 7.0
        and table["wall_seconds"].iloc[1] < 1
    )


def test_no_stage_depends_on_costs():
    assert not [name for name, stage in stages().items() if "reports/costs.csv" in stage["deps"]]
    assert not (ROOT / "reports/tables/costs.csv").exists()


def test_the_gathering_command(inside):
    Path("dvc.yaml").write_text("stages:\n  world: {cmd: x}\n  collect: {cmd: y}\n")

    def run(*words: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "posedive_lib.bench.costs", *words]
        return subprocess.run(command, cwd=inside, capture_output=True, text=True)

    assert run("world", sys.executable, "-c", "pass").returncode == 0 and run().returncode == 0
    assert pd.read_csv("reports/costs.csv")["stage"].tolist() == ["world"]
    assert run("world").returncode == 2
