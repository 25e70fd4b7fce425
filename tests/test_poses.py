"""Reading AMASS motions: axes, heading, frame rates, and files that lie."""

import os

import numpy as np
import pytest
from pipeline import ROOT
from scipy.spatial.transform import Rotation

from miniworld import anatomy
from posedive_lib.body.poses import load_poses, read_motion, remove_heading
from posedive_lib.body.table import BodyTable
from posedive_lib.errors import StudyError
from posedive_lib.intake.frames import check_domains, check_frames

Z_UP = Rotation.from_euler("x", 90, degrees=True)


def write(path, root=None, frames=12, width=156, **changes):
    root = Rotation.identity(frames) if root is None else root
    poses = np.zeros((frames, width))
    poses[:, :3] = (Z_UP * root).as_rotvec()
    poses[:, 3:66] = np.linspace(0, 0.5, frames)[:, None]
    poses[:, 66:] = 9.0 if width > 72 else 0.0  # hands must not leak into the body
    arrays = {
        "poses": poses,
        "betas": np.zeros(16),
        "trans": np.zeros((frames, 3)),
        "gender": "male",
        "mocap_framerate": 60.0,
    } | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_upright_person_has_no_tilt_whatever_the_heading(tmp_path):
    turning = Rotation.from_euler("y", np.linspace(0, 350, 12)[:, None], degrees=True)
    write(tmp_path / "in-domain" / "a.npz", turning)
    np.testing.assert_allclose(load_poses(tmp_path).root_tilt, 0, atol=1e-7)


def test_tilt_survives_and_heading_goes():
    tilt = Rotation.from_euler("x", [[-40], [10], [100]], degrees=True)
    for heading in (-170, -30, 0, 90):
        root = Rotation.from_euler("y", heading, degrees=True) * tilt
        np.testing.assert_allclose(remove_heading(root).as_rotvec(), tilt.as_rotvec(), atol=1e-9)


def test_any_orientation_round_trips_and_has_no_turn_left():
    root = Rotation.random(200, random_state=0)
    tilt = remove_heading(root)
    np.testing.assert_allclose(tilt.as_rotvec()[:, 1], 0, atol=1e-9)
    turn = root * tilt.inv()
    np.testing.assert_allclose(turn.apply([0, 1, 0]), np.tile([0, 1, 0], (200, 1)), atol=1e-9)
    upside_down = Rotation.from_euler("x", [[180]], degrees=True)
    assert np.isfinite(remove_heading(upside_down).as_rotvec()).all()


@pytest.mark.parametrize("width", [72, 156, 165])
def test_widths_and_padding(tmp_path, width):
    write(tmp_path / "out-of-domain" / "b.npz", width=width)
    source = load_poses(tmp_path)
    assert source.body_pose.shape == (12, 69) and not source.body_pose[:, 63:].any()
    np.testing.assert_allclose(source.body_pose[-1, :63], 0.5)
    assert set(source.domain) == {"out"} and set(source.name) == {"b"}


def test_order_domains_frame_rate_and_select(tmp_path):
    write(tmp_path / "out-of-domain" / "z.npz")
    write(tmp_path / "in-domain" / "sub" / "a.npz", mocap_framerate=None, mocap_frame_rate=120.0)
    source = load_poses(tmp_path, fps=30)
    assert list(source.name) == ["a"] * 3 + ["z"] * 6
    assert list(source.frame) == [0, 4, 8, 0, 2, 4, 6, 8, 10]
    assert list(source.domain) == ["in"] * 3 + ["out"] * 6
    assert set(load_poses(tmp_path / "out-of-domain").domain) == {"out"}
    assert len(load_poses(tmp_path, fps=500)) == 24  # never makes up frames
    assert list(source.select(np.array([8, 0])).frame) == [10, 0]


def test_pickled_gender_is_never_read(tmp_path):
    write(tmp_path / "old.npz", gender=np.array({"a": 1}, dtype=object))
    assert len(load_poses(tmp_path)) == 12


def test_linked_folders_are_read_as_the_real_ones(tmp_path):
    write(tmp_path / "amass" / "a.npz")
    write(tmp_path / "motions" / "in-domain" / "b.npz")
    (tmp_path / "motions" / "out-of-domain").symlink_to(tmp_path / "amass")
    source = load_poses(tmp_path / "motions")
    assert list(source.name) == ["b"] * 12 + ["a"] * 12
    assert list(source.domain) == ["in"] * 12 + ["out"] * 12


