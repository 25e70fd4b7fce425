"""Fitting SMPL to key points: the prior learns, truth is found again, broken input is named."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from pipeline import ROOT
from roma import rotvec_to_rotmat

from posedive_lib.body.camera import fit_to_crop, orient, project, viewpoint
from posedive_lib.body.kinematics import joint_positions
from posedive_lib.body.poses import load_poses
from posedive_lib.body.smpl import COCO_FROM_SMPL, cached_smpl, load_smpl, pose
from posedive_lib.body.table import BodyTable
from posedive_lib.errors import StudyError
from posedive_lib.intake import arrays as archive
from posedive_lib.own_data import fit
from posedive_lib.own_data.fitting import FitSettings, fit_keypoints, visibility
from posedive_lib.own_data.heading import Heading
from posedive_lib.own_data.keypoint_body import KeypointBody, rotations_of, view_rotation
from posedive_lib.own_data.pose_prior import PosePrior, Views, mirrored, pose_rows, spread

BODY = str(ROOT / "data/body/SMPL_NEUTRAL.npz")
H, W = 128, 64


@pytest.fixture(scope="module")
def source():
    return load_poses(ROOT / "data/motions", fps=2)


@pytest.fixture(scope="module")
def people(source):
    """Bodies with truth, in poses of the motions and from all sides."""
    rng, model, count = np.random.default_rng(3), cached_smpl(BODY), 24
    rows = rng.choice(len(source), count, replace=False)
    orientation = orient(
        source.root_tilt[rows], rng.uniform(-180, 180, count), rng.uniform(0, 30, count)
    )
    keypoints, cam_t = np.zeros((count, 17, 2)), np.zeros((count, 3))
    for i, row in enumerate(rows):
        vertices, joints = pose(
            model, orientation[i], source.body_pose[row], rng.normal(0, 0.7, 10)
        )
        cam_t[i] = fit_to_crop(vertices, 2.5 * H, H, W)
        keypoints[i] = project(joints[COCO_FROM_SMPL] + cam_t[i], 2.5 * H, H, W)
    return keypoints, viewpoint(orientation, cam_t)[0]


@pytest.fixture(scope="module")
def fitted(people, source) -> BodyTable:
    return fit_keypoints(
        people[0], np.ones((len(people[0]), 17)), cached_smpl(BODY), source, height=H, width=W
    )


def gap(a, b):
    return np.abs((a - b + 180) % 360 - 180)


@pytest.mark.parametrize("bends", [False, True])
def test_key_points_are_those_of_the_posed_surface(bends, tmp_path):
    """With the bundled body's correctives, and with ones that act everywhere."""
    rng, model = np.random.default_rng(0), cached_smpl(BODY)
    if bends:
        with np.load(BODY) as file:
            arrays = dict(file)
        np.savez(
            tmp_path / "bent.npz",
            **arrays
            | {"posedirs": rng.normal(0, 1e-3, arrays["posedirs"].shape).astype(np.float32)},
        )
        model = load_smpl(tmp_path / "bent.npz")
    root, body_pose, betas = (
        rng.normal(0, 1, (3, 3)),
        rng.normal(0, 0.4, (3, 69)),
        rng.normal(0, 1, (3, 10)),
    )

    def as_tensor(value):
        return torch.from_numpy(value).float()

    found = KeypointBody(model)(
        rotations_of(rotvec_to_rotmat(as_tensor(root)), as_tensor(body_pose)), as_tensor(betas)
    )
    for i in range(3):
        np.testing.assert_allclose(
            found[i], pose(model, root[i], body_pose[i], betas[i])[1][COCO_FROM_SMPL], atol=1e-5
        )


def test_views_are_seen_as_cameras_see_them():
    rng = np.random.default_rng(1)
    azimuth, elevation = rng.uniform(-180, 180, 20), rng.uniform(-80, 80, 20)
    ours = view_rotation(*torch.from_numpy(np.radians([azimuth, elevation])))
    np.testing.assert_allclose(
        ours,
        rotvec_to_rotmat(torch.from_numpy(orient(np.zeros((20, 3)), azimuth, elevation))),
        atol=1e-9,
    )


