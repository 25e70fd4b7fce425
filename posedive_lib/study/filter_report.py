"""Does filtering work (§E)? Viewpoints before and after, and what the rules rejected."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from posedive_lib import datasets
from posedive_lib.augment import filter_quality, filtering, measures
from posedive_lib.augment.candidates import load_bodies
from posedive_lib.augment.distribution import pose_cells
from posedive_lib.augment.selection import select
from posedive_lib.augment.targets import rendering_of
from posedive_lib.augment.training_set import Training
from posedive_lib.augment.uniformity import coverage_table
from posedive_lib.bench import figures
from posedive_lib.bench.statistics import bootstrap_interval
from posedive_lib.body.poses import load_poses
from posedive_lib.body.rendering import render_many
from posedive_lib.datasets.images import read as read_images
from posedive_lib.datasets.images import read_blocks
from posedive_lib.seeds import rng_for
from posedive_lib.study.candidate_files import candidate_images, store_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from posedive_lib.params import Params

GOOD = 0.9  # PCK from which an image shows the wanted pose
Pairs = dict[str, tuple[Training, Training | None]]  # real and generated images by data set


def real_and_generated(
    P: Params, name: str, rows: pd.DataFrame
) -> tuple[Training, Training | None]:
    """Bodies and viewpoints of the real training images, and of the generated rows (or None)."""
    real = Training.of(datasets.of_study(name, P.paths))
    if not len(rows):
        return real, None
    return real, Training.seen(load_bodies(rows, store_of(name))[0])


def spread(P: Params, sets: Pairs) -> pd.DataFrame:
    """How far real, generated and combined images are from uniform (divergences, 0 to 1).

    Columns: dataset, images_of, images, viewpoint, pose (over the poses of the source).
    """
    cells = pose_cells(load_poses(P.paths.motions).body_pose)
    parts = [coverage_table(*pair, cells).assign(dataset=name) for name, pair in sets.items()]
    table = pd.concat(parts, ignore_index=True)
    return table[["dataset", "images_of", "images", "viewpoint", "pose"]]


def azimuth_counts(sets: Pairs, edges: np.ndarray) -> pd.DataFrame:
    """dataset, kind (real or generated), azimuth (middle of a bin), images in that bin.

    edges (B + 1,): degrees, from -180 to 180.
    """
    middle, parts = (edges[:-1] + edges[1:]) / 2, []
    for name, pair in sets.items():
        for kind, part in zip(("real", "generated"), pair, strict=True):
            if part:
                counts = np.histogram(part.azimuth, edges)[0]
                columns = {"azimuth": middle, "images": counts}
                parts.append(pd.DataFrame({"dataset": name, "kind": kind, **columns}))
    return pd.concat(parts, ignore_index=True)


def filtering_row(P: Params, name: str, manifest: pd.DataFrame) -> dict[str, Any]:
    """Counts of one data set: candidates, rejections by the first rule, kept, and images used."""
    counts = manifest["rejected_by"].value_counts()
    identities = manifest["pid"].nunique()
    passed = manifest.drop_duplicates("pid")["reference_passed"].astype(bool)
    # Candidates that pass, up to the number of images that a person gets
    used = len(select(manifest, P.augment, images_per_pid=P.augment.images_per_pid))
    return {
        "dataset": name,
        "identities": identities,
        "identities_without_passing_reference": int((~passed).sum()),
        "candidates": len(manifest),
        **{f"rejected_by_{rule}": int(counts.get(rule, 0)) for rule in filtering.RULES},
        "kept": int(manifest["kept"].sum()),
        "kept_percent": 100 * manifest["kept"].mean(),
        "used": used,
        "used_per_identity": used / identities,
    }


def examples(
    P: Params,
    name: str,
    manifest: pd.DataFrame,
    *,
    people: int,
    seed: int,
    references: int = 2,
    images: int = 2,
) -> Figure:
    """Figure: a line per identity with `references` photos, each before `images` made from it.

    Left of each image is the pose that was wanted; under it the image's mean confidence, or the
    score that rejected it. An identity with fewer references has gaps.
    """
    paths = datasets.of_study(name, P.paths).train.set_index("rel")["path"].to_dict()
    chosen = rng_for("examples", seed, name).choice(manifest["pid"].unique(), people, replace=False)
    size, rendering = (P.image.height, P.image.width), rendering_of(P)
    pictures: list[list[np.ndarray | None]] = []
    notes: list[list[str | None]] = []
    for pid in np.sort(chosen):
        own = manifest[manifest["pid"] == pid].sort_values("index")
        line: list[np.ndarray | None] = []
        words: list[str | None] = []
        for reference, rows in list(own.groupby("reference", sort=False))[:references]:
            rows = rows.head(images)
            wanted = render_many(load_bodies(rows, store_of(name))[0], rendering).normals
            drawn = candidate_images(name, rows, P.image)
            gap = [None] * 2 * (images - len(rows))  # so that references stay in their columns
            pairs = [picture for pair in zip(wanted, drawn, strict=True) for picture in pair]
            line += [read_images([paths[reference]], *size)[0], *pairs, *gap]
            words += [None]
            for row in rows.to_dict("records"):
                words += [None, _note(row)]
            words += gap
        pictures.append(line)
        notes.append(words)
    labels = ["reference", *["wanted", "generated"] * images] * references
    # wide enough that the labels do not touch
    return figures.image_grid(pictures, column_labels=labels, captions=notes, scale=1.15)


def _note(row: dict[Any, Any]) -> str:
    """✓ or ✗ and the score that decided.

    O of Eq. 5, σ of the target (Eq. 4) or σ of the image (Eq. 6).
    """
    if row["rejected_by"] == "difference":
        return f"✗ O {row['difference']:.3f}"
    if row["rejected_by"] == "target":
        return f"✗ target {row['tar_mean']:.3f}"
    return f"{'✓' if row['kept'] else '✗'} σ {row['gen_mean']:.3f}"


def estimated_pck(P: Params, name: str, manifest: pd.DataFrame) -> np.ndarray:
    """(N,) share of the visible target key points that the estimator finds (PCK@0.1)."""
    return measures.body_pck(*load_bodies(manifest, store_of(name)), P.augment.keypoints)


def filter_check(P: Params, name: str, manifest: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """PCK of kept and rejected candidates, one row.

    The interval of the difference resamples identities that have both.
    """
    pck, kept = estimated_pck(P, name, manifest), manifest["kept"].to_numpy(bool)
    table = pd.DataFrame({"pid": manifest["pid"].to_numpy(), "kept": kept, "pck": pck})
    means = table.groupby(["pid", "kept"])["pck"].mean().unstack()  # a row per identity
    both, bounds = np.zeros(0), (np.nan, np.nan, np.nan)
    if {True, False} <= set(means.columns):
        both = (means[True] - means[False]).dropna().to_numpy()
    if len(both):
        interval = bootstrap_interval(both, seed=seed)
        bounds = (interval.mean, interval.low, interval.high)
    row = {
        "dataset": name,
        "kept": int(kept.sum()),
        "rejected": int((~kept).sum()),
        "pck_kept": table.loc[kept, "pck"].mean(),
        "pck_rejected": table.loc[~kept, "pck"].mean(),
        **dict(zip(("difference", "ci_low", "ci_high"), bounds, strict=True)),
        "identities": len(both),
        "auc_confidence": filter_quality.auc(manifest["gen_mean"].to_numpy(), pck >= GOOD),
        "auc_difference": filter_quality.auc(-manifest["difference"].to_numpy(), pck >= GOOD),
    }
    return pd.DataFrame([row])


def rule_curves(
    P: Params, manifests: dict[str, pd.DataFrame], *, points: int = 201
) -> pd.DataFrame:
    """ROC of each rule for telling candidates in the wanted pose, all data sets together.

    A row per score and threshold, from the strictest down (quantiles of the score), as
    `charts.roc.curves` takes it.
    """
    right = np.concatenate([estimated_pck(P, name, rows) for name, rows in manifests.items()])
    right = right >= GOOD
    scores = filter_quality.rule_scores(pd.concat(manifests.values(), ignore_index=True), P.augment)
    parts = []
    for name in scores.columns.tolist():
        levels = np.quantile(scores[name], np.linspace(0, 1, points), method="nearest")
        thresholds = np.append(np.unique(levels), np.inf)  # the last keeps nothing
        curve = filter_quality.curve(scores[name], right, thresholds).iloc[::-1]
        parts.append(curve.assign(score=name, auc=filter_quality.auc(scores[name], right)))
    table = pd.concat(parts, ignore_index=True).rename(columns={"recall": "true_positive_rate"})
    columns = ["score", "threshold", "kept", "precision"]
    return table[[*columns, "true_positive_rate", "false_positive_rate", "auc"]]


def filters_compared(
    P: Params,
    name: str,
    manifest: pd.DataFrame,
    features: np.ndarray,
    person: np.ndarray,
    extract: Callable[[np.ndarray], np.ndarray],
) -> pd.DataFrame:
    """The filter's rules beside alternatives, over all candidates of a data set.

    Truths: the pose is right, the person is right (`person` (N,) bool), both. Alternatives: the key
    points' distance from the wanted ones, the similarity to the person's real photos by `extract`
    (images to features; `features` (N, D) are the candidates'), and the worse rank of the two.
    Every score is cut where it loses as many images as the filter, `all rules`.

    Columns: score, truth, good_percent, lost_percent, precision, recall, auc.
    """
    real = datasets.of_study(name, P.paths).train
    photos = read_blocks(real["path"].tolist(), P.image.height, P.image.width)
    known = np.concatenate([extract(block) for block in photos])
    bodies, estimated = load_bodies(manifest, store_of(name))
    pose = measures.body_pck(bodies, estimated, P.augment.keypoints) >= GOOD
    truths = {"right pose": pose, "right person": person, "both": pose & person}

    scores = filter_quality.rule_scores(manifest, P.augment)
    error = measures.keypoint_error(bodies, estimated, P.augment.keypoints)
    # An image without a visible key point is the worst; more is better in every score.
    scores["key points"] = -np.where(np.isnan(error), np.inf, error)
    scores["Re-ID similarity"] = measures.identity_similarity(
        features, manifest["pid"].to_numpy(), known, real["pid"].to_numpy()
    )[0]
    scores["key points and Re-ID"] = filter_quality.both(
        scores["key points"], scores["Re-ID similarity"]
    )

    rules = filter_quality.rules_at(manifest, P.augment, truths)
    rules = rules[rules["rule"] == "all"].assign(score="all rules")
    lost = float(rules["lost_percent"].iloc[0])
    others = filter_quality.at_equal_loss(scores, truths, lost)
    table = pd.concat([rules, others], ignore_index=True)
    table = table[["score", "truth", "lost_percent", "precision", "recall"]]
    areas = filter_quality.areas(scores, truths)[["score", "truth", "auc"]]
    table = table.merge(areas, how="left")
    good = {truth: 100 * right.mean() for truth, right in truths.items()}
    table.insert(2, "good_percent", table["truth"].map(good))
    return table
