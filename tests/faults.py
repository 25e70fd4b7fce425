"""What happens when long work is disturbed: tried on the study at smoke size.

    python tests/faults.py                       everything, ten kills for each kind of work (hours)
    python tests/faults.py --times 1 world       one kind of work, one kill, every other fault once

Each kind of work runs once undisturbed. Then it is disturbed at a random moment, and started again
at once. It must end in the same bytes. No draft of a file and no process may be left. Where the
disturbed run fails, it must say one sentence and show no traceback. The faults:

    killed              SIGKILL, every other time of the first process alone, as the system does
                        when memory runs out, else of the process group, as a closed terminal does
    worker killed       SIGKILL of one of its worker processes
    full disk           half of what it writes to build/, reports/ or runs/ fits (root may mount)
    input removed       a folder that it reads vanishes, and is put back before the second start
    runs/ removed       all of its intermediate files vanish; candidates are those of stage 04
    clock set back      three days, while it runs; all files it finds are from the future

The table goes to the terminal; --write FILE also saves it as Markdown.
"""

import argparse
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from pipeline import ROOT, stages  # noqa: E402
from test_pipeline_smoke import copy_repository  # noqa: E402

from posedive_lib.bench import pipeline  # noqa: E402

# Name -> stage of the pipeline and a folder that it reads, in their order; each needs those before.
KINDS = {
    "world": ("world", "data/motions"),
    "splits and a notebook": ("01_dataset_splits", "build/world/MSMT17_V1"),
    "encoding and generator training": ("03_generator_training", "data/pretrained"),
    "candidates": ("04_augmentation_filtering", "build/generator"),
    "Re-ID runs": ("06_images_per_identity", "build/candidates"),
}
WRITTEN = ("build", "reports", "runs")
PAGE = 4096  # bytes of a disk in memory that a file takes at least
SENTENCE = re.compile(
    r"cannot be (written|read|listed)|was killed|No space left|No such file|is missing|"
    r"does not exist|There is no|No folder|holds no|Another run"
)


