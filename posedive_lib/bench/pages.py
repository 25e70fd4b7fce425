"""Pages of the book that are made from the reports and the pipeline, as Markdown for MyST."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from posedive_lib.bench.pipeline import Stages, diagram, direct, edges, maker, paths, read
from posedive_lib.bench.tables import rendered, to_markdown
from posedive_lib.errors import StudyError

MINI_WORLD = (
    "Everything here is measured in the *mini world*, where the truth is known. Nothing is a "
    "result on MSMT17 or compared with published numbers."
)
OTHERS = {"replication": "replication/README.md"}  # stages of pipelines of their own: their pages


@dataclass(frozen=True)
class Shown:
    """A figure of the reports, and the stage that made it.

    picture: its path ("figures/01/azimuth.png"); vector, data: those of its SVG and CSV, if any.
    """

    picture: str
    vector: str | None
    data: str | None
    alt: str
    caption: str
    stage: str

    @property
    def name(self) -> str:
        """What links call the figure: "fig-01-azimuth"."""
        return "-".join(("fig", *Path(self.picture).with_suffix("").parts[1:]))


@dataclass(frozen=True)
class Study:
    """A repository, the folder of its reports, and the stages of its pipeline."""

    root: Path
    reports: Path
    stages: Stages


def notebooks(stages: Stages) -> list[str]:
    """Stages that are notebooks, in their order."""
    return [name for name in stages if f"notebooks/{name}.ipynb" in paths(stages[name]["deps"])]


def figures(study: Study) -> list[Shown]:
    """Every figure of the reports, by the text file that `figures.save` puts beside it."""
    return [_shown(text, study) for text in sorted(study.reports.glob("figures/**/*.md"))]


def _shown(text: Path, study: Study) -> Shown:
    """The figure of a text file: "![ALT](PICTURE)", caption and links."""

    def beside(path: Path) -> str | None:
        return path.relative_to(study.reports).as_posix() if path.is_file() else None

    first, _, rest = text.read_text(encoding="utf-8").partition("\n\n")
    alt, _, name = first.removeprefix("![").removesuffix(")").rpartition("](")
    shown = beside(text.parent / name)
    if shown is None or not alt:
        raise StudyError(f"{text} names no picture beside it; run its notebook again.")
    vector, data = beside(text.with_suffix(".svg")), beside(text.with_suffix(".csv"))
    return Shown(shown, vector, data, alt, rest.split("\n\n")[0], _maker(study, text))


def _maker(study: Study, path: Path) -> str:
    """The stage that makes a file of the reports."""
    own = path.relative_to(study.root) if path.is_relative_to(study.root) else path
    stage = maker(study.stages, own.as_posix())
    for name in OTHERS:
        if stage is None and (study.root / name / "dvc.yaml").is_file():
            stage = maker(read(study.root / name), own.as_posix())
    if stage is None:
        raise StudyError(
            f"No stage of dvc.yaml makes {own}; delete it, or add it to a stage's outs."
        )
    return stage


def contents(study: Study) -> str:
    """The chapters of the study, each with the sentence that dvc.yaml says of it."""
    names = notebooks(study.stages)
    said = {name: study.stages[name]["desc"] for name in names}
    lines = [f"1. [{_title(name)}]({_chapter(name)}): {said[name]}" for name in names]
    others = beside(study)
    parts = [
        "# The notebooks",
        MINI_WORLD if rendered(study.reports) else "",
        "New here? Begin with [the mini world in five minutes](docs/five_minutes.md).",
        "\n".join(lines),
        *[f"To try things: [{_title(name)}]({_chapter(name)})." for name in others],
        _hidden(names, ":numbered: 1"),
        _hidden(others) if others else "",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def beside(study: Study) -> list[str]:
    """Notebooks that are no stages, such as the playground."""
    found = sorted(path.stem for path in study.root.glob("notebooks/*.ipynb"))
    return [name for name in found if name not in study.stages]


def _hidden(names: list[str], *options: str) -> str:
    """What puts chapters into the book's table of contents."""
    listed = "\n".join(map(_chapter, names))
    return "\n".join(["```{toctree}", ":hidden:", *options, "", listed, "```"])