def test_mirroring_reflects_the_joints_and_undoes_itself(source):
    rows = pose_rows(source)[::20]

    def joints(rows):
        return joint_positions(rows[:, :3], np.pad(rows[:, 3:], ((0, 0), (0, 6))))

    swap = [0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22]
    np.testing.assert_allclose(
        joints(mirrored(rows)), joints(rows)[:, swap] * [-1, 1, 1], atol=1e-9
    )
    np.testing.assert_allclose(mirrored(mirrored(rows)), rows, atol=1e-12)


def test_the_prior_holds_its_motions_and_not_broken_limbs(source):
    prior, rows = PosePrior.learn(source), torch.from_numpy(pose_rows(source)).float()
    again = prior.decode(prior.encode(rows))
    assert (again - rows).abs().mean() < 0.01 and (prior.beyond(rows) == 0).all()
    assert prior.encode(rows).square().mean() == pytest.approx(1, abs=0.3)
    bent = rows[:1].clone()
    bent[0, 3 + 3 * 3] = -2.0  # the left knee (joint 4) bends forward
    assert prior.beyond(bent).max() > 1


def test_spread_poses_are_farther_apart_than_random_ones(source):
    joints = joint_positions(source.root_tilt, source.body_pose).reshape(len(source), -1)

    def nearest(rows):
        return np.sort(np.linalg.norm(joints[rows][:, None] - joints[rows][None], axis=-1), axis=1)[
            :, 1
        ].min()

    assert nearest(spread(source, 30)) > 3 * nearest(
        np.random.default_rng(0).choice(len(source), 30, replace=False)
    )


def test_matching_is_the_least_squares_of_scale_and_shift(source):
    body = KeypointBody(cached_smpl(BODY))
    views = Views.take(body, source, distance=4.6, poses=2, azimuths=4, elevations=(10.0,))
    rng = np.random.default_rng(2)
    points, weight = rng.normal(0, 20, (3, 17, 2)) + 40, rng.uniform(0.1, 1, (3, 17))
    found = views.match(torch.from_numpy(points).float(), torch.from_numpy(weight).float())
    for i in range(3):
        for j in range(len(views.azimuth)):
            x, root = views.keypoints[j].numpy().astype(float), np.sqrt(np.repeat(weight[i], 2))
            design = (
                np.column_stack([x.ravel(), np.tile([1, 0], 17), np.tile([0, 1], 17)])
                * root[:, None]
            )
            solution, *_ = np.linalg.lstsq(design, points[i].ravel() * root, rcond=None)
            centred = points[i] - np.average(points[i], axis=0, weights=weight[i])
            if solution[0] > 0:
                rest = (
                    np.square(design @ solution - points[i].ravel() * root).sum()
                    / (weight[i][:, None] * centred**2).sum()
                )
                assert found[i, j] == pytest.approx(rest, abs=1e-3)
            else:
                assert found[i, j] == pytest.approx(1, abs=1e-5)


def test_truth_is_found_again_from_true_key_points(people, fitted):
    keypoints, azimuth = people
    found, elevation = viewpoint(fitted.global_orient, fitted.cam_t)
    assert np.median(gap(found, azimuth)) < 8 and (gap(found, azimuth) < 45).mean() >= 0.95
    tall = np.ptp(keypoints[..., 1], axis=1)
    assert np.median(np.linalg.norm(fitted.keypoints - keypoints, axis=-1) / tall[:, None]) < 0.015
    assert (fitted.visible == 2).mean() > 0.95 and not fitted.body_pose[:, 63:].any()


def test_the_table_says_what_it_draws(fitted, tmp_path):
    """Its key points are its own bodies', by the reference implementation, also after saving."""
    fitted.save(tmp_path / "smpl.npz")
    table = BodyTable.load(tmp_path / "smpl.npz")
    for i in range(0, len(table), 6):
        joints = pose(
            cached_smpl(BODY), table.global_orient[i], table.body_pose[i], table.betas[i]
        )[1][COCO_FROM_SMPL]
        np.testing.assert_allclose(
            project(joints + table.cam_t[i], table.focal[i], H, W), table.keypoints[i], atol=0.02
        )
    assert [path.name for path in tmp_path.iterdir()] == ["smpl.npz"]


