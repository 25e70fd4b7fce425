"""§A: MSMT17-S (Cam) and MSMT17-S (Pose), with training and test viewpoints (resp. poses) disjoint by construction.

The paper's lists are unpublished; the rules here are ours and what they choose is written out beside the lists. People stay disjoint as
in MSMT17, for training images come from its training split and test images from its test split.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from posedive_lib.datasets import msmt17
from posedive_lib.datasets.table import ReIDDataset
from posedive_lib.errors import StudyError
from posedive_lib.writing import replacing

MIN_TRAIN_IMAGES = 4  # an identity with fewer cannot fill its K places in a batch
KMEANS_SEED = 0
_TAIL = {
    "train": f"MSMT17's list_train and list_val; identities with fewer than {MIN_TRAIN_IMAGES} images left are dropped",
    "test": "MSMT17's list_query and list_gallery; identities seen by one camera only are dropped; per identity and camera with two images or more one is the query "
    "(an original query first, then by path), the rest gallery; an identity with single images only gives its first camera's image as query",
    "lists": "lines '<train|test>/<path> <pid>'; train and test count their identities independently",
}


def drop_rare(train: pd.DataFrame, least: int = MIN_TRAIN_IMAGES) -> pd.DataFrame:
    """Training rows of identities with at least `least` images."""
    return train[train.groupby("pid")["pid"].transform("size") >= least].reset_index(drop=True)


def arrange_test(test: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Query and gallery from the surviving test rows, so that every query has a match from another camera in the gallery.

    Per identity and camera with two images or more, one becomes the query (an original query where one survived); the rest is gallery.
    An identity with single images only gives its first camera's image as query. Identities seen by one camera only are dropped.
    """
    test = test[test.groupby("pid")["camid"].transform("nunique") >= 2]
    queries = []
    for _, person in test.groupby("pid", sort=True):
        groups = [
            group.sort_values(["was_query", "rel"], ascending=[False, True])
            for _, group in person.groupby("camid", sort=True)
        ]
        several = [group for group in groups if len(group) >= 2] or groups[:1]
        queries += [group.index[0] for group in several]
    chosen = test.index.isin(queries)
    return test[chosen].reset_index(drop=True), test[~chosen].sort_values("rel").reset_index(
        drop=True
    )


def cam_sides(
    azimuth: np.ndarray, is_train: np.ndarray, *, train_max_azimuth: float, test_min_azimuth: float
) -> np.ndarray:
    """(N,) bool: training images seen within `train_max_azimuth` degrees of the front, test images from beyond `test_min_azimuth`."""
    if not train_max_azimuth <= test_min_azimuth:
        raise StudyError(
            f"splits.cam: train_max_azimuth ({train_max_azimuth}) must not be above test_min_azimuth ({test_min_azimuth}), or viewpoints overlap."
        )
    return np.where(
        is_train, np.abs(azimuth) <= train_max_azimuth, np.abs(azimuth) > test_min_azimuth
    )


def pose_sides(
    joints: np.ndarray, is_train: np.ndarray, *, clusters: int, train_clusters: int
) -> tuple[np.ndarray, np.ndarray]:
    """(kept (N,) bool, cluster (N,) int) from root-relative joints (N, J, 3) in metres.

    k-means over all images; the `train_clusters` clusters most common in the training split train, all others test. Clusters are
    numbered by how common they are in the training split, so numbers below `train_clusters` are the training poses.
    """
    from sklearn.cluster import KMeans

    if not 0 < train_clusters < clusters:
        raise StudyError(
            f"splits.pose: train_clusters ({train_clusters}) must lie between 1 and clusters - 1 ({clusters - 1}), or a side is empty."
        )
    if len(joints) < clusters:
        raise StudyError(
            f"splits.pose.clusters is {clusters}, but there are only {len(joints)} images: choose fewer clusters."
        )
    found = KMeans(n_clusters=clusters, n_init=4, random_state=KMEANS_SEED).fit_predict(
        joints.reshape(len(joints), -1)
    )
    order = np.argsort(-np.bincount(found[is_train], minlength=clusters), kind="stable")
    cluster = np.argsort(order, kind="stable")[found]
    return np.where(is_train, cluster < train_clusters, cluster >= train_clusters), cluster


def body_joints(body_pose: np.ndarray, body_path: str | Path) -> np.ndarray:
    """Joints (N, 24, 3) of the mean body relative to the pelvis, metres; see `pose_joints`."""
    from posedive_lib.body.smpl import load_smpl, pose_joints

    return pose_joints(load_smpl(body_path), body_pose)


