"""How each claim of the paper is measured and judged: a function per rule of `claims.yaml`.

Here are the claims about Re-ID; `claim_images` has those about images.

A rule takes the study's tables (`Evidence`) and returns what was measured, in words, and the
verdict. It raises `NotCovered` where the study's parameters leave out what it needs.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from posedive_lib.bench.statistics import ALPHA, contains_zero, t_interval
from posedive_lib.study.claim_registry import rule
from posedive_lib.study.comparison import (
    NEW_VIEWS,
    Pair,
    best_level,
    family,
    level_against_others,
)
from posedive_lib.study.evidence import NotCovered
from posedive_lib.study.verdicts import (
    Finding,
    by_interval,
    by_verdict,
    joined,
    said,
)

if TYPE_CHECKING:
    from posedive_lib.study.evidence import Evidence

# Our limits.
ALIKE = 0.99  # share of the candidates that two thresholds both keep: from here they are one
SAME = 1.0  # points of mAP: levels whose interval of the difference stays inside ±SAME are equal
# generated images without diversity, against as many real ones again
MORE_ALONE = ("same-distribution", "repeat")


def gains(e: Evidence, dataset: str) -> tuple[str, list[str]]:
    """What pose-dive gains over real images in mAP and rank-1, and the table's words for both."""
    texts, words = [], []
    for metric, unit in (("mAP", "mAP"), ("rank1", "rank-1")):
        row = e.row("tables/comparison", dataset=dataset, arm="pose-dive", metric=metric)
        texts.append(said(row, unit))
        words.append(row["verdict"])
    return "; ".join(texts), words


@rule
def same_sign(e: Evidence, dataset: str) -> Finding:
    """A published gain on a real data set has the sign of ours on the set of that name."""
    text, words = gains(e, dataset)
    verdict = {"gain": "same sign", "loss": "opposite sign"}.get(words[0], "not shown")
    if words[0] == "gain" and not _has_control(e, dataset):
        text += "; no arm here adds as many images without diversity, so the gain's cause is open"
    return f"pose-dive against real on our set of that name: {text}", verdict


def _has_control(e: Evidence, dataset: str) -> bool:
    arms = e.rows("tables/comparison", dataset=dataset)["arm"]
    return "same-distribution" in set(arms)


@rule
def other_models_gain(e: Evidence) -> Finding:
    """pose-dive gains over real images with the second Re-ID model as well, on each of its sets."""
    table = e.rows("tables/resnet", arm="pose-dive", baseline="real", metric="mAP")
    texts, verdicts = [], []
    for _, row in table.iterrows():
        pair = {"dataset": row["dataset"], "arm": "pose-dive", "metric": "mAP"}
        first = e.row("tables/comparison", **pair)
        texts.append(f"{row['dataset']}, ResNet: {said(row)}; CLIP-ReID: {said(first)}")
        verdicts += [by_verdict(row["verdict"]), by_verdict(first["verdict"])]
    return f"two models; {'; '.join(texts)}", joined(verdicts)


@rule
def both_parts(e: Evidence) -> Finding:
    """Diversifying viewpoints and poses gives more than diversifying one of them."""
    table = e.rows("tables/diversity_volume", arm="pose-dive", metric="mAP")
    table = table[table["baseline"].isin(["viewpoint", "pose"])]
    if table.empty:
        raise NotCovered("this study has no arm that diversifies viewpoints or poses alone")
    texts = [
        f"{row['dataset']}, both against {row['baseline']} alone: {said(row)}"
        for _, row in table.iterrows()
    ]
    return "; ".join(texts), joined(by_verdict(words) for words in table["verdict"])


@rule
def disjoint_views(e: Evidence) -> Finding:
    """No azimuth bin holds training and test images of MSMT17-S (Cam)."""
    e.rows("tables/reid_runs", dataset="msmt17-s-cam")  # not covered without the split
    views = e.rows("figures/01/azimuth", panel="MSMT17-S (Cam)")
    used = {
        side: set(rows.loc[rows["share"] > 0, "azimuth"]) for side, rows in views.groupby("side")
    }
    return _disjoint(used["train"] & used["test"], views["azimuth"].nunique(), "azimuth bins")


@rule
def disjoint_poses(e: Evidence) -> Finding:
    """No pose cluster holds training and test images of MSMT17-S (Pose)."""
    e.rows("tables/reid_runs", dataset="msmt17-s-pose")
    clusters = e.table("figures/01/pose_clusters")
    used = {side: set(rows["cluster"]) for side, rows in clusters.groupby("side")}
    shared = used["train"] & (used["query"] | used["gallery"])
    return _disjoint(shared, clusters["cluster"].nunique(), "pose clusters")


def _disjoint(shared: set, count: int, what: str) -> Finding:
    text = f"{len(shared)} of {count} {what} hold training and test images of our lists"
    return f"{text} (the paper's are unpublished)", "contradicted" if shared else "by construction"