BINS = (  # what file managers, waste bins and snapshots of a disk put below a folder
    "__MACOSX/walk.npz",
    ".Trash-1000/files/old.npz",
    ".snapshot/daily/in-domain/walk.npz",
    "in-domain/$RECYCLE.BIN/old.npz",
    "in-domain/@eaDir/walk.npz",
)


def test_files_beside_motions_are_skipped_and_counted(tmp_path, caplog):
    write(tmp_path / "in-domain" / "walk.npz")
    write(tmp_path / "in-domain" / "neutral_shape.npz")  # a motion of that name
    load_poses(tmp_path)
    assert not caplog.records
    for name in ("shape", "neutral_stagei"):
        np.savez(tmp_path / "in-domain" / f"{name}.npz", gender="neutral", betas=np.zeros(16))
    for place in ("in-domain/._walk.npz", *BINS):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(bytes.fromhex("0005160700020000"))
    assert set(load_poses(tmp_path).name) == {"walk", "neutral_shape"}
    assert len(caplog.records) == 1
    assert "8 of 10 .npz files are no motions and are skipped" in caplog.text
    for path in tmp_path.rglob("[wn]*_shape.npz"):
        path.unlink()
    (tmp_path / "in-domain" / "walk.npz").unlink()
    with pytest.raises(StudyError, match="no .npz motion"):
        load_poses(tmp_path)


def test_the_case_of_an_ending_does_not_count(tmp_path):
    write(tmp_path / "in-domain" / "walk.npz").rename(tmp_path / "in-domain" / "WALK.NPZ")
    np.savez(tmp_path / "SHAPE.npz", gender="neutral", betas=np.zeros(16))
    assert set(load_poses(tmp_path).name) == {"WALK"}
    with pytest.raises(StudyError, match="more than 11 frames"):
        check_frames(tmp_path, 11)


@pytest.mark.parametrize(
    "there, lacking",
    [("in-domain", "out-of-domain"), ("", "out-of-domain"), ("out-of-domain", "in-domain")],
)
def test_a_study_needs_motions_of_both_domains(tmp_path, there, lacking):
    write(tmp_path / there / "walk.npz")
    said = f"has no {lacking} motion.*put AMASS files into {tmp_path / lacking}"
    with pytest.raises(StudyError, match=said):
        check_domains(tmp_path)
    write(tmp_path / lacking / "more/turn.npz")
    check_domains(tmp_path)


def test_a_motion_whose_name_no_table_can_hold_is_named(tmp_path):
    os.rename(write(tmp_path / "a.npz"), os.fsencode(tmp_path) + b"/caf\xe9.npz")
    with pytest.raises(StudyError, match=r"'caf\\udce9.npz' in .* not in UTF-8: rename the file"):
        load_poses(tmp_path)


NAN = np.full((4, 156), np.nan)
STAND = np.tile(np.r_[Z_UP.as_rotvec(), np.zeros(153)], (4, 1))


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"poses": None}, "no 'poses'"),
        ({"mocap_framerate": None}, "no 'mocap_framerate'"),
        ({"mocap_framerate": 0.0}, "above 0"),
        ({"poses": NAN}, "not finite in frame 0"),
        ({"poses": np.zeros((4, 150))}, "(4, 150)"),
        ({"poses": np.zeros((0, 156))}, "(0, 156)"),
        ({"poses": np.zeros((4, 156))}, "looks y-up"),
        ({"poses": STAND + 0.1j}, "'poses' is complex128 (4, 156), expected numbers"),
        ({"poses": STAND.astype("timedelta64[s]")}, "'poses' is timedelta64[s] (4, 156)"),
        ({"poses": STAND > 0}, "'poses' is bool (4, 156)"),
        ({"mocap_framerate": 60 + 1j}, "the frame rate is (60+1j), expected one number"),
        ({"poses": np.array([{"code": 1}], dtype=object)}, "Python objects"),
    ],
)
def test_files_that_lie_are_named(tmp_path, changes, said):
    path = write(tmp_path / "bad.npz", **changes)
    with pytest.raises(StudyError, match="bad.npz") as error:
        load_poses(tmp_path)
    assert said in str(error.value)
    assert path.exists()