def select(dataset: ReIDDataset, kept: np.ndarray, pool: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Train, query and gallery tables from the rows of `pool` that are kept; StudyError if a split comes out empty."""
    chosen = pool[kept]
    query, gallery = arrange_test(chosen[chosen["split"] != "train"])
    splits = {
        "train": drop_rare(chosen[chosen["split"] == "train"]),
        "query": query,
        "gallery": gallery,
    }
    for split, frame in splits.items():
        if frame.empty:
            raise StudyError(
                f"MSMT17-S: the rule under 'splits' in params.yaml leaves no {split} images of {dataset.folder}: widen it."
            )
    return splits


def pool_of(dataset: ReIDDataset) -> pd.DataFrame:
    """All images of the data set in one table, with `split` and `was_query`."""
    parts = [
        frame[["rel", "pid", "camid"]].assign(split=split)
        for split, frame in (
            ("train", dataset.train),
            ("query", dataset.query),
            ("gallery", dataset.gallery),
        )
    ]
    pool = pd.concat(parts, ignore_index=True)
    return pool.assign(was_query=pool["split"] == "query")


def write_lists(where: Path, splits: dict[str, pd.DataFrame]) -> None:
    """`list_{train,query,gallery}.txt`, lines `<train|test>/<path> <pid>`."""
    where.mkdir(parents=True, exist_ok=True)
    for split, frame in splits.items():
        side = "train" if split == "train" else "test"
        lines = [
            f"{side}/{rel.split('/', 1)[1]} {pid}\n"
            for rel, pid in zip(frame["rel"], frame["pid"], strict=True)
        ]
        with replacing(where / f"list_{split}.txt") as draft:
            draft.write_text("".join(lines))


def _report(where: Path, pool: pd.DataFrame, splits: dict[str, pd.DataFrame], name: str) -> None:
    """`images.csv`: every image of MSMT17, its viewpoint or cluster, and the side it was put on (empty: left out)."""
    side = {rel: split for split, frame in splits.items() for rel in frame["rel"]}
    pool.assign(side=pool["rel"].map(side).fillna("")).to_csv(
        where / name, index=False, float_format="%.3f"
    )


def _write_json(path: Path, content: dict) -> None:
    with replacing(path) as draft:
        draft.write_text(json.dumps(content, indent=1) + "\n")


def cam_rule(cam) -> dict:
    """The rule of MSMT17-S (Cam) as `rule.json` keeps it."""
    return {
        "split": "MSMT17-S (Cam)",
        "train_max_azimuth": cam.train_max_azimuth,
        "test_min_azimuth": cam.test_min_azimuth,
        "unit": "degrees",
        "azimuth": "atan2(d_x, d_z) of d = -R^T t / |t|, with R from global_orient and t = cam_t of smpl.npz: the direction to the camera in the body's axes, 0 = front, 90 = the person's left",
        "kept": "training images with |azimuth| <= train_max_azimuth, test images with |azimuth| > test_min_azimuth",
        **_TAIL,
    }


def pose_rule(pose, joints: np.ndarray, cluster: np.ndarray) -> dict:
    """The rule of MSMT17-S (Pose) as `rule.json` keeps it, with the cluster centres, so that poses of other images can be assigned."""
    centres = [joints[cluster == k].mean(axis=0).round(5).tolist() for k in range(pose.clusters)]
    return {
        "split": "MSMT17-S (Pose)",
        "clusters": pose.clusters,
        "train_clusters": pose.train_clusters,
        "kmeans_seed": KMEANS_SEED,
        "unit": "metres",
        "pose": "24 root-relative SMPL joints of the mean body posed by body_pose of smpl.npz, without global rotation",
        "kept": "a pose belongs to the nearest centre; training images of the first train_clusters centres, test images of the others",
        "centres": centres,
        **_TAIL,
    }


def write_msmt17_s(
    root: str | Path, split_params, body_path: str | Path
) -> dict[str, dict[str, pd.DataFrame]]:
    """§A: write both list sets into `root/MSMT17-S/{cam,pose}`, with `azimuths.csv` and `clusters.csv` (every image and its side)
    and `rule.json` (the rule, so that others can reuse it), and return the tables.

    `split_params` is the section `splits` of params.yaml. Viewpoints and poses come from `smpl.npz` in the data set's folder, as the
    mini world or an SMPL estimator writes it.
    """
    from posedive_lib import datasets
    from posedive_lib.body.camera import viewpoint
    from posedive_lib.body.table import BodyTable

    root = Path(root).expanduser().resolve()
    dataset = datasets.load("msmt17", root)
    path = dataset.folder / "smpl.npz"
    if not path.is_file():
        raise StudyError(
            f"{path} is missing: MSMT17-S needs the SMPL pose of every image; fit or import them first."
        )
    pool = pool_of(dataset)
    bodies = BodyTable.load(path).select(pool["rel"].tolist())
    is_train = (pool["split"] == "train").to_numpy()

    azimuth = np.asarray(viewpoint(bodies.global_orient, bodies.cam_t)[0], dtype=np.float64)
    cam, pose = split_params.cam, split_params.pose
    kept_cam = cam_sides(
        azimuth,
        is_train,
        train_max_azimuth=cam.train_max_azimuth,
        test_min_azimuth=cam.test_min_azimuth,
    )
    joints = body_joints(bodies.body_pose, body_path)
    kept_pose, cluster = pose_sides(
        joints, is_train, clusters=pose.clusters, train_clusters=pose.train_clusters
    )

    written = {}
    rules = {"cam": cam_rule(cam), "pose": pose_rule(pose, joints, cluster)}
    for kind, kept, column, values in (
        ("cam", kept_cam, "azimuth", azimuth),
        ("pose", kept_pose, "cluster", cluster),
    ):
        splits = select(dataset, kept, pool)
        where = root / msmt17.S_FOLDER / kind
        write_lists(where, splits)
        _report(
            where,
            pool.drop(columns="was_query").assign(**{column: values}),
            splits,
            f"{column}s.csv",
        )
        _write_json(where / "rule.json", rules[kind])
        written[kind] = splits
    return written
