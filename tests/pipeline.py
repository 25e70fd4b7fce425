"""What the pipeline's tests share: the repository's root, its notebooks, stages and commands."""

import os
import subprocess
import sys
from pathlib import Path

from posedive_lib.bench import pipeline

ROOT = Path(__file__).resolve().parents[1]


def run(folder: Path, *command: str) -> str:
    """What a command prints in a copy of the repository, with the tests' own Python.

    AssertionError with its last lines where it fails.
    """
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{folder}:{ROOT / 'tests/recording'}",
    }
    result = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1100,
    )
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout[-6000:]}"
    return result.stdout


def stages() -> dict[str, dict]:
    return pipeline.read(ROOT)


def notebooks() -> list[Path]:
    return sorted((ROOT / "notebooks").glob("*.ipynb"))
