"""The rules that judge claims, by the names that `claims.yaml` knows them by."""

from __future__ import annotations

from collections.abc import Callable

from posedive_lib.study.verdicts import Finding

RULES: dict[str, Callable[..., Finding]] = {}


def rule(function: Callable[..., Finding]) -> Callable[..., Finding]:
    """Makes a function known to `claims.yaml` by its name."""
    RULES[function.__name__] = function
    return function
