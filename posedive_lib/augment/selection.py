"""Selecting by thresholds (§E, Eq. 3–6), images per identity (§D) and matched counts (§F).

A manifest has one row per candidate with its 17 confidences as generated and as target, and the
least confidence of its reference (reference_min).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from posedive_lib.augment import filtering
from posedive_lib.augment.confidence import keypoint_subset
from posedive_lib.augment.manifest import SIGMA_GEN, SIGMA_TAR
from posedive_lib.seeds import seed_for

if TYPE_CHECKING:
    from posedive_lib.params import Augment


def usable_references(
    train: pd.DataFrame, sigma: np.ndarray, *, tau_ref: float, keypoints: str = "body"
) -> pd.DataFrame:
    """Eq. 3: the training images that may serve as references, by identity and `rel`.

    train: (pid, rel, camid, …); sigma: (N, 17) in its order. Adds reference_min and
    reference_passed. An identity none of whose images passes keeps its best one, so that a study
    can count what Eq. 3 rejects.
    """
    sigma = np.asarray(sigma)[:, keypoint_subset(keypoints)]
    table = train.assign(
        reference_min=sigma.min(axis=1) if len(sigma) else [],
        reference_passed=filtering.keep_reference(sigma, tau_ref),
    )
    # The best of each identity first; `rel` decides between equals.
    ranked = table.sort_values(["pid", "reference_min", "rel"], ascending=[True, False, True])
    best = ~ranked.duplicated("pid")
    none_passed = ~ranked.groupby("pid")["reference_passed"].transform("any").astype(bool)
    chosen = ranked[ranked["reference_passed"] | (best & none_passed)]
    return chosen.sort_values(["pid", "rel"], ignore_index=True)


def training_roles(images: pd.DataFrame, sigma: np.ndarray, limits: Augment) -> pd.DataFrame:
    """Adds reference_ok (Eq. 3) and target_ok (Eq. 4): an image's roles in the generator's pairs.

    sigma: (N, 17). Both are of the photo itself, because a pair's target is one.
    """
    sigma = np.asarray(sigma)[:, keypoint_subset(limits.keypoints)]
    return images.assign(
        reference_ok=filtering.keep_reference(sigma, limits.tau_ref),
        target_ok=filtering.keep_target(sigma, limits.tau_tar),
    )


def sigmas(manifest: pd.DataFrame, keypoints: str = "body") -> tuple[np.ndarray, np.ndarray]:
    """σ_gen and σ_tar (N, K) of a manifest's rows for a subset of key points."""
    subset = keypoint_subset(keypoints)
    generated, target = manifest[SIGMA_GEN].to_numpy(float), manifest[SIGMA_TAR].to_numpy(float)
    return generated[:, subset], target[:, subset]


def judge(manifest: pd.DataFrame, limits: Augment, *, tau_gen: float | None = None) -> pd.DataFrame:
    """The manifest with its scores (means, minima, Eq. 5) and the filter's decision.

    `kept`, and `rejected_by`: the first rule that rejects, "" if kept. limits: the thresholds and
    key points of params.augment; tau_gen replaces theirs.
    """
    gen, tar = sigmas(manifest, limits.keypoints)
    # The minimum of one number is that number, so Eq. 3 needs no more.
    least = manifest[["reference_min"]].to_numpy(float)
    rule = filtering.first_rule(
        gen,
        tar,
        least,
        tau_ref=limits.tau_ref,
        tau_tar=limits.tau_tar,
        epsilon_gen=limits.epsilon_gen,
        tau_gen=limits.tau_gen if tau_gen is None else tau_gen,
    )
    scores = {
        "gen_mean": gen.mean(axis=1),
        "gen_min": gen.min(axis=1),
        "tar_mean": tar.mean(axis=1),
        "tar_min": tar.min(axis=1),
        "difference": filtering.difference(gen, tar),
    }
    rounded = {name: np.round(values, 6) for name, values in scores.items()}
    return manifest.assign(**rounded, kept=rule == "", rejected_by=rule)


def select(
    manifest: pd.DataFrame,
    limits: Augment,
    *,
    images_per_pid: int | None = None,
    tau_gen: float | None = None,
) -> pd.DataFrame:
    """The rows that pass Eq. 3–6 (`judge`), the first `images_per_pid` of each identity or all."""
    judged = judge(manifest, limits, tau_gen=tau_gen)
    kept = judged[judged["kept"]].sort_values(["pid", "index"])
    if images_per_pid is not None:
        kept = kept.groupby("pid").head(images_per_pid)
    return kept.reset_index(drop=True)


