"""Motions of any size: counted by their heads, refused where too many, thinned evenly."""

import numpy as np
import pytest
from pipeline import ROOT
from scipy.spatial.transform import Rotation

from posedive_lib import params
from posedive_lib.bench import notebook
from posedive_lib.body import motions
from posedive_lib.body.poses import load_poses
from posedive_lib.errors import StudyError
from posedive_lib.intake import frames
from posedive_lib.intake.frames import check_frames, frames_of

Z_UP = Rotation.from_euler("x", 90, degrees=True)


def motion(path, frames, first=0, turn=Z_UP):
    """A motion whose elbow (joint 18) is bent by the number of the frame, in milliradians."""
    poses = np.zeros((frames, 156))
    poses[:, :3] = turn.as_rotvec()
    poses[:, 54] = np.arange(first, first + frames) / 1000
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, poses=poses, mocap_framerate=120.0)


@pytest.fixture
def amass(tmp_path):
    folder = tmp_path / "amass"
    motion(folder / "in-domain/CMU/01/walk_poses.npz", 300)
    motion(folder / "in-domain/CMU/01/turn_poses.npz", 100, 300)
    motion(folder / "out-of-domain/Dance/jump_poses.npz", 600, 400)
    np.savez(folder / "in-domain/CMU/01/shape.npz", betas=np.zeros(16))
    return folder


def test_frames_are_counted_as_they_are_loaded(amass):
    counts = [frames_of(path) for path in motions.motion_files(amass)]
    assert counts == [100, 300, 600] and sum(counts) == len(load_poses(amass))
    np.savez(amass / "fit.npz", global_orient=np.zeros((7, 3)), body_pose=np.zeros((7, 69)))
    (amass / "broken.npz").write_bytes(b"PK")
    assert frames_of(amass / "fit.npz") == 7
    for name in ("broken.npz", "missing.npz", "in-domain/CMU/01/shape.npz"):
        assert frames_of(amass / name) == 0
    np.savez(amass / "number.npz", poses=np.float64(3))
    assert frames_of(amass / "number.npz") == 0


def test_counting_stops_when_there_are_too_many(amass, monkeypatch):
    read = []

    def counted(path):
        read.append(path)
        return frames_of(path)

    monkeypatch.setattr(frames, "frames_of", counted)
    check_frames(amass, 1000)
    assert len(read) == 3
    with pytest.raises(StudyError, match=r"more than 399 frames.*--out FOLDER.*paths.motions"):
        check_frames(amass, 399)
    assert len(read) == 5  # both walks


def test_thinned_frames_are_evenly_spaced_and_keep_domain_and_folder(amass, tmp_path):
    assert motions.thin(amass, tmp_path / "thin", 100) == []
    source, whole = load_poses(tmp_path / "thin"), load_poses(amass)
    assert len(source) == 100
    place = np.round(source.body_pose[:, 51] * 1000).astype(int)
    # turn comes before walk, and each gives every tenth of its frames
    assert place.tolist() == [*range(305, 400, 10), *range(5, 300, 10), *range(405, 1000, 10)]
    assert source.domain.tolist() == ["in"] * 40 + ["out"] * 60
    assert set(source.name) == {"CMU_01", "Dance"}
    row = {int(round(bent)): i for i, bent in enumerate(whole.body_pose[:, 51] * 1000)}
    same = whole.select(np.array([row[p] for p in place]))
    np.testing.assert_array_equal(source.body_pose, same.body_pose)
    np.testing.assert_allclose(source.root_tilt, same.root_tilt, atol=1e-12)


def test_a_folder_without_motions_is_named(tmp_path, monkeypatch, capsys):
    assert motions.main([str(tmp_path / "none"), "--out", str(tmp_path / "thin")]) == 2
    assert "none holds no .npz motion" in capsys.readouterr().err


def test_a_refused_motion_is_left_out_and_named(amass, tmp_path, capsys):
    motion(amass / "out-of-domain/Floor/lies_poses.npz", 1000, turn=Rotation.identity())
    out = tmp_path / "thin"
    assert motions.main([str(amass), "--out", str(out), "--frames", "200"]) == 0
    said = capsys.readouterr().out
    assert "left out:" in said and "lies_poses.npz" in said and "1 motions left out" in said
    assert len(load_poses(out)) == 100


def test_a_folder_whose_kept_frames_lie_is_left_out_and_named(amass, tmp_path):
    """Its motion is upright in most of its frames, but not in the few that are kept."""
    path = amass / "in-domain/Yoga/rest_poses.npz"
    motion(path, 120)
    with np.load(path) as file:
        poses = file["poses"]
    poses[20:60, :3] = 0  # lying; frame 35 alone is kept
    np.savez(path, poses=poses, mocap_framerate=120.0)
    assert len(load_poses(amass)) == 1120
    out = tmp_path / "thin"
    refused = motions.thin(amass, out, 9)
    assert len(refused) == 1 and refused[0].startswith("in-domain/Yoga.npz: the person lies flat")
    assert len(load_poses(out)) == 8


@pytest.mark.parametrize(
    "options, said",
    [
        ({"most": 1000}, "has 1,000 frames, not more than 1,000: name it in paths.motions"),
        ({"most": 0}, "--frames is 0"),
        ({"out": "."}, "exists: name a new folder"),
    ],
)
def test_what_cannot_be_thinned_is_named_and_nothing_is_written(amass, tmp_path, options, said):
    given = {"out": tmp_path / "thin", "most": 10} | options
    with pytest.raises(StudyError, match=said):
        motions.thin(amass, **given)
    assert not (tmp_path / "thin").exists()


def test_no_notebook_starts_with_more_frames_than_memory_holds(monkeypatch):
    monkeypatch.chdir(ROOT)
    P = params.load("params.yaml")
    here = P.model_copy(update={"paths": P.paths.model_copy(update={"datasets": "docs"})})
    notebook.check_inputs(here)
    monkeypatch.setattr(check_frames, "__defaults__", (100,))
    with pytest.raises(StudyError, match="data/motions has more than 100 frames of motion"):
        notebook.check_inputs(here)
