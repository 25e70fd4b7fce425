"""Does the filter work? Rules and alternatives against the truth, §E: ROC, precision and recall per threshold, and what is lost.

A *score* is one number per candidate, oriented so that more is better; *good* says which candidates deserve to be kept, by their pose
(key points estimated on the image against the wanted ones), by who is shown, or by both. The rules' own scores come from the manifest (`rule_scores`); alternatives are a Re-ID model's
similarity to the person's real images (`identity_similarity`) and the distance of estimated from wanted key points
(`keypoint_error`), alone or together (`both`). Everything is returned as tidy tables.
"""

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from posedive_lib.augment import filtering
from posedive_lib.augment.confidence import keypoint_subset
from posedive_lib.augment.selection import judge
from posedive_lib.body.table import BodyTable
from posedive_lib.errors import StudyError

HEAD = 1.12  # from nose to ankles is about 1 / 1.12 of the standing height
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


def keypoint_error(bodies: BodyTable, estimated: np.ndarray, keypoints: str = "body") -> np.ndarray:
    """(N,) mean distance of estimated (N, 17, 2) from wanted key points that are visible, in heights of the person; NaN where none is."""
    distance, seen = _relative(bodies, estimated, keypoints)
    count = seen.sum(axis=1)
    return np.where(count > 0, (distance * seen).sum(axis=1) / np.maximum(count, 1), np.nan)


def pck(
    bodies: BodyTable, estimated: np.ndarray, keypoints: str = "body", within: float = 0.1
) -> np.ndarray:
    """(N,) share of the visible wanted key points that the estimate finds within `within` heights of the person; 0 where none is visible."""
    distance, seen = _relative(bodies, estimated, keypoints)
    return ((distance <= within) & seen).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)


def _relative(
    bodies: BodyTable, estimated: np.ndarray, keypoints: str
) -> tuple[np.ndarray, np.ndarray]:
    subset = keypoint_subset(keypoints)
    height = np.ptp(bodies.keypoints[..., 1], axis=1) * HEAD
    distance = (
        np.linalg.norm(np.asarray(estimated, float) - bodies.keypoints, axis=-1)
        / np.maximum(height, 1e-9)[:, None]
    )
    return distance[:, subset], (bodies.visible == 2)[:, subset]


