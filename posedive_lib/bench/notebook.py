"""Run one numbered notebook as a stage of the pipeline:

    python -m posedive_lib.bench.notebook 03_generator_training [--params params.yaml]

Parameters and inputs are checked first. Then papermill runs notebooks/NAME.ipynb in this Python.
The terminal shows what the cells print, with their progress bars. The result is the executed
notebook: notebooks/NAME.ipynb in `paths.reports`. The same results give the same bytes: it has no
dates, no random ids, no counts and no progress bars. A notebook that fails stays in
runs/notebooks/NAME.ipynb as far as it came. The last lines on the terminal then name the cell and
the error, and the exit status is 1. Wrong input gives one line and exit status 2.
"""

import argparse
import ast
import logging
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from posedive_lib import params as parameters
from posedive_lib.bench import reports
from posedive_lib.bench.code import read_notebook
from posedive_lib.bench.costs import measured
from posedive_lib.bench.inputs import check_inputs
from posedive_lib.bench.runs import make_folder, write_text
from posedive_lib.errors import StudyError, command
from posedive_lib.writing import writing

SOURCES, DRAFTS = Path("notebooks"), Path("runs/notebooks")
PARAMETER = "params_file"  # the one parameter of every notebook
NEEDS = "needs:"  # begins the tags of cells about one data set; see `_needs`

UPWARD = re.compile(r"(?<=\]\()\.\./[^)\s]+(?=\))")  # a link of Markdown out of the folder

# What papermill, nbclient and editors add to a notebook without adding to its result.
NOISE = [
    "metadata.papermill",
    "cell.metadata.papermill",
    "cell.metadata.execution",
    "metadata.widgets",
    "metadata.language_info.version",
]


class NotebookFailed(Exception):
    """A cell raised; the message names notebook, cell and error."""


def run(name: str, params_file: str = "params.yaml") -> Path:
    """Run notebooks/`name`.ipynb from the repository's root; returns the executed notebook's file.

    StudyError before anything starts where a parameter or an input is wrong; NotebookFailed where a
    cell raises.
    """
    source = check(name, params_file)
    draft = make_folder(DRAFTS) / f"{name}.ipynb"
    folder = make_folder(reports.folder(params_file) / "notebooks")
    notebook = normalise(execute(source, draft, {PARAMETER: params_file}))
    report = folder / f"{name}.ipynb"
    write_text(report, nbformat.writes(moved(notebook, folder)) + "\n")
    return report


def check(name: str, params_file: str) -> Path:
    """The notebook's path, once it and its parameters and inputs are known to be there."""
    source = SOURCES / f"{name}.ipynb"
    if not source.is_file():
        known = ", ".join(sorted(path.stem for path in SOURCES.glob("*.ipynb")))
        known = known or "none: run from the repository root"
        raise StudyError(f"There is no notebook {source}; there are: {known}.")
    if PARAMETER not in _parameter_names(source):
        raise StudyError(
            f"{source} has no cell tagged 'parameters' that sets {PARAMETER}; "
            f'add {PARAMETER} = "params.yaml" there.'
        )
    check_inputs(parameters.load(params_file), params_file)
    reports.folder(params_file)
    return source


