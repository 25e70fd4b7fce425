"""Selecting from a manifest of candidates: thresholds (§E, Eq. 3–6), images per identity (§D), matched counts (§F).

A manifest has one row per candidate with its 17 confidences as generated and as target and the least confidence of its reference
(reference_min); `limits` is anything with tau_ref, tau_tar, epsilon_gen, tau_gen and keypoints (params.augment).
"""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from posedive_lib.augment import filtering
from posedive_lib.augment.confidence import keypoint_subset
from posedive_lib.seeds import seed_for

SIGMA_GEN = [f"sigma_gen_{k:02d}" for k in range(17)]
SIGMA_TAR = [f"sigma_tar_{k:02d}" for k in range(17)]


def sigmas(manifest: pd.DataFrame, keypoints: str = "body") -> tuple[np.ndarray, np.ndarray]:
    """σ_gen and σ_tar (N, K) of a manifest's rows for a subset of key points."""
    subset = keypoint_subset(keypoints)
    return manifest[SIGMA_GEN].to_numpy(float)[:, subset], manifest[SIGMA_TAR].to_numpy(float)[
        :, subset
    ]


def judge(manifest: pd.DataFrame, limits) -> pd.DataFrame:
    """The manifest with its scores (means, minima, Eq. 5) and, at these limits, `kept` and `rejected_by` (the first rule, "" if kept)."""
    gen, tar = sigmas(manifest, limits.keypoints)
    least = manifest[["reference_min"]].to_numpy(
        float
    )  # the minimum of one number is that number, so Eq. 3 needs no more
    rule = filtering.first_rule(
        gen,
        tar,
        least,
        tau_ref=limits.tau_ref,
        tau_tar=limits.tau_tar,
        epsilon_gen=limits.epsilon_gen,
        tau_gen=limits.tau_gen,
    )
    scores = {
        "gen_mean": gen.mean(axis=1),
        "gen_min": gen.min(axis=1),
        "tar_mean": tar.mean(axis=1),
        "tar_min": tar.min(axis=1),
    }
    scores["difference"] = filtering.difference(gen, tar)
    return manifest.assign(
        **{name: np.round(values, 6) for name, values in scores.items()},
        kept=rule == "",
        rejected_by=rule,
    )


def select(
    manifest: pd.DataFrame,
    limits,
    *,
    images_per_pid: int | None = None,
    tau_gen: float | None = None,
) -> pd.DataFrame:
    """The rows that pass Eq. 3–6, the first `images_per_pid` of each identity (None: all). tau_gen replaces that of the limits."""
    judged = judge(manifest, _at(limits, tau_gen))
    kept = judged[judged["kept"]].sort_values(["pid", "index"])
    return (
        kept if images_per_pid is None else kept.groupby("pid").head(images_per_pid)
    ).reset_index(drop=True)


def _at(limits, tau_gen: float | None) -> SimpleNamespace:
    values = {
        name: getattr(limits, name)
        for name in ("tau_ref", "tau_tar", "epsilon_gen", "tau_gen", "keypoints")
    }
    return SimpleNamespace(**values | ({} if tau_gen is None else {"tau_gen": tau_gen}))


def shortfall(manifest: pd.DataFrame, selection: pd.DataFrame, images_per_pid: int) -> pd.DataFrame:
    """Identities with fewer kept images than wanted: pid, kept, missing."""
    pids = np.unique(manifest["pid"].to_numpy(dtype=int))
    kept = selection["pid"].value_counts().reindex(pids, fill_value=0)
    table = pd.DataFrame(
        {"pid": pids, "kept": kept.to_numpy(), "missing": images_per_pid - kept.to_numpy()}
    )
    return table[table["missing"] > 0].reset_index(drop=True)


def matched(
    manifest: pd.DataFrame,
    limits,
    thresholds,
    *,
    images_per_pid: int | None = None,
    seed: int = 0,
    at_least: int = 1,
) -> dict[float, pd.DataFrame]:
    """§F: a selection for each tau_gen in thresholds, all with the same number of images of each identity.

    The count of an identity is what the strictest threshold leaves it (at most images_per_pid). Each threshold draws from all that it
    keeps, in an order set by a key of the image, so selections share what they can. A threshold that keeps fewer than `at_least`
    images of the whole manifest gets an empty table and does not lower the others' count.
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
    order = [
        seed_for("matched", seed, pid, index)
        for pid, index in zip(rows["pid"], rows["index"], strict=True)
    ]
    ranked = rows.assign(order=pd.Series(order, index=rows.index, dtype="int64")).sort_values(
        ["pid", "order"]
    )
    chosen = ranked[ranked.groupby("pid").cumcount() < ranked["pid"].map(counts)]
    return chosen.drop(columns="order").sort_values(["pid", "index"], ignore_index=True)
