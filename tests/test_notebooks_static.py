"""Notebooks, pipeline and reports agree, without running anything."""

import ast
import builtins
import re
import textwrap

import nbformat
import pytest
from pipeline import ROOT, notebooks, stages

from posedive_lib.bench import pipeline
from posedive_lib.bench.code import notebook_code, roots
from posedive_lib.bench.notebook import PARAMETER, _parameter_names

NAMES = [
    "01_dataset_splits",
    "02_poses_viewpoints_conditions",
    "03_generator_training",
    "04_augmentation_filtering",
    "05_reid_comparison",
    "06_images_per_identity",
    "07_threshold_sweep",
    "08_controlled_comparisons",
    "09_failure_cases",
]

QUOTED = {"0.6", "33%"}  # the paper's threshold, and what a uniform distribution would have
WORDLESS = {"## What we saw"}

every_notebook = pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
every_stage = pytest.mark.parametrize("name", stages())


def test_the_nine_notebooks_are_there():
    assert [path.stem for path in notebooks()] == NAMES


@pytest.mark.parametrize(
    "path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_committed_notebooks_are_stripped(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, (
                "run: nbstripout notebooks/*.ipynb"
            )
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
    levels = [
        len(match)
        for match in re.findall(
            r"^(#+) ", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE
        )
    ]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))


def texts(path) -> list[str]:
    return [
        cell.source
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "markdown"
    ]


@every_notebook
def test_a_notebook_opens_with_question_claim_goal_prediction_and_run_time(path):
    opening = texts(path)[0]
    order = [
        "**Question.**",
        "**The paper",
        "**You will learn**",
        "> **Predict before you look.**",
        "| run time |",
        "**Inputs** ",
        "**Outputs** ",
    ]
    places = [opening.find(part) for part in order]
    assert -1 not in places and places == sorted(places)
    assert "§" in opening or path.stem.startswith("05"), "name the section of the paper"
    assert "| | here (mini world, 2 CPU cores) | the paper's scale |" in opening


@every_notebook
def test_inputs_and_outputs_are_named_as_in_the_pipeline(path):
    opening, stage = texts(path)[0], stages()[path.stem]
    inputs, outputs = (
        re.findall(r"`(.+?)`", opening.split(f"**{word}** ")[1].split("\n\n")[0])
        for word in ("Inputs", "Outputs")
    )
    assert (
        inputs
        and {
            item
            for item in inputs
            if not any(
                dep == item or dep.startswith(f"{item}/") for dep in pipeline.paths(stage["deps"])
            )
        }
        == set()
    )
    assert set(outputs) == set(pipeline.paths(stage["outs"])) - {
        f"reports/notebooks/{path.stem}.ipynb"
    }


def numbers(text: str) -> list[str]:
    """Those of a numbered list."""
    return re.findall(r"^(\d)\. ", text, flags=re.MULTILINE)


@every_notebook
def test_a_notebook_ends_with_results_limits_exercises_and_solutions(path):
    headings = [
        line for text in texts(path) for line in text.splitlines() if line.startswith("## ")
    ]
    assert headings[-3:] == ["## What we saw", "## Limits", "## Exercises"]
    ending = "\n\n".join(texts(path)).split("## Exercises")[1]  # cells of code may lie between
    exercises, solutions = ending.split("<details><summary>Solutions</summary>")
    assert (
        numbers(exercises) == numbers(solutions.split("</details>")[0])
        and 2 <= len(numbers(exercises)) <= 4
    )
    assert any("the paper" in text.lower() for text in between(path, "## What we saw", "## Limits"))
    following = [other for other in NAMES if other > path.stem][:1]
    assert all(f"({name}.ipynb)" in solutions for name in following)


def between(path, start: str, end: str) -> list[str]:
    """Markdown cells from one heading to the next one, and the code cells there as text."""
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells]
    first = next(i for i, source in enumerate(cells) if source.startswith(start))
    return cells[first : next(i for i, source in enumerate(cells) if source.startswith(end))]


@every_notebook
def test_what_we_saw_holds_no_typed_number(path):
    """Measured numbers in a sentence come from variables.

    Outside of {…} there is no decimal number and no percentage.
    """
    for source in between(path, "## What we saw", "## Limits"):
        strings = re.findall(r'f?"""(.*?)"""|f"(.*?)"', source, flags=re.DOTALL)
        sentences = (
            "".join(long or short for long, short in strings) if "Markdown(" in source else source
        )
        typed = re.findall(r"\b\d+\.\d+\b|\b\d+ ?%", re.sub(r"\{.*?\}", "", sentences))
        assert set(typed) <= QUOTED, f"typed: {typed}"


