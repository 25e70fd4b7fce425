"""Pose sources as a flat table of poses, with the heading removed.

Sources are AMASS motions and files of SMPL parameters, both `.npz`. AMASS's world is z-up; SMPL's
own frame is y-up; bodies fitted to images are in their camera's frame, y down. `root_tilt` is the
root orientation in the y-up frame without its turn about the vertical (the twist of the
swing-twist decomposition). So the person faces +z, and a camera can be put anywhere. Poses are
joint rotations: gender and betas of the file do not enter, and a motion recorded with a male body
poses any body.
"""

from dataclasses import dataclass, fields
from numbers import Real
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from posedive_lib.errors import StudyError
from posedive_lib.intake.arrays import read_npz
from posedive_lib.intake.frames import domain_of, motion_files

# Numbers per frame; all begin with the root (3) and 21 body joints (63).
WIDTHS = {156: "SMPL-H", 165: "SMPL-X", 72: "SMPL"}
NUMBERS = "iuf"  # kinds of arrays: NumPy also calls complex numbers and times numbers
RATES = ("mocap_framerate", "mocap_frame_rate")
# 'gender' may be pickled: it is never read.
KEYS = ("poses", *RATES, "global_orient", "body_pose", "cam_t", "fps")
TO_Y_UP = {
    "z": Rotation.from_euler("x", -90, degrees=True),
    "y": Rotation.identity(),
    "camera": Rotation.from_euler("x", 180, degrees=True),
}
AXES = {"z": "z-up", "y": "y-up", "camera": "in a camera's frame (y down)"}


@dataclass(frozen=True)
class PoseSource:
    """Poses of all motions, row by row.

    root_tilt (N, 3): axis-angle, y-up, no turn about y. body_pose (N, 69): axis-angle of joints
    1-23, hand joints zero. domain (N,): "in" or "out". name (N,): motion (file name without
    suffix). frame (N,): frame number in its file.
    """

    root_tilt: np.ndarray
    body_pose: np.ndarray
    domain: np.ndarray
    name: np.ndarray
    frame: np.ndarray

    def __len__(self) -> int:
        return len(self.frame)

    def select(self, rows: np.ndarray) -> "PoseSource":
        """The given rows (indices or boolean), in that order."""
        return PoseSource(*(getattr(self, field.name)[rows] for field in fields(self)))


def remove_heading(root: Rotation) -> Rotation:
    """The root orientation without its turn about the vertical y axis.

    root = turn * tilt, where tilt's axis lies in the xz plane.
    """
    quaternion = root.as_quat()  # x, y, z, w
    turn = np.zeros_like(quaternion)
    turn[..., 1], turn[..., 3] = quaternion[..., 1], quaternion[..., 3]
    # Upside down, every heading is as good as another.
    turn[np.hypot(turn[..., 1], turn[..., 3]) < 1e-6] = (0, 0, 0, 1)
    return Rotation.from_quat(turn).inv() * root


def load_poses(folder: str | Path, fps: float | None = None) -> PoseSource:
    """All motions below a folder, sorted by path; `fps` frames per second (None: every frame).

    Sub-folders named `in-domain` and `out-of-domain` give the domain; other files count as
    in-domain. Links to folders are followed. Files that lie beside motions and are none are
    skipped (see `motion_files`). A file is an AMASS motion (`poses`, `mocap_framerate`; z-up) or
    SMPL parameters (`global_orient` (N, 3), `body_pose` (N, 63 or 69), optionally `fps`; with
    `cam_t`, as in a `BodyTable`, in the camera's frame, else y-up). Without a frame rate every row
    is used.

    StudyError for a folder without motions or that cannot be read, and for a file that is neither,
    is not finite, holds no plain numbers, or has its axes confused.
    """
    if fps is not None and not (isinstance(fps, Real) and fps > 0):
        raise StudyError(
            f"fps must be a number above 0, got {fps!r}: give frames per second, or None for every "
            "frame"
        )
    folder = Path(folder)
    files = motion_files(folder, warn=True)
    if not files:
        raise StudyError(
            f"{folder} holds no .npz motion: "
            f"put AMASS files into {folder}/in-domain and {folder}/out-of-domain"
        )
    columns = zip(*(load_motion(path, folder, fps) for path in files), strict=True)
    return PoseSource(*map(np.concatenate, columns))


def load_motion(path: Path, folder: Path, fps: float | None) -> tuple[np.ndarray, ...]:
    """The columns of `PoseSource` for one file."""
    poses, rate, axes = read_motion(path)
    frames = np.arange(len(poses))
    if fps is not None and rate is not None and fps < rate:
        frames = np.unique(np.floor(np.arange(0, len(poses), rate / fps)).astype(int))
    root = _upright(path, Rotation.from_rotvec(poses[:, :3]), axes)[frames]
    body_pose = np.zeros((len(frames), 69))
    body_pose[:, :63] = poses[frames, 3:66]
    return (
        remove_heading(root).as_rotvec(),
        body_pose,
        np.full(len(frames), domain_of(path, folder)),
        np.full(len(frames), path.stem),
        frames,
    )


