"""Exercises in a page: the reader fills in a function, and `check` says whether it is right."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np


def check(
    answer: Callable[..., Any], cases: Iterable[tuple[tuple, Any]], atol: float = 1e-5
) -> None:
    """Try a function on cases (arguments, wanted) and print what came of it.

    A function that still returns None or ... is only named as to do, so that a page runs with its
    exercises open. AssertionError, with the case, where a number is further than `atol` from the
    wanted one or has another shape. Numbers may be arrays or tensors.
    """
    count = 0
    for arguments, wanted in cases:
        given = answer(*arguments)
        if given is None or given is Ellipsis:
            print(f"To do: fill in `{answer.__name__}`, then run this cell again.")
            return
        count += 1
        right, own = _array(wanted), _array(given)
        shapes = f"case {count}: the shape is {own.shape}, it should be {right.shape}"
        assert own.shape == right.shape, shapes
        apart = np.max(np.abs(own - right), initial=0.0)
        assert apart <= atol, f"case {count}: the greatest difference is {apart:.3g}; got {own}"
    if not count:
        print(f"Nothing to try `{answer.__name__}` on: the tables of this run lack such rows.")
        return
    print(f"Right: `{answer.__name__}` agrees in {count} of {count} cases.")


def _array(value: Any) -> np.ndarray:
    """Numbers, booleans, arrays or tensors as floats."""
    detached = value.detach().cpu() if hasattr(value, "detach") else value
    return np.asarray(detached, dtype=float)
