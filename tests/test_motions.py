"""The mini world's motions move as people do, by forward kinematics on the written files."""

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from miniworld import anatomy, motions
from posedive_lib.body.kinematics import JOINT_NAMES, joint_positions
from posedive_lib.body.poses import load_poses

J = {name: index for index, name in enumerate(JOINT_NAMES)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("motions")
    motions.write_motions(folder)
    return folder


def posed(**angles: float) -> np.ndarray:
    """Joints (24, 3) of a single pose given in degrees."""
    track = {name: np.full(1, float(angles.get(name, 0.0))) for name in anatomy.LIMITS}
    poses = anatomy.amass(track, heading=0.0, betas=np.zeros(16))["poses"].astype(float)
    body_pose = np.concatenate([poses[:, 3:66], np.zeros((1, 6))], axis=1)
    return joint_positions(np.zeros((1, 3)), body_pose)[0]


def test_rest_pose_is_the_t_pose():
    joints = joint_positions(np.zeros((1, 3)), np.zeros((1, 69)))[0]
    assert joints[J["left_wrist"], 0] > 0.5 and joints[J["right_wrist"], 0] < -0.5
    assert joints[J["left_foot"], 2] > joints[J["left_ankle"], 2] + 0.05  # toes point forward
    np.testing.assert_allclose(joints[J["left_knee"]] * [-1, 1, 1], joints[J["right_knee"]])


@pytest.mark.parametrize("side, name, out", [("l", "left", 1), ("r", "right", -1)])
def test_every_angle_moves_its_limb_the_stated_way(side, name, out):
    still = posed()
    hip, knee, ankle, foot = (J[f"{name}_{part}"] for part in ("hip", "knee", "ankle", "foot"))
    shoulder, elbow, wrist = (J[f"{name}_{part}"] for part in ("shoulder", "elbow", "wrist"))
    assert still[wrist, 1] < still[shoulder, 1] - 0.45  # arms hang
    assert posed(**{f"hip_flex_{side}": 60})[knee, 2] > still[knee, 2] + 0.2
    assert posed(**{f"knee_{side}": 60})[ankle, 2] < still[ankle, 2] - 0.2
    assert out * posed(**{f"hip_abduct_{side}": 30})[ankle, 0] > out * still[ankle, 0] + 0.2
    assert out * posed(**{f"hip_turn_{side}": 30})[foot, 0] > out * still[foot, 0] + 0.02
    assert posed(**{f"ankle_{side}": 20})[foot, 1] > still[foot, 1] + 0.02
    assert posed(**{f"arm_swing_{side}": 60})[wrist, 2] > still[wrist, 2] + 0.3
    assert posed(**{f"elbow_{side}": 90})[wrist, 2] > still[wrist, 2] + 0.15
    assert posed(**{f"arm_raise_{side}": 170})[wrist, 1] > still[J["head"], 1] + 0.2
    assert out * posed(**{f"arm_raise_{side}": 90})[wrist, 0] > 0.5
    assert posed(**{f"arm_raise_{side}": 90, f"arm_across_{side}": 80})[wrist, 2] > 0.35
    bent = {f"arm_raise_{side}": 90, f"elbow_{side}": 90}
    assert posed(**bent, **{f"arm_twist_{side}": -80})[wrist, 1] > posed(**bent)[elbow, 1] + 0.15
    assert posed(**bent, **{f"arm_twist_{side}": 60})[wrist, 1] < posed(**bent)[elbow, 1] - 0.15


def test_centre_angles():
    head = J["head"]
    assert posed(spine_flex=60)[head, 2] > 0.2
    assert posed(spine_side=30)[head, 0] < -0.1
    assert (
        posed(spine_twist=45)[J["left_shoulder"], 2] < posed()[J["left_shoulder"], 2] - 0.05
    )  # turns to the left
    assert posed(neck_flex=40)[head, 1] < posed()[head, 1]
    assert posed(neck_turn=60)[head, 0] > posed()[head, 0]


def test_amass_format(folder):
    files = sorted(folder.rglob("*.npz"))
    assert {path.parent.name for path in files} == {"in-domain", "out-of-domain"}
    assert sum(path.stat().st_size for path in files) < 1.5e6
    frames, unusual = 0, 0
    for path in files:
        with np.load(path, allow_pickle=False) as file:
            frames += len(file["poses"])
            unusual += len(file["poses"]) * (path.parent.name == "out-of-domain")
            assert set(file.files) == {"poses", "betas", "trans", "gender", "mocap_framerate"}
            assert (
                np.isfinite(file["poses"]).all()
                and np.isfinite(file["trans"]).all()
                and np.isfinite(file["betas"]).all()
            )
            assert file["poses"].shape == (len(file["trans"]), 156) and file["betas"].shape == (16,)
            assert file["trans"].shape[1] == 3 and float(file["mocap_framerate"]) == 30
            assert str(file["gender"]) == "neutral"
            assert not file["poses"][:, 66:].any()
    assert frames >= 4000 and unusual >= 1800


def test_same_seed_writes_the_same_bytes(folder, tmp_path):
    again = motions.write_motions(tmp_path)
    assert all(
        path.read_bytes() == (folder / path.relative_to(tmp_path)).read_bytes() for path in again
    )


def test_written_joints_stay_within_their_limits(folder):
    source = load_poses(folder)

    def degrees(name: str) -> np.ndarray:
        return np.degrees(source.body_pose.reshape(-1, 23, 3)[:, J[name] - 1])

    for side in ("left", "right"):
        knee, ankle = degrees(f"{side}_knee"), degrees(f"{side}_ankle")
        assert (
            knee[:, 0].min() >= -1e-3
            and knee[:, 0].max() <= 135.1
            and abs(knee[:, 1:]).max() < 1e-3
        )  # a hinge that bends backward only
        assert ankle[:, 0].min() >= -32.1 and ankle[:, 0].max() <= 40.1
        assert np.linalg.norm(degrees(f"{side}_shoulder"), axis=1).max() < 150
        assert np.linalg.norm(degrees(f"{side}_hip"), axis=1).max() < 125
    assert np.degrees(np.abs(source.root_tilt)).max() < 75
    left, right = degrees("left_elbow")[:, 1], degrees("right_elbow")[:, 1]
    assert -145.1 < left.min() and left.max() < 0 < right.min() and right.max() < 145.1


@pytest.mark.parametrize("name", sorted(anatomy.LIMITS))
def test_angles_beyond_a_limit_are_held_at_it(name):
    low, high = anatomy.LIMITS[name]
    if np.isfinite(high):
        np.testing.assert_allclose(posed(**{name: high + 40}), posed(**{name: high}), atol=1e-6)
        np.testing.assert_allclose(posed(**{name: low - 40}), posed(**{name: low}), atol=1e-6)


def world_joints(path) -> np.ndarray:
    """Joints (T, 24, 3) of a written file in metres, z up, where the person walks."""
    with np.load(path) as file:
        poses, trans = file["poses"].astype(float), file["trans"].astype(float)
    return joint_positions(poses[:, :3], np.pad(poses[:, 3:66], ((0, 0), (0, 6)))) + trans[:, None]


def test_feet_touch_the_ground_and_do_not_slide(folder):
    for path in sorted(folder.rglob("*.npz")):
        feet = world_joints(path)[:, [J["left_foot"], J["right_foot"]]]
        lowest = feet[..., 2].min(axis=1)
        if not path.stem.startswith("jump"):
            np.testing.assert_allclose(lowest, 0, atol=0.01, err_msg=path.stem)
        carrying = feet[1:, :, 2].argmin(axis=1)
        step = np.take_along_axis(np.diff(feet[..., :2], axis=0), carrying[:, None, None], axis=1)
        grounded = lowest[1:] < 0.01
        assert np.quantile(np.linalg.norm(step[:, 0], axis=1)[grounded], 0.95) * 30 < (
            0.15 if path.stem.startswith("jump") else 0.05
        ), path.stem  # m/s


def test_jumps_leave_the_ground_and_come_back(folder):
    for path in folder.rglob("jump*.npz"):
        low = world_joints(path)[:, [J["left_foot"], J["right_foot"]], 2].min(axis=1)
        assert low.max() > 0.05 and low[0] < 0.01 and (low < 0.02).mean() > 0.25, path.stem


def test_unusual_poses_are_away_from_ordinary_ones_but_not_a_world_apart(folder):
    source = load_poses(folder)
    ordinary, unusual = (source.body_pose[source.domain == domain][::2] for domain in ("in", "out"))
    tree = cKDTree(ordinary)
    between = tree.query(unusual)[0]
    usual = tree.query(ordinary, k=2)[0][:, 1]
    assert np.median(between) > 5 * np.quantile(usual, 0.95)
    assert (
        between < 3 * np.quantile(usual, 0.95)
    ).mean() > 0.02  # they begin and end as everybody stands


def test_performers_do_the_same_thing_differently(folder):
    source = load_poses(folder)
    for name in {str(name)[:-2] for name in source.name}:
        first, second = (
            source.body_pose[source.name == f"{name}_{performer}"] for performer in (0, 1)
        )
        assert np.median(cKDTree(first).query(second)[0]) > 0.05, name


def test_the_person_is_upright_on_the_ground_and_moves_smoothly(folder):
    for path in sorted(folder.rglob("*.npz")):
        joints = world_joints(path)
        assert abs(joints[:, :, 2].min()) < 0.01, path  # z is up
        assert np.median(joints[:, J["head"], 2] - joints[:, J["pelvis"], 2]) > 0.4, path
        speed = np.linalg.norm(np.diff(joints, axis=0), axis=2) * 30
        assert speed.max() < 12, (path, speed.max())


def test_walking_goes_forward(folder):
    with np.load(folder / "in-domain" / "walk_normal_0.npz") as file:
        trans, poses = file["trans"], file["poses"].astype(float)
    facing = Rotation.from_rotvec(poses[:, :3]).apply([0, 0, 1]).mean(axis=0)[:2]
    way = trans[-1, :2] - trans[0, :2]
    assert np.linalg.norm(way) > 2
    assert way @ facing / np.linalg.norm(way) / np.linalg.norm(facing) > 0.95


def test_gait_alternates(folder):
    source = load_poses(folder / "in-domain")
    joints = joint_positions(source.root_tilt, source.body_pose)[source.name == "walk_normal_0"]
    feet, hands = (
        joints[:, J[f"left_{part}"], 2] - joints[:, J[f"right_{part}"], 2]
        for part in ("ankle", "wrist")
    )
    assert feet.max() > 0.3 and feet.min() < -0.3
    assert np.corrcoef(feet, hands)[0, 1] < -0.8  # arms against legs


def test_raised_arms_are_above_the_head_and_dances_differ(folder):
    source = load_poses(folder)
    joints = joint_positions(source.root_tilt, source.body_pose)
    up = joints[source.name == "raised_arms_0"]
    assert (
        up[:, [J["left_wrist"], J["right_wrist"]], 1].min(axis=1) > up[:, J["head"], 1]
    ).mean() > 0.3
    dances = [
        joints[source.name == name].std(axis=0).mean()
        for name in ("dance_0", "dance_1", "dance_fast_0", "dance_fast_1")
    ]
    walking = joints[source.name == "walk_normal_0"].std(axis=0).mean()
    assert min(dances) > walking
