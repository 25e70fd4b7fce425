"""An executed notebook as a chapter of the book: its figures get numbers.

MyST-NB shows outputs as they are. It keeps no alternative text of an image, and knows no caption.
So an image with the caption that `figures.save` shows below it becomes a figure of MyST.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_output

from posedive_lib.bench.code import read_notebook
from posedive_lib.bench.notebook import moved
from posedive_lib.errors import StudyError

MARKDOWN = "text/markdown"
KINDS = {"image/png": "png", "image/jpeg": "jpg"}
TITLE = re.compile(r"\A# \d\d · ")  # the book numbers its chapters itself
FORMULA = re.compile(r"^\$\$(.+?)\$\$ *$", re.DOTALL | re.MULTILINE)
OWN_NUMBER = re.compile(r"\(\d\)|\\tag")  # the paper's
NOT_YET = """```{note}
This notebook is shown without results. `make repro` executes those of the study; any other runs in
JupyterLab.
```"""

# The bytes of an image and their kind ("png" or "jpg") -> the link to it from the chapter, and the
# name of its figure ("" for one that is not in the reports).
Place = Callable[[bytes, str], tuple[str, str]]


def not_executed(source: Path) -> NotebookNode:
    """The source of a notebook, with a note that it has no results."""
    if not source.is_file():
        raise StudyError(f"{source} is missing; restore it from git.")
    notebook = moved(read_notebook(source), Path("reports/notebooks"))
    notebook.cells.insert(1, new_markdown_cell(NOT_YET, id="not-executed"))
    return notebook


def illustrate(notebook: NotebookNode, place: Place) -> set[str]:
    """Number a notebook's figures and formulas, in place; the names of the reports' figures in it.

    A formula that has the paper's number keeps that alone.
    """
    notebook.cells[0].source = TITLE.sub("# ", notebook.cells[0].source)
    named: set[str] = set()
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            cell.outputs = _illustrated(cell.outputs, place, named)
        else:
            cell.source = FORMULA.sub(partial(_labelled, index), cell.source)
    return named


def _labelled(cell: int, formula: re.Match[str]) -> str:
    """A formula with a label, for which MyST gives it a number."""
    if OWN_NUMBER.search(formula[1]):
        return formula[0]
    return f"{formula[0].rstrip()} (formula-{cell}-{formula.start()})"


def _illustrated(outputs: list[NotebookNode], place: Place, named: set[str]) -> list[NotebookNode]:
    left, made = list(outputs), []
    while left:
        output = left.pop(0)
        data = output.get("data", {})
        kind = next((kind for kind in KINDS if kind in data), None)
        if kind is None:
            made.append(output)
            continue
        alt = output.metadata.get(kind, {}).get("alt") or data.get("text/plain", "")
        link, name = place(base64.b64decode(data[kind]), KINDS[kind])
        if left and MARKDOWN in left[0].get("data", {}):  # IPython adds text/plain to it
            caption = left.pop(0).data[MARKDOWN]
            label = f":name: {name}\n" if name and name not in named else ""
            named |= {name} if label else set()
            text = f"```{{figure}} {link}\n{label}:alt: {' '.join(alt.split())}\n\n{caption}\n```"
        else:
            text = f"![{' '.join(alt.split())}]({link})"
        made.append(new_output("display_data", {MARKDOWN: text}))
    return made