def identity_similarity(
    features: np.ndarray, pids: np.ndarray, real_features: np.ndarray, real_pids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cosine similarity (N,) to the mean feature of the own identity's real images, and whether no other identity's is nearer (N,) bool.

    features (N, D) of generated images of identities pids (N,); real_features (M, D) of real images of real_pids (M,).
    """
    known = np.unique(real_pids)
    unknown = np.setdiff1d(pids, known)
    if len(unknown):
        raise StudyError(
            f"Identity {unknown[0]} has generated images but no real one: give the real training images of every identity."
        )
    unit = lambda x: x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    real = unit(np.asarray(real_features, float))
    centres = unit(np.stack([real[np.asarray(real_pids) == pid].mean(axis=0) for pid in known]))
    similarity = unit(np.asarray(features, float)) @ centres.T
    own = similarity[np.arange(len(similarity)), np.searchsorted(known, pids)]
    return own, own >= similarity.max(axis=1, initial=-np.inf)


def named_by_the_others(
    features: np.ndarray, pids: np.ndarray, known: np.ndarray | None = None
) -> np.ndarray:
    """(N,) 1 where an image's features are nearest, by cosine, to the mean of the right person's `known` features in the other rows, else 0;
    NaN where the person has no other row.

    features, known (by default the features themselves): (N, D) of identities pids (N,), row by row of the same target, so that no image is
    compared with its own.
    """
    unit = lambda x: x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    each = unit(np.asarray(features, float))
    others = each if known is None else unit(np.asarray(known, float))
    people, place = np.unique(pids, return_inverse=True)
    sums = np.zeros((len(people), others.shape[1]))
    np.add.at(sums, place, others)
    similarity = each @ unit(sums).T
    similarity[np.arange(len(each)), place] = (each * unit(sums[place] - others)).sum(axis=1)
    return np.where(np.bincount(place)[place] > 1, similarity.argmax(axis=1) == place, np.nan)


def rule_scores(manifest: pd.DataFrame, limits) -> pd.DataFrame:
    """Scores of the filter's rules (filtering.RULES) for each row of a manifest, more is better: `difference` is 1 − Eq. 5."""
    judged = judge(manifest, limits)
    return (
        pd.DataFrame(
            {
                "reference": judged["reference_min"],
                "target": judged["tar_mean"],
                "difference": 1 - judged["difference"],
                "confidence": judged["gen_mean"],
            }
        )
        .astype(float)
        .reset_index(drop=True)
    )


def both(*scores: np.ndarray) -> np.ndarray:
    """Scores (N,) joined without units: the worst of their ranks, as a share of N."""
    return np.min([rankdata(score) / max(len(score), 1) for score in scores], axis=0)


def auc(score: np.ndarray, good: np.ndarray) -> float:
    """Area under the ROC curve of a score (N,), ties counted half; NaN where all are good or none is."""
    score, good = _checked(score, good)
    n1, n0 = good.sum(), (~good).sum()
    return (
        float((rankdata(score)[good].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))
        if n1 and n0
        else float("nan")
    )


def _checked(score, good) -> tuple[np.ndarray, np.ndarray]:
    score, good = np.asarray(score, float), np.asarray(good)
    if score.shape != good.shape or score.ndim != 1 or good.dtype != bool:
        raise StudyError(
            f"A verdict needs one score and one true or false per image, and got {score.shape} and {good.dtype} {good.shape}."
        )
    if np.isnan(score).any():
        raise StudyError(
            f"{int(np.isnan(score).sum())} scores are NaN, the first of image {int(np.isnan(score).argmax())}: leave those images out."
        )
    return score, good


def curve(
    score: np.ndarray, good: np.ndarray, thresholds: np.ndarray | None = None
) -> pd.DataFrame:
    """Keeping score ≥ threshold, for each threshold (None: every value that occurs, and one that keeps nothing), ascending.

    threshold, kept (images), lost_percent, precision (share of the kept that are good; NaN where nothing is kept), recall (share of the
    good that are kept) and false_positive_rate (share of the bad that are kept): recall over false_positive_rate is the ROC curve.
    """
    score, good = _checked(score, good)
    if thresholds is None:
        thresholds = np.append(np.unique(score), np.inf)
    thresholds = np.asarray(thresholds, float)
    ratio = lambda a, b: np.where(b > 0, a / np.maximum(b, 1), np.nan)
    above = lambda values: len(values) - np.searchsorted(np.sort(values), thresholds, side="left")
    hits, false = above(score[good]), above(score[~good])
    kept = hits + false
    return pd.DataFrame(
        {
            "threshold": thresholds,
            "kept": kept,
            "lost_percent": 100 * ratio(len(score) - kept, np.full(len(kept), len(score))),
            "precision": ratio(hits, kept),
            "recall": ratio(hits, np.full(len(kept), good.sum())),
            "false_positive_rate": ratio(false, np.full(len(kept), (~good).sum())),
        }
    )


def curves(
    scores: pd.DataFrame, truths: dict[str, np.ndarray], thresholds: np.ndarray | None = None
) -> pd.DataFrame:
    """`curve` of every score (column) against every truth, in long form: COLUMNS."""
    parts = [
        curve(scores[name], good, thresholds).assign(score=name, truth=truth)
        for name in scores
        for truth, good in truths.items()
    ]
    return pd.concat(parts, ignore_index=True)[COLUMNS] if parts else pd.DataFrame(columns=COLUMNS)


def areas(scores: pd.DataFrame, truths: dict[str, np.ndarray]) -> pd.DataFrame:
    """Area under the ROC curve of every score against every truth: score, truth, images, good_percent, auc."""
    rows = [
        (
            name,
            truth,
            len(good),
            100 * np.mean(good) if len(good) else np.nan,
            auc(scores[name], good),
        )
        for name in scores
        for truth, good in truths.items()
    ]
    return pd.DataFrame(rows, columns=["score", "truth", "images", "good_percent", "auc"])


def rules_at(manifest: pd.DataFrame, limits, truths: dict[str, np.ndarray]) -> pd.DataFrame:
    """Each rule alone and all together at the limits of the parameters, as decisions about the truths.

    rule, truth, kept, lost_percent, precision, recall, and rejected_bad_percent: the share of what it rejects that was bad.
    """
    scores = rule_scores(manifest, limits)
    limit = {
        "reference": limits.tau_ref,
        "target": limits.tau_tar,
        "difference": 1 - limits.epsilon_gen,
        "confidence": limits.tau_gen,
    }
    keeps = {rule: (scores[rule] >= limit[rule] - 1e-9).to_numpy() for rule in filtering.RULES}
    keeps["all"] = judge(manifest, limits)["kept"].to_numpy(bool)
    share = lambda part, whole: part.sum() / whole.sum() if whole.sum() else np.nan
    rows = [
        (
            rule,
            truth,
            int(kept.sum()),
            100 * (1 - kept.mean()) if len(kept) else np.nan,
            share(kept & good, kept),
            share(kept & good, good),
            100 * share(~kept & ~good, ~kept),
        )
        for rule, kept in keeps.items()
        for truth, good in truths.items()
    ]
    return pd.DataFrame(
        rows,
        columns=[
            "rule",
            "truth",
            "kept",
            "lost_percent",
            "precision",
            "recall",
            "rejected_bad_percent",
        ],
    )


def at_equal_loss(
    scores: pd.DataFrame, truths: dict[str, np.ndarray], lost_percent: float
) -> pd.DataFrame:
    """Precision and recall where each score loses the same share of images, the fair comparison of filters: score, truth, threshold, …"""
    rows = []
    for name in scores:
        threshold = (
            np.quantile(scores[name], lost_percent / 100, method="higher")
            if lost_percent > 0
            else scores[name].min()
        )
        rows += [
            curve(scores[name], good, [threshold]).assign(score=name, truth=truth)
            for truth, good in truths.items()
        ]
    return pd.concat(rows, ignore_index=True)[COLUMNS]