def counted(manifest: pd.DataFrame, limits: Augment, counts: pd.Series) -> pd.DataFrame:
    """`counts` (by pid) rows of each identity, so that two manifests give equally many images.

    The first that pass Eq. 3-6. Where too few do, the most confident of the others fill up.
    """
    judged = judge(manifest, limits)
    confidence = judged["gen_mean"].where(~judged["kept"], np.inf)  # kept ones first, in order
    ranked = judged.assign(rank=-confidence).sort_values(["pid", "rank", "index"])
    chosen = ranked[ranked.groupby("pid").cumcount() < ranked["pid"].map(counts).fillna(0)]
    return chosen.drop(columns="rank").sort_values(["pid", "index"], ignore_index=True)


def unfiltered(manifest: pd.DataFrame, counts: pd.Series) -> pd.DataFrame:
    """The first `counts` (by pid) rows of each identity, whatever Eq. 4-6 say of them."""
    ranked = manifest.sort_values(["pid", "index"])
    chosen = ranked[ranked.groupby("pid").cumcount() < ranked["pid"].map(counts).fillna(0)]
    return chosen.reset_index(drop=True)


def shortfall(pids: Iterable[int], selection: pd.DataFrame, images_per_pid: int) -> pd.DataFrame:
    """Those of the identities with fewer kept images than wanted: pid, kept, missing."""
    pids = np.unique(np.asarray(pids, dtype=int))
    kept = selection["pid"].value_counts().reindex(pids, fill_value=0).to_numpy()
    table = pd.DataFrame({"pid": pids, "kept": kept, "missing": images_per_pid - kept})
    return table[table["missing"] > 0].reset_index(drop=True)


def at_quantiles(
    manifest: pd.DataFrame, limits: Augment, quantiles: Iterable[float]
) -> dict[float, float]:
    """Quantile -> threshold tau_gen: what so large a share of the images that pass Eq. 3-5 misses.

    So thresholds fit the estimator whose confidence they are of. They are rounded down to what the
    scores of `judge` tell apart.
    """
    passed = select(manifest, limits, tau_gen=0.0)["gen_mean"].to_numpy()
    if not len(passed):
        return {}
    return {q: float(np.quantile(passed, q, method="lower")) for q in quantiles}


def matched(
    manifest: pd.DataFrame,
    limits: Augment,
    thresholds: Iterable[float],
    *,
    images_per_pid: int | None = None,
    seed: int = 0,
    at_least: int = 1,
) -> dict[float, pd.DataFrame]:
    """§F: a selection for each tau_gen, all with the same number of images of each identity.

    The count of an identity is what the strictest threshold leaves it, at most images_per_pid. Each
    threshold draws from all that it keeps, in an order set by a key of the image: selections share
    what they can. A threshold that keeps fewer than `at_least` images of the whole manifest gets an
    empty table, and does not lower the others' count.
    """
    keeps = {float(tau): select(manifest, limits, tau_gen=tau) for tau in thresholds}
    counted = {
        tau: rows["pid"].value_counts()
        for tau, rows in keeps.items()
        if len(rows) >= max(1, at_least)
    }
    counts = pd.DataFrame(counted).fillna(0).min(axis=1).astype(int).clip(upper=images_per_pid)
    return {
        tau: _draw(rows if tau in counted else rows.iloc[:0], counts, seed)
        for tau, rows in keeps.items()
    }


def _draw(rows: pd.DataFrame, counts: pd.Series, seed: int) -> pd.DataFrame:
    """The first `counts` (by pid) rows of each identity, in the order of their keys."""
    pairs = zip(rows["pid"], rows["index"], strict=True)
    keys = [seed_for("matched", seed, pid, index) for pid, index in pairs]
    order = pd.Series(keys, index=rows.index, dtype="int64")
    ranked = rows.assign(order=order).sort_values(["pid", "order"])
    chosen = ranked[ranked.groupby("pid").cumcount() < ranked["pid"].map(counts)]
    return chosen.drop(columns="order").sort_values(["pid", "index"], ignore_index=True)