@rule
def mitigates_bias(e: Evidence, dataset: str, part: str) -> Finding:
    """pose-dive gains on a biased split, and so does the arm that diversifies `part` alone.

    The gain has to hold in mAP and rank-1, over seeds and over the queried identities, and wherever
    the test begins. `part` alone is compared with as many generated images that diversify nothing:
    without that arm the gain may come from elsewhere.
    """
    text, words = gains(e, dataset)
    people = e.row("tables/comparison_identities", dataset=dataset, arm="pose-dive")
    over_people = f"[{people['ci_low']:+.2f}, {people['ci_high']:+.2f}] mAP"
    texts = [f"pose-dive against real: {text}; over the queried identities {over_people}"]
    verdicts = [*map(by_verdict, words), by_interval(people["ci_low"], people["ci_high"])]
    pair = {"arm": part, "baseline": "same-distribution"}
    alone = e.some("tables/diversity_volume", dataset=dataset, metric="mAP", **pair)
    for _, row in alone.iterrows():
        texts.append(
            f"{part} alone against same-distribution, which speaks of the {part} and of nothing "
            f"else: {said(row)}"
        )
        verdicts.append(by_verdict(row["verdict"]))
    if alone.empty:
        texts.append(
            f"{part} alone was not run here, so that this gain may come from anything "
            "that the images diversify"
        )
        verdicts.append("not tested")
    wanted = {"dataset": dataset, "arm": "pose-dive", "metric": "mAP"}
    borders = e.some("tables/borders", **wanted)  # none where no border was tried
    if len(borders):
        levels = [
            f"{row['border']:g}°: {row['difference']:+.1f} (corrected p {row['p_joint']:.3f})"
            for _, row in borders.iterrows()
        ]
        texts.append(f"by where the test begins, {', '.join(levels)} mAP")
        verdicts += map(by_verdict, borders["verdict"])
    return "; ".join(texts), joined(verdicts)


@rule
def diversity_not_volume(e: Evidence) -> Finding:
    """Diversified arms gain over arms that add as many images without diversity, on every set.

    Against it speaks a gain by generated images that diversify nothing (`MORE_ALONE`).
    """
    table = e.rows("tables/diversity_volume", metric="mAP")
    pairs = list(zip(table["arm"], table["baseline"], strict=True))
    plain = table[[pair == MORE_ALONE for pair in pairs]]
    # Real images again are no control of diversity: they bring no new pixels.
    table = table[[pair in NEW_VIEWS for pair in pairs]]
    if table.empty:
        raise NotCovered("this study has no arm that adds as many images without diversity")
    texts = [
        f"{row['dataset']}, {row['arm']} against {row['baseline']}: {said(row)}"
        f"{_people_may_differ(e, row)}"
        for _, row in table.iterrows()
    ]
    verdicts = [by_verdict(words) for words in table["verdict"]]
    for _, row in (plain if len(plain) else _plain_over_real(e)).iterrows():
        texts.append(
            f"generated images in the old poses and views: {row['dataset']}, {row['arm']} against "
            f"{row['baseline']}: {said(row)}"
        )
        verdicts.append("contradicted" if row["verdict"] == "gain" else "not shown")
    return "; ".join(texts), joined(verdicts)


def _people_may_differ(e: Evidence, row: pd.Series) -> str:
    """The interval over the queried people, where a gain or loss over seeds has 0 in it."""
    if row["verdict"] not in ("gain", "loss"):
        return ""
    pair = {name: row[name] for name in ("dataset", "arm", "baseline")}
    people = e.some("tables/comparison_identities", **pair)
    if people.empty:
        return ""
    low, high = people[["ci_low", "ci_high"]].iloc[0]
    if not contains_zero(low, high):
        return ""
    return f"; over the queried identities [{low:+.2f}, {high:+.2f}], with 0 in it"


def _plain_over_real(e: Evidence) -> pd.DataFrame:
    """Generated images without diversity against real ones; a run without the pair `MORE_ALONE`."""
    return e.some("tables/comparison", arm=MORE_ALONE[0], metric="mAP")


@rule
def best_count(e: Evidence, count: int) -> Finding:
    """mAP is highest with `count` images per person (§D)."""
    return _best_at(e, "images_per_pid", count, "images")


@rule
def best_threshold(e: Evidence, threshold: float) -> Finding:
    """mAP is highest with this threshold of the filter (§F)."""
    return _best_at(e, "threshold", threshold, "threshold")


