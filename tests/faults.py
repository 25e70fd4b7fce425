"""What happens when long work is killed: tried on the study at smoke size.

    python tests/faults.py                       all, ten kills for each kind of work (hours)
    python tests/faults.py --times 1 world       one kind, one kill

Each kind of work runs once undisturbed. Then it is killed (SIGKILL) at a random moment and started
again at once. Every other kill hits the whole process group, as a closed terminal does; the others
hit the first process alone, as the system does when memory runs out. What then lies in the outputs
must be the same to the byte. No draft may be left, and no process of the killed run.
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
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from pipeline import stages  # noqa: E402
from test_pipeline_smoke import copy_repository  # noqa: E402

from posedive_lib.bench import pipeline  # noqa: E402

# Name -> stages of the pipeline, in their order; each needs those before it.
KINDS = {
    "world": "world",
    "splits and a notebook": "01_dataset_splits",
    "encoding and generator training": "03_generator_training",
    "candidates and augmented sets": "04_augmentation_filtering",
    "Re-ID runs": "06_images_per_identity",
}


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

    def start(self, stage: str) -> subprocess.Popen:
        """The stage's command in a process group of its own."""
        return subprocess.Popen(
            stages()[stage]["cmd"].split(),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def finish(self, stage: str) -> tuple[int, str]:
        """Run a stage to its end: exit status and output."""
        process = self.start(stage)
        output, _ = process.communicate(timeout=1200)
        return process.returncode, output

    def drafts(self) -> list[str]:
        """What killed processes have left half-written."""
        places = [self.folder / name for name in ("build", "reports", "runs")]
        names = [str(path.relative_to(self.folder)) for top in places for path in top.rglob(".*")]
        return [name for name in names if re.search(r"\.\d+(\.new)?$|\.old$", name)]

    def processes(self) -> list[int]:
        """Processes that run in the copy."""
        found = []
        for link in Path("/proc").glob("[0-9]*/cwd"):
            try:
                if link.resolve(strict=True) == self.folder.resolve():
                    found.append(int(link.parent.name))
            except OSError:  # ended meanwhile, or another user's
                continue
        return found

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


def killed_and_resumed(
    study: Study, stage: str, seconds: float, group: bool
) -> tuple[int, str, list[int]]:
    """Kill a stage after so many seconds and run it again.

    Exit status, what it said, and the processes of the killed run that still live after it.
    """
    process = study.start(stage)
    time.sleep(seconds)
    (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
    process.wait()
    status, output = study.finish(stage)
    process.stdout.close()
    return status, output[-2000:], study.processes()


def try_kills(study: Study, stage: str, times: int, rng: np.random.Generator) -> list[str]:
    """Faults found when a stage is killed `times` times; [] is what is wanted."""
    runs = study.kept_runs(study.folder.parent / "runs-before")
    begin = time.monotonic()
    status, output = study.finish(stage)
    assert status == 0, output[-3000:]
    seconds, right = time.monotonic() - begin, study.digest(stage)
    found = []
    for number, moment in enumerate(rng.uniform(0.02, 0.98, times)):
        study.clean(stage, runs)
        status, said, living = killed_and_resumed(study, stage, moment * seconds, number % 2 == 0)
        faults = {
            f"it does not resume: {said}": status != 0,
            "other bytes": study.digest(stage) != right,
            f"drafts are left: {study.drafts()}": bool(study.drafts()),
            f"processes are left: {living}": bool(living),
        }
        found += [f"killed at {moment:.0%}: {fault}" for fault, true in faults.items() if true]
        print(f"{stage} {number + 1}/{times}: {found}", file=sys.stderr, flush=True)
    if found:  # later stages need the right outputs
        study.clean(stage, runs)
        study.finish(stage)
    return found


def try_all(names: list[str], times: int, seed: int = 0) -> dict[str, list[str]]:
    """Kind of work -> faults found. Kinds that are not wanted run once, for those after them."""
    rng, found = np.random.default_rng(seed), {}
    with tempfile.TemporaryDirectory(prefix="pose-dive-faults-") as folder:
        study = Study.in_folder(Path(folder) / "study")
        last = max(list(KINDS).index(name) for name in names)
        for name, stage in list(KINDS.items())[: last + 1]:
            found[name] = try_kills(study, stage, times if name in names else 0, rng)
            print(f"{name}: {found[name] or 'nothing lost'}", file=sys.stderr, flush=True)
    return {name: found[name] for name in names}


def as_markdown(found: dict[str, list[str]], times: int) -> str:
    """The table of faults, as docs/faults.md shows it."""
    lines = ["| work | kills | resumed to the same bytes |", "|---|---|---|"]
    lines += [f"| {name} | {times} | {times - len(faults)} |" for name, faults in found.items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/faults.py", description="Kill and resume.")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(KINDS)} (default: all)")
    parser.add_argument(
        "--times", type=int, default=10, help="kills of each (default: %(default)s)"
    )
    parser.add_argument("--write", type=Path, help="Markdown file for the table")
    options = parser.parse_args()
    found = try_all(options.names or list(KINDS), options.times)
    table = as_markdown(found, options.times)
    print(table)
    if options.write:
        options.write.write_text(table)
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
