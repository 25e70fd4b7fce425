"""The book in a real browser: no errors, no broken link, readable on a phone, without a network."""

import base64
import fcntl
import html
import os
import re
import shutil
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from browser import Browser
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from pipeline import ROOT, stages

from posedive_lib.bench import chapters, pages, pipeline, site
from posedive_lib.bench.notebook import moved
from posedive_lib.errors import StudyError

# Elements that stick out of the window although no scrolling box around them catches it.
STICKING_OUT = """[...document.querySelectorAll('body *')].filter(e => {
  if (e.getBoundingClientRect().right <= 391 || e.closest('svg')) return false;
  for (let p = e; p; p = p.parentElement)
    if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(p).overflowX)) return false;
  return true; }).map(e => e.outerHTML.slice(0, 120))"""
# Cells of numbers and names that are broken into many short lines.
BROKEN_CELLS = """[...document.querySelectorAll('td:not(.text)')].filter(e => {
  const text = document.createRange(); text.selectNodeContents(e);
  const lines = parseFloat(getComputedStyle(e).lineHeight);
  const short = e.textContent.trim().length <= 24;  // a sentence may take more
  return short && text.getBoundingClientRect().height > 3 * lines;
  }).map(e => e.textContent)"""
BAD_IMAGES = """[...document.images].filter(i => !i.naturalWidth || i.alt.trim().length < 10)
  .map(i => i.src.slice(0, 100) + ' alt=' + i.alt)"""

INK = "getComputedStyle(document.querySelector('.diagram text')).fill"
LETTERS = "getComputedStyle(document.querySelector('article p') || document.body).fontSize"


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """The repository with a copy of its reports, in which notebook 06 is surely executed."""
    folder = tmp_path_factory.mktemp("study")
    for path in ROOT.iterdir():
        if path.name not in ("reports", "build") and not path.name.startswith("."):
            (folder / path.name).symlink_to(path)
    shutil.copytree(ROOT / "reports", folder / "reports")
    page = folder / "reports/notebooks/06_images_per_identity.ipynb"
    if not page.is_file():
        notebook = nbformat.read(ROOT / f"notebooks/{page.name}", as_version=4)
        notebook = moved(notebook, Path("reports/notebooks"))
        picture = folder / "reports/figures/06/images_per_identity.png"
        caption, alt = picture.with_suffix(".md").read_text().split("\n\n")[1], "Two curves rise."
        notebook.cells.insert(3, new_code_cell("draw()", outputs=outputs(picture, alt, caption)))
        nbformat.write(notebook, page)
    return folder


def outputs(picture: Path, alt: str, caption: str) -> list:
    """What `figures.save` shows in a notebook."""
    data = {"image/png": base64.b64encode(picture.read_bytes()).decode(), "text/plain": alt}
    return [
        new_output("display_data", data, metadata={"image/png": {"alt": alt}}),
        new_output("display_data", {"text/markdown": caption, "text/plain": "<Markdown>"}),
    ]