def _best_at(e: Evidence, column: str, level: float, word: str) -> Finding:
    """mAP is highest at a level of a parameter.

    It has to gain over every other level that adds images. One loss is enough to contradict: some
    other level is then higher. Either needs the same interval and corrected p.
    """
    runs = e.runs(experiment=column)
    if level not in set(runs[column]):
        raise NotCovered(f"this study has no runs with {column} {level:g}")
    others = level_against_others(runs, column, level, metric="mAP", seed=e.seed)
    if others.empty:
        raise NotCovered(f"this study has one {column} only")
    beside = others[others["beside"]]
    texts = [f"against {row['other']:g}: {said(row)}" for _, row in beside.iterrows()]
    levels = others[others["other"] > 0]  # real images alone are no level of the claim
    losses = levels[levels["verdict"] == "loss"]
    verdict = joined(levels["verdict"].map(by_verdict)) if len(levels) else "not tested"
    if len(losses):
        top = losses.iloc[int(losses["difference"].to_numpy().argmin())]
        if not top["beside"]:
            texts.append(f"against {top['other']:g}: {said(top)}")
        verdict = "contradicted"
    without = others[(others["other"] == 0) & ~others["beside"]]
    # Real images alone say whether any number of images helps.
    texts += [f"against none: {said(row)}" for _, row in without.iterrows()]
    best = best_level(runs, column, "mAP")
    if len(losses) == 0:
        highest = others[(others["other"] == best) & (best > 0) & ~others["beside"]]
        texts += [f"against {best:g}: {said(row)}" for _, row in highest.iterrows()]
    return f"highest mean mAP at {word} {best:g}; {level:g} {'; '.join(texts)}", verdict


@rule
def stable_over_thresholds(e: Evidence) -> Finding:
    """No threshold's mAP differs from the best one's by more than `SAME` (§F). Rank-1 is told.

    Supported: every interval lies within ±SAME. Contradicted: one lies beyond, widened for the
    number of thresholds (Bonferroni), for any of them may lie beyond by chance.
    """
    runs = e.runs(experiment="threshold")
    levels = sorted(runs["threshold"].unique())
    if len(levels) < 2:
        raise NotCovered("fewer than two thresholds leave enough images")
    best, others, worst = _best_and_worst(runs, "mAP", e.seed)
    counts = e.table("tables/threshold_counts")
    asked = counts["threshold"]
    # Candidates that pass: a higher threshold lets a part of those of a lower one pass.
    kept = counts.loc[counts["threshold"].isin(levels), "kept"].tolist()
    selections = 1 + sum(high < ALIKE * low for low, high in pairwise(kept))
    note = ""
    if len(levels) < len(asked):
        note += f"{len(levels)} of {len(asked)} thresholds leave enough images; "
    if selections < len(levels):
        note += (
            f"by the candidates that pass ({', '.join(map(str, kept))}) they are {selections} "
            "different ones, and a difference between equal ones is noise; "
        )
    text = f"{note}{best:g} against the worst, {worst['other']:g}: {said(worst)}"
    if runs["rank1"].notna().all():
        *_, ranks = _best_and_worst(runs, "rank1", e.seed)
        text += "; in rank-1, told and not judged, the best against the worst: "
        text += said(ranks, "rank-1")
    if (_lowest(runs, best, others["other"]) > SAME).any():
        return text, "contradicted"
    if not (others[["ci_low", "ci_high"]].abs() < SAME).all(axis=None):
        return text, "not shown"
    return text, "supported" if len(levels) == len(asked) else "partly supported"


def _best_and_worst(
    runs: pd.DataFrame, metric: str, seed: int
) -> tuple[float, pd.DataFrame, pd.Series]:
    """The threshold with the highest mean, its leads over the others, and the largest of them."""
    best = best_level(runs, "threshold", metric)
    others = level_against_others(runs, "threshold", best, metric=metric, seed=seed)
    return best, others, others.iloc[int(others["difference"].to_numpy().argmax())]


def _lowest(runs: pd.DataFrame, best: float, others: pd.Series) -> np.ndarray:
    """Lower ends of the intervals of the best threshold's lead, corrected for their number."""
    mAP = runs.pivot(index="seed", columns="threshold", values="mAP")
    confidence = 1 - ALPHA / len(others)
    leads = [(mAP[best] - mAP[other]).dropna() for other in others]
    return np.array([t_interval(lead, confidence=confidence).low for lead in leads])


@rule
def loose_filter_still_helps(e: Evidence) -> Finding:
    """Images that the loosest filter lets pass still gain over real images alone (§F).

    p is corrected over all thresholds against real images. The gain is told, and tests nothing: the
    good ones are among these images.
    """
    runs = e.runs(experiment="threshold")
    real = e.runs(experiment="comparison", dataset=runs["dataset"].iloc[0], arm="real")
    pairs = [Pair({"threshold": level}, own, real) for level, own in runs.groupby("threshold")]
    row = family(pairs, seed=e.seed, metrics=("mAP",)).iloc[0]
    raise NotCovered(
        "no arm trains on degraded images alone; all images at threshold "
        f"{row['threshold']:g}, good and degraded, against real images alone: {said(row)}"
    )
