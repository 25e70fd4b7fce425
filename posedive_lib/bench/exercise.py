"""Exercises of the notebooks: the reader fills in a function, and the library's own checks it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from posedive_lib.errors import StudyError


def check(mine: Callable[..., Any], library: Callable[..., Any], *cases: tuple[Any, ...]) -> None:
    """Compare a reader's function with the library's on `cases`, each a tuple of arguments.

    Numbers, arrays or tuples of them may be returned. While the first case gives None, the function
    counts as not filled in, so that an untouched page runs to its end. AssertionError names the
    first case in which the two differ; StudyError where there is no case.
    """
    if not cases:
        raise StudyError(f"{mine.__name__} is checked on no case: give at least one.")
    for number, arguments in enumerate(cases, 1):
        got = mine(*arguments)
        if got is None and number == 1:
            print(f"{mine.__name__} is not filled in yet.")
            return
        wanted = library(*arguments)
        assert _same(got, wanted), (
            f"Case {number}: {mine.__name__} gives {got}, the library {wanted}."
        )
    print(f"{mine.__name__} is right: it agrees with the library in {len(cases)} cases.")


def _same(got: Any, wanted: Any) -> bool:
    """Whether two results are equal up to rounding; texts and kinds that do not fit are not."""
    if isinstance(wanted, tuple):
        fits = isinstance(got, tuple) and len(got) == len(wanted)
        return fits and all(map(_same, got, wanted))
    try:
        own, other = np.asarray(got, float), np.asarray(wanted, float)
    except (TypeError, ValueError):
        return False
    return own.shape == other.shape and bool(np.allclose(own, other, atol=1e-6, equal_nan=True))
