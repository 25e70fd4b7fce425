"""§A: MSMT17-S (Cam) and (Pose), with training and test viewpoints (resp. poses) kept disjoint.

The paper's lists are unpublished. The rules here are ours, and what they choose is written out
beside the lists. People stay disjoint as in MSMT17, because training images come from its training
split and test images from its test split.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from posedive_lib.datasets import msmt17
from posedive_lib.datasets.loading import load, made_bodies
from posedive_lib.datasets.table import SPLITS, ReIDDataset, Tables
from posedive_lib.errors import StudyError
from posedive_lib.intake.paths import resolved
from posedive_lib.writing import replacing

if TYPE_CHECKING:
    from posedive_lib.params.sections import CamSplit, PoseSplit, Splits

MIN_TRAIN_IMAGES = 4  # an identity with fewer cannot fill its K places in a batch
KMEANS_SEED = 0
# What both `rule.json` say.
ABOUT = {
    "train": "MSMT17's list_train and list_val; identities with fewer than "
    f"{MIN_TRAIN_IMAGES} images left are dropped",
    "test": "MSMT17's list_query and list_gallery; identities seen by one camera only are dropped; "
    "per identity and camera with two images or more one is the query "
    "(an original query first, then by path), the rest gallery; "
    "an identity with single images only gives its first camera's image as query",
    "lists": "lines '<train|test>/<path> <pid>'; train and test count their identities "
    "independently",
}


def drop_rare(train: pd.DataFrame, least: int = MIN_TRAIN_IMAGES) -> pd.DataFrame:
    """Training rows of identities with at least `least` images."""
    return train[train.groupby("pid")["pid"].transform("size") >= least].reset_index(drop=True)


def arrange_test(test: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(query, gallery) from the surviving test rows: every query has a match from another camera.

    Per identity and camera with two images or more, one becomes the query (an original query where
    one survived); the rest is gallery. An identity with single images only gives its first camera's
    image as query. Identities seen by one camera only are dropped.
    """
    test = test[test.groupby("pid")["camid"].transform("nunique") >= 2]
    queries: list[Any] = []
    for _, person in test.groupby("pid", sort=True):
        groups = [
            group.sort_values(["was_query", "rel"], ascending=[False, True])
            for _, group in person.groupby("camid", sort=True)
        ]
        several = [group for group in groups if len(group) >= 2] or groups[:1]
        queries += [group.index[0] for group in several]
    chosen = test.index.isin(queries)
    gallery = test[~chosen].sort_values("rel")
    return test[chosen].reset_index(drop=True), gallery.reset_index(drop=True)


def cam_sides(
    azimuth: np.ndarray, is_train: np.ndarray, *, train_max_azimuth: float, test_min_azimuth: float
) -> np.ndarray:
    """Which images MSMT17-S (Cam) keeps, (N,) bool: training near the front, test away from it.

    azimuth: (N,) degrees from the front. is_train: (N,) bool. StudyError if the sides overlap.
    """
    if not train_max_azimuth <= test_min_azimuth:
        raise StudyError(
            f"splits.cam: train_max_azimuth ({train_max_azimuth}) must not be above "
            f"test_min_azimuth ({test_min_azimuth}), or viewpoints overlap."
        )
    away = np.abs(azimuth)
    return np.where(is_train, away <= train_max_azimuth, away > test_min_azimuth)


def pose_sides(
    joints: np.ndarray, is_train: np.ndarray, *, clusters: int, train_clusters: int
) -> tuple[np.ndarray, np.ndarray]:
    """(kept (N,) bool, cluster (N,) int) of MSMT17-S (Pose).

    joints: root-relative, (N, J, 3) in metres. is_train: (N,) bool. k-means over all images; the
    `train_clusters` clusters most common in the training split train, all others test. Clusters are
    numbered by how common they are in the training split. StudyError if a side would be empty.
    """
    from sklearn.cluster import KMeans

    if not 0 < train_clusters < clusters:
        raise StudyError(
            f"splits.pose: train_clusters ({train_clusters}) must lie between 1 and clusters - 1 "
            f"({clusters - 1}), or a side is empty."
        )
    if len(joints) < clusters:
        raise StudyError(
            f"splits.pose.clusters is {clusters}, but there are only {len(joints)} images: "
            "choose fewer clusters."
        )
    means = KMeans(n_clusters=clusters, n_init=4, random_state=KMEANS_SEED)
    found = means.fit_predict(joints.reshape(len(joints), -1))
    order = np.argsort(-np.bincount(found[is_train], minlength=clusters), kind="stable")
    cluster = np.argsort(order, kind="stable")[found]  # rank of each image's cluster
    return np.where(is_train, cluster < train_clusters, cluster >= train_clusters), cluster


def body_joints(body_pose: np.ndarray, body_path: str | Path) -> np.ndarray:
    """Joints (N, 24, 3) of the mean body relative to the pelvis, metres; see `pose_joints`."""
    from posedive_lib.body.smpl import load_smpl, pose_joints

    return pose_joints(load_smpl(body_path), body_pose)


def select(dataset: ReIDDataset, kept: np.ndarray, pool: pd.DataFrame) -> Tables:
    """Train, query and gallery from the rows of `pool` (see `pool_of`) that are kept.

    kept: (N,) bool. StudyError if a split comes out empty.
    """
    chosen = pool[kept]
    query, gallery = arrange_test(chosen[chosen["split"] != "train"])
    train = drop_rare(chosen[chosen["split"] == "train"])
    splits = {"train": train, "query": query, "gallery": gallery}
    for split, frame in splits.items():
        if frame.empty:
            raise StudyError(
                f"MSMT17-S: the rule under 'splits' in params.yaml leaves no {split} images of "
                f"{dataset.folder}: widen it."
            )
    return splits


