"""For which images a generator was trained: their size, and how their conditions are drawn.

The file lies in the generator's folder, and goes with it. A generator without one is not checked.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posedive_lib.errors import StudyError
from posedive_lib.intake.files import read_json
from posedive_lib.writing import replacing

if TYPE_CHECKING:
    from posedive_lib.params import Params

FILE = "made_for.json"


def write(P: Params, generator: Path) -> None:
    """Note the sections `image` and `conditions` in a generator's folder."""
    if not (generator / FILE).is_file():
        with replacing(generator / FILE) as draft:
            draft.write_text(json.dumps(_sections(P), indent=1) + "\n", encoding="utf-8")


def require(P: Params, generator: Path) -> None:
    """StudyError where the parameters ask a generator for other images."""
    if not (generator / FILE).is_file():
        return
    known, asked = read_json(generator / FILE), _sections(P)
    for section, values in asked.items():
        for name, value in values.items():
            before = known.get(section, {}).get(name, value)
            if before != value:
                raise StudyError(
                    f"The generator in {generator} was trained with {section}.{name} {before}, "
                    f"and the parameters say {value}: give the --params of its training."
                )


def _sections(P: Params) -> dict[str, Any]:
    return {"image": P.image.model_dump(), "conditions": P.conditions.model_dump()}
