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


def test_every_work_that_a_notebook_links_to_is_in_the_list_of_references():
    known = (ROOT / "docs/references.bib").read_text()
    for path in notebooks():
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        for part in text.split("](https://")[1:]:
            link = "https://" + part.split(")")[0]
            assert link in known, f"{path.name}: {link} is not in docs/references.bib"


def test_terms_of_the_glossary_are_linked_where_a_notebook_uses_them():
    """At least once; words of everyday use, such as "arm", are not asked for."""
    headings = re.findall(r"^## (.+)$", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", name.lower()).replace(" ", "-") for name in headings}
    named = [name for name in headings if re.fullmatch(r"[\w-]*[A-Z][\w-]*", name)]
    assert {"SMPL", "DDIM", "CLIP-ReID", "PSNR"} <= set(named)
    for path in notebooks():
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        linked = set(re.findall(r"glossary\.md#([\w-]+)", text))
        assert linked <= anchors, path.name
        prose = re.sub(r"`[^`]*`|\[[^\]]*\]\([^)]*\)|^#.*$|\$[^$]*\$", "", text, flags=re.MULTILINE)
        for name in named:
            if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", prose):
                assert name.lower() in linked, f"{path.name}: {name}"
