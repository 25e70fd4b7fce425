"""Plans: what is drawn, that it is stable, and that it makes a narrow training set wider."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from miniworld.motions import write_motions
from posedive_lib.augment import distribution, diversify, targets, uniformity
from posedive_lib.augment.distribution import pose_cells
from posedive_lib.augment.diversify import ARMS, plan, policies_of
from posedive_lib.augment.training_set import Training
from posedive_lib.augment.uniformity import coverage, pose_coverage
from posedive_lib.body.camera import orient, viewpoint
from posedive_lib.body.poses import PoseSource, load_poses
from posedive_lib.body.table import BodyTable
from posedive_lib.errors import StudyError


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> PoseSource:
    folder = tmp_path_factory.mktemp("motions")
    write_motions(folder)
    return load_poses(folder, fps=6)


@pytest.fixture(scope="module")
def training(source) -> Training:
    """Pedestrians seen from the front, ± 40°, from 5–12° above."""
    rng = np.random.default_rng(0)
    walking = np.flatnonzero(np.char.startswith(source.name.astype(str), "walk"))
    rows = rng.choice(walking, 120)
    azimuth, elevation = rng.uniform(-40, 40, 120), rng.uniform(5, 12, 120)
    bodies = BodyTable(
        path=np.array([f"{row:04d}.jpg" for row in range(120)]),
        global_orient=orient(source.root_tilt[rows], azimuth, elevation),
        body_pose=source.body_pose[rows],
        betas=np.zeros((120, 10)),
        cam_t=np.tile([0.0, 0, 4.5], (120, 1)),
        focal=np.full(120, 512.0),
        keypoints=np.zeros((120, 17, 2)),
        visible=np.full((120, 17), 2),
    )
    return Training(bodies, azimuth, elevation)


@pytest.fixture(scope="module")
def references() -> pd.DataFrame:
    return pd.DataFrame(
        [(pid, f"{pid}_{shot}.jpg", shot) for pid in (2, 7, 11) for shot in range(3)],
        columns=["pid", "rel", "camid"],
    )


POLICY = SimpleNamespace(viewpoint="uniform", pose="inverse-density")


def make(references, training, source, n=30, arm="pose-dive", **options):
    return plan(
        "market1501",
        references,
        training,
        source,
        n_per_pid=n,
        **policies_of(arm, POLICY) | options,
    )


@pytest.mark.parametrize("arm", ARMS)
def test_asking_for_more_only_appends(arm, references, training, source):
    few, many = (make(references, training, source, n, arm=arm) for n in (5, 12))
    pd.testing.assert_frame_equal(few, many.iloc[: len(few)])
    assert len(few) == 15 and list(few.columns) == diversify.COLUMNS
    assert many["seed"].nunique() == len(many)


def test_dropping_an_identity_changes_no_other(references, training, source):
    everyone = make(references, training, source, 4)
    without = make(references[references["pid"] != 7], training, source, 4)
    pd.testing.assert_frame_equal(everyone[everyone["pid"] != 7].reset_index(drop=True), without)


def test_policies_share_references_and_noise(references, training, source):
    plans = [make(references, training, source, 6, arm=arm) for arm in ARMS]
    for other in plans[1:]:
        pd.testing.assert_frame_equal(
            plans[0][["pid", "index", "reference", "camid", "seed"]],
            other[["pid", "index", "reference", "camid", "seed"]],
        )


def test_references_take_turns_and_give_their_camera(references, training, source):
    made = make(references, training, source, 6)
    for pid, own in made.groupby("pid"):
        assert own["reference"].value_counts().tolist() == [2, 2, 2]
        assert (own["reference"] == [f"{pid}_{camid}.jpg" for camid in own["camid"]]).all()


def test_sampled_viewpoints_are_uniform_in_the_paper_s_range(references, training, source):
    made = make(references, training, source, 400)
    assert made["azimuth"].between(-180, 180).all() and made["elevation"].between(0, 30).all()
    assert (
        coverage(made["azimuth"], made["elevation"])
        < 0.01
        < 0.3
        < coverage(training.azimuth, training.elevation)
    )
    assert abs(made["elevation"].mean() - 15) < 1


@pytest.mark.parametrize("arm", ["pose", "same-distribution"])
def test_kept_viewpoints_are_the_training_set_s(arm, references, training, source):
    made = make(references, training, source, 20, arm=arm)
    np.testing.assert_allclose(made["azimuth"], training.azimuth[made["view_row"]])
    assert made["azimuth"].abs().max() <= 40


def test_sparse_poses_are_unlike_the_training_set(references, training, source):
    known = distribution.pose_features(training.bodies.body_pose)
    features = distribution.pose_features(source.body_pose)

    def mean_distance(policy):
        rows = make(references, training, source, 200, pose_policy=policy)["pose_row"]
        return distribution.neighbour_distance(features[rows], known).mean()

    assert mean_distance("inverse-density") > 1.15 * mean_distance("uniform")
    cells = pose_cells(source.body_pose, 12)
    both = [
        pose_coverage(source.body_pose[make(references, training, source, 200)["pose_row"]], cells),
        pose_coverage(training.bodies.body_pose, cells),
    ]
    assert both[0] < 0.1 < both[1]


def test_sparse_viewpoints_avoid_what_is_common(references, training, source):
    made = make(references, training, source, 200, viewpoint_policy="inverse-density")
    front = ((made["azimuth"].abs() < 30) & (made["elevation"] < 10)).mean()
    assert front < 0.02  # 1/18 of the range, but where the training set already looks
    assert made["elevation"].between(0, 30).all()


def test_bodies_are_seen_from_the_planned_viewpoint(references, training, source):
    still = PoseSource(
        np.zeros((5, 3)), source.body_pose[:5], source.domain[:5], source.name[:5], source.frame[:5]
    )
    for arm in ("pose-dive", "viewpoint"):
        made = make(references, training, still, 5, arm=arm)
        orientation, body_pose = targets.oriented(made, training, still)
        azimuth, elevation = viewpoint(orientation, np.tile([0.0, 0, 4.5], (len(made), 1)))
        np.testing.assert_allclose(azimuth, made["azimuth"], atol=1e-6)
        np.testing.assert_allclose(elevation, made["elevation"], atol=1e-6)
        expected = still.body_pose if arm == "pose-dive" else training.bodies.body_pose
        np.testing.assert_allclose(body_pose, expected[made["pose_row"]])
    made = make(references, training, source, 5, arm="same-distribution")
    orientation, _ = targets.oriented(made, training, source)
    np.testing.assert_allclose(
        orientation, training.bodies.global_orient[made["pose_row"]], atol=1e-6
    )


def test_coverage_numbers():
    centres = np.array(
        [(azimuth, elevation) for azimuth in range(15, 360, 30) for elevation in (5, 15, 25)]
    ).T
    assert coverage(*centres) == pytest.approx(0)
    assert coverage(*centres - np.array([[360], [0]])) == pytest.approx(0)  # azimuth wraps
    assert coverage([10.0], [5.0]) > 0.8
    assert coverage([10, 190], [5, 5]) < coverage([10, 10], [5, 5])
    assert np.isnan(coverage([], []))


@pytest.mark.parametrize(
    "options, said",
    [
        ({"arm": "both"}, "arm"),
        ({"pose_policy": "random"}, "augment.policy.pose"),
        ({"viewpoint_policy": "front"}, "augment.policy.viewpoint"),
        ({"elevation": (30, 0)}, "augment.elevation"),
        ({"n": -1}, "n_per_pid"),
    ],
)
def test_bad_requests(options, said, references, training, source):
    with pytest.raises(StudyError, match=said):
        make(references, training, source, **options)
    with pytest.raises(StudyError, match="references"):
        make(references.iloc[:0], training, source)


def test_an_arm_is_a_pair_of_policies(references, training, source):
    expected = {
        "pose-dive": ("uniform", "inverse-density"),
        "viewpoint": ("uniform", "same-distribution"),
        "pose": ("same-distribution", "inverse-density"),
        "same-distribution": ("same-distribution", "same-distribution"),
    }
    for arm, pair in expected.items():
        made = make(references, training, source, 2, arm=arm)
        assert set(
            zip(made["policy"], made["viewpoint_policy"], made["pose_policy"], strict=True)
        ) == {(arm, *pair)}
        assert set(made["pose_from"]) == {
            "training" if pair[1] == "same-distribution" else "source"
        }
        assert ((made["view_row"] >= 0) == (pair[0] == "same-distribution")).all()


def test_same_distribution_keeps_pose_and_view_together(references, training, source):
    made = make(references, training, source, 20, arm="same-distribution")
    assert (made["pose_row"] == made["view_row"]).all()


def test_balanced_poses_are_uniform_over_pose_space(references, training, source):
    """Every cell alike, whatever its number of frames; uniform over frames is not."""
    cells = pose_cells(source.body_pose)
    weights = diversify.pose_weights(source, training.bodies.body_pose, "balanced")
    per_cell = np.bincount(distribution.nearest_cell(source.body_pose, cells), weights, len(cells))
    np.testing.assert_allclose(per_cell, 1 / len(cells))
    by = {
        policy: source.body_pose[
            make(references, training, source, 200, pose_policy=policy)["pose_row"]
        ]
        for policy in ("balanced", "uniform")
    }
    assert pose_coverage(by["balanced"], cells) < 0.02 < pose_coverage(by["uniform"], cells)


def test_coverage_table_says_that_diversification_widens(references, training, source):
    made = make(references, training, source, 60)
    bodies = training.bodies.select(["0000.jpg"] * len(made))
    bodies = replace(bodies, body_pose=source.body_pose[made["pose_row"]])
    table = uniformity.coverage_table(
        training,
        Training(bodies, made["azimuth"].to_numpy(), made["elevation"].to_numpy()),
        pose_cells(source.body_pose),
    )
    table = table.set_index("images_of")
    assert table["images"].to_dict() == {"real": 120, "generated": 180, "combined": 300}
    assert (
        table.loc["combined", ["viewpoint", "pose"]] < table.loc["real", ["viewpoint", "pose"]]
    ).all()
    alone = uniformity.coverage_table(training, None, pose_cells(source.body_pose)).set_index(
        "images_of"
    )
    assert (
        alone.loc["generated"].isna().sum() == 2
        and alone.loc["combined", "pose"] == alone.loc["real", "pose"]
    )


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_pose_maps_keep_groups_apart_and_in_order(method):
    rng = np.random.default_rng(0)
    groups = {"near": rng.normal(0, 0.1, (30, 72)), "far": rng.normal(5, 0.1, (20, 72))}
    flat = uniformity.pose_map(groups, method=method)
    assert [part.shape for part in flat.values()] == [(30, 2), (20, 2)]
    gap = np.linalg.norm(flat["near"].mean(0) - flat["far"].mean(0))
    assert gap > 2 * np.linalg.norm(flat["near"] - flat["near"].mean(0), axis=1).mean()
    with pytest.raises(StudyError, match="method"):
        uniformity.pose_map(groups, method="umap")
