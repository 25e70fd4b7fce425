"""Captions of the notebooks, and exercises that are done in the page."""

import re

import nbformat
import numpy as np
import pytest
import torch
import yaml
from pipeline import ROOT, notebooks, stages

from posedive_lib.bench import pipeline, texts
from posedive_lib.bench.code import notebook_code
from posedive_lib.bench.exercises import check
from posedive_lib.errors import StudyError

FILES = sorted((ROOT / "notebooks/texts").glob("*.yaml"))
every_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def test_words_are_filled_in_and_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(texts, "FOLDER", tmp_path)
    (tmp_path / "00.yaml").write_text("loss: {caption: 'After {steps} steps.', alt: A line.}\n")
    say = texts.of("00")
    assert say("loss", steps=5) == {"caption": "After 5 steps.", "alt": "A line."}
    with pytest.raises(StudyError, match="loss needs a value for 'steps'"):
        say("loss")
    with pytest.raises(StudyError, match="has no entry gain"):
        say("gain")
    with pytest.raises(StudyError, match="01.yaml: run from the repository root"):
        texts.of("01")


@every_file
def test_every_text_is_used_by_its_notebook_which_depends_on_the_file(file):
    (notebook,) = [path for path in notebooks() if path.stem.startswith(f"{file.stem}_")]
    code, entries = notebook_code(notebook), yaml.safe_load(file.read_text())
    assert [name for name in entries if f'"{name}"' not in code] == []
    for name, entry in entries.items():
        assert entry["caption"].strip() and set(entry) <= {"caption", "alt"}, name
        assert len(entry.get("alt", "a text of ten letters")) >= 10, name
        if "alt" not in entry:  # of a table, which is HTML
            assert not re.search(r"[`*]", entry["caption"]), f"{name}: write <code> and <b>"
    if notebook.stem in stages():
        deps = pipeline.paths(stages()[notebook.stem]["deps"])
        assert f"notebooks/texts/{file.name}" in deps


def test_an_open_exercise_is_to_do_a_right_one_is_right_and_a_wrong_one_stops(capsys):
    cases = [((2.0,), 4.0), ((torch.ones(3),), np.ones(3))]

    def square(x): ...

    check(square, cases)
    assert capsys.readouterr().out.startswith("To do: fill in `square`")

    def square(x):
        return x * x

    check(square, cases)
    assert "Right: `square` agrees in 2 of 2 cases." in capsys.readouterr().out
    with pytest.raises(AssertionError, match="case 1: the greatest difference is 2"):
        check(lambda x: x + 4, cases)
    with pytest.raises(AssertionError, match=r"case 1: the shape is \(1,\)"):
        check(lambda x: torch.tensor([4.0]), cases)


def test_an_exercise_without_cases_is_not_called_right(capsys):
    check(abs, [])
    assert "Nothing to try `abs` on" in capsys.readouterr().out


def test_every_work_that_a_notebook_links_to_is_in_the_list_of_references():
    known = (ROOT / "docs/references.bib").read_text()
    for path in notebooks():
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        for part in text.split("](https://")[1:]:
            link = "https://" + part.split(")")[0]
            assert link in known, f"{path.name}: {link} is not in docs/references.bib"


GLOSSARY = (ROOT / "docs/glossary.md").read_text()

# Words of the glossary's headings whose first use need not be a link:
NOT_ASKED_FOR = {
    "arm",  # also a part of the body
    "p",  # a letter; pages speak of corrected p in several ways
    "corrected p",
    "query",  # attention has queries as well
    # Arms of the comparison. Pages write them as code, and in prose these are words of every day.
    "oracle",
    "oracle-same",
    "pose-dive",
    "repeat",
    "same-distribution",
    "uniform",
}


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


HEADINGS = re.findall(r"^## (.+)$", GLOSSARY, re.MULTILINE)
TERMS = {  # "CMC and rank-1" are two terms with one anchor
    term: anchor(heading)
    for heading in HEADINGS
    for term in re.split(", | and ", heading)
    if term not in NOT_ASKED_FOR
}
BY_LENGTH = sorted(TERMS, key=len, reverse=True)  # "Wilson interval" is no "interval"


def pattern(term: str) -> str:
    """The term or its plural; spaces may be line breaks. Only names keep to their capitals."""
    stem, end = (term[:-1], "(?:y|ies)") if term.endswith("y") else (term, "(?:s|es)?")
    words = re.escape(stem).replace(r"\ ", r"\s+") + end
    return words if term != term.lower() else f"(?i:{words})"


FIND = re.compile(rf"(?<![\w-])(?:{'|'.join(f'({pattern(term)})' for term in BY_LENGTH)})(?![\w-])")
LINK = re.compile(r"\[[^\]]*\]\(([^)]*)\)")


def first_uses_without_a_link(text: str) -> set[str]:
    """Anchors of the terms whose first use in Markdown is no link to the glossary.

    Code, formulas, headings, tables and links to other pages are no use. Nor is a link to a paper,
    unless a page has the term there only.
    """
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"^> ?", "", text, flags=re.MULTILINE)
    text = re.sub(r"^(?:#|\||    ).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`]*`|\$\$.*?\$\$|\$[^$]*\$", "", text, flags=re.DOTALL)
    targets = [(link.start(), link.end(), link[1]) for link in LINK.finditer(text)]
    linked, cited = {}, set()  # anchor -> whether its first use is a link
    for match in FIND.finditer(text):
        own = TERMS[BY_LENGTH[match.lastindex - 1]]
        to = [target for start, end, target in targets if start <= match.start() < end]
        if not to:
            linked.setdefault(own, False)
        elif to[0].endswith(f"glossary.md#{own}"):
            linked.setdefault(own, True)
        elif to[0].startswith("http"):
            cited.add(own)
    return {own for own, is_link in linked.items() if not is_link} | cited - linked.keys()


@pytest.mark.parametrize(
    "text, missing",
    [
        ("A mini\n> world of [key points](../docs/glossary.md#key-point).", {"mini-world"}),
        ("[Key\npoints](glossary.md#key-point), then key points.", set()),
        ("Key points, then [key points](glossary.md#key-point).", {"key-point"}),
        ("## Key points\n\n| key point |\n\n`SMPL` $SMPL$\n\n    SMPL\n\nsmpl", set()),
        ("[DDIM](https://arxiv.org/abs/2010.02502) is fast.", {"ddim"}),
        ("A [Wilson interval](glossary.md#wilson-interval) of identities.", {"identity"}),
        ("[CMC](glossary.md#cmc-and-rank-1) and rank-1; min-SNR and CLIP-ReIDs.", {"clip-reid"}),
        ("See [02 · Conditions](02_conditions.ipynb), an arm and a uniform.", set()),
    ],
)
def test_a_first_use_without_a_link_is_found(text, missing):
    assert first_uses_without_a_link(text) == missing


@pytest.mark.parametrize(
    "path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_the_first_use_of_a_term_of_the_glossary_is_a_link(path):
    cells = nbformat.read(path, as_version=4).cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert {*re.findall(r"glossary\.md#([\w-]+)", text)} <= {*map(anchor, HEADINGS)}
    assert first_uses_without_a_link(text) == set()
