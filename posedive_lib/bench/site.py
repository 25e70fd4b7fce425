"""The study as a static site that needs no network:

    python -m posedive_lib.bench.site        reports/ -> build/site/index.html

An index with the pipeline, the results at a glance and every notebook; a page of all figures, each with links to its notebook, its
data and the stage that made it; a page of the stages; the executed notebooks; the figures and tables as files.
"""

import html
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from nbconvert.filters.markdown import markdown2html

from posedive_lib.bench.page import document, style
from posedive_lib.bench.pipeline import maker, paths, picture, read
from posedive_lib.bench.runs import make_folder, write_text
from posedive_lib.errors import StudyError, command

TARGET = Path("build/site")
PAGES = {"index.html": "Overview", "figures.html": "Figures", "stages.html": "Pipeline"}


@dataclass(frozen=True)
class Shown:
    """A figure of the reports: its picture ("01/azimuth.png"), what else lies beside it, its texts, and the stage that made it."""

    picture: str
    vector: str | None
    data: str | None
    alt: str
    caption: str
    stage: str


def build(root: Path = Path("."), target: Path = TARGET) -> Path:
    """Write the whole site and return its index. What an earlier build left there is removed first."""
    stages = read(root)
    reports = root / "reports"
    shown, notebooks = figures(reports, stages), _notebooks(reports, stages)
    pages = {
        "index.html": index(reports, stages, notebooks, shown),
        "figures.html": gallery(shown),
        "stages.html": pipeline(stages),
    }
    shutil.rmtree(target, ignore_errors=True)
    make_folder(target)
    for part in ("figures", "tables"):
        shutil.copytree(reports / part, target / part, ignore=shutil.ignore_patterns("*.md"))
    for name, body in pages.items():
        write_text(
            target / name,
            document(f"{PAGES[name]} · Pose-dIVE, reproduced", navigation(name) + body),
        )
    for name in notebooks:
        write_text(
            target / f"notebooks/{name}.html",
            notebook((reports / f"notebooks/{name}.html").read_text(encoding="utf-8")),
        )
    return target / "index.html"


def _notebooks(reports: Path, stages: dict[str, dict]) -> list[str]:
    """Stages that are notebooks, in their order; each has to have its page."""
    names = [name for name in stages if f"notebooks/{name}.ipynb" in paths(stages[name]["deps"])]
    missing = [name for name in names if not (reports / f"notebooks/{name}.html").is_file()]
    if missing:
        raise StudyError(
            f"reports/notebooks lacks the pages of {', '.join(missing)}; `dvc repro` makes them."
        )
    return names


def figures(reports: Path, stages: dict[str, dict]) -> list[Shown]:
    """Every figure in reports/figures, by the text file that `figures.save` puts beside it."""
    found = []
    for text in sorted(reports.glob("figures/**/*.md")):
        first, _, rest = text.read_text(encoding="utf-8").partition("\n\n")
        alt, _, name = first.removeprefix("![").removesuffix(")").rpartition("](")
        beside = lambda suffix: (
            text.with_suffix(suffix).relative_to(reports).as_posix()
            if text.with_suffix(suffix).is_file()
            else None
        )
        if not (text.parent / name).is_file() or not alt:
            raise StudyError(f"{text} names no picture beside it; run its notebook again.")
        own = f"reports/{text.relative_to(reports).as_posix()}"
        stage = maker(stages, own)
        if stage is None:
            raise StudyError(
                f"No stage of dvc.yaml makes {own}; delete it, or add it to a stage's outs."
            )
        found.append(
            Shown(
                (text.parent / name).relative_to(reports).as_posix(),
                beside(".svg"),
                beside(".csv"),
                alt,
                rest.split("\n\n")[0],
                stage,
            )
        )
    return found


def navigation(current: str, up: str = "") -> str:
    """Links to the site's pages; the current one is no link."""
    links = [
        f"<strong>{title}</strong>" if name == current else f'<a href="{up}{name}">{title}</a>'
        for name, title in PAGES.items()
    ]
    return f"<nav>{' · '.join(links)}</nav>\n"


def notebook(text: str) -> str:
    """A notebook's page with the site's links, and in today's look whenever it was executed."""
    before, _, rest = text.partition("<style>")
    after = rest.partition("</style>")[2].replace("<main>", f"<main>\n{navigation('', '../')}", 1)
    return f"{before}<style>\n{style()}</style>{after}"


def figure(shown: Shown) -> str:
    """One figure with its caption and its links: notebook, data, vector file and stage."""
    links = [f'<a href="notebooks/{shown.stage}.html">notebook</a>']
    links += [
        f'<a href="{path}">{word}</a>'
        for path, word in ((shown.data, "data (CSV)"), (shown.vector, "vector (SVG)"))
        if path
    ]
    links.append(f'stage <a href="stages.html#{shown.stage}">{shown.stage}</a>')
    picture = f'<a href="{shown.picture}"><img src="{shown.picture}" alt="{html.escape(shown.alt, quote=True)}" loading="lazy"></a>'
    return f"<figure>{picture}<figcaption>{markdown2html(shown.caption)}<p>{' · '.join(links)}</p></figcaption></figure>"


