"""How each claim of the paper is measured and judged: a function per rule of `claims.yaml`.

A rule takes the study's tables (`Evidence`) and returns what was measured, in words, and the
verdict. It raises `NotCovered` where the study's parameters leave out what it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pandas as pd

from posedive_lib.bench.statistics import ALPHA
from posedive_lib.study.comparison import VOLUME, best_level, level_against_others, paired
from posedive_lib.study.evidence import NotCovered
from posedive_lib.study.verdicts import (
    Finding,
    all_or_some,
    by_interval,
    by_verdict,
    joined,
    said,
    said_rate,
)

if TYPE_CHECKING:
    from posedive_lib.study.evidence import Evidence

# Our limits.
SAME = 1.0  # points of mAP: levels whose interval of the difference stays inside ±SAME are equal
SEES = 0.7  # area under a ROC curve from which a rule sees what it should
NEAR = 10.0  # percentage points: a share of variance may lie that far below the true renderings'

BY_CONSTRUCTION = "(by construction; the paper's lists are unpublished)"
RULES: dict[str, Callable[..., Finding]] = {}


def rule(function: Callable[..., Finding]) -> Callable[..., Finding]:
    """Makes a function known to `claims.yaml` by its name."""
    RULES[function.__name__] = function
    return function


def gains(e: Evidence, dataset: str) -> Finding:
    """What pose-dive gains over real images in mAP and rank-1, and the table's word for mAP."""
    texts, words = [], []
    for metric, unit in (("mAP", "mAP"), ("rank1", "rank-1")):
        row = e.row("tables/comparison", dataset=dataset, arm="pose-dive", metric=metric)
        texts.append(said(row, unit))
        words.append(row["verdict"])
    return "; ".join(texts), words[0]


@rule
def same_sign(e: Evidence, dataset: str) -> Finding:
    """A published gain on a real data set has the sign of ours on the set of that name."""
    text, words = gains(e, dataset)
    verdict = {"gain": "same sign", "loss": "opposite sign"}.get(words, "not shown")
    return f"pose-dive against real on our set of that name: {text}", verdict


@rule
def disjoint_views(e: Evidence) -> Finding:
    """No azimuth bin holds training and test images of MSMT17-S (Cam)."""
    views = e.rows("figures/01/azimuth", panel="MSMT17-S (Cam)")
    used = {
        side: set(rows.loc[rows["share"] > 0, "azimuth"]) for side, rows in views.groupby("side")
    }
    shared = len(used["train"] & used["test"])
    text = (
        f"{shared} of {views['azimuth'].nunique()} azimuth bins "
        f"hold training and test images of our lists {BY_CONSTRUCTION}"
    )
    return text, "supported" if shared == 0 else "contradicted"


@rule
def disjoint_poses(e: Evidence) -> Finding:
    """No pose cluster holds training and test images of MSMT17-S (Pose)."""
    clusters = e.table("figures/01/pose_clusters")
    used = {side: set(rows["cluster"]) for side, rows in clusters.groupby("side")}
    shared = len(used["train"] & (used["query"] | used["gallery"]))
    text = (
        f"{shared} of {clusters['cluster'].nunique()} pose clusters "
        f"hold training and test images of our lists {BY_CONSTRUCTION}"
    )
    return text, "supported" if shared == 0 else "contradicted"


@rule
def mitigates_bias(e: Evidence, dataset: str, part: str) -> Finding:
    """pose-dive gains on a biased split, and so does the arm that diversifies `part` alone.

    The gain has to hold over seeds and over the queried identities. `part` alone is held against as
    many generated images that diversify nothing: without that arm the gain may come from elsewhere.
    """
    text, words = gains(e, dataset)
    people = e.row("tables/comparison_identities", dataset=dataset, arm="pose-dive")
    over_people = f"[{people['ci_low']:+.2f}, {people['ci_high']:+.2f}] mAP"
    texts = [f"pose-dive against real: {text}; over the queried identities {over_people}"]
    verdicts = [by_verdict(words), by_interval(people["ci_low"], people["ci_high"])]
    beside = e.table("tables/diversity_volume")
    alone = beside[
        (beside["dataset"] == dataset)
        & (beside["arm"] == part)
        & (beside["baseline"] == "same-distribution")
        & (beside["metric"] == "mAP")
    ]
    for _, row in alone.iterrows():
        texts.append(f"{part} alone against same-distribution: {said(row)}")
        verdicts.append(by_verdict(row["verdict"]))
    if alone.empty:
        texts.append(
            f"{part} alone was not run here, so that this gain may come from anything "
            "that the images diversify"
        )
        verdicts.append("not tested")
    return "; ".join(texts), joined(verdicts)


