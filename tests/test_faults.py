"""Faults in the middle of work: killed workers, full memory, a full disk, files that vanish.

tests/faults.py kills whole stages of the study; this is the short form. docs/faults.md lists both.
"""

import ast
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fault_jobs import die, fill_memory, wait
from PIL import Image
from pipeline import ROOT
from test_notebook_runner import run as run_notebook
from test_notebook_runner import study, write_notebook  # noqa: F401

from posedive_lib.bench import costs
from posedive_lib.bench.processes import in_processes
from posedive_lib.bench.runs import RunStore, write_array, write_text
from posedive_lib.checkpoints import save_checkpoint
from posedive_lib.errors import StudyError, command
from posedive_lib.generator.loss_log import LossLog
from posedive_lib.intake.arrays import write_npz
from posedive_lib.workers import worker_pool
from posedive_lib.writing import _host, replacing, replacing_folder


def test_a_killed_worker_is_reported_in_one_sentence(tmp_path):
    said = "A worker process was killed, most likely because memory ran out: free memory"
    begin = time.monotonic()
    with pytest.raises(StudyError, match=said):
        in_processes(die, [(tmp_path / "no",), (tmp_path,)], 2)
    with pytest.raises(StudyError, match=said), worker_pool(2) as pool:
        list(pool.map(die, [tmp_path, tmp_path / "no"]))
    assert time.monotonic() - begin < 90, "the other worker is stopped, not waited for"
    assert not multiprocessing.active_children()


def test_a_pool_inside_another_of_its_kind_is_that_pool():
    with worker_pool(1) as outer:
        first = outer.submit(os.getpid).result()
        with worker_pool(1) as inner:
            assert inner.submit(os.getpid).result() == first
        assert outer.submit(os.getpid).result() == first, "the inner one does not end it"
        with worker_pool(2) as larger:
            assert larger.submit(os.getpid).result() != first
    with worker_pool(1) as anew:
        assert anew.submit(os.getpid).result() != first


def test_ctrl_c_stops_work_that_has_begun(tmp_path):
    file, begin = tmp_path / "begun", time.monotonic()
    with pytest.raises(KeyboardInterrupt), worker_pool(1) as pool:
        pool.submit(wait, str(file))
        wait_until(file.exists, 60)
        raise KeyboardInterrupt
    assert time.monotonic() - begin < 90, "the worker is stopped, not waited for"


def test_full_memory_in_a_worker_is_reported_in_one_sentence(capsys):
    @command()
    def main() -> int:
        in_processes(fill_memory, [()], 1)
        return 0

    assert main() == 2
    said = capsys.readouterr().err
    assert (
        said.startswith("The memory is full (Unable to allocate 8.00 PiB") and "\n" not in said[:-1]
    )


@pytest.mark.parametrize("pool", ["runs", "rendering"])
def test_workers_end_with_a_killed_parent(tmp_path, pool):
    """Also those that wait for work."""
    command = [sys.executable, ROOT / "tests/fault_jobs.py", pool]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen(command, cwd=tmp_path, env=environment)
    files = [tmp_path / "first", tmp_path / "second"]
    wait_until(lambda: all(file.exists() and file.read_text() for file in files), 90)
    parent.kill()
    parent.wait()
    wait_until(lambda: not any(Path(f"/proc/{file.read_text()}").exists() for file in files), 10)


