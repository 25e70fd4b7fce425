"""Choices that the paper leaves open, or departs from: what it says, what the study does, why.

They are listed in `choices.yaml`. Values are read from the parameters, so that the table cannot
differ from them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import yaml

from posedive_lib.errors import StudyError

if TYPE_CHECKING:
    from posedive_lib.params import Params


@dataclass(frozen=True)
class Choice:
    """A choice. Ours is what the `parameters` (dotted names) hold; without any, `ours` says it."""

    choice: str
    paper: str
    why: str
    parameters: tuple[str, ...] = ()
    ours: str = ""


def _listed() -> tuple[Choice, ...]:
    text = Path(__file__).with_name("choices.yaml").read_text(encoding="utf-8")
    return tuple(Choice(**entry) for entry in yaml.safe_load(text))


CHOICES = _listed()


def choices(P: Params) -> pd.DataFrame:
    """Columns choice, paper says, ours, parameters, why."""
    rows = [
        {
            "choice": c.choice,
            "paper says": c.paper,
            "ours": c.ours or ", ".join(_value(P, name) for name in c.parameters),
            "parameters": " ".join(c.parameters) or "–",
            "why": c.why,
        }
        for c in CHOICES
    ]
    return pd.DataFrame(rows)


def _value(P: Params, name: str) -> str:
    """A parameter's own name and its value."""
    try:
        value = P.pick(name)[name]
    except KeyError:
        raise StudyError(
            f"The table of choices names the parameter {name}, which does not exist."
        ) from None
    text = value if isinstance(value, str) else json.dumps(value).replace('"', "")
    return f"{name.rsplit('.', 1)[-1]} {text}"