def _title(name: str) -> str:
    """ "splits" of "01_splits"."""
    return name.lstrip("0123456789_").replace("_", " ")


def _chapter(name: str) -> str:
    return f"reports/notebooks/{name}.ipynb"


def gallery(shown: list[Shown], numbered: set[str]) -> str:
    """All figures by stage; `numbered`: names of those that have their number in a chapter."""
    parts = ["# Figures"]
    for stage in dict.fromkeys(item.stage for item in shown):
        parts.append(f"## {_title(stage)}")
        parts += [_figure(item, item.name in numbered) for item in shown if item.stage == stage]
    return "\n\n".join(parts) + "\n"


def _figure(item: Shown, numbered: bool) -> str:
    """One figure with its caption and its links: notebook, data, vector file and stage."""
    links = [] if item.stage in OTHERS else [f"[notebook]({_chapter(item.stage)})"]
    if item.data:
        links.append(f"[data (CSV)](reports/{item.data})")
    if item.vector:
        links.append(f"[vector (SVG)](reports/{item.vector})")
    links.append(f"[stage]({_place(item.stage)})")
    below = " · ".join(links)
    if numbered:
        number = f"{{numref}}`{item.name}`"
        return f"![{item.alt}](reports/{item.picture})\n\n{number}. {item.caption}\n\n{below}"
    head = f"```{{figure}} reports/{item.picture}\n:name: {item.name}\n:alt: {item.alt}"
    return f"{head}\n\n{item.caption}\n\n{below}\n```"


def _place(stage: str) -> str:
    """Where the book describes a stage."""
    return OTHERS.get(stage) or f"#{_anchor(stage)}"


def tables(study: Study) -> str:
    """All tables of the reports: their columns, and the stage that made them."""
    rows = []
    for path in sorted(study.reports.glob("tables/*.csv")):
        columns = ", ".join(f"`{name}`" for name in pd.read_csv(path, nrows=0))
        stage = _maker(study, path)
        made_by = f"[{stage}]({_place(stage)})"
        rows.append((f"[{path.stem}](reports/tables/{path.name})", made_by, columns))
    frame = pd.DataFrame(rows, columns=["table", "made by", "columns"])
    return f"# Tables\n\nEach is a CSV file.\n\n{to_markdown(frame)}\n"


def pipeline(study: Study) -> str:
    """Every stage: what it does, command, inputs, parameters, outputs and cost."""
    links = direct(edges(study.stages))
    boxes = {name: stage["desc"] for name, stage in study.stages.items()}
    parts = [
        "# The pipeline",
        "`dvc repro` runs the stages that are out of date. Arrows lead from a stage to one that "
        "reads what it writes.",
        raw(diagram(boxes, links, "Stages of the pipeline", _anchor)),
    ]
    parts += [_stage(name, stage) for name, stage in study.stages.items()]
    costs = study.reports / "costs.csv"
    if costs.is_file():
        words = "What each stage cost on the machine that ran it. It differs from run to run."
        table = to_markdown(pd.read_csv(costs), 1)
        parts += ["## Costs", words, table]
    return "\n\n".join(parts) + "\n"


def _stage(name: str, stage: dict) -> str:
    lists = {
        "Inputs": paths(stage.get("deps", [])),
        "Parameters": paths(stage.get("params", [])),
        "Outputs": paths(stage.get("outs", [])),
    }
    said = [
        f"* {word}: " + ", ".join(f"`{item}`" for item in items)
        for word, items in lists.items()
        if items
    ]
    how = f"({_anchor(name)})=\n## {name}\n\n{stage['desc']}\n\n    {stage['cmd']}\n\n"
    return how + "\n".join(said)


def _anchor(stage: str) -> str:
    """What links call the section of a stage; also its id on the page."""
    return f"stage-{stage.replace('_', '-')}"


def raw(text: str) -> str:
    """HTML in a page of Markdown."""
    return f"```{{raw}} html\n{text}\n```"