def pool_of(dataset: ReIDDataset) -> pd.DataFrame:
    """All images of the data set in one table: rel, pid, camid, split and `was_query`."""
    parts = [
        frame[["rel", "pid", "camid"]].assign(split=split)
        for split, frame in dataset.tables.items()
    ]
    pool = pd.concat(parts, ignore_index=True)
    return pool.assign(was_query=pool["split"] == "query")


def write_lists(where: Path, splits: Tables) -> None:
    """`list_{train,query,gallery}.txt` with lines `<train|test>/<path> <pid>`."""
    for split, frame in splits.items():
        side = "train" if split == "train" else "test"
        lines = [
            f"{side}/{rel.split('/', 1)[1]} {pid}\n"
            for rel, pid in zip(frame["rel"], frame["pid"], strict=True)
        ]
        with replacing(where / f"list_{split}.txt") as draft:
            draft.write_text("".join(lines), encoding="utf-8")


def _cam_rule(cam: CamSplit) -> dict[str, Any]:
    """The rule of MSMT17-S (Cam) as `rule.json` keeps it."""
    return {
        "split": "MSMT17-S (Cam)",
        "train_max_azimuth": cam.train_max_azimuth,
        "test_min_azimuth": cam.test_min_azimuth,
        "unit": "degrees",
        "azimuth": "atan2(d_x, d_z) of d = -R^T t / |t|, with R from global_orient and t = cam_t "
        "of smpl.npz: the direction to the camera in the body's axes, 0 = front, "
        "90 = the person's left",
        "kept": "training images with |azimuth| <= train_max_azimuth, "
        "test images with |azimuth| > test_min_azimuth",
        **ABOUT,
    }


def _pose_rule(pose: PoseSplit, joints: np.ndarray, cluster: np.ndarray) -> dict[str, Any]:
    """The rule of MSMT17-S (Pose) as `rule.json` keeps it; its centres assign other images."""
    centres = [joints[cluster == k].mean(axis=0).round(5).tolist() for k in range(pose.clusters)]
    return {
        "split": "MSMT17-S (Pose)",
        "clusters": pose.clusters,
        "train_clusters": pose.train_clusters,
        "kmeans_seed": KMEANS_SEED,
        "unit": "metres",
        "pose": "24 root-relative SMPL joints of the mean body posed by body_pose of smpl.npz, "
        "without global rotation",
        "kept": "a pose belongs to the nearest centre; training images of the first "
        "train_clusters centres, test images of the others",
        "centres": centres,
        **ABOUT,
    }


def write_msmt17_s(
    root: str | Path,
    split_params: Splits,
    body_path: str | Path,
    out: str | Path | None = None,
    *,
    bodies: str | Path | None = None,
) -> dict[str, Tables]:
    """§A: write both list sets into `MSMT17-S/{cam,pose}` of `out`; returns their tables.

    root: where MSMT17 lies; without `out` the lists go there. split_params: the section `splits` of
    params.yaml. body_path: the SMPL file. bodies: as `made_bodies` takes it; viewpoints and poses
    come from there. Beside the lists lie `azimuths.csv` or `clusters.csv` (every image and its
    side) and `rule.json`, so that others can reuse the rule. StudyError if poses are missing or a
    side of a split is empty.
    """
    from posedive_lib.body.camera import viewpoint
    from posedive_lib.body.table import BodyTable

    root = resolved(root)
    dataset = load("msmt17", root, bodies=made_bodies("msmt17", bodies))
    path = dataset.bodies
    if not path.is_file():
        raise StudyError(
            f"{path} is missing: MSMT17-S needs the SMPL pose of every image; "
            "fit or import them first."
        )
    pool = pool_of(dataset)
    known = BodyTable.load(path).select(pool["rel"].tolist())
    is_train = (pool["split"] == "train").to_numpy()
    cam, pose = split_params.cam, split_params.pose

    azimuth = np.asarray(viewpoint(known.global_orient, known.cam_t)[0], dtype=np.float64)
    kept = cam_sides(
        azimuth,
        is_train,
        train_max_azimuth=cam.train_max_azimuth,
        test_min_azimuth=cam.test_min_azimuth,
    )
    by_view = select(dataset, kept, pool)
    joints = body_joints(known.body_pose, body_path)
    kept, cluster = pose_sides(
        joints, is_train, clusters=pose.clusters, train_clusters=pose.train_clusters
    )
    by_pose = select(dataset, kept, pool)
    rule = _pose_rule(pose, joints, cluster)
    where = Path(out or root).expanduser() / msmt17.S_FOLDER
    _write(where / "cam", by_view, pool.assign(azimuth=azimuth), _cam_rule(cam))
    _write(where / "pose", by_pose, pool.assign(cluster=cluster), rule)
    return {"cam": by_view, "pose": by_pose}


def _write(where: Path, splits: Tables, pool: pd.DataFrame, rule: dict[str, Any]) -> None:
    """The lists, the rule, and every image with the last column of `pool` and its side.

    An image that is left out has no side.
    """
    write_lists(where, splits)
    side = {rel: split for split in SPLITS for rel in splits[split]["rel"]}
    report = pool.drop(columns="was_query")
    report["side"] = report["rel"].map(side).fillna("")
    with replacing(where / f"{pool.columns[-1]}s.csv") as draft:
        report.to_csv(draft, index=False, float_format="%.3f")
    with replacing(where / "rule.json") as draft:
        draft.write_text(json.dumps(rule, indent=1) + "\n")
