"""Commands in README.md and docs/your_data.md exist, and their parsers know what is given."""

import argparse
import importlib
import re
import shlex

import pytest
from pipeline import ROOT

PAGES = ("README.md", "docs/your_data.md")
COMMAND = re.compile(
    r"(?:python|(?:accelerate launch|torchrun)(?: --\w+ \d+)*) -m (posedive_lib[\w.]*)([^`\n]*)"
)


def commands() -> list[tuple[str, str, str]]:
    """(page, module, arguments) of every command."""
    return [
        (page, *match.groups())
        for page in PAGES
        for match in COMMAND.finditer((ROOT / page).read_text(encoding="utf-8"))
    ]


class Parsed(Exception):
    """A parser has taken the arguments."""


def parse(module: str, arguments: list[str], monkeypatch) -> None:
    """Give arguments to the module's own parser, and stop there. SystemExit: it refuses them."""
    original = argparse.ArgumentParser.parse_args

    def stop(self, *given, **options):
        original(self, *given, **options)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    name = module if not (ROOT / module.replace(".", "/")).is_dir() else f"{module}.__main__"
    with pytest.raises(Parsed):
        importlib.import_module(name).main(arguments)


@pytest.mark.parametrize("page, module, arguments", commands())
def test_a_command_exists_and_knows_its_options(page, module, arguments, monkeypatch, capsys):
    given = shlex.split(arguments, comments=True)
    if given:
        parse(module, given, monkeypatch)
    else:  # named in a sentence
        assert importlib.util.find_spec(module) is not None


def test_the_test_finds_what_is_wrong(monkeypatch, capsys):
    found = {module for _, module, _ in commands()}
    steps = ("datasets.preflight", "own_data.fit", "own_data.hmr2", "own_data.train", "augment")
    assert {f"posedive_lib.{step}" for step in steps} <= found
    with pytest.raises(SystemExit):
        parse("posedive_lib.own_data.train", ["folder", "PHOTOS", "--to", "RUN"], monkeypatch)
    with pytest.raises(ModuleNotFoundError):
        parse("posedive_lib.own_data.teach", [], monkeypatch)


@pytest.mark.parametrize("page", PAGES)
def test_targets_of_make_links_and_parameters_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {*re.findall(r"(?:^    |`)make ([\w-]+)", text, re.MULTILINE)} <= {*targets}
    folder = (ROOT / page).parent
    for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
        assert link.startswith("http") or (folder / link).exists(), link
    headings = {
        re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-")
        for line in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    assert {*re.findall(r"\]\(#([^)]+)\)", text)} <= headings


def test_the_guide_says_what_does_not_work_in_the_words_of_the_readme():
    said = re.compile(r"\*\*What does not work yet\.\*\*.*?(?=\n\n)", re.DOTALL)
    readme, guide = ((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    assert said.search(readme)[0] == said.search(guide)[0]


def test_the_guide_s_counts_are_those_of_the_planner():
    from posedive_lib.bench.sizes import PUBLISHED

    guide = (ROOT / "docs/your_data.md").read_text(encoding="utf-8").replace(",", "")
    for counts in PUBLISHED.values():
        assert " | ".join(map(str, counts)) in guide