def _parameter_names(source: Path) -> set[str]:
    """Names that the cell tagged `parameters` sets; papermill only warns of unknown ones."""
    tagged = [
        statement
        for cell in read_notebook(source).cells
        if "parameters" in cell.metadata.get("tags", [])
        for statement in ast.parse(cell.source).body
    ]
    targets = [t for node in tagged if isinstance(node, ast.Assign) for t in node.targets]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def execute(source: Path, draft: Path, values: dict[str, str]) -> NotebookNode:
    """Run every cell in a kernel of this Python; returns the executed notebook.

    `draft` holds it as it grows.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError

    announce, notebook = _Announce(source.stem), read_notebook(source)
    needed = {name for cell in notebook.cells for name in _needs(cell)}
    absent = needed - {*parameters.load(values[PARAMETER]).study.datasets} if needed else set()
    for cell in notebook.cells:
        if _needs(cell) & absent:
            cell.source = ""  # it keeps its number, and leaves when all have run
    logging.getLogger("papermill").setLevel(logging.ERROR)
    with _private_jupyter(values[PARAMETER]), writing(draft):
        try:
            nbformat.write(notebook, draft)
            notebook = papermill.execute_notebook(
                str(draft),
                str(draft),
                values,
                kernel_name="python3",
                language="python",
                cwd=Path.cwd(),
                progress_bar=False,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
                on_cell_execute=announce,
            )
        except papermill.PapermillExecutionError as error:
            raise NotebookFailed(
                announce.failure(draft, f"{error.ename}: {' '.join(str(error.evalue).split())}")
            ) from None
        except DeadKernelError:
            raise NotebookFailed(
                announce.failure(draft, "the Python process died; is there enough memory?")
            ) from None
    notebook.cells = [cell for cell in notebook.cells if not _needs(cell) & absent]
    return notebook


def _needs(cell: NotebookNode) -> set[str]:
    """The data sets without which a study leaves a cell out: its tags "needs:NAME"."""
    tags = cell.metadata.get("tags", [])
    return {tag.removeprefix(NEEDS) for tag in tags if tag.startswith(NEEDS)}


class _Announce:
    """Says which cell starts, and how long the notebook has been running.

    Cells are numbered from 1, as in the source notebook.
    """

    def __init__(self, name: str):
        self.name = name
        self.start = time.monotonic()
        self.injected = 0  # cells that papermill put in
        self.place = "before its first cell"

    def __call__(self, cell: NotebookNode, cell_index: int, **_: Any) -> None:
        if "injected-parameters" in cell.metadata.get("tags", []):
            self.injected = 1  # papermill's own cell, which the source does not have
        elif cell.cell_type == "code" and cell.source.strip():
            self.place = f"cell {cell_index + 1 - self.injected}: {first_line(cell.source)}"
            minutes, seconds = divmod(int(time.monotonic() - self.start), 60)
            clock = f"{minutes:d}:{seconds:02d}"
            print(f"[{self.name} {clock}] {self.place}", file=sys.stderr, flush=True)

    def failure(self, draft: Path, error: str) -> str:
        """The last words about a notebook that failed in the cell announced last."""
        return (
            f"The notebook as far as it came, with the traceback: {draft}\n"
            f"Notebook {self.name} failed in {self.place}\n{error}"
        )


def first_line(source: str) -> str:
    """The first line of a cell that says something."""
    return next((line.strip() for line in source.splitlines() if line.strip()), "")


@contextmanager
def _private_jupyter(params_file: str) -> Iterator[None]:
    """Kernel and settings of this Python alone: the user's Jupyter is neither read nor changed.

    The kernel also learns where the reports of its parameters go.
    """
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="pose-dive-") as folder:
        os.environ[reports.VARIABLE] = str(reports.folder(params_file))
        os.environ.update(
            JUPYTER_PATH=f"{sys.prefix}/share/jupyter",
            JUPYTER_PREFER_ENV_PATH="1",
            JUPYTER_NO_CONFIG="1",
            JUPYTER_RUNTIME_DIR=f"{folder}/runtime",
            IPYTHONDIR=f"{folder}/ipython",
            PYDEVD_DISABLE_FILE_VALIDATION="1",
            MPLBACKEND="module://matplotlib_inline.backend_inline",
        )
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def normalise(notebook: NotebookNode) -> NotebookNode:
    """The executed notebook without dates, random ids, counts, warnings and progress bars."""
    from nbstripout import strip_output

    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return strip_output(
        notebook, keep_output=True, keep_count=False, keep_id=False, extra_keys=NOISE
    )


def moved(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """The notebook with links "../…" that hold in `folder` as they did in notebooks/."""

    def rebased(text: str) -> str:
        return UPWARD.sub(lambda link: os.path.relpath(SOURCES / link[0], folder), text)

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = rebased(cell.source)
        for output in cell.get("outputs", []):
            if "text/markdown" in output.get("data", {}):
                output.data["text/markdown"] = rebased(output.data["text/markdown"])
    return notebook


@command("Stopped: `make repro` goes on from here.")
def main(arguments: list[str] | None = None) -> int:
    """The command. Returns its exit status: 0, 1 where a cell raised, 2 where input is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m posedive_lib.bench.notebook", description="Run one notebook of the study."
    )
    parser.add_argument("name", help="such as 03_generator_training")
    parser.add_argument(
        "--params", default="params.yaml", help="parameter file (default: params.yaml)"
    )
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill also ends the kernel
    try:
        name = options.name.removesuffix(".ipynb")
        with measured(name, options.params):
            report = run(name, options.params)
    except NotebookFailed as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print(f"Wrote {report}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
