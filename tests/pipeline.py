"""What the pipeline's tests share: the repository's root, its notebooks, stages and commands."""

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat

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
        timeout=2400,  # of a hang: the longest takes a quarter of an hour on a slow machine
    )
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout[-6000:]}"
    return result.stdout


def stages() -> dict[str, dict]:
    return pipeline.read(ROOT)


def notebooks() -> list[Path]:
    """Those that are stages; others are not of the study's results, such as the playground."""
    known = stages()
    return [path for path in sorted((ROOT / "notebooks").glob("*.ipynb")) if path.stem in known]


def executed(name: str) -> str:
    """What an executed notebook of the reports says, in words and outputs, as one line."""
    source = ROOT / f"reports/notebooks/{name}.ipynb"
    if source.is_file():
        cells = nbformat.read(source, as_version=4).cells
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        said = [cell.source for cell in cells if cell.cell_type == "markdown"]
        for output in outputs:
            data = output.get("data", {})
            kinds = ("text/markdown", "text/html", "text/plain")
            said.append(output.get("text") or next((data[k] for k in kinds if k in data), ""))
        text = re.sub(r"\*\*|`", "", "\n".join(said))
    else:  # of a run before notebooks were kept
        text = source.with_suffix(".html").read_text(encoding="utf-8")
    shown = re.sub(r"<img\b[^>]*>|<style.*?</style>", "", text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"</?[a-zA-Z][^>]*>", "", shown)).split())