def test_noise_and_an_outlier_do_not_throw_it_off(people, source):
    rng = np.random.default_rng(4)
    keypoints, azimuth = people
    tall = np.ptp(keypoints[..., 1], axis=1)
    noisy = keypoints + rng.normal(0, 0.03, keypoints.shape) * tall[:, None, None]
    noisy[np.arange(len(noisy)), rng.integers(5, 17, len(noisy))] += tall[
        :, None
    ]  # one key point per image somewhere else
    table = fit_keypoints(
        noisy, rng.uniform(0.3, 1, noisy.shape[:2]), cached_smpl(BODY), source, height=H, width=W
    )
    error = gap(viewpoint(table.global_orient, table.cam_t)[0], azimuth)
    assert np.median(error) < 20 and (error < 45).mean() > 0.75


def test_images_do_not_change_each_other(people, source, fitted):
    alone = fit_keypoints(
        people[0][5:7], np.ones((2, 17)), cached_smpl(BODY), source, height=H, width=W
    )
    np.testing.assert_allclose(alone.keypoints, fitted.keypoints[5:7], atol=0.1)


def test_sizes_may_differ(people, source, fitted):
    larger = fit_keypoints(
        people[0][:2] * [[[2.0]], [[1.0]]],
        np.ones((2, 17)),
        cached_smpl(BODY),
        source,
        height=[2 * H, H],
        width=[2 * W, W],
    )
    np.testing.assert_allclose(larger.focal, [5.0 * H, 2.5 * H])
    np.testing.assert_allclose(larger.cam_t, fitted.cam_t[:2], atol=0.05)


def test_confidence_tells_front_from_back():
    rng = np.random.default_rng(5)
    azimuth = torch.from_numpy(rng.uniform(-np.pi, np.pi, 400)).float()
    confidence = torch.from_numpy(rng.uniform(0.4, 0.6, (400, 17))).float()
    confidence[:, 0] += 0.2 * azimuth.cos()
    rough = torch.where(
        torch.arange(400) % 5 == 0, azimuth + np.pi, azimuth
    )  # a fifth is the wrong way round
    cue = Heading.learn(confidence, rough)
    cost = cue.cost(torch.stack([azimuth, azimuth + np.pi], 1))
    clear = azimuth.cos().abs() > 0.5
    assert (cost[:, 0] < cost[:, 1])[clear].float().mean() > 0.9
    assert (
        cue.expected[:, 0].std() > 2 * cue.expected[:, 1].std()
    )  # the sine cannot be told from these
    assert Heading.learn(confidence[:50], rough[:50]) is None


def test_visibility_from_confidence():
    points = np.array([[[1.0, 1], [1, 1], [1, 1], [-1, 1]]])
    assert visibility(
        points, np.array([[0.9, 0.3, 0.1, 0.9]]), np.array([4]), np.array([4])
    ).tolist() == [[2, 1, 0, 0]]


@pytest.mark.parametrize(
    "points, sigma, said",
    [
        (np.full((2, 17, 2), np.nan), np.ones((2, 17)), "row 0"),
        (np.zeros((2, 18, 2)), np.ones((2, 18)), "COCO"),
        (np.zeros((2, 17, 2)), np.full((2, 17), 7.0), "0, 1"),
        (np.zeros((0, 17, 2)), np.ones((0, 17)), "at least one"),
    ],
)
def test_key_points_that_lie_are_named(points, sigma, said, source):
    with pytest.raises(StudyError, match=said):
        fit_keypoints(points, sigma, cached_smpl(BODY), source, height=H, width=W)


