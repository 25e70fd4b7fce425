"""Notebooks, pipeline and reports agree, without running anything."""

import re

import nbformat
import pytest

from pipeline import ROOT, code_of, modules_used, notebooks, stages
from posedive_lib.study.notebook import PARAMETER, _parameter_names

NAMES = [
    "01_dataset_splits", "02_poses_viewpoints_conditions", "03_generator_training", "04_augmentation_filtering", "05_reid_comparison",
    "06_images_per_identity", "07_threshold_sweep", "08_controlled_comparisons", "09_failure_cases",
]

every_notebook = pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
every_stage = pytest.mark.parametrize("name", stages())


def test_the_nine_notebooks_are_there():
    assert [path.stem for path in notebooks()] == NAMES


@every_notebook
def test_committed_notebooks_are_stripped(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, "run: nbstripout notebooks/*.ipynb"
        assert set(cell.metadata) <= {"tags"}


@every_notebook
def test_parameters_are_the_runners(path):
    """papermill only warns of a parameter that no cell knows."""
    assert _parameter_names(path) == {PARAMETER}


@every_notebook
def test_a_notebook_starts_with_one_title_and_its_headings_are_in_order(path):
    cells = nbformat.read(path, as_version=4).cells
    assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# ")
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    levels = [len(match) for match in re.findall(r"^(#+) ", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:]))


@every_notebook
def test_each_notebook_is_a_stage_that_writes_its_page(path):
    stage = stages()[path.stem]
    assert stage["cmd"] == f"python -m posedive_lib.study.notebook {path.stem}"
    assert f"notebooks/{path.name}" in stage["deps"]
    assert {f"reports/notebooks/{path.stem}.html": {"cache": False}} in stage["outs"]


def modules_of(name: str) -> set[str]:
    """Modules that a stage uses: what its notebook imports, or the module that it runs and what that imports."""
    notebook = ROOT / f"notebooks/{name}.ipynb"
    if notebook.exists():
        return modules_used(code_of(notebook))
    return modules_used("import " + re.findall(r"python -m (\S+)", stages()[name]["cmd"])[-1])  # costs may wrap the module


@every_stage
def test_stages_name_exactly_the_modules_they_use(name):
    listed = {item for item in stages()[name]["deps"] if item.endswith(".py")}
    used = modules_of(name)
    assert not used - listed, f"add to the deps of {name}: {sorted(used - listed)}"
    assert not listed - used, f"not used by {name}: {sorted(listed - used)}"


@every_stage
def test_stages_say_what_they_do_and_keep_reports_out_of_the_cache(name):
    stage = stages()[name]
    assert stage["desc"].endswith(".")
    for out in stage["outs"]:
        path, options = (out, {}) if isinstance(out, str) else next(iter(out.items()))
        assert path.startswith("reports/") == (options.get("cache") is False)
        assert path.startswith(("reports/", "build/"))


def test_no_image_in_the_reports_lacks_its_alternative_text():
    for page in (ROOT / "reports/notebooks").glob("*.html"):
        for image in re.findall(r"<img\b[^>]*?>", page.read_text()):
            head = image.split("base64,")[0]
            assert re.search(r'alt="[^"]{10,}"', image) and "No description" not in head, f"{page.name}: {head[:200]}"


def test_reports_are_small_enough_for_git():
    assert sum(path.stat().st_size for path in (ROOT / "reports").rglob("*") if path.is_file()) <= 10e6