def table(frame: pd.DataFrame, caption: str, *, digits: int = 2) -> str:
    """A table for a page; columns of text are aligned to the left and may wrap, a new line after each "; " outside of brackets."""
    frame = frame.rename(columns=lambda name: str(name).replace("_", " "))
    text = [not pd.api.types.is_numeric_dtype(frame[name]) for name in frame]
    kind = lambda is_text: ' class="text"' if is_text else ""
    say = lambda value: (
        "–"
        if pd.isna(value)
        else f"{value:.{digits}f}"
        if isinstance(value, float)
        else ";<br>".join(map(html.escape, re.split(r"; (?![^(]*\))", str(value))))
    )
    head = "".join(
        f"<th{kind(is_text)}>{html.escape(name)}</th>" for name, is_text in zip(frame, text)
    )
    rows = "".join(
        "<tr>"
        + "".join(f"<td{kind(is_text)}>{say(value)}</td>" for value, is_text in zip(row, text))
        + "</tr>\n"
        for row in frame.itertuples(index=False)
    )
    return f"<table><caption>{caption}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table>"


def index(reports: Path, stages: dict[str, dict], notebooks: list[str], shown: list[Shown]) -> str:
    """The overview: pipeline, results at a glance, notebooks, costs."""
    read = lambda name: _read(reports / name)
    claims, quality = read("tables/claims.csv"), read("tables/generator_quality.csv")
    gain = [figure(item) for item in shown if item.picture.startswith("figures/05/gain")]
    link = lambda name: f'<a href="tables/{name}.csv">{name}.csv</a>'
    parts = [
        "<h1>Pose-dIVE, reproduced</h1>",
        "<p>The whole system of Pose-dIVE and a study of it, regenerated by one pipeline. Everything here is measured in the <em>mini world</em>, "
        "where the truth is known; nothing is a result on MSMT17 or compared with published numbers.</p>",
        "<h2>The pipeline</h2>",
        f'<div class="wide">{picture(stages)}</div>',
        "<h2>Results at a glance</h2>",
        table(
            claims[["section", "paper says", "we measured", "verdict"]],
            f"What the paper says, what we measured, and the verdict ({link('claims')}; the choices that the paper leaves open: {link('choices')}).",
        ),
        *gain,
        table(
            _crossed(quality),
            f"Quality of images of people that the generator never saw: mean and 95 % interval over people ({link('generator_quality')}).",
        ),
        "<h2>Notebooks</h2>",
        "<ol>"
        + "".join(
            f'<li><a href="notebooks/{name}.html">{name[3:].replace("_", " ")}</a>: {html.escape(stages[name]["desc"])}</li>'
            for name in notebooks
        )
        + "</ol>",
    ]
    if (reports / "costs.csv").is_file():
        parts += [
            "<h2>Costs</h2>",
            table(
                read("costs.csv"),
                "What each stage cost on the machine that ran it; differs from run to run.",
                digits=1,
            ),
        ]
    return "\n".join(parts)


def _crossed(quality: pd.DataFrame) -> pd.DataFrame:
    """`generator_quality.csv` with a row per method and a column per metric."""
    say = lambda value: f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    cells = [
        f"{say(row.value)} [{say(row.ci_low)}, {say(row.ci_high)}]" for row in quality.itertuples()
    ]
    wide = quality.assign(cell=cells).pivot(index="method", columns="metric", values="cell")
    return (
        wide.loc[quality["method"].unique(), quality["metric"].unique()].fillna("–").reset_index()
    )


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise StudyError(f"The site needs {path}, which does not exist; `dvc repro` makes it.")
    return pd.read_csv(path)


def gallery(shown: list[Shown]) -> str:
    """All figures by stage."""
    parts = ["<h1>Figures</h1>"]
    for stage in dict.fromkeys(item.stage for item in shown):
        parts.append(f'<h2 id="{stage}">{stage.replace("_", " ")}</h2>')
        parts += [figure(item) for item in shown if item.stage == stage]
    return "\n".join(parts)


def pipeline(stages: dict[str, dict]) -> str:
    """Every stage with what it does, its command, inputs, parameters and outputs as dvc.yaml names them."""
    parts = ["<h1>The pipeline</h1>", f'<div class="wide">{picture(stages)}</div>']
    for name, stage in stages.items():
        parts.append(
            f'<h2 id="{name}">{name}</h2><p>{html.escape(stage["desc"])}</p><pre>{html.escape(stage["cmd"])}</pre>'
        )
        deps = paths(stage.get("deps", []))
        lists = {
            "inputs": [d for d in deps if not d.endswith(".py")],
            "parameters": paths(stage.get("params", [])),
            "outputs": paths(stage.get("outs", [])),
            "code": [d for d in deps if d.endswith(".py")],
        }
        for word, items in lists.items():
            if items:
                parts.append(
                    f"<details><summary>{len(items)} {word}</summary><p>{', '.join(f'<code>{html.escape(item)}</code>' for item in items)}</p></details>"
                )
    return "\n".join(parts)


@command()
def main() -> int:
    print(f"Wrote {build()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
