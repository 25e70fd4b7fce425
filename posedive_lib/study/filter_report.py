"""Notebook 04's tables and pictures: viewpoints before and after, what the rules rejected, and whether they were right (§E)."""

from pathlib import Path

import numpy as np
import pandas as pd

from posedive_lib import datasets
from posedive_lib.augment import filter_quality, filtering
from posedive_lib.augment.candidates import for_writing, load_bodies
from posedive_lib.augment.distribution import Training, coverage_table, pose_cells
from posedive_lib.augment.selection import select
from posedive_lib.bench import figures
from posedive_lib.bench.statistics import bootstrap_interval
from posedive_lib.body.camera import viewpoint
from posedive_lib.body.poses import load_poses
from posedive_lib.datasets.images import read as read_images
from posedive_lib.datasets.write import write_augmented
from posedive_lib.seeds import rng_for
from posedive_lib.study.candidate_files import CANDIDATES
from posedive_lib.study.generation import training_of

AUGMENTED = Path("build/augmented")


def real_and_generated(P, name: str, rows: pd.DataFrame) -> tuple[Training, Training | None]:
    """Bodies and viewpoints of the real training images, and of the generated rows (None without any)."""
    real = training_of(datasets.load(name, P.paths.datasets))
    if not len(rows):
        return real, None
    bodies, _ = load_bodies(rows, CANDIDATES / name)
    return real, Training(bodies, *viewpoint(bodies.global_orient, bodies.cam_t))


def spread(P, sets: dict[str, tuple[Training, Training | None]]) -> pd.DataFrame:
    """How far each data set's real, generated and combined images are from uniform over viewpoints and over the source's poses:
    dataset, images_of, images, viewpoint, pose (divergences, 0–1)."""
    cells = pose_cells(load_poses(P.paths.motions).body_pose)
    return pd.concat(
        [coverage_table(*pair, cells).assign(dataset=name) for name, pair in sets.items()],
        ignore_index=True,
    )[["dataset", "images_of", "images", "viewpoint", "pose"]]


def long_views(sets: dict[str, tuple[Training, Training | None]]) -> pd.DataFrame:
    """dataset, kind, azimuth, elevation: one row per image."""
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "dataset": name,
                    "kind": kind,
                    "azimuth": part.azimuth,
                    "elevation": part.elevation,
                }
            )
            for name, pair in sets.items()
            for kind, part in zip(("real", "generated"), pair)
            if part
        ],
        ignore_index=True,
    )


def filtering_row(P, name: str, manifest: pd.DataFrame) -> dict:
    """Counts of one data set: candidates, rejections by the first rule, kept, and images used."""
    counts = manifest["rejected_by"].value_counts()
    identities = manifest["pid"].nunique()
    references = manifest.drop_duplicates("pid")
    used = select(manifest, P.augment, images_per_pid=P.augment.images_per_pid)
    return {
        "dataset": name,
        "identities": identities,
        "identities_without_passing_reference": int(
            (~references["reference_passed"].astype(bool)).sum()
        ),
        "candidates": len(manifest),
        **{f"rejected_by_{rule}": int(counts.get(rule, 0)) for rule in filtering.RULES},
        "kept": int(manifest["kept"].sum()),
        "kept_percent": 100 * manifest["kept"].mean(),
        "used": len(used),
        "used_per_identity": len(used) / identities,
    }


def examples(
    P,
    name: str,
    manifest: pd.DataFrame,
    *,
    people: int,
    seed: int,
    references: int = 2,
    images: int = 2,
):
    """Figure: of some identities `references` reference photos, each with the first `images` generated from it, and their mean confidence or
    the score that rejected them; an identity with fewer references has gaps."""
    train = datasets.load(name, P.paths.datasets).train.set_index("rel")["path"]
    pids = np.sort(
        rng_for("examples", seed, name).choice(manifest["pid"].unique(), people, replace=False)
    )
    width, grid, notes = references * (images + 1), [], []
    for pid in pids:
        paths, words = [], []
        for reference, rows in list(
            manifest[manifest["pid"] == pid].sort_values("index").groupby("reference", sort=False)
        )[:references]:
            rows = rows.head(images)
            gap = [None] * (images - len(rows))
            paths += [train[reference], *(CANDIDATES / name / path for path in rows["path"]), *gap]
            words += ["reference", *(_note(row) for row in rows.itertuples()), *gap]
        shown = iter(
            read_images([path for path in paths if path is not None], P.image.height, P.image.width)
        )
        grid.append(
            [None if path is None else next(shown) for path in paths]
            + [None] * (width - len(paths))
        )
        notes.append(words + [None] * (width - len(words)))
    half = (len(grid) + 1) // 2  # two people side by side
    blank = [[None] * width] * (2 * half - len(grid))
    beside = lambda rows: [
        left + [None] + right for left, right in zip(rows[:half], rows[half:] + blank)
    ]
    return figures.image_grid(beside(grid), captions=beside(notes))


def _note(row) -> str:
    """✓ or ✗ and the score that decided: O of Eq. 5, σ of the target (Eq. 4) or σ of the image (Eq. 6)."""
    if row.rejected_by == "difference":
        return f"✗ O {row.difference:.3f}"
    return (
        f"✗ target {row.tar_mean:.3f}"
        if row.rejected_by == "target"
        else f"{'✓' if row.kept else '✗'} σ {row.gen_mean:.3f}"
    )


