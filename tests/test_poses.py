"""Reading AMASS motions: axes, heading, frame rates, and files that lie."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posedive_lib.body.poses import load_poses, remove_heading
from posedive_lib.errors import StudyError

Z_UP = Rotation.from_euler("x", 90, degrees=True)


def write(path, root=None, frames=12, width=156, **changes):
    root = Rotation.identity(frames) if root is None else root
    poses = np.zeros((frames, width))
    poses[:, :3] = (Z_UP * root).as_rotvec()
    poses[:, 3:66] = np.linspace(0, 0.5, frames)[:, None]
    poses[:, 66:] = 9.0 if width > 72 else 0.0  # hands must not leak into the body
    arrays = {"poses": poses, "betas": np.zeros(16), "trans": np.zeros((frames, 3)), "gender": "male", "mocap_framerate": 60.0} | changes
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


NAN = np.full((4, 156), np.nan)


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
    with pytest.raises(StudyError, match="fps"):
        load_poses(tmp_path, fps=0)
