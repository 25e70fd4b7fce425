"""MSMT17-S: no viewpoint and no pose on both sides, computed anew from smpl.npz and the lists."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import trees
from pipeline import ROOT
from scipy.spatial.transform import Rotation

from posedive_lib import datasets, params
from posedive_lib.datasets import splits
from posedive_lib.errors import StudyError

BODY = ROOT / "data/body/SMPL_NEUTRAL.npz"
RULE = SimpleNamespace(
    cam=SimpleNamespace(train_max_azimuth=60.0, test_min_azimuth=90.0),
    pose=SimpleNamespace(clusters=6, train_clusters=3),
)

pytestmark = pytest.mark.skipif(
    not BODY.is_file(), reason="the tracked data are not here: dvc pull data.dvc"
)


def rotation(vector):
    """Rodrigues' formula: R = I + sin(a) K + (1 - cos(a)) K²."""
    angle = np.linalg.norm(vector)
    x, y, z = vector / angle if angle > 0 else vector
    K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * K + (1 - np.cos(angle)) * K @ K


def azimuth_of(orient, translation):
    """Degrees from the front: the camera (the origin) in the body's own axes."""
    x, _, z = rotation(orient).T @ (-translation)
    return np.degrees(np.arctan2(x, z))


def joints_of(body_pose):
    """24 joints relative to the pelvis, by walking SMPL's tree with the body file's own arrays."""
    with np.load(BODY, allow_pickle=False) as body:
        rest = (
            body["J_regressor"] @ body["v_template"] if "J_regressor" in body.files else body["J"]
        )
        parents = body["kintree_table"][0].astype(np.int64)
    world, place = {0: np.eye(3)}, {0: np.zeros(3)}
    for joint in range(1, 24):
        parent = int(parents[joint]) if parents[joint] < 24 else -1
        place[joint] = place[parent] + world[parent] @ (rest[joint] - rest[parent])
        world[joint] = world[parent] @ rotation(body_pose[3 * joint - 3 : 3 * joint])
    return np.array([place[j] for j in range(24)])


@pytest.fixture(scope="module", params=["V1", "V2"])
def made(request, tmp_path_factory):
    """A tiny MSMT17 whose people turn and move at random, with its S lists.

    Returns root, bodies by path.
    """
    root = tmp_path_factory.mktemp("splits")
    trees.msmt17(root / f"MSMT17_{request.param}", request.param, people=6, images=24)
    data = datasets.load("msmt17", root)
    paths = data.images()["rel"].tolist()
    rng, n = np.random.default_rng(11), len(paths)
    turn = Rotation.from_euler("y", rng.uniform(-180, 180, (n, 1)), degrees=True)
    orient = (
        Rotation.from_euler("x", 180 + rng.uniform(-20, 20, (n, 1)), degrees=True) * turn
    ).as_rotvec()
    stances = rng.normal(scale=0.35, size=(9, 69))
    pose = stances[rng.integers(0, 9, n)] + rng.normal(scale=0.03, size=(n, 69))
    where = np.stack(
        [rng.uniform(-0.5, 0.5, n), rng.uniform(-0.5, 0.5, n), rng.uniform(3, 8, n)], axis=1
    )
    zeros = np.zeros
    np.savez(
        data.folder / "smpl.npz",
        path=np.array(paths),
        global_orient=orient,
        body_pose=pose,
        betas=zeros((n, 10)),
        cam_t=where,
        focal=np.full(n, 320.0),
        keypoints=zeros((n, 17, 2)),
        visible=np.full((n, 17), 2),
    )
    splits.write_msmt17_s(root, RULE, BODY)
    return root, dict(zip(paths, zip(orient, where, pose, strict=True), strict=True))


def listed(root, kind):
    """Side -> image paths, straight from the written lists."""
    inner = (
        {"train": "mask_train_v2", "test": "mask_test_v2"}
        if (root / "MSMT17_V2").is_dir()
        else {"train": "train", "test": "test"}
    )
    sides = {"train": [], "test": []}
    for split in ("train", "query", "gallery"):
        for line in (root / "MSMT17-S" / kind / f"list_{split}.txt").read_text().splitlines():
            side, rest = line.split(" ")[0].split("/", 1)
            assert side == ("train" if split == "train" else "test")
            sides[side].append(f"{inner[side]}/{rest}")
    assert sides["train"] and sides["test"]
    return sides


def test_no_viewpoint_is_on_both_sides(made):
    root, bodies = made
    sides = listed(root, "cam")
    train, test = (
        np.array([azimuth_of(*bodies[path][:2]) for path in sides[side]])
        for side in ("train", "test")
    )
    assert np.abs(train).max() <= 60 and np.abs(test).min() >= 90
    gap = np.abs((train[:, None] - test[None] + 180) % 360 - 180)
    assert gap.min() >= 30 - 1e-9  # 60 to 90 degrees: nothing in between, on either flank
    everyone = {path: azimuth_of(*body[:2]) for path, body in bodies.items()}
    in_reach = {
        path
        for path, angle in everyone.items()
        if (abs(angle) <= 60 if "train" in path else abs(angle) >= 90)
    }
    assert set(sides["train"]) | set(sides["test"]) <= in_reach


