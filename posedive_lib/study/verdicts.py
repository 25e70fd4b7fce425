"""The words of the table of claims: differences, rates, and the verdicts on them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

Finding = tuple[str, str]  # what was measured, verdict
VERDICTS = (
    "supported",
    "not shown",
    "contradicted",
    "partly supported",
    "not tested",
    "same sign",
    "opposite sign",
)


def said(row: dict[str, Any] | pd.Series, unit: str = "mAP", digits: int = 2) -> str:
    """A difference with its interval and verdict, as the tables word it."""
    interval = "no interval"
    if not np.isnan(row["ci_low"]):
        interval = f"[{row['ci_low']:+.{digits}f}, {row['ci_high']:+.{digits}f}]"
    corrected = f", corrected p {row['p_joint']:.3f}" if "p_joint" in row else ""
    return (
        f"{row['difference']:+.{digits}f} {unit} {interval}, "
        f"{row['seeds']:.0f} seeds{corrected}: {row['verdict']}"
    )


def said_rate(row: pd.Series) -> str:
    """A count with its rate and interval."""
    if not row["of"]:
        return "none that can show it"
    interval = f"[{row['low']:.0%}, {row['high']:.0%}]"
    return f"{row['count']:.0f} of {row['of']:.0f} ({row['rate']:.0%} {interval})"


def by_verdict(words: str) -> str:
    """Verdict on a claim of a gain, from the verdict on its difference."""
    if words == "gain":
        return "supported"
    if words == "loss":
        return "contradicted"
    return "partly supported" if words.startswith("gain") else "not shown"


def by_interval(low: float, high: float) -> str:
    """Verdict on a claim of a gain, from the interval of its difference."""
    if low > 0:
        return "supported"
    return "contradicted" if high < 0 else "not shown"


def joined(verdicts: Iterable[str]) -> str:
    """Verdict on a claim that several comparisons have to support.

    It is contradicted where one contradicts and none supports.
    """
    found = set(verdicts)
    if len(found) == 1:
        return found.pop()
    if found & {"supported", "partly supported"}:
        return "partly supported"
    return "contradicted" if "contradicted" in found else "not shown"


def all_or_some(holds: pd.Series | list[bool]) -> str:
    """Verdict on a claim that has to hold in several places."""
    if all(holds):
        return "supported"
    return "partly supported" if any(holds) else "not shown"
