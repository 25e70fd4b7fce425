"""The static site in a real browser: no errors, no broken link, readable on a phone."""

import re
import shutil
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from browser import Browser
from pipeline import ROOT, stages

from posedive_lib.bench import pipeline, site
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
  return text.getBoundingClientRect().height > 3 * lines; }).map(e => e.textContent.slice(0, 40))"""
BAD_IMAGES = """[...document.images].filter(i => !i.naturalWidth || i.alt.trim().length < 10)
  .map(i => i.src.slice(0, 100) + ' alt=' + i.alt)"""


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    return site.build(ROOT, tmp_path_factory.mktemp("site")).parent


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


def test_every_page_loads_cleanly_and_is_readable_on_a_phone(built, tab):
    pages = sorted(built.rglob("*.html"))
    assert {"index.html", "figures.html", "stages.html", "05_reid_comparison.html"} <= {
        page.name for page in pages
    }
    for page in pages:
        tab.width(390)
        assert tab.open(page) == [], page.name
        assert tab.evaluate(BAD_IMAGES) == [], page.name
        assert (
            tab.evaluate("document.documentElement.scrollWidth") <= 390
            and tab.evaluate(STICKING_OUT) == []
        ), page.name
        assert tab.evaluate(BROKEN_CELLS) == [], page.name
        assert (
            tab.evaluate("parseFloat(getComputedStyle(document.querySelector('main p')).fontSize)")
            >= 14
        )
        assert (
            tab.evaluate(
                "document.title.length > 3 && document.documentElement.lang == 'en' "
                "&& document.querySelectorAll('h1').length"
            )
            == 1
        ), page.name


def test_no_link_is_broken(built):
    read = {page: Links(page.read_text()) for page in built.rglob("*.html")}
    for page, links in read.items():
        for target in links.targets:
            if target.startswith(("data:", "https://")):
                continue
            path, _, anchor = target.partition("#")
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


def test_every_figure_links_to_its_notebook_data_and_stage(built):
    text = (built / "figures.html").read_text()
    made = re.findall(r"<figure>.*?</figure>", text, flags=re.DOTALL)
    assert len(made) == len(list((ROOT / "reports/figures").rglob("*.md")))
    for figure in made:
        picture = re.search(r'<img src="figures/(\d\d)/(.+?)\.(?:png|jpg)"', figure)
        (stage,) = re.findall(r'href="stages.html#(.+?)"', figure)
        assert stage.startswith(picture[1]) and f'href="notebooks/{stage}.html"' in figure
        has_data = (ROOT / f"reports/figures/{picture[1]}/{picture[2]}.csv").exists()
        assert (f'href="figures/{picture[1]}/{picture[2]}.csv"' in figure) == has_data


def test_the_index_shows_every_claim_and_every_stage(built):
    text = (built / "index.html").read_text()
    claims = pd.read_csv(ROOT / "reports/tables/claims.csv")
    assert text.count('<td class="text">§') + text.count('<td class="text">main paper') == len(
        claims
    )
    assert all(f'href="stages.html#{name}"' in text for name in stages())


def test_the_picture_has_the_pipelines_order():
    stages_ = {
        "a": {"outs": ["x"]},
        "b": {"deps": ["x"], "outs": [{"y": {}}]},
        "c": {"deps": ["x", "y"]},
    }
    links = pipeline.edges(stages_)
    assert links == [("a", "b"), ("a", "c"), ("b", "c")]
    assert pipeline.maker(stages_, "y/of/b.csv") == "b" and pipeline.maker(stages_, "yy") is None
    assert pipeline.direct(links) == [("a", "b"), ("b", "c")] and pipeline.levels(
        stages_, links
    ) == {"a": 0, "b": 1, "c": 2}


@pytest.mark.parametrize(
    "gone, message",
    [
        ("tables/claims.csv", "claims.csv, which does not exist; `dvc repro`"),
        ("notebooks/05_reid_comparison.html", "lacks the pages of 05_reid_comparison"),
        ("figures/05/gain.png", "names no picture beside it"),
    ],
)
def test_what_is_missing_is_named_and_an_earlier_site_stays(tmp_path, gone, message):
    shutil.copytree(ROOT / "reports", tmp_path / "reports")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy2(ROOT / name, tmp_path)
    (tmp_path / "reports" / gone).unlink()
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("old")
    with pytest.raises(StudyError, match=message):
        site.build(tmp_path, tmp_path / "site")
    assert (tmp_path / "site/index.html").read_text() == "old"


def test_a_cell_breaks_after_semicolons_outside_of_brackets_and_nowhere_else():
    page = site.table(pd.DataFrame({"said": ["'one' & two; three (four; five)"]}), "")
    assert "&#x27;one&#x27; &amp; two;<br>three (four; five)" in page
