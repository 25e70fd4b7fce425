"""For which images a generator was trained: their size, and how their conditions are drawn.

The file lies in the generator's folder, and goes with it. A generator without one is not checked.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from posedive_lib.errors import StudyError
from posedive_lib.intake.files import read_json
from posedive_lib.writing import replacing

if TYPE_CHECKING:
    from posedive_lib.params import Params

FILE = "made_for.json"
SECTIONS = ("image", "conditions")


def write(P: Params, generator: Path) -> None:
    """Note SECTIONS of the parameters in a generator's folder."""
    if not (generator / FILE).is_file():
        with replacing(generator / FILE) as draft:
            draft.write_text(json.dumps(P.pick(*SECTIONS), indent=1) + "\n", encoding="utf-8")


def require(P: Params, generator: Path) -> None:
    """StudyError where the parameters ask a generator for other images."""
    if not (generator / FILE).is_file():
        return
    known, asked = read_json(generator / FILE), P.pick(*SECTIONS)
    for section, values in asked.items():
        for name, value in values.items():
            noted = known.get(section, {})
            if not isinstance(noted, dict):
                raise StudyError(f"{generator / FILE}: {section} is no table: fetch it again.")
            before = noted.get(name, value)
            if before != value:
                raise StudyError(
                    f"The generator in {generator} was trained with {section}.{name} {before!r}, "
                    f"and the parameters say {value!r}: give the --params of its training."
                )