@every_notebook
def test_code_cells_are_short_and_every_section_starts_with_words(path):
    cells = nbformat.read(path, as_version=4).cells
    for before, cell in zip(cells, cells[1:], strict=False):
        if cell.cell_type == "code":
            assert cell.source.count("\n") < 12, cell.source
            assert max(map(len, cell.source.split("\n"))) <= 100, cell.source
        if (
            before.cell_type == "markdown"
            and before.source.strip().startswith("## ")
            and "\n" not in before.source.strip()
        ):
            assert cell.cell_type == "markdown" or before.source.strip() in WORDLESS, (
                f"{before.source} starts with code"
            )


def bound(tree: ast.AST) -> set[str]:
    """Names that code gives a meaning: assigned, imported, defined, or parameters."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).split(".")[0])
    return found


@every_notebook
def test_a_folded_solution_uses_no_name_that_nobody_defined(path):
    """Its indented blocks, and what stands between backticks and calls something."""
    (solutions,) = [text for text in texts(path) if "<summary>Solutions</summary>" in text]
    blocks = re.findall(r"(?:^ {7,}\S.*\n|^\n(?= {7,}))+", solutions, flags=re.MULTILINE)
    calls = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", solutions) if "(" in code]
    parsed = [ast.parse(textwrap.dedent(code)) for code in (*blocks, *calls)]
    known = set(dir(builtins)).union(bound(ast.parse(notebook_code(path))), *map(bound, parsed))
    used = {node.id for tree in parsed for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert used <= known, f"not defined: {sorted(used - known)}"


@every_notebook
def test_each_notebook_is_a_stage_that_writes_its_page(path):
    stage = stages()[path.stem]
    assert stage["cmd"] == f"python -m posedive_lib.bench.notebook {path.stem}"
    assert f"notebooks/{path.name}" in stage["deps"]
    assert {f"reports/notebooks/{path.stem}.ipynb": {"cache": False}} in stage["outs"]


@every_stage
def test_stages_depend_on_the_code_that_they_run(name):
    """One small file holds the digests of all modules that the notebook or command imports."""
    *_, last = stages()[name]["cmd"].split()
    known = {f"build/code/{root}.txt" for root in roots(ROOT)}
    listed = {dep for dep in pipeline.paths(stages()[name]["deps"]) if dep.startswith("build/code")}
    assert listed <= known
    assert listed == (set() if name == "code" else {f"build/code/{last}.txt"})


def test_the_pipeline_is_a_table_of_contents():
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 350
    assert not re.search(r"\w\.py\b", (ROOT / "dvc.yaml").read_text()), "no list of modules"


@every_stage
def test_stages_say_what_they_do_and_keep_reports_out_of_the_cache(name):
    stage = stages()[name]
    assert stage["desc"].endswith(".")
    for out in stage["outs"]:
        path, options = (out, {}) if isinstance(out, str) else next(iter(out.items()))
        assert path.startswith("reports/") == (options.get("cache") is False)
        assert path.startswith(("reports/", "build/"))


def test_no_image_in_an_executed_notebook_lacks_its_alternative_text():
    for page in (ROOT / "reports/notebooks").glob("*.ipynb"):
        for cell in nbformat.read(page, as_version=4).cells:
            for output in cell.get("outputs", []):
                for kind in {"image/png", "image/jpeg"} & output.get("data", {}).keys():
                    assert len(output.metadata[kind]["alt"]) >= 10, f"{page.name}: {cell.source}"
    for page in (ROOT / "reports/notebooks").glob("*.html"):  # of runs before notebooks were kept
        for image in re.findall(r"<img\b[^>]*?>", page.read_text()):
            head = image.split("base64,")[0]
            assert re.search(r'alt="[^"]{10,}"', image) and "No description" not in head, (
                f"{page.name}: {head[:200]}"
            )


def test_reports_are_small_enough_for_git():
    sizes = [path.stat().st_size for path in (ROOT / "reports").rglob("*") if path.is_file()]
    assert sum(sizes) <= 12.5e6  # executed notebooks hold their pictures a second time
