"""Captions and alternative texts of a notebook's figures and tables, apart from its cells.

`notebooks/texts/NN.yaml` has an entry per figure or table: `caption`, and for a figure `alt`.
Words in {braces} are filled in by the cell::

    say = texts.of("03")
    figures.save(fig, "03/loss", data=losses, **say("loss"))
    tables.save(sizes, "generator_size", **say("generator_size", steps=P.generator.steps))
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from posedive_lib.errors import StudyError

FOLDER = Path("notebooks/texts")


@dataclass(frozen=True)
class Texts:
    """The entries of one file, by name."""

    file: Path
    entries: dict[str, dict[str, str]]

    def __call__(self, name: str, **words: Any) -> dict[str, str]:
        """Arguments `caption` and `alt` of `figures.save`; StudyError where one is missing."""
        if name not in self.entries:
            raise StudyError(f"{self.file} has no entry {name}: write its caption there.")
        try:
            return {key: text.format(**words) for key, text in self.entries[name].items()}
        except KeyError as missing:
            raise StudyError(f"{self.file}: {name} needs a value for {missing}.") from None


def of(notebook: str) -> Texts:
    """The texts of a notebook by its number; StudyError where there is no such file."""
    file = FOLDER / f"{notebook}.yaml"
    if not file.is_file():
        raise StudyError(f"There is no {file}: run from the repository root.")
    return Texts(file, yaml.safe_load(file.read_text(encoding="utf-8")))
