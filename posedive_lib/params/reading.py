"""Read params.yaml; each mistake in it becomes one sentence that says how to mend it."""

import difflib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from posedive_lib.errors import StudyError
from posedive_lib.intake.settings import read_yaml
from posedive_lib.params.ablation import Ablation
from posedive_lib.params.experiments import Params, value_at
from posedive_lib.params.replication import Replication

# What pydantic says -> what our sentences say, in this order.
WORDING = (
    ("should", "must"),
    (" after validation", ""),
    ("dictionary or instance of", "section"),
)


def load(path: str | Path = "params.yaml", *, overrides: dict[str, Any] | None = None) -> Params:
    """Parameters of the YAML file `path`, after `overrides` (dotted key → value).

    Raises `StudyError` naming the file, the dotted key, the value and what is allowed instead.
    """
    values = read_yaml(path, "copy params/mini.yaml there to start again")
    for key, value in (overrides or {}).items():
        section, _, name = key.rpartition(".")
        try:
            value_at(values, section)[name] = value
        except (KeyError, TypeError):
            raise StudyError(
                f"{path} has no section {section}, of which {name} is set: params/mini.yaml has "
                "every parameter."
            ) from None
    return _validated(path, Params, values)


def load_replication(path: str | Path) -> Replication:
    """Parameters of `make replication`; raises `StudyError` as `load` does."""
    return _validated(path, Replication, read_yaml(path, "it comes with the repository"))


def load_ablation(path: str | Path) -> Ablation:
    """Parameters of `make ablation`; raises `StudyError` as `load` does."""
    return _validated(path, Ablation, read_yaml(path, "it comes with the repository"))


Validated = TypeVar("Validated", bound=BaseModel)


def _validated(path: str | Path, model: type[Validated], values: dict[str, Any]) -> Validated:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise StudyError(_sentence(path, error.errors(include_url=False), model)) from None


def _sentence(path: str | Path, problems: list[ErrorDetails], model: type[BaseModel]) -> str:
    """One sentence for the first problem, and how many more there are."""
    for problem in problems:
        if problem["type"] == "extra_forbidden":
            # A misspelt key goes first: other keys are often missing because of it.
            key = _dotted(problem)
            return f"{path}: {key} is not a parameter; did you mean {_nearest(key, model)}?"
    more = f" ({len(problems) - 1} more after this one)" if len(problems) > 1 else ""
    return f"{path}: {_mistake(problems[0])}{more}."


def _dotted(problem: ErrorDetails) -> str:
    return ".".join(map(str, problem["loc"]))


def _mistake(problem: ErrorDetails) -> str:
    """What is wrong with a value and what is allowed, without the full stop."""
    key, value, kind = _dotted(problem), problem["input"], problem["type"]
    if kind == "missing":
        return f"{key} is missing; params/mini.yaml shows every parameter"
    if isinstance(value, str) and kind in {"float_type", "int_type"} and _is_number(value):
        return f"{key} is the text {value!r}, not a number; write {_yaml_number(value)}"
    allowed = problem["msg"]
    for start in ("Value error, ", "Value ", "Input ", "List ", "String "):
        allowed = allowed.removeprefix(start)
    for theirs, ours in WORDING:
        allowed = allowed.replace(theirs, ours)
    if isinstance(value, dict):  # a section whose values contradict each other
        return f"{key or 'the file'} {allowed}"
    return f"{key} is {value!r}, but it {allowed}"


def _known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every dotted key, sections included."""
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += _known_keys(field.annotation, f"{prefix}{name}.")
    return keys


def _nearest(key: str, model: type[BaseModel]) -> str:
    """The known key that was probably meant."""
    known = _known_keys(model)
    section, _, last = key.rpartition(".")
    same_name = [name for name in known if name.rpartition(".")[2] == last]
    if same_name:  # the right name in a wrong section
        return same_name[0]
    siblings = [name for name in known if name.rpartition(".")[0] == section]
    near = difflib.get_close_matches(key, siblings, 1, 0.6)
    return (near or difflib.get_close_matches(key, known, 1, 0.0))[0]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _yaml_number(text: str) -> str:
    """The same number as YAML reads it: 1e-5 → 1.0e-5."""
    mantissa, _, exponent = text.lower().partition("e")
    if not exponent:
        return text
    if "." not in mantissa:
        mantissa += ".0"
    sign = "" if exponent[0] in "+-" else "+"
    return f"{mantissa}e{sign}{exponent}"