@pytest.fixture(scope="module")
def built(study, tmp_path_factory) -> Path:
    """The book, built once for all processes of the tests: it takes minutes."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    place = shared / "book"
    with open(shared / "book.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.is_dir():
            site.build(study, place)
    return place


@pytest.fixture(scope="module")
def tab():
    with Browser() as browser:
        yield browser


class Links(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.targets, self.ids = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.targets += [values[key] for key in ("href", "src") if values.get(key)]
        self.ids.add(values.get("id"))


def test_the_browser_sees_what_is_wrong(tab, tmp_path):
    """The checks below can fail: a page with every fault is reported."""
    page = tmp_path / "bad.html"
    page.write_text(
        "<meta name='viewport' content='width=device-width'><img src='gone.png'>"
        "<p style='width: 900px'>wide</p>"
        "<table style='width: 9px; table-layout: fixed; line-height: 10px'>"
        "<td style='overflow-wrap: anywhere'>broken</table>"
        "<script>console.error('x'); throw Error('y')</script>"
        "<img src='https://example.org/a.png' alt='ten letters'>"
    )
    tab.width(390)
    problems = " ".join(tab.open(page))
    assert (
        "exception" in problems
        and "console" in problems
        and "loads https://example.org" in problems
        and "ERR_FILE_NOT_FOUND" in problems
    )
    assert (
        len(tab.evaluate(BAD_IMAGES)) == 2
        and len(tab.evaluate(STICKING_OUT)) == 1
        and tab.evaluate(BROKEN_CELLS) == ["broken"]
    )


@pytest.mark.slow(seconds=140, fixture="built")  # of which the book takes most
def test_every_page_loads_cleanly_and_is_readable_on_a_phone(built, tab):
    found = sorted(built.rglob("*.html"))
    names = {page.relative_to(built).as_posix() for page in found}
    assert {"index.html", "figures.html", "pipeline.html", "api/posedive_lib.reid.html"} <= names
    assert {"docs/five_minutes.html", "docs/your_data.html"} <= names
    assert {"miniworld/pretrain/README.html", "literature.html"} <= names
    tab.width(390)
    for page in found:
        assert tab.open(page) == [], page.name
        assert tab.evaluate(BAD_IMAGES) == [], page.name
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390, page.name
        assert tab.evaluate(STICKING_OUT) == [], page.name
        assert tab.evaluate(BROKEN_CELLS) == [], page.name
        assert tab.evaluate(f"parseFloat({LETTERS})") >= 14, page.name
        assert tab.evaluate("document.title.length > 3 && document.documentElement.lang == 'en'")
        heads = tab.evaluate("document.querySelectorAll('h1').length")
        assert heads == 1 or page.name == "search.html", page.name  # its list comes by script


def test_the_search_finds_a_word_without_a_server(built, tab):
    tab.open(built / "search.html", "?q=guidance")
    link = """'ul.search a[href*="03_generator_training"]'"""
    assert tab.evaluate(soon(f"document.querySelector({link})"))


def soon(condition: str) -> str:
    """A script that waits until a condition holds, for 20 seconds at most."""
    look = f"const look = () => {condition} ? done(true) : setTimeout(look, 100)"
    return f"new Promise(done => {{ {look}; look(); setTimeout(() => done(false), 20000); }})"


def test_a_dark_page_has_light_letters(built, tab):
    tab.open(built / "pipeline.html")
    shades = []
    for theme in ("light", "dark"):
        tab.evaluate(f"document.body.dataset.theme = '{theme}'")
        box = "getComputedStyle(document.querySelector('.diagram rect')).fill"
        shades.append([brightness(tab.evaluate(text)) for text in (box, INK)])
    (light_box, light_ink), (dark_box, dark_ink) = shades
    assert light_box > light_ink and dark_box < dark_ink


def brightness(colour: str) -> int:
    """Of "rgb(r, g, b)"."""
    return sum(map(int, re.findall(r"\d+", colour)[:3]))


def test_formulas_are_drawn_and_numbered(built, tab):
    tab.open(built / "reports/notebooks/03_generator_training.html")
    drawn = "document.querySelectorAll('mjx-container svg').length >= 5"
    assert tab.evaluate(soon(drawn))
    assert "(3.1)" in tab.evaluate("document.querySelector('.eqno').textContent")


def test_no_link_is_broken(built):
    read = {page: Links(page.read_text()) for page in built.rglob("*.html")}
    for page, links in read.items():
        for target in links.targets:
            if target.startswith(("data:", "https://", "http://", "mailto:")):
                continue
            path, _, anchor = target.partition("#")
            path = path.partition("?")[0]
            path, anchors = (
                urllib.parse.unquote(path),
                {anchor, urllib.parse.unquote(anchor)},
            )  # browsers take an id either way
            file = (page.parent / path).resolve() if path else page.resolve()
            assert file.is_file() and file.is_relative_to(built.resolve()), (
                f"{page.name} links to {target}"
            )
            assert (
                not anchor
                or file.suffix != ".html"
                or anchors & read[built / file.relative_to(built.resolve())].ids
            ), f"{page.name} links to {target}"


def test_every_figure_links_to_its_notebook_data_and_stage(study, built):
    text = (built / "figures.html").read_text()
    texts = sorted((study / "reports/figures").rglob("*.md"))
    parts = re.split(r'<img alt="', text)[1:]
    assert len(parts) == len(texts) > 20
    for part, source in zip(parts, texts, strict=True):
        stage = source.parent.name
        if stage in pages.OTHERS:  # of no notebook
            assert f'href="{stage}/README.html"' in part
        else:
            assert re.search(rf'href="reports/notebooks/{stage}_\w+\.html"', part), source
            assert re.search(rf'href="pipeline\.html#stage-{stage}-', part), source
        data = re.search(rf'href="_downloads/\w+/{source.stem}\.csv"', part)
        assert bool(data) == source.with_suffix(".csv").exists(), source


def test_a_figure_has_its_number_in_its_notebook_and_the_gallery_names_it(built):
    chapter = (built / "reports/notebooks/06_images_per_identity.html").read_text()
    gallery = (built / "figures.html").read_text()
    for number, name in enumerate(("nested", "images-per-identity"), start=1):
        said = rf"Fig\. 6\.{number}"
        assert re.search(rf'id="fig-06-{name}".*?{said}', chapter, re.DOTALL)
        link = f'href="reports/notebooks/06_images_per_identity.html#fig-06-{name}"'
        assert re.search(rf"{link}.*?{said}", gallery, re.DOTALL)


def test_claims_tables_and_stages_are_all_there(study, built):
    claims = (built / "reports/claims.html").read_text()
    for said in pd.read_csv(study / "reports/tables/claims.csv")["paper says"]:
        assert html.escape(said.split("(")[0].strip()[:30], quote=False) in claims, said
    tables = (built / "tables.html").read_text()
    assert all(f">{path.stem}<" in tables for path in (study / "reports/tables").glob("*.csv"))
    pipeline_page = (built / "pipeline.html").read_text()
    for name in stages():
        anchor = f"stage-{name.replace('_', '-')}"
        assert f'id="{anchor}"' in pipeline_page and f'href="#{anchor}"' in pipeline_page


def test_the_drawing_has_the_pipelines_order():
    stages_ = {
        "a": {"outs": ["x"]},
        "b": {"deps": ["x"], "outs": [{"y": {}}]},
        "c": {"deps": ["x", "y"]},
    }
    links = pipeline.edges(stages_)
    assert links == [("a", "b"), ("a", "c"), ("b", "c")]
    assert pipeline.maker(stages_, "y/of/b.csv") == "b" and pipeline.maker(stages_, "yy") is None
    assert pipeline.direct(links) == [("a", "b"), ("b", "c")]
    assert pipeline.levels(stages_, links) == {"a": 0, "b": 1, "c": 2}
    drawn = pipeline.diagram({"a": "", "b": "", "c": ""}, links[:1], "Boxes")
    assert drawn.count("<rect") == 3 and 'aria-label="Boxes: b after a"' in drawn


@pytest.mark.parametrize(
    "gone, message",
    [
        ("claims.md", "claims.md, which does not exist; `dvc repro`"),
        ("figures/05/gain.png", "names no picture beside it"),
    ],
)
def test_what_is_missing_is_named_and_an_earlier_book_stays(study, tmp_path, gone, message):
    for path in study.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "reports").unlink()
    shutil.copytree(study / "reports", tmp_path / "reports")
    (tmp_path / "reports" / gone).unlink()
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("old")
    with pytest.raises(StudyError, match=message):
        site.build(tmp_path, tmp_path / "site")
    assert (tmp_path / "site/index.html").read_text() == "old"


def test_an_image_with_its_caption_becomes_one_figure(tmp_path):
    picture = tmp_path / "a.png"
    picture.write_bytes(b"picture")
    shown = [*outputs(picture, "A line.", "It rises."), *outputs(picture, "A line.", "Again.")]
    alone = outputs(picture, "Alone", "")[:1]
    text = new_output("stream", text="done")
    cells = [new_markdown_cell("# 06 · Curves"), new_code_cell("", outputs=[*shown, text, *alone])]
    notebook = new_notebook(cells=cells)
    place = {b"picture": ("../figures/a.png", "fig-a")}
    assert chapters.illustrate(notebook, lambda content, kind: place[content]) == {"fig-a"}
    assert notebook.cells[0].source == "# Curves"
    first, second, kept, last = notebook.cells[1].outputs
    figure = "```{figure} ../figures/a.png\n:name: fig-a\n:alt: A line.\n\nIt rises.\n```"
    assert first.data == {"text/markdown": figure}
    assert ":name:" not in second.data["text/markdown"] and kept == text
    assert last.data == {"text/markdown": "![Alone](../figures/a.png)"}


def test_links_of_notebooks_hold_wherever_the_reports_lie(tmp_path):
    """The runner writes them for the place of the executed notebook."""
    own = ROOT / "build/own/reports"
    sources = site.Sources(pages.Study(ROOT, own, stages()), tmp_path)
    page, start = "reports/notebooks/01_dataset_splits.ipynb", own / "notebooks"
    for link, wanted in (
        ("../../../../docs/glossary.md#query", "../../docs/glossary.md#query"),
        ("../figures", "../../figures.md"),
        ("02_poses_viewpoints_conditions.ipynb", "02_poses_viewpoints_conditions.ipynb"),
    ):
        assert sources.linked(f"[x]({link})", page, start) == f"[x]({wanted})", link


def test_a_book_about_other_data_shows_the_mini_world_s_own_pictures_where_it_speaks_of_them(
    tmp_path,
):
    """Of a run without the mini world's figures: what pages link to is there, and is git's."""
    own = tmp_path / "own"
    (own / "figures/03").mkdir(parents=True)
    (own / "tables").mkdir()
    (own / "figures/03/unseen_people.jpg").write_bytes(b"somebody's photos")
    for name in ("claims.md", "costs.csv"):
        shutil.copy(ROOT / "reports" / name, own)
    sources = site.Sources(pages.Study(ROOT, own, stages()), tmp_path / "sources")
    sources.gather()
    texts = {path: path.read_text() for path in sources.folder.rglob("*.md")}
    linked = [
        (path, urllib.parse.unquote(target.partition("#")[0]))
        for path, text in texts.items()
        for target in site.LINK.findall(text)
    ]
    lost = [
        (path.name, target)
        for path, target in linked
        if target and not (path.parent / target).exists()
    ]
    assert lost == []
    first = texts[sources.folder / "index.md"]
    picture = site.COMMITTED + "/reports/figures/03/unseen_people.jpg"
    assert f"]({picture})" in first
    mine = ROOT / "reports/figures/03/unseen_people.jpg"
    assert (sources.folder / picture).read_bytes() == mine.read_bytes()
    assert "(../mini_world/reports/" in texts[sources.folder / "docs/results.md"]


def test_links_lead_to_what_stands_for_a_file_in_the_book(tmp_path):
    sources = site.Sources(pages.Study(ROOT, ROOT / "reports", stages()), tmp_path)
    for page, link, wanted in (
        (
            "index.md",
            "notebooks/01_dataset_splits.ipynb",
            "reports/notebooks/01_dataset_splits.ipynb",
        ),
        ("docs/your_data.md", "../README.md#your-own-data", "../index.md#your-own-data"),
        ("docs/your_data.md", "../reports/figures", "../figures.md"),
        ("docs/mini_world.md", "../miniworld/pretrain", "../miniworld/pretrain/README.md"),
        ("docs/your_data.md", "../params/paper.yaml", "../params/paper.yaml"),
    ):
        assert sources.linked(f"see [x]({link}).", page) == f"see [x]({wanted})."
    assert (tmp_path / "params/paper.yaml").is_file()  # a file that a page links to comes along
    assert sources.linked("[a](#b) [c](https://d.org/e)", "x.md") == "[a](#b) [c](https://d.org/e)"
    assert sources.linked("![a\nb](c.png)\nd", "x.md") == "![a b](c.png)\nd"