def read_motion(path: str | Path) -> tuple[np.ndarray, float | None, str]:
    """Poses, frames per second or None, and axes (a key of `TO_Y_UP`) of one file.

    Poses are (T, 66 or more) in axis-angle, the root first.
    """
    file = read_npz(path, KEYS, what="an AMASS motion or SMPL parameters")
    rate: np.ndarray | None
    if "poses" in file:
        poses, rate = _amass(path, file)
        axes = "z"
    elif {"global_orient", "body_pose"} <= set(file):
        poses, rate = _parameters(path, file), file.get("fps")
        axes = "camera" if "cam_t" in file else "y"
    else:
        raise StudyError(
            f"{path} has no 'poses': give an AMASS motion (poses, mocap_framerate) "
            "or SMPL parameters (global_orient, body_pose)"
        )
    if not np.isfinite(poses).all():
        row = int(np.argmin(np.isfinite(poses).all(axis=1)))
        raise StudyError(
            f"{path}: 'poses' is not finite in frame {row}: cut that frame out or remove the file"
        )
    angles = np.linalg.norm(poses[:, :66].reshape(len(poses), 22, 3), axis=2)
    widest = np.median(angles.max(axis=1))
    if widest > 3 * np.pi:
        raise StudyError(
            f"{path}: joints turn by {widest:.0f} radians, as if given in degrees: "
            "convert to radians"
        )
    return poses, None if rate is None else _one_rate(path, rate), axes


def _one_rate(path: str | Path, rate: np.ndarray) -> float:
    number = np.size(rate) == 1 and np.asarray(rate).dtype.kind in NUMBERS
    if not number or not (np.isfinite(rate) and rate > 0):
        raise StudyError(
            f"{path}: the frame rate is {rate}, expected one number of frames per second above 0"
        )
    return float(np.ravel(rate)[0])


def _amass(path: str | Path, file: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    rates = [file[key] for key in RATES if key in file]
    if not rates:
        raise StudyError(
            f"{path} has no 'mocap_framerate': "
            "give an AMASS motion (keys poses, trans, betas, mocap_framerate)"
        )
    poses = file["poses"]
    fits = poses.ndim == 2 and poses.shape[1] in WIDTHS and len(poses) > 0
    if not fits or poses.dtype.kind not in NUMBERS:
        known = ", ".join(f"{width} ({name})" for width, name in sorted(WIDTHS.items()))
        raise StudyError(
            f"{path}: 'poses' is {poses.dtype} {poses.shape}, "
            f"expected numbers (frames, n) with n one of {known}"
        )
    return poses.astype(float), rates[0]


def _parameters(path: str | Path, file: dict[str, np.ndarray]) -> np.ndarray:
    root, pose = file["global_orient"], file["body_pose"]
    fits = (
        root.ndim == 2
        and pose.ndim == 2
        and root.shape[1] == 3
        and pose.shape[1] in (63, 69)
        and len(root) == len(pose) > 0
    )
    if not fits or root.dtype.kind not in NUMBERS or pose.dtype.kind not in NUMBERS:
        raise StudyError(
            f"{path}: global_orient {root.dtype} {root.shape} and body_pose {pose.dtype} "
            f"{pose.shape} are not (N, 3) and (N, 63 or 69) numbers in axis-angle"
        )
    return np.concatenate([root, pose], axis=1).astype(float)


def _upright(path: Path, root: Rotation, axes: str) -> Rotation:
    """The root orientation in y-up axes.

    StudyError where most frames are upright in other axes than the file's, or in none.
    """
    # How far up the body's own up axis points, in each reading: 1 upright, -1 on the head.
    lean = {
        name: float(np.median((turn * root).apply([0.0, 1.0, 0.0])[:, 1]))
        for name, turn in TO_Y_UP.items()
    }
    if lean[axes] >= 0.35:
        return TO_Y_UP[axes] * root
    if axes == "z" and lean["y"] > 0.7:
        raise StudyError(
            f"{path} looks y-up (the person stands along y): "
            "rotate its root by +90° about x, AMASS motions are z-up"
        )
    other = max(lean, key=lambda name: lean[name])
    if lean[other] > 0.7 and other != axes:
        raise StudyError(
            f"{path} should be {AXES[axes]} but looks {AXES[other]}: "
            "rotate its root orientation accordingly"
        )
    how = "stands on the head" if lean[axes] < -0.5 else "lies flat"
    raise StudyError(
        f"{path}: the person {how} in most frames: "
        f"check the file's axes, expected {AXES[axes]}, or remove it"
    )
