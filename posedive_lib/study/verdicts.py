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
    "contradicted",
    "partly supported",
    "partly contradicted",
    "mixed",
    "not shown",
    "by construction",
    "not tested",
    "same sign",
    "opposite sign",
    "same here",
    "differs here",
    "partly same here",
    "partly differs here",
)
# A rendered set cannot contradict a number that is published for a real one, nor confirm it.
HERE = {
    "supported": "same here",
    "contradicted": "differs here",
    "partly supported": "partly same here",
    "partly contradicted": "partly differs here",
}


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
    """Verdict on a claim of a gain, from the verdict on its difference (`statistics.verdict`)."""
    return {"gain": "supported", "loss": "contradicted"}.get(words, "not shown")


def by_interval(low: float, high: float, limit: float = 0.0) -> str:
    """Verdict on a claim that a value is above a limit, from the value's interval."""
    return by_ends(low > limit, high < limit)


def by_ends(up: bool, down: bool) -> str:
    """Verdict on a claim for which `up` speaks, and against which `down` speaks."""
    if up:
        return "supported"
    return "contradicted" if down else "not shown"


def joined(verdicts: Iterable[str]) -> str:
    """Verdict on a claim of several parts: the same for either direction.

    One word for all parts is that of the claim. "mixed": some parts speak for it and some against.
    """
    found = set(verdicts)
    if len(found) == 1:
        return found.pop()
    up = bool(found & {"supported", "partly supported", "mixed"})
    down = bool(found & {"contradicted", "partly contradicted", "mixed"})
    if up and down:
        return "mixed"
    word = by_ends(up, down)
    return word if word == "not shown" else f"partly {word}"
