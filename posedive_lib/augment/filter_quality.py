"""Does the filter work (§E)? Its rules and alternatives as decisions about what is truly good.

A *score* is one number per candidate; more is better. *good* says which candidates deserve to be
kept: by their pose, by who is shown, or by both (`posedive_lib.augment.measures`). `truths` names
such decisions. Alternatives to the rules are any other scores. Everything is a tidy table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from posedive_lib.augment import filtering
from posedive_lib.augment.selection import judge
from posedive_lib.errors import StudyError

if TYPE_CHECKING:
    from posedive_lib.params import Augment

COLUMNS = [
    "score",
    "truth",
    "threshold",
    "kept",
    "lost_percent",
    "precision",
    "recall",
    "false_positive_rate",
]
RULE_COLUMNS = [
    "rule",
    "truth",
    "kept",
    "lost_percent",
    "precision",
    "recall",
    "rejected_bad_percent",
]


def rule_scores(manifest: pd.DataFrame, limits: Augment) -> pd.DataFrame:
    """Scores of the filter's rules (filtering.RULES) for each row; `difference` is 1 − Eq. 5."""
    judged = judge(manifest, limits)
    scores = {
        "reference": judged["reference_min"],
        "target": judged["tar_mean"],
        "difference": 1 - judged["difference"],
        "confidence": judged["gen_mean"],
    }
    return pd.DataFrame(scores).astype(float).reset_index(drop=True)


def both(*scores: ArrayLike) -> np.ndarray:
    """Scores (N,) joined without units: the worst of their ranks, as a share of N."""
    return np.min([rankdata(score) / max(np.size(score), 1) for score in scores], axis=0)


def auc(score: ArrayLike, good: ArrayLike) -> float:
    """Area under the ROC curve of a score (N,), ties counted half; NaN if all are good or none."""
    score, good = _checked(score, good)
    return float(roc_auc_score(good, score)) if good.any() and not good.all() else float("nan")


def _checked(score: ArrayLike, good: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    score, good = np.asarray(score, float), np.asarray(good)
    if score.shape != good.shape or score.ndim != 1 or good.dtype != bool:
        raise StudyError(
            "The filter is judged by one score and one true or false per image, "
            f"and got {score.shape} and {good.dtype} {good.shape}."
        )
    if np.isnan(score).any():
        raise StudyError(
            f"{int(np.isnan(score).sum())} scores are NaN, "
            f"the first of image {int(np.isnan(score).argmax())}: leave those images out."
        )
    return score, good


def _ratio(part: ArrayLike, whole: ArrayLike) -> np.ndarray:
    """part / whole; NaN where the whole is 0."""
    return np.where(np.asarray(whole) > 0, part / np.maximum(whole, 1), np.nan)


def curve(score: ArrayLike, good: ArrayLike, thresholds: ArrayLike | None = None) -> pd.DataFrame:
    """Keeping score ≥ threshold, for each threshold, in ascending order.

    thresholds: None means every value that occurs, and one that keeps nothing. Columns: threshold,
    kept (images), lost_percent, precision (share of the kept that are good; NaN where nothing is
    kept), recall (share of the good that are kept) and false_positive_rate (share of the bad that
    are kept). Recall over false_positive_rate is the ROC curve.
    """
    score, good = _checked(score, good)
    if thresholds is None:
        thresholds = np.append(np.unique(score), np.inf)
    limits = np.asarray(thresholds, float)

    def kept_of(values: np.ndarray) -> np.ndarray:
        return len(values) - np.searchsorted(np.sort(values), limits, side="left")

    # Both (thresholds,): what is kept of the good, and of the bad.
    hits, false = kept_of(score[good]), kept_of(score[~good])
    kept = hits + false
    return pd.DataFrame(
        {
            "threshold": limits,
            "kept": kept,
            "lost_percent": 100 * _ratio(len(score) - kept, np.full(len(kept), len(score))),
            "precision": _ratio(hits, kept),
            "recall": _ratio(hits, np.full(len(kept), good.sum())),
            "false_positive_rate": _ratio(false, np.full(len(kept), (~good).sum())),
        }
    )


def areas(scores: pd.DataFrame, truths: dict[str, np.ndarray]) -> pd.DataFrame:
    """`auc` of every score against every truth: score, truth, images, good_percent, auc."""
    rows = []
    for name in scores.columns:
        for truth, good in truths.items():
            percent = 100 * np.mean(good) if len(good) else np.nan
            rows.append((name, truth, len(good), percent, auc(scores[name], good)))
    return pd.DataFrame(rows, columns=["score", "truth", "images", "good_percent", "auc"])


def rules_at(
    manifest: pd.DataFrame, limits: Augment, truths: dict[str, np.ndarray]
) -> pd.DataFrame:
    """Each rule alone and all together at the limits, as decisions about the truths.

    rule, truth, kept, lost_percent, precision, recall, and rejected_bad_percent: the share of what
    it rejects that was bad.
    """
    scores = rule_scores(manifest, limits)
    limit = {
        "reference": limits.tau_ref,
        "target": limits.tau_tar,
        "difference": 1 - limits.epsilon_gen,
        "confidence": limits.tau_gen,
    }
    # Scores are rounded, and 1 − Eq. 5 has an error of its own: at the limit an image passes.
    keeps = {rule: (scores[rule] >= limit[rule] - 1e-9).to_numpy() for rule in filtering.RULES}
    keeps["all"] = judge(manifest, limits)["kept"].to_numpy(bool)
    rows = []
    for rule, kept in keeps.items():
        lost = 100 * (1 - kept.mean()) if len(kept) else np.nan
        for truth, good in truths.items():
            hits = (kept & good).sum()
            bad = 100 * _share((~kept & ~good).sum(), (~kept).sum())
            shares = _share(hits, kept.sum()), _share(hits, good.sum())
            rows.append((rule, truth, int(kept.sum()), lost, *shares, bad))
    return pd.DataFrame(rows, columns=RULE_COLUMNS)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else np.nan


def at_equal_loss(
    scores: pd.DataFrame, truths: dict[str, np.ndarray], lost_percent: float
) -> pd.DataFrame:
    """`curve` at one threshold, where each score loses the same share of images: COLUMNS.

    That is the fair comparison of filters.
    """
    rows = []
    for name in scores.columns:
        threshold = scores[name].min()
        if lost_percent > 0:
            threshold = np.quantile(scores[name], lost_percent / 100, method="higher")
        for truth, good in truths.items():
            rows.append(curve(scores[name], good, [threshold]).assign(score=name, truth=truth))
    return pd.concat(rows, ignore_index=True)[COLUMNS]
