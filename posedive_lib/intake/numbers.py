"""Numbers in the settings of models from outside."""

from pathlib import Path
from typing import Any

import numpy as np

from posedive_lib.errors import StudyError


def require_numbers(
    path: str | Path, name: str, value: Any, count: int | None = None, *, positive: bool = False
) -> None:
    """StudyError unless setting `name` of file `path` is a number, or a list of `count` numbers.

    Numbers are finite in float32, in which the models compute. positive: also above 0.
    """
    if not _are_numbers([value] if count is None else value, count or 1, positive):
        kind = "a finite number" if count is None else f"{count} finite numbers"
        above = " above 0" if positive else ""
        raise StudyError(
            f"{path}: {name} is {str(value)[:100]!r}, expected {kind}{above}: fetch the file again."
        )


def _are_numbers(values: Any, count: int, positive: bool) -> bool:
    if not isinstance(values, list | tuple) or len(values) != count:
        return False
    # True is an int, too.
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        return False
    try:
        with np.errstate(over="ignore"):
            array = np.array(values, float).astype(np.float32)
    except OverflowError:  # an int of hundreds of digits
        return False
    return bool(np.isfinite(array).all() and (not positive or (array > 0).all()))


def channel_statistics(
    path: str | Path, settings: dict[str, Any], usual: dict[str, Any]
) -> tuple[list[float], list[float]]:
    """(mean, deviation) of three colours in a preprocessor's settings, of values in [0, 1].

    path: the settings' file. usual: `image_mean` and `image_std` where the settings have none.
    StudyError unless they are three finite numbers each, and deviations above 0.
    """
    found = {name: settings.get(name) or given for name, given in usual.items()}
    for name, value in found.items():
        require_numbers(path, name, value, 3, positive=name == "image_std")
    return list(found["image_mean"]), list(found["image_std"])