def test_upside_down_broken_and_missing(tmp_path):
    with pytest.raises(StudyError, match="no .npz motion"):
        load_poses(tmp_path / "nowhere")
    write(tmp_path / "head.npz", Rotation.from_euler("x", [[180]] * 12, degrees=True))
    with pytest.raises(StudyError, match="head.npz"):
        load_poses(tmp_path)
    (tmp_path / "head.npz").write_bytes(b"PK not a zip")
    with pytest.raises(StudyError, match="head.npz"):
        load_poses(tmp_path)
    for fps in (0, float("nan"), "30"):
        with pytest.raises(StudyError, match="fps must be a number above 0"):
            load_poses(tmp_path, fps=fps)


# --- a round trip through AMASS's format ---


def test_a_motion_written_as_amass_comes_back_whatever_its_heading(tmp_path):
    """Angles → file → source: joint rotations as written, the root's tilt whole, its turn gone."""
    rng, frames = np.random.default_rng(0), 20
    track = {
        name: np.clip(rng.normal(0, 15, frames), *anatomy.LIMITS[name]) for name in anatomy.LIMITS
    }
    for heading in (-170.0, 0.0, 65.0):
        arrays = anatomy.amass(track, heading=heading, betas=np.zeros(16))
        (tmp_path / "in-domain").mkdir(exist_ok=True)
        np.savez(tmp_path / "in-domain" / "m.npz", **arrays)
        source = load_poses(tmp_path)
        np.testing.assert_allclose(source.body_pose[:, :63], arrays["poses"][:, 3:66], atol=1e-6)
        up = Rotation.from_rotvec(arrays["poses"][:, :3].astype(float)).apply(
            [0.0, 1.0, 0.0]
        )  # of the person, in the z-up world
        ours = Rotation.from_rotvec(source.root_tilt).apply([0.0, 1.0, 0.0])
        np.testing.assert_allclose(ours[:, 1], up[:, 2], atol=1e-6)
        if heading == -170.0:
            first = source.root_tilt
        np.testing.assert_allclose(source.root_tilt, first, atol=1e-4)  # files keep five decimals
    poses, rate, axes = read_motion(tmp_path / "in-domain" / "m.npz")
    assert (rate, axes) == (30.0, "z") and poses.shape == (frames, 156)


def test_the_tracked_motions_are_a_source(tmp_path):
    source = load_poses(ROOT / "data/motions")
    assert (
        len(source) == 6200 and len(set(source.name)) == 56 and set(source.domain) == {"in", "out"}
    )


# --- files of SMPL parameters ---

STANDING = Rotation.from_euler(
    "YX", [[100 * i, 8] for i in range(6)], degrees=True
)  # any heading, leaning by 8°
CAMERA = Rotation.from_euler("x", 180, degrees=True)  # y-up to y-down


def parameters(path, root, width=69, **changes):
    pose = np.random.default_rng(1).normal(0, 0.3, (len(root), width))
    arrays = {"global_orient": root.as_rotvec(), "body_pose": pose} | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return pose


@pytest.mark.parametrize("width", [63, 69])
def test_smpl_parameters_are_y_up(tmp_path, width):
    pose = parameters(tmp_path / "out-of-domain" / "p.npz", STANDING, width)
    source = load_poses(tmp_path)
    np.testing.assert_allclose(source.root_tilt, np.tile([np.radians(8), 0, 0], (6, 1)), atol=1e-6)
    np.testing.assert_allclose(source.body_pose[:, :63], pose[:, :63])
    assert (
        not source.body_pose[:, 63:].any()
        and set(source.domain) == {"out"}
        and list(source.frame) == list(range(6))
    )