def wait_until(true, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "too late"
        time.sleep(0.1)


def test_a_writer_that_is_killed_leaves_whole_files(tmp_path):
    """Ten times, at random moments."""
    command = [sys.executable, ROOT / "tests/fault_jobs.py", "writer"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for moment in np.random.default_rng(0).uniform(0, 0.05, 10):
        writer = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE)
        assert writer.stdout.readline()
        time.sleep(moment)
        writer.kill()
        writer.communicate()
        numbers = (tmp_path / "file").read_text().split()
        assert len(numbers) == 10_000 and len(set(numbers)) == 1
        with pytest.raises(ZeroDivisionError), replacing_folder(tmp_path / "folder"):
            raise ZeroDivisionError  # the next call puts back what a kill has left
        parts = {part.read_text() for part in (tmp_path / "folder").iterdir()}
        assert len(parts) == 1 and len(os.listdir(tmp_path / "folder")) == 3
    write_text(tmp_path / "file", "")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


WORK = """
from posedive_lib.bench.runs import RunStore
store, results = RunStore("runs/sums"), []
for number in range(20):
    def work():
        time.sleep(0.1)
        with open("calls.txt", "a") as file:
            file.write(f"{number} ")
        return number**2
    results.append(store.get_or_run({"number": number}, work))
"""
SHOW = """
import pandas as pd
from posedive_lib.bench import tables
tables.save(pd.DataFrame({"result": results}), "results", caption="Results.")
"""


def test_a_killed_notebook_goes_on_to_the_same_bytes(study):  # noqa: F811
    write_notebook(study, ["import time", WORK, SHOW])
    command = [sys.executable, "-m", "posedive_lib.bench.notebook", "00_tiny"]
    calls = study / "calls.txt"
    killed = subprocess.Popen(command, cwd=study, stderr=subprocess.DEVNULL)
    wait_until(lambda: calls.exists() and len(calls.read_text().split()) > 4, 90)
    killed.kill()
    killed.wait()
    assert run_notebook(study, "00_tiny").returncode == 0
    done = calls.read_text().split()
    # A job that ran when the kill came may run again, and those of the second that a kernel needs
    # to see that its parent is gone.
    assert set(done) == {str(number) for number in range(20)} and len(done) < 35
    outputs = "reports/notebooks/00_tiny.ipynb", "reports/tables/results.csv"
    first = [(study / name).read_bytes() for name in outputs]
    shutil.rmtree(study / "runs")
    shutil.rmtree(study / "reports")
    assert run_notebook(study, "00_tiny").returncode == 0
    assert [(study / name).read_bytes() for name in outputs] == first
    left = [path.name for path in study.rglob(".*") if path.name[-1].isdigit()]
    assert not left


SLOW = """
stages:
  slow:
    cmd: touch begun; while [ ! -e end ]; do sleep 0.1; done; echo whole > out
    outs: [out]
"""


def test_a_second_repro_beside_the_first_is_refused_and_harms_nothing(tmp_path):
    def dvc(*words: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "dvc", *words],
            cwd=tmp_path,
            env=os.environ | {"DVC_NO_ANALYTICS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    assert dvc("init", "-q", "--no-scm").wait() == 0
    (tmp_path / "dvc.yaml").write_text(SLOW)
    first = dvc("repro")
    wait_until((tmp_path / "begun").exists, 60)
    second = dvc("repro")
    said, _ = second.communicate(timeout=60)
    assert second.returncode and f"blocked by:\n  (PID {first.pid})" in said
    (tmp_path / "end").touch()
    said, _ = first.communicate(timeout=60)
    assert first.returncode == 0 and (tmp_path / "out").read_text() == "whole\n"
    assert "up to date" in dvc("repro").communicate(timeout=60)[0]


# A full disk


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    """A disk of 256 KiB."""
    folder = tmp_path_factory.mktemp("disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no small disk can be mounted here (root may)")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


NOISE = np.random.default_rng(0).integers(0, 256, 1 << 20, np.uint8)


def table(path: Path) -> None:
    with replacing(path) as draft:
        pd.DataFrame({"number": NOISE}).to_csv(draft, index=False)


def picture(path: Path) -> None:
    with replacing(path) as draft:
        Image.fromarray(NOISE.reshape(1024, -1)).save(draft, format="PNG")


def photo(path: Path) -> None:
    with replacing(path) as draft:
        Image.fromarray(NOISE.reshape(1024, -1)).save(draft, format="JPEG", quality=92)


WRITERS = {
    "text": lambda path: write_text(path, NOISE.tobytes().hex()),
    "array": lambda path: write_array(path, NOISE),
    "npz": lambda path: write_npz(path, {"noise": NOISE}),
    "compressed npz": lambda path: write_npz(path, {"noise": NOISE}, compressed=True),
    "checkpoint": lambda path: save_checkpoint(path, {"noise": torch.tensor(NOISE)}, {"step": 2}),
    "table": table,
    "picture": picture,
    "photo": photo,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_leaves_the_last_good_file(small_disk, writer):
    path = small_disk / "file"
    path.write_text("good")
    with pytest.raises(StudyError, match=f"^{path} cannot be written .*: free space or choose"):
        WRITERS[writer](path)
    assert path.read_text() == "good" and os.listdir(small_disk) == ["file"]
    path.unlink()


def test_a_full_disk_leaves_the_last_good_folder(small_disk, tmp_path):
    folder = small_disk / "photos"
    folder.mkdir()
    (folder / "old").write_text("good")
    with (
        pytest.raises(StudyError, match="photos cannot be written .No space left on device."),
        replacing_folder(folder) as draft,
    ):
        for number in range(100):
            (draft / str(number)).write_bytes(NOISE.tobytes()[: 1 << 14])
    large = tmp_path / "large"
    large.mkdir()
    for number in range(2):
        (large / str(number)).write_bytes(NOISE.tobytes())
    with (
        pytest.raises(StudyError, match="photos cannot be written .*No space left on device"),
        replacing_folder(folder) as draft,
    ):
        shutil.copytree(large, draft, dirs_exist_ok=True)
    assert (folder / "old").read_text() == "good" and os.listdir(small_disk) == ["photos"]
    (folder / "old").unlink()
    folder.rmdir()


def test_a_full_disk_cuts_no_row_of_the_loss_log(small_disk):
    path, step = small_disk / "losses.csv", 0
    log = LossLog(path, 1, 1000)
    log.restart()
    with pytest.raises(StudyError, match="losses.csv cannot be written .No space left on device."):
        while True:
            step += 1
            log.add(step, np.array([500]), np.array([0.25]), 0.5)
    text = path.read_text()
    path.write_text(text[: len(text) // 2])  # room again, and a row cut in the middle
    LossLog(path, 1, 1000).resume(step, [], [])
    rows = path.read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == list(range(1, len(rows) + 1))
    path.unlink()


# Files that vanish, clocks that go back


def test_a_file_that_was_removed_meanwhile_is_named(tmp_path):
    gone = tmp_path / "motion.npz"
    with (
        pytest.raises(
            StudyError, match=r"photos cannot be written .*motion\.npz.*: something was removed"
        ),
        replacing_folder(tmp_path / "photos"),
    ):
        gone.read_bytes()
    folder = tmp_path / "runs"
    folder.mkdir()
    with (
        pytest.raises(StudyError, match=r"log\.csv cannot be written .*something was removed"),
        replacing(folder / "log.csv") as draft,
    ):
        folder.rmdir()
        draft.write_text("x")


def test_a_record_that_is_removed_at_once_is_not_missed(tmp_path, monkeypatch):
    store = RunStore(tmp_path)
    put = RunStore.put

    def put_and_remove(self, spec, result):
        put(self, spec, result).unlink()

    monkeypatch.setattr(RunStore, "put", put_and_remove)
    assert store.get_or_run({"seed": 0}, lambda: {"mAP": np.float32(0.5)}) == {"mAP": 0.5}


def test_a_clock_that_goes_back_changes_no_result(tmp_path, monkeypatch):
    """Records count by content, durations by a clock that only goes forward."""
    monkeypatch.chdir(tmp_path)
    store, clock = RunStore("runs/reid"), iter([2e9, 1e9, 1e9])
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    with monkeypatch.context() as patch:
        patch.setattr(costs.time, "time", lambda: next(clock))
        with costs.measured("stage"):
            store.put({"seed": 0}, 1)
    for file in tmp_path.rglob("*"):
        os.utime(file, (4e9, 4e9))  # in the far future, as after the clock went back
    assert store.get_or_run({"seed": 0}, lambda: 2) == 1
    assert 0 <= costs.RECORDS.get({"stage": "stage"})["wall_seconds"] < 60


def test_drafts_of_killed_processes_do_not_pile_up(tmp_path):
    killed = subprocess.Popen(["true"])
    killed.wait()
    for process in (killed.pid, os.getppid()):
        (tmp_path / f".table.csv.{_host()}.{process}").write_text("half")
    write_text(tmp_path / "table.csv", "whole")
    assert sorted(os.listdir(tmp_path)) == [
        f".table.csv.{_host()}.{os.getppid()}",
        "table.csv",
    ]


# Writers that are found by reading the code

WRITES = {"write_text", "write_bytes", "savez", "savez_compressed", "save_file", "savefig"}
COPIES = {"copy", "copy2", "copyfile", "copytree"}
WHOLE = {"writing", "replacing", "replacing_folder", "alone_in"}
IN_A_DRAFT = {  # their callers have opened it
    "miniworld.build.write_lists",
    "miniworld.build.write_truth",
    "miniworld.truth.save_masks",
    "posedive_lib.datasets.write._link",
    "posedive_lib.datasets.write._place_generated",
    "posedive_lib.datasets.write._write_new",
    "posedive_lib.datasets.write._write_tree",
    "posedive_lib.datasets.write._write_truth",
    "posedive_lib.augment.product.write.describe",
}
NO_FILE = {"posedive_lib.augment.shards._packed", "posedive_lib.bench.figures._render"}  # memory
BY_HAND = {  # made data/ once, and are no part of the study; a marker of an empty folder
    "miniworld.body.write_body",
    "miniworld.build.leave_outputs",
    "miniworld.cameras.write_cameras",
    "miniworld.motions.write_motions",
    "miniworld.specify.write_world",
}


def called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def writes(node: ast.AST) -> bool:
    """Whether a call writes a file."""
    name, function = called(node), getattr(node, "func", None)
    owner = getattr(getattr(function, "value", None), "id", "")
    if name == "open":
        modes = [one.value for one in node.args if isinstance(one, ast.Constant)]
        return any(isinstance(mode, str) and set("wax") & set(mode) for mode in modes)
    if name == "to_csv":
        # `bench.tables.to_csv` returns text; a frame's own method with an argument writes.
        return isinstance(function, ast.Attribute) and bool(node.args) and owner != "tables"
    return isinstance(function, ast.Attribute) and (
        name in WRITES or (owner == "shutil" and name in COPIES)
    )


def unguarded(node: ast.AST, place: str) -> list[str]:
    """Functions below a node that write outside a block which replaces whole files."""
    if isinstance(node, ast.With) and any(called(i.context_expr) in WHOLE for i in node.items):
        return []
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        place = f"{place}.{node.name}"
    found = [place] if writes(node) else []
    return found + [one for child in ast.iter_child_nodes(node) for one in unguarded(child, place)]


def test_every_writer_replaces_whole_files():
    found = []
    for file in [*(ROOT / "posedive_lib").rglob("*.py"), *(ROOT / "miniworld").glob("*.py")]:
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        found += unguarded(ast.parse(file.read_text()), module)
    assert set(found) == IN_A_DRAFT | NO_FILE | BY_HAND


def test_every_test_that_the_table_names_exists():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/faults.md").read_text()))
    tests = "".join(file.read_text() for file in (ROOT / "tests").glob("test_*.py"))
    assert len(named) > 15
    assert named == {name for name in named if f"def {name}(" in tests}