def test_no_pose_cluster_is_on_both_sides(made):
    root, bodies = made
    sides = listed(root, "pose")
    centres = np.array(
        json.loads((root / "MSMT17-S" / "pose" / "rule.json").read_text())["centres"]
    )
    assert centres.shape == (6, 24, 3)
    nearest = {
        path: int(((joints_of(body[2]) - centres) ** 2).sum((1, 2)).argmin())
        for path, body in bodies.items()
    }
    train, test = ({nearest[path] for path in sides[side]} for side in ("train", "test"))
    assert train.isdisjoint(test) and train <= {0, 1, 2} and test <= {3, 4, 5}
    in_training = np.bincount(
        [nearest[path] for path in bodies if "train" in path.split("/")[0]], minlength=6
    )
    assert (np.diff(in_training) <= 0).all()  # numbered by how common they are in training


def test_every_query_can_be_scored_and_no_image_is_query_and_gallery(made):
    root, _ = made
    for kind in ("cam", "pose"):
        data = datasets.load(f"msmt17-s-{kind}", root)
        assert set(data.query["rel"]).isdisjoint(data.gallery["rel"]) and set(
            data.train["rel"]
        ).isdisjoint(data.gallery["rel"])
        for row in data.query.itertuples():
            assert ((data.gallery["pid"] == row.pid) & (data.gallery["camid"] != row.camid)).any()
        assert data.train["pid"].value_counts().min() >= 4
        assert data.protocol["split"].startswith("MSMT17-S") and data.protocol["version"] == (
            "V2" if (root / "MSMT17_V2").is_dir() else "V1"
        )


def test_the_rule_is_written_with_its_numbers(made):
    root, _ = made
    cam, pose = (
        json.loads((root / "MSMT17-S" / kind / "rule.json").read_text()) for kind in ("cam", "pose")
    )
    assert (
        cam["train_max_azimuth"],
        cam["test_min_azimuth"],
        pose["clusters"],
        pose["train_clusters"],
    ) == (60.0, 90.0, 6, 3)
    assert {"kept", "train", "test", "lists"} <= set(cam) & set(pose)
    assert not list((root / "MSMT17-S").rglob(".*"))


def test_writing_again_gives_the_same_files(made):
    root, _ = made
    before = {path: path.read_bytes() for path in (root / "MSMT17-S").rglob("*") if path.is_file()}
    splits.write_msmt17_s(root, RULE, BODY)
    assert (
        before
        == {path: path.read_bytes() for path in (root / "MSMT17-S").rglob("*") if path.is_file()}
        and len(before) == 10
    )


def test_lists_have_a_place_of_their_own_and_the_data_stay_untouched(made, tmp_path):
    """Notebook 01 writes to `paths.splits`; a study reads the lists there."""
    root, _ = made
    data = tmp_path / "data"
    shutil.copytree(root, data, ignore=shutil.ignore_patterns("MSMT17-S"))
    before = {path: path.stat().st_mtime_ns for path in [data, *data.rglob("*")]}
    splits.write_msmt17_s(data, RULE, BODY, tmp_path / "lists")
    changes = {"paths.datasets": str(data), "paths.splits": str(tmp_path / "lists")}
    paths = params.load(ROOT / "params.yaml", overrides=changes).paths
    for kind in ("cam", "pose"):
        usual = f"msmt17-s-{kind}"
        own = datasets.of_study(usual, paths)
        for split, table in datasets.load(usual, root).tables.items():
            assert own.tables[split]["rel"].tolist() == table["rel"].tolist()
        with pytest.raises(StudyError, match="MSMT17-S"):
            datasets.load(usual, data)
    assert before == {path: path.stat().st_mtime_ns for path in [data, *data.rglob("*")]}


@pytest.mark.parametrize("splits_folder", ["data", "data/MSMT17_V1/lists", "."])
def test_lists_are_never_written_among_the_data(splits_folder):
    changes = {"paths.datasets": "data", "paths.splits": splits_folder}
    with pytest.raises(StudyError, match="paths must have splits, which is written, apart from"):
        params.load(ROOT / "params.yaml", overrides=changes)


def test_without_bodies_nothing_is_written(tmp_path):
    trees.msmt17(tmp_path)
    with pytest.raises(StudyError, match="smpl.npz is missing"):
        splits.write_msmt17_s(tmp_path, RULE, BODY)
    assert not (tmp_path / "MSMT17-S").exists()