def estimated_pck(P, name: str, manifest: pd.DataFrame) -> np.ndarray:
    """(N,) share of the visible target key points that the estimator finds within 10 % of the person's height in the image."""
    return filter_quality.pck(*load_bodies(manifest, CANDIDATES / name), P.augment.keypoints)


def filter_check(P, name: str, manifest: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """PCK of kept and rejected candidates; the interval of the difference resamples identities that have both."""
    table = manifest.assign(
        pck=estimated_pck(P, name, manifest), kept=manifest["kept"].astype(bool)
    )
    means = table.groupby(["pid", "kept"])["pck"].mean().unstack()
    both = (
        (means[True] - means[False]).dropna().to_numpy()
        if {True, False} <= set(means.columns)
        else np.zeros(0)
    )
    interval = bootstrap_interval(both, seed=seed) if len(both) else None
    return pd.DataFrame(
        [
            {
                "dataset": name,
                "kept": int(table["kept"].sum()),
                "rejected": int((~table["kept"]).sum()),
                "pck_kept": table.loc[table["kept"], "pck"].mean(),
                "pck_rejected": table.loc[~table["kept"], "pck"].mean(),
                "difference": interval.mean if interval else np.nan,
                "ci_low": interval.low if interval else np.nan,
                "ci_high": interval.high if interval else np.nan,
                "identities": len(both),
                "auc_confidence": filter_quality.auc(
                    table["gen_mean"].to_numpy(), (table["pck"] >= 0.9).to_numpy()
                ),
                "auc_difference": filter_quality.auc(
                    -table["difference"].to_numpy(), (table["pck"] >= 0.9).to_numpy()
                ),
            }
        ]
    )


def rule_curves(
    P, manifests: dict[str, pd.DataFrame], *, good: float = 0.9, points: int = 201
) -> pd.DataFrame:
    """ROC of each of the filter's rules for telling candidates with PCK ≥ `good` from the others, all data sets together: a row per score
    and threshold, from the strictest down (quantiles of the score), as `charts.roc.curves` takes it."""
    right = (
        np.concatenate([estimated_pck(P, name, manifest) for name, manifest in manifests.items()])
        >= good
    )
    scores = filter_quality.rule_scores(pd.concat(manifests.values(), ignore_index=True), P.augment)
    parts = []
    for name in scores:
        thresholds = np.append(
            np.unique(np.quantile(scores[name], np.linspace(0, 1, points), method="nearest")),
            np.inf,
        )
        parts.append(
            filter_quality.curve(scores[name], right, thresholds)
            .iloc[::-1]
            .assign(score=name, auc=filter_quality.auc(scores[name], right))
        )
    table = pd.concat(parts, ignore_index=True)
    return table.assign(true_positive_rate=table["recall"])[
        [
            "score",
            "threshold",
            "kept",
            "precision",
            "true_positive_rate",
            "false_positive_rate",
            "auc",
        ]
    ]


def filters_compared(
    P,
    name: str,
    manifest: pd.DataFrame,
    images: np.ndarray,
    person: np.ndarray,
    extract,
    *,
    good: float = 0.9,
) -> pd.DataFrame:
    """The filter's rules beside alternatives, all candidates of a data set: score, truth, good_percent, auc, lost_percent, precision, recall.

    Truths: the pose is right (PCK ≥ `good`), the person is right (`person` (N,) bool, of the `images` (N, H, W, 3)), both. Alternatives:
    the key points' distance from the wanted ones, the similarity to the person's real photos by `extract` (images to features (N, D)), and
    the worse rank of the two. Every score is cut where it loses as many images as the filter, `all rules`.
    """
    real = datasets.load(name, P.paths.datasets).train
    photos = read_images(real["path"], P.image.height, P.image.width)
    bodies, estimated = load_bodies(manifest, CANDIDATES / name)
    pose = filter_quality.pck(bodies, estimated, P.augment.keypoints) >= good
    truths = {"right pose": pose, "right person": person, "both": pose & person}
    scores = filter_quality.rule_scores(manifest, P.augment)
    error = filter_quality.keypoint_error(bodies, estimated, P.augment.keypoints)
    scores["key points"] = -np.where(np.isnan(error), np.inf, error)
    scores["Re-ID similarity"] = filter_quality.identity_similarity(
        extract(images), manifest["pid"].to_numpy(), extract(photos), real["pid"].to_numpy()
    )[0]
    scores["key points and Re-ID"] = filter_quality.both(
        scores["key points"], scores["Re-ID similarity"]
    )
    rules = (
        filter_quality.rules_at(manifest, P.augment, truths)
        .query("rule == 'all'")
        .assign(score="all rules")
    )
    lost = float(rules["lost_percent"].iloc[0])
    table = pd.concat(
        [rules, filter_quality.at_equal_loss(scores, truths, lost)], ignore_index=True
    )[["score", "truth", "lost_percent", "precision", "recall"]]
    table = table.merge(filter_quality.areas(scores, truths)[["score", "truth", "auc"]], how="left")
    table.insert(
        2,
        "good_percent",
        table["truth"].map({truth: 100 * right.mean() for truth, right in truths.items()}),
    )
    return table


def write(P, name: str, rows: pd.DataFrame) -> None:
    """The augmented data set in the source's own layout, with its manifest, at `build/augmented/<name>`."""
    manifest = lambda root: rows.to_csv(root / "manifest.csv", index=False, lineterminator="\n")
    write_augmented(
        datasets.load(name, P.paths.datasets),
        for_writing(rows, CANDIDATES / name),
        AUGMENTED / name,
        overwrite=True,
        also=manifest,
    )