def test_a_stopped_run_goes_on(tmp_path, source, monkeypatch):
    rng = np.random.default_rng(6)
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path, height in zip(paths, (32, 32, 48, 32, 48), strict=True):
        Image.fromarray(rng.integers(0, 255, (height, 16, 3), dtype=np.uint8)).save(path)
    images = pd.DataFrame(
        {"path": [str(path) for path in paths], "rel": [path.name for path in paths]}
    )
    monkeypatch.setattr(fit, "BATCH", 2)
    settings = dict(
        body=BODY,
        motions=str(ROOT / "data/motions/in-domain"),
        estimator=str(ROOT / "data/pretrained/vitpose"),
        focal=2.5,
        settings=FitSettings(steps=2, starts=2),
        progress=False,
    )
    monkeypatch.setattr(fit, "FPS", 1.0)
    real, calls = fit.fit_rows, []

    def stops(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(fit, "fit_rows", stops)
    with pytest.raises(KeyboardInterrupt):
        fit.fit_images(images, tmp_path / "a.npz", **settings)
    assert not (tmp_path / "a.npz").exists()
    resumed = fit.fit_images(images, tmp_path / "a.npz", **settings)
    assert len(calls) == 4 and not (tmp_path / "a.npz.parts").exists()
    whole = fit.fit_images(images, tmp_path / "b.npz", **settings)
    np.testing.assert_array_equal(resumed.keypoints, whole.keypoints)
    assert BodyTable.load(tmp_path / "a.npz").path.tolist() == [path.name for path in paths]
    paths[3].write_bytes(b"no image")
    with pytest.raises(StudyError, match="3.png"):
        fit.fit_images(images, tmp_path / "c.npz", **settings)


@pytest.fixture
def photo(tmp_path):
    """A table of one image, and what `fit_images` needs beside it."""
    Image.new("RGB", (16, 32), (90, 60, 30)).save(tmp_path / "a.png")
    images = pd.DataFrame({"path": [str(tmp_path / "a.png")], "rel": ["a.png"]})
    return images, dict(
        body=BODY,
        motions=str(ROOT / "data/motions/in-domain"),
        estimator=str(ROOT / "data/pretrained/vitpose"),
        focal=2.5,
        progress=False,
    )


@pytest.mark.parametrize(
    "wrong", [{"body": "no/body.npz"}, {"motions": "no/motions"}, {"estimator": "no/vitpose"}]
)
def test_a_missing_input_is_named_before_anything_is_estimated(wrong, photo, tmp_path, monkeypatch):
    images, options = photo
    monkeypatch.setattr(fit, "estimate", lambda *arguments: pytest.fail("estimated"))
    with pytest.raises(StudyError, match=next(iter(wrong.values()))):
        fit.fit_images(images, tmp_path / "smpl.npz", **options | wrong)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_lost_images_and_places_that_cannot_be_written_are_named(photo, tmp_path, monkeypatch):
    images, options = photo
    with pytest.raises(StudyError, match="at least one"):
        fit.fit_images(images.iloc[:0], tmp_path / "smpl.npz", **options)
    with pytest.raises(StudyError, match=r"b\.png cannot be read"):
        fit.fit_images(
            images.assign(path=str(tmp_path / "b.png")), tmp_path / "smpl.npz", **options
        )
    with pytest.raises(StudyError, match=r"smpl\.npz\.parts cannot be written"):
        fit.fit_images(images, tmp_path / "a.png" / "smpl.npz", **options)

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(archive.np, "savez", full)
        with pytest.raises(
            StudyError, match=r"cannot be written \(No space left on device\): free space"
        ):
            fit.fit_images(images, tmp_path / "smpl.npz", **options)
    assert not list(
        (tmp_path / "smpl.npz.parts").iterdir()
    )  # no half batch to be taken for a finished one
    monkeypatch.setattr(archive.np, "savez_compressed", full)  # the table's own writer
    with pytest.raises(
        StudyError, match=r"smpl\.npz cannot be written \(No space left on device\)"
    ):
        fit.fit_images(images, tmp_path / "smpl.npz", **options)
    assert len(list((tmp_path / "smpl.npz.parts").iterdir())) == 2  # the work is kept


def test_a_sentence_does_not_follow_a_bar_on_its_line(photo, tmp_path, monkeypatch, capsys):
    images, options = photo
    monkeypatch.setattr(
        fit, "estimate", lambda *arguments: (_ for _ in ()).throw(StudyError("a.png is broken."))
    )
    with pytest.raises(StudyError):
        fit.fit_images(images, tmp_path / "smpl.npz", **options | {"progress": True})
    assert "key points" in (shown := capsys.readouterr().err) and shown.endswith("\n")
