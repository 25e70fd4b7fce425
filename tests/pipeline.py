"""What the pipeline's tests share: notebooks, stages, and which modules of posedive_lib a piece of code imports."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat

from posedive_lib.bench import pipeline

ROOT = Path(__file__).resolve().parents[1]

# They check input and show results, and cannot change a number or a picture.
MACHINERY = {
    "posedive_lib/errors.py",
    "posedive_lib/params.py",
    "posedive_lib/bench/notebook.py",
    "posedive_lib/bench/page.py",
}


def run(folder: Path, *command: str) -> str:
    """What a command prints in a copy of the repository, with the tests' own Python; AssertionError with its last lines where it fails."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
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


def code_of(path: Path) -> str:
    """The code cells of a notebook as one text, without IPython's magics."""
    cells = [
        cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"
    ]
    return re.sub(r"^\s*[%!].*$", "pass", "\n".join(cells), flags=re.MULTILINE)


def modules_used(*sources: str) -> set[str]:
    """Every file of posedive_lib that the sources import, directly or through each other, as "posedive_lib/seeds.py"."""
    found, todo = set(), [name for source in sources for name in _imports(source)]
    while todo:
        for file in _files(todo.pop()):
            if file not in found:
                found.add(file)
                todo += _imports(file.read_text(), file)
    names = {file.relative_to(ROOT).as_posix() for file in found if file.name != "__init__.py"}
    return names - MACHINERY


def _imports(source: str, file: Path | None = None) -> list[str]:
    """Dotted names that may be modules: `from a.b import c` may mean the module a.b.c."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = file.relative_to(ROOT).with_suffix("").parts[: -node.level]
                base = ".".join([*parts, *filter(None, [node.module])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.split(".")[0] == "posedive_lib"]


def _files(name: str) -> list[Path]:
    """The module's file and the __init__ of each package on the way, which Python runs too."""
    place = ROOT.joinpath(*name.split("."))
    packages = [
        ROOT.joinpath(*name.split(".")[:depth], "__init__.py")
        for depth in range(1, name.count(".") + 2)
    ]
    return [file for file in [*packages, place.with_suffix(".py")] if file.is_file()]