def test_a_table_of_bodies_is_in_the_camera_s_frame(tmp_path):
    """A `BodyTable`, as fits and HMR2 imports write it, is a pose source: y points down."""
    rows = 6
    table = BodyTable(
        path=np.array([f"{i}.jpg" for i in range(rows)]),
        global_orient=(CAMERA * STANDING).as_rotvec(),
        body_pose=np.zeros((rows, 69)),
        betas=np.zeros((rows, 10)),
        cam_t=np.tile([0, 0, 4.0], (rows, 1)),
        focal=np.full(rows, 320.0),
        keypoints=np.zeros((rows, 17, 2)),
        visible=np.full((rows, 17), 2),
    )
    table.save(tmp_path / "smpl.npz")
    np.testing.assert_allclose(
        load_poses(tmp_path).root_tilt, np.tile([np.radians(8), 0, 0], (rows, 1)), atol=1e-5
    )


def test_frame_rates_of_parameters_are_optional(tmp_path):
    parameters(tmp_path / "a.npz", STANDING, fps=30.0)
    parameters(tmp_path / "b.npz", STANDING)
    source = load_poses(tmp_path, fps=10)
    assert list(source.frame) == [0, 3, 0, 1, 2, 3, 4, 5]  # without a rate every row is used


FRAMES = {"cam_t": np.tile([0, 0, 4.0], (6, 1))}
LYING = Rotation.from_euler("x", [[90]] * 6, degrees=True)


@pytest.mark.parametrize(
    "root, changes, said",
    [
        (Z_UP * STANDING, {}, "should be y-up but looks z-up"),
        (CAMERA * STANDING, {}, "should be y-up but looks in a camera's frame"),
        (STANDING, FRAMES, "should be in a camera's frame (y down) but looks y-up"),
        (
            Rotation.from_euler("z", [[90]] * 6, degrees=True),
            {},
            "lies flat in most frames: check the file's axes, expected y-up",
        ),
        (
            STANDING,
            {"body_pose": np.full((6, 69), 90.0)},
            "as if given in degrees: convert to radians",
        ),
        (STANDING, {"body_pose": np.zeros((5, 69))}, "(6, 3) and body_pose float64 (5, 69)"),
        (STANDING, {"body_pose": np.zeros((6, 23, 3))}, "not (N, 3) and (N, 63 or 69)"),
        (
            STANDING,
            {"body_pose": np.array([["a"] * 69] * 6)},
            "not (N, 3) and (N, 63 or 69) numbers",
        ),
        (STANDING, {"body_pose": np.ones((6, 69)) * 1j}, "body_pose complex128 (6, 69)"),
        (STANDING, {"fps": np.timedelta64(30, "s")}, "expected one number"),
        (
            STANDING,
            {"body_pose": np.where(np.arange(6)[:, None] == 4, np.inf, np.zeros((6, 69)))},
            "not finite in frame 4",
        ),
        (STANDING, {"fps": 0.0}, "expected one number of frames per second above 0"),
        (STANDING, {"fps": np.array([30.0, 30.0])}, "expected one number"),
        (STANDING, {"body_pose": None}, "has no 'poses'"),
    ],
)
def test_parameters_that_lie_are_named(root, changes, said, tmp_path):
    parameters(tmp_path / "bad.npz", root, **changes)
    with pytest.raises(StudyError, match="bad.npz") as error:
        load_poses(tmp_path)
    assert said in str(error.value)


@pytest.mark.parametrize(
    "root, said",
    [
        (
            Rotation.from_euler("z", [[90]] * 12, degrees=True),
            "lies flat in most frames: check the file's axes, expected z-up",
        ),
        (Rotation.from_euler("x", [[180]] * 12, degrees=True), "stands on the head"),
    ],
)
def test_amass_motions_with_confused_axes_are_named(root, said, tmp_path):
    write(tmp_path / "odd.npz", root)
    with pytest.raises(StudyError, match="odd.npz") as error:
        load_poses(tmp_path)
    assert said in str(error.value)


def test_amass_in_degrees_is_named_and_a_few_lying_frames_are_not(tmp_path):
    poses = np.zeros((12, 156))
    poses[:, :3], poses[:, 3:66] = Z_UP.as_rotvec(), 40.0
    write(tmp_path / "degrees.npz", poses=poses)
    with pytest.raises(StudyError, match="degrees.npz.*convert to radians"):
        load_poses(tmp_path)
    (tmp_path / "degrees.npz").unlink()
    write(
        tmp_path / "falls.npz", Rotation.from_euler("x", [[0]] * 8 + [[90]] * 4, degrees=True)
    )  # most frames stand
    assert len(load_poses(tmp_path)) == 12
