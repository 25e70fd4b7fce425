"""The notebook runner: same results, same bytes; the last lines name what failed."""

import base64
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from posedive_lib.bench.notebook import moved

ROOT = Path(__file__).resolve().parents[1]

STORY = [
    "import sys, time\n"
    "from tqdm import tqdm\n"
    "for _ in tqdm(range(2), desc='training'):\n    pass\n"
    "print('loss 0.5')",
    "from posedive_lib import params\nparams.load(params_file).seed",
    "import matplotlib.pyplot as plt, pandas as pd\n"
    "from posedive_lib.bench import figures\n"
    "fig, ax = plt.subplots()\nax.plot([0, 1])\n"
    "figures.save(fig, '00/line', data=pd.DataFrame({'x': [0, 1]}), caption='A line.',\n"
    "             alt='A line that rises from 0 to 1.')",
]


@pytest.fixture
def study(tmp_path):
    """A folder like the repository's root, with valid parameters and every input in place."""
    text = (ROOT / "params/smoke.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text)
    for path in re.findall(r"(?:data|build)/[\w./-]+", text.split("image:")[0]):
        (tmp_path / path).mkdir(parents=True, exist_ok=True)
    return tmp_path


def write_notebook(study: Path, sources: list[str], name: str = "00_tiny") -> Path:
    first = new_code_cell('params_file = "params.yaml"', metadata={"tags": ["parameters"]})
    cells = [new_markdown_cell("# Tiny"), first, *map(new_code_cell, sources)]
    path = study / f"notebooks/{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=cells), path)
    return path


def run(study: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "posedive_lib.bench.notebook", *arguments]
    return subprocess.run(command, cwd=study, capture_output=True, text=True, timeout=120)


def test_two_runs_give_the_same_bytes(study):
    write_notebook(study, STORY)
    first = run(study, "00_tiny")
    assert first.returncode == 0, first.stderr
    reports = [path for path in (study / "reports").rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in reports}
    names = {path.relative_to(study / "reports").as_posix() for path in reports}
    assert {"notebooks/00_tiny.ipynb", "figures/00/line.png", "figures/00/line.csv"} <= names

    assert run(study, "00_tiny").returncode == 0
    assert {path: path.read_bytes() for path in reports} == before

    page = study / "reports/notebooks/00_tiny.ipynb"
    outputs = [
        o for cell in nbformat.read(page, as_version=4).cells for o in cell.get("outputs", [])
    ]
    (picture,) = (output for output in outputs if "image/png" in output.get("data", {}))
    assert picture.metadata["image/png"] == {"alt": "A line that rises from 0 to 1."}
    assert (
        picture.data["image/png"].strip()
        == base64.b64encode((study / "reports/figures/00/line.png").read_bytes()).decode()
    )
    assert "loss 0.5" in page.read_text() and "training: 100%" not in page.read_text()
    assert (
        "training: 100%" in first.stderr and "loss 0.5" in first.stdout
    )  # the terminal shows what the report leaves out
    assert "cell 3: import sys, time" in first.stderr


def test_a_failing_cell_is_named_last(study):
    write_notebook(study, ["a = 1", "# divide\na / 0"])
    result = run(study, "00_tiny")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-2:] == [
        "Notebook 00_tiny failed in cell 4: # divide",
        "ZeroDivisionError: division by zero",
    ]
    assert "ZeroDivisionError" in (study / "runs/notebooks/00_tiny.ipynb").read_text()
    assert not (study / "reports/notebooks/00_tiny.ipynb").exists()


def one_line_refusal(study: Path, *arguments: str) -> str:
    result = run(study, *arguments)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1, result.stderr
    assert not (study / "runs/notebooks/00_tiny.ipynb").exists()
    return result.stderr


def test_wrong_input_is_refused_before_anything_runs(study):
    write_notebook(study, STORY)
    assert "There is no notebook notebooks/01_none.ipynb; there are: 00_tiny." in one_line_refusal(
        study, "01_none"
    )
    assert "other.yaml cannot be read" in one_line_refusal(
        study, "00_tiny", "--params", "other.yaml"
    )
    (study / "data").rename(study / "elsewhere")
    assert (
        "paths.body names data/body/SMPL_NEUTRAL.npz, which does not exist; run `dvc pull data.dvc`"
        in one_line_refusal(study, "00_tiny")
    )


def test_a_notebook_without_the_parameter_is_refused(study):
    path = write_notebook(study, STORY)
    path.write_text(path.read_text().replace("params_file =", "parameter_file ="))
    assert "has no cell tagged 'parameters' that sets params_file" in one_line_refusal(
        study, "00_tiny"
    )
    path.write_text("{")
    assert "is not a readable notebook" in one_line_refusal(study, "00_tiny")


def test_cells_about_a_data_set_that_the_study_lacks_are_left_out(study):
    path = write_notebook(study, ["print('of', 'CUHK03')", "print('of', 'MSMT17')", "1 / 0"])
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].metadata["tags"] = ["needs:cuhk03-labeled", "needs:folder"]
    notebook.cells[3].metadata["tags"] = ["needs:msmt17"]
    nbformat.write(notebook, path)
    failed = run(study, "00_tiny")
    assert failed.returncode == 1 and "failed in cell 5: 1 / 0" in failed.stderr
    notebook.cells[4].metadata["tags"] = ["needs:folder"]
    nbformat.write(notebook, path)
    assert run(study, "00_tiny").returncode == 0
    page = (study / "reports/notebooks/00_tiny.ipynb").read_text()
    assert "of MSMT17" in page and "of CUHK03" not in page and "CUHK03" not in page


def test_links_of_an_executed_notebook_lead_where_those_of_its_source_do():
    said = "[way](../docs/way.md#a) [next](07_next.ipynb) ![picture](../reports/x.png) [a](#b)"
    code = new_code_cell("1", outputs=[new_output("display_data", {"text/markdown": said})])
    cells = moved(
        new_notebook(cells=[new_markdown_cell(said), code]), Path("reports/notebooks")
    ).cells
    wanted = "[way](../../docs/way.md#a) [next](07_next.ipynb) ![picture](../x.png) [a](#b)"
    assert cells[0].source == cells[1].outputs[0].data["text/markdown"] == wanted