@rule
def diversity_not_volume(e: Evidence) -> Finding:
    """Diversified arms gain over arms that add as many images without diversity, on every set."""
    table = e.rows("tables/diversity_volume", metric="mAP")
    pairs = zip(table["arm"], table["baseline"], strict=True)
    table = table[[pair in VOLUME for pair in pairs]]
    if table.empty:
        raise NotCovered("this study has no arm that adds as many images without diversity")
    texts = [
        f"{row['dataset']}, {row['arm']} against {row['baseline']}: {said(row)}"
        for _, row in table.iterrows()
    ]
    return "; ".join(texts), joined(by_verdict(words) for words in table["verdict"])


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

    Supported: a gain over both neighbours. Contradicted: a loss against any level that adds images,
    by the p that is corrected for all levels.
    """
    runs = e.runs(experiment=column)
    if level not in set(runs[column]):
        raise NotCovered(f"this study has no runs with {column} {level:g}")
    others = level_against_others(runs, column, level, metric="mAP", seed=e.seed)
    if others.empty:
        raise NotCovered(f"this study has one {column} only")
    beside = others[others["beside"]]
    texts = [f"against {row['other']:g}: {said(row)}" for _, row in beside.iterrows()]
    losses = others[(others["verdict"] == "loss") & (others["p_joint"] <= ALPHA)]
    losses = losses[losses["other"] > 0]  # real images alone are no level of the claim
    if len(losses):
        top = losses.iloc[int(losses["difference"].to_numpy().argmin())]
        if not top["beside"]:
            texts.append(f"against {top['other']:g}: {said(top)}")
        verdict = "contradicted"
    else:
        verdict = _both_neighbours(beside["verdict"].map(by_verdict))
    without = others[(others["other"] == 0) & ~others["beside"]]
    # Real images alone say whether any number of images helps.
    texts += [f"against none: {said(row)}" for _, row in without.iterrows()]
    best = best_level(runs, column, "mAP")
    return f"highest mean mAP at {word} {best:g}; {level:g} {'; '.join(texts)}", verdict


def _both_neighbours(verdicts: pd.Series) -> str:
    if (verdicts == "supported").all():
        return "supported"
    some = verdicts.isin(["supported", "partly supported"]).all()
    return "partly supported" if some else "not shown"


@rule
def stable_over_thresholds(e: Evidence) -> Finding:
    """No threshold's mAP differs from the best one's by more than `SAME` (§F)."""
    runs = e.runs(experiment="threshold")
    levels = sorted(runs["threshold"].unique())
    if len(levels) < 2:
        raise NotCovered("fewer than two thresholds leave enough images")
    best = best_level(runs, "threshold", "mAP")
    others = level_against_others(runs, "threshold", best, metric="mAP", seed=e.seed)
    worst = others.iloc[int(others["difference"].to_numpy().argmax())]
    asked = e.table("tables/threshold_counts")["threshold"]
    # Thresholds that select the same images give the same runs.
    selections = runs.sort_values("seed").groupby("threshold")["mAP"].apply(tuple).nunique()
    note = ""
    if len(levels) < len(asked):
        note += f"{len(levels)} of {len(asked)} thresholds leave enough images; "
    if selections < len(levels):
        note += f"they select {selections} different sets; "
    text = f"{note}{best:g} against the worst, {worst['other']:g}: {said(worst)}"
    if not (others[["ci_low", "ci_high"]].abs() < SAME).all(axis=None):
        return text, "not shown"
    return text, "supported" if len(levels) == len(asked) else "partly supported"


@rule
def loose_filter_still_helps(e: Evidence) -> Finding:
    """Images that the loosest filter lets pass still gain over real images alone (§F)."""
    runs = e.runs(experiment="threshold")
    loosest = runs[runs["threshold"] == runs["threshold"].min()]
    real = e.runs(experiment="comparison", dataset=loosest["dataset"].iloc[0], arm="real")
    row = paired(loosest, real, "mAP", e.seed)
    text = (
        f"threshold {loosest['threshold'].iloc[0]:g} against real images alone: {said(row)}; "
        "no arm trains on degraded images alone, and the good ones among these may make the gain"
    )
    verdict = by_verdict(row["verdict"])
    return text, "partly supported" if verdict == "supported" else verdict


@rule
def filter_keeps_the_better(e: Evidence) -> Finding:
    """Kept images show the wanted pose more accurately than rejected ones (§E)."""
    check = e.table("tables/filter_check")
    better, worse = int((check["ci_low"] > 0).sum()), int((check["ci_high"] < 0).sum())
    lowest, highest = check["difference"].min(), check["difference"].max()
    text = (
        "kept images have more accurate key points, by the estimator whose confidence filters, "
        f"on {better} of {len(check)} sets (PCK {lowest:+.3f} to {highest:+.3f}, "
        "intervals over identities)"
    )
    if better == len(check):
        return text, "supported"
    if worse:
        return text, "contradicted"
    return text, "partly supported" if better else "not shown"


@rule
def filter_sees_misalignment(e: Evidence) -> Finding:
    """Eq. 5 tells images in the wanted pose from others (§E)."""
    area = e.table("tables/filter_check")["auc_difference"]
    text = (
        "Eq. 5 against the wanted key points, found by the same estimator: "
        f"area under the ROC curve {area.min():.2f} to {area.max():.2f} over {len(area)} sets "
        f"(0.5 is guessing, {SEES:g} our limit)"
    )
    if (area > SEES).all():
        return text, "supported"
    if (area <= 0.5).all():
        return text, "contradicted"
    return text, "partly supported" if (area > 0.5).all() else "not shown"


@rule
def backpacks_appear(e: Evidence) -> Finding:
    """Bags appear more often than they are found where there are none (§G)."""
    row = e.row("tables/failures", kind="bag appeared")
    by_mistake = max(row["true photos"], row["bagless strangers"])
    text = (
        f"a bag appears in {said_rate(row)}; "
        f"flagged among true photos {row['true photos']:.0%}, "
        f"among strangers without a bag (wrong clothes) {row['bagless strangers']:.0%}"
    )
    return text, "supported" if row["low"] > by_mistake else "not shown"


@rule
def poor_references_fail(e: Evidence) -> Finding:
    """Blurred or occluded references give more failures than clear ones (§G)."""
    name = "tables/failures_by_reference"
    texts, higher, lower = [], [], []
    for kind in dict.fromkeys(e.rows(name, reference="clear")["kind"]):
        clear = e.row(name, kind=kind, reference="clear")
        for state in ("blurred", "occluded"):
            row = e.row(name, kind=kind, reference=state)
            texts.append(f"{kind}, {state} {said_rate(row)}, clear {said_rate(clear)}")
            higher.append(row["low"] > clear["high"])
            lower.append(row["high"] < clear["low"])
    return "; ".join(texts), "contradicted" if any(lower) else all_or_some(higher)


@rule
def hard_samples_help(e: Evidence) -> Finding:
    """Images that gained a bag help the Re-ID model (§G): nothing here measures it."""
    return "no arm trains with and without the images that gained a bag", "not tested"


@rule
def identity_preserved(e: Evidence) -> Finding:
    """Identity decides the Re-ID features of generated images, and it is the right one (§I)."""
    text, near, largest = _share_of(e, "identity", "Re-ID features")
    # One wrong person, drawn alike every time, would be constant too.
    right, known = (
        e.row("tables/generator_quality", method=method, metric="identity_top1")
        for method in ("generated", "true-render")
    )
    text += (
        f"; the right person of {right['n']:.0f} is named for {_value(right)} of generated images "
        f"and {_value(known)} of true ones"
    )
    return text, _by_share(near and right["ci_high"] >= known["ci_low"], largest)


@rule
def pose_preserved(e: Evidence) -> Finding:
    """The wanted pose decides the key points of generated images (§I)."""
    text, near, largest = _share_of(e, "pose", "key points")
    return text, _by_share(near, largest)


def _share_of(e: Evidence, factor: str, measured: str) -> tuple[str, bool, bool]:
    """Share of variance that a factor explains.

    Returns the words, whether it is near that of the truth, and whether it is the largest part.
    """
    made, truth = (
        e.row("tables/disentanglement", images=images, measured=measured)
        for images in ("generated", "truth")
    )
    rest = made[["identity", "pose", "interaction"]].drop(factor)
    text = (
        f"{factor} explains {made[factor]:.0f} % of the {measured} of generated images "
        f"and {truth[factor]:.0f} % in true renderings; the largest other part {rest.max():.0f} %"
    )
    if factor == "identity" and made[factor] > truth[factor]:
        text += "; more constant than the truth: sides that differ are drawn alike"
    text += f"; our limits: more than half, and at most {NEAR:g} points below the truth"
    near = made[factor] > 50 and made[factor] > truth[factor] - NEAR
    return text, near, made[factor] > rest.max()


def _by_share(near: bool, largest: bool) -> str:
    if near:
        return "supported"
    return "partly supported" if largest else "not shown"


def _value(row: pd.Series) -> str:
    return f"{row['value']:.0%} [{row['ci_low']:.0%}, {row['ci_high']:.0%}]"