@dataclass
class Study:
    """A copy of the repository at smoke size, in which stages are run by hand."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def in_folder(cls, folder: Path) -> "Study":
        copy_repository(folder)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        own = {"PATH": path, "PYTHONPATH": str(folder), "PYOPENGL_PLATFORM": "egl"}
        return cls(folder, os.environ | own | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"})

    def start(self, stage: str, **environment: str) -> subprocess.Popen:
        """The stage's command in a process group of its own. Its output goes to a file."""
        with (self.folder.parent / "said.txt").open("w") as said:
            return subprocess.Popen(
                stages()[stage]["cmd"].split(),
                cwd=self.folder,
                env=self.environment | environment,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def end(self, process: subprocess.Popen) -> tuple[int, str]:
        """Exit status and output of a stage, when it has ended."""
        status = process.wait(timeout=3600)
        return status, (self.folder.parent / "said.txt").read_text()

    def outputs(self, stage: str) -> list[Path]:
        outs = pipeline.paths(stages()[stage]["outs"])
        return [self.folder / out for out in outs if not out.startswith("reports/costs")]

    def digest(self, stage: str) -> str:
        """Of all names and bytes in a stage's outputs."""
        total = hashlib.sha256()
        for out in self.outputs(stage):
            files = sorted(out.rglob("*")) if out.is_dir() else [out]
            for file in (file for file in files if file.is_file()):
                total.update(f"{file.relative_to(self.folder)}\n".encode() + file.read_bytes())
        return total.hexdigest()

    def pages(self) -> dict[str, int]:
        """What build/, reports/ and runs/ take of a disk in memory; a linked file counts once."""
        found = {}
        for name in WRITTEN:
            stats = {path.stat().st_ino: path.stat() for path in (self.folder / name).rglob("*")}
            found[name] = sum(1 + -(-stat.st_size // PAGE) for stat in stats.values())
        return found

    def drafts(self) -> list[str]:
        """What killed processes have left half-written."""
        places = [self.folder / name for name in WRITTEN]
        names = [str(path.relative_to(self.folder)) for top in places for path in top.rglob(".*")]
        return [name for name in names if re.search(r"\.\d+(\.new)?$|\.old$", name)]

    def processes(self) -> dict[int, str]:
        """Processes that run in the copy, with their command lines."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "cwd").resolve(strict=True) == self.folder.resolve():
                    found[int(process.name)] = (process / "cmdline").read_text()
            except OSError:  # ended meanwhile, or another user's
                continue
        return found

    def clean(self, stage: str, runs: Path | None) -> None:
        """As before the stage: without its outputs, and with the run records that there were."""
        for out in self.outputs(stage):
            shutil.rmtree(out, ignore_errors=True)
            out.unlink(missing_ok=True)
        shutil.rmtree(self.folder / "runs", ignore_errors=True)
        if runs is not None:
            shutil.copytree(runs, self.folder / "runs")

    def kept_runs(self, place: Path) -> Path | None:
        """A copy of the run records as they are now."""
        shutil.rmtree(place, ignore_errors=True)
        if not (self.folder / "runs").is_dir():
            return None
        shutil.copytree(self.folder / "runs", place)
        return place


@dataclass
class Work:
    """One stage, how long it takes undisturbed, and what it then writes."""

    study: Study
    stage: str
    reads: str  # a folder
    seconds: float
    grown: dict[str, int]  # pages below build/, reports/, runs/

    def until(self, moment: float) -> subprocess.Popen:
        """The stage, begun so long ago that this part of its time is over."""
        process = self.study.start(self.stage)
        time.sleep(moment * self.seconds)
        return process


Disturbed = tuple[int, str] | None  # exit status and output of what was not killed itself


class NotTried(Exception):
    """The fault cannot come here."""


def kill_group(work: Work, moment: float) -> Disturbed:
    process = work.until(moment)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return None


def kill_first(work: Work, moment: float) -> Disturbed:
    process = work.until(moment)
    process.kill()
    process.wait()
    return None


def kill_worker(work: Work, moment: float) -> Disturbed:
    process = work.until(moment)
    while process.poll() is None:
        workers = [pid for pid, said in work.study.processes().items() if "spawn_main" in said]
        if workers:
            os.kill(workers[-1], signal.SIGKILL)
            return work.study.end(process)
        time.sleep(0.1)
    raise NotTried("no workers were left")


def fill(place: str) -> Callable[[Work, float], Disturbed]:
    """The disk below `place` holds half of what the stage writes there."""

    def fault(work: Work, moment: float) -> Disturbed:
        if work.grown[place] < 8:
            raise NotTried("hardly anything is written there")
        pages = work.study.pages()[place] + work.grown[place] // 2
        with small_disk(work.study.folder / place, pages) as mounted:
            if not mounted:
                raise NotTried("no disk can be mounted here")
            return work.study.end(work.study.start(work.stage))

    return fault


@contextmanager
def small_disk(folder: Path, pages: int) -> Iterator[bool]:
    """A disk in memory in the place of a folder, with its content; False where none is allowed."""
    aside = folder.with_name(f"{folder.name}-aside")
    folder.mkdir(exist_ok=True)
    folder.rename(aside)
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={pages * PAGE}", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True).returncode == 0
    try:
        if mounted:
            copy_linked(aside, folder)
        yield mounted
    finally:
        if mounted:
            shutil.rmtree(aside)
            aside.mkdir()
            copy_linked(folder, aside)
            subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()
        aside.rename(folder)


def copy_linked(source: Path, target: Path) -> None:
    """With hard links as such."""
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)


def remove_input(work: Work, moment: float) -> Disturbed:
    process = work.until(moment)
    place = work.study.folder / work.reads
    place.rename(place.with_name("away"))
    try:
        return work.study.end(process)
    finally:
        if place.exists():  # written anew
            shutil.rmtree(place)
        place.with_name("away").rename(place)


def remove_runs(work: Work, moment: float) -> Disturbed:
    process = work.until(moment)
    for part in (work.study.folder / "runs").glob("*"):
        if part.name != "candidates" or work.stage.startswith("04"):  # the input of later stages
            shutil.rmtree(part, ignore_errors=True)
    return work.study.end(process)


def set_clock_back(work: Work, moment: float) -> Disturbed:
    future = time.time() + 1e6
    for top in WRITTEN:
        for file in (work.study.folder / top).rglob("*"):
            os.utime(file, (future, future))
    path = f"{ROOT}/tests/clock:{work.study.environment['PYTHONPATH']}"
    process = work.study.start(
        work.stage, PYTHONPATH=path, CLOCK_BACK_AT=str(time.time() + moment * work.seconds)
    )
    return work.study.end(process)


OTHERS = {
    "worker killed": kill_worker,
    "build/ full": fill("build"),
    "reports/ full": fill("reports"),
    "runs/ full": fill("runs"),
    "input removed": remove_input,
    "runs/ removed": remove_runs,
    "clock set back": set_clock_back,
}


def faults_of(
    work: Work, fault: Callable, moment: float, right: str, runs: Path | None
) -> tuple[str, list[str]]:
    """What the disturbed stage said, and what is wrong then or after its second start."""
    study, stage = work.study, work.stage
    study.clean(stage, runs)
    disturbed = fault(work, moment)
    said, wrong = "", []
    if disturbed is not None:
        status, output = disturbed
        lines = re.split(r"[\r\n]+|\w+/s\]", output)  # the sentence may follow a bar
        sentences = [line.strip() for line in lines if SENTENCE.search(line)] or [""]
        said = "nothing" if status == 0 else sentences[-1]
        if status and ("Traceback" in output or not said):
            wrong.append(f"no sentence: {output[-1500:]}")
    status, output = study.end(study.start(stage))
    if status:
        wrong.append(f"it does not go on: {output[-1500:]}")
    elif study.digest(stage) != right:
        wrong.append("other bytes")
    if study.drafts():
        wrong.append(f"drafts are left: {study.drafts()}")
    if study.processes():
        wrong.append(f"processes are left: {study.processes()}")
    return said, wrong


def undisturbed(study: Study, stage: str, reads: str) -> Work:
    before, begin = study.pages(), time.monotonic()
    status, output = study.end(study.start(stage))
    assert status == 0, output[-3000:]
    after = study.pages()
    grown = {name: after[name] - before[name] for name in WRITTEN}
    return Work(study, stage, reads, time.monotonic() - begin, grown)


Row = tuple[str, str, int, list[str], set[str]]  # work, fault, times, wrong, what was said


def try_kind(
    study: Study, name: str, times: int, others: bool, rng: np.random.Generator
) -> list[Row]:
    """A kind of work with every fault: killed `times` times, the others once."""
    runs = study.kept_runs(study.folder.parent / "runs-before")
    work = undisturbed(study, *KINDS[name])
    right, rows = study.digest(work.stage), []
    kills = (kill_group, kill_first)
    plan = [("killed", [kills[i % 2] for i in range(times)])]
    plan += [(fault, [function]) for fault, function in OTHERS.items() if others]
    for fault, functions in plan:
        wrong, heard = [], set()
        for function in functions:
            moment = float(rng.uniform(0.02, 0.98))
            try:
                said, found = faults_of(work, function, moment, right, runs)
            except NotTried as reason:
                said, found = f"not tried: {reason}", []
            wrong += [f"at {moment:.0%}: {one}" for one in found]
            heard |= {said} - {""}
            print(f"{name}, {fault}, at {moment:.0%}: {said} {found}", file=sys.stderr, flush=True)
        if functions:
            rows.append((name, fault, len(functions), wrong, heard))
    if any(wrong for *_, wrong, _ in rows):  # later stages need the right outputs
        study.clean(work.stage, runs)
        study.end(study.start(work.stage))
    return rows


def try_all(names: list[str], times: int, others: bool, seed: int = 0) -> list[Row]:
    """Kinds that are not wanted run once, for those after them."""
    rng, rows = np.random.default_rng(seed), []
    with tempfile.TemporaryDirectory(prefix="pose-dive-faults-") as folder:
        study = Study.in_folder(Path(folder) / "study")
        last = max(list(KINDS).index(name) for name in names)
        for name in list(KINDS)[: last + 1]:
            wanted = name in names
            rows += try_kind(study, name, times if wanted else 0, wanted and others, rng)
    return rows


def as_markdown(rows: list[Row]) -> str:
    """The table of faults, as docs/faults.md shows it."""
    lines = ["| work | fault | times | same bytes after it | it said |", "|---|---|---|---|---|"]
    for name, fault, times, wrong, heard in rows:
        said = "<br>".join(sorted(heard)).replace("|", "\\|")
        lines.append(f"| {name} | {fault} | {times} | {'no' if wrong else 'yes'} | {said} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/faults.py", description="Disturb the work.")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(KINDS)} (default: all)")
    parser.add_argument(
        "--times", type=int, default=10, help="kills of each (default: %(default)s)"
    )
    parser.add_argument("--only-kills", action="store_true", help="no other faults")
    parser.add_argument("--write", type=Path, help="Markdown file for the table")
    options = parser.parse_args()
    rows = try_all(options.names or list(KINDS), options.times, not options.only_kills)
    table = as_markdown(rows)
    print(table)
    if options.write:
        options.write.write_text(table)
    return int(any(wrong for *_, wrong, _ in rows))


if __name__ == "__main__":
    sys.exit(main())
