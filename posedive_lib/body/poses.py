"""Pose sources: AMASS `.npz` motions as a flat table of poses, with the heading removed.

AMASS's world is z-up; SMPL's own frame is y-up. `root_tilt` is what is left of the root orientation in the y-up frame after taking
out the turn about the vertical (the twist of the swing–twist decomposition), so the person faces +z and a camera can be put anywhere.
"""

import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from posedive_lib.errors import StudyError

MAX_BYTES = 2 << 30  # a longer motion file than this, unpacked, is not one
FOLDERS = {"in-domain": "in", "out-of-domain": "out"}
WIDTHS = {156: "SMPL-H", 165: "SMPL-X", 72: "SMPL"}  # numbers per frame; all begin with root (3) and 21 body joints (63)


@dataclass(frozen=True)
class PoseSource:
    """Poses of all motions, row by row.

    root_tilt (N, 3): axis-angle, y-up, no turn about y; body_pose (N, 69): axis-angle of joints 1–23, hand joints zero;
    domain (N,): "in" or "out"; name (N,): motion (file name without suffix); frame (N,): frame number in its file.
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
    """The root orientation without its turn about the vertical y axis: root = turn · tilt, where tilt's axis lies in the xz plane."""
    quaternion = root.as_quat()  # x, y, z, w
    turn = np.zeros_like(quaternion)
    turn[..., 1], turn[..., 3] = quaternion[..., 1], quaternion[..., 3]
    upside_down = np.hypot(turn[..., 1], turn[..., 3]) < 1e-6  # every heading is as good as another
    turn[upside_down] = (0, 0, 0, 1)
    return Rotation.from_quat(turn).inv() * root


def load_poses(folder: str | Path, fps: float | None = None) -> PoseSource:
    """All motions below folder, sorted by path; `fps` frames per second (None: every frame).

    Sub-folders named `in-domain` and `out-of-domain` give the domain; other files count as in-domain. StudyError for a folder without
    motions and for a file that is not a valid z-up AMASS motion.
    """
    if fps is not None and not fps > 0:
        raise StudyError(f"fps must be above 0, got {fps}: give frames per second, or None for every frame")
    folder = Path(folder)
    files = sorted(folder.rglob("*.npz"), key=lambda path: path.relative_to(folder).as_posix())
    if not files:
        raise StudyError(f"{folder} holds no .npz motion: put AMASS files into {folder}/in-domain and {folder}/out-of-domain")
    return PoseSource(*map(np.concatenate, zip(*(_load_one(path, folder, fps) for path in files), strict=True)))


def _load_one(path: Path, folder: Path, fps: float | None) -> tuple[np.ndarray, ...]:
    poses, rate = read_amass(path)
    frames = np.arange(len(poses))
    if fps is not None and fps < rate:
        frames = np.unique(np.floor(np.arange(0, len(poses), rate / fps)).astype(int))
    root = _upright(path, Rotation.from_rotvec(poses[:, :3]))[frames]
    body_pose = np.zeros((len(frames), 69))
    body_pose[:, :63] = poses[frames, 3:66]
    domains = [FOLDERS[part] for part in path.relative_to(folder).parts[:-1] if part in FOLDERS] or [FOLDERS.get(folder.name, "in")]
    count = len(frames)
    return remove_heading(root).as_rotvec(), body_pose, np.full(count, domains[-1]), np.full(count, path.stem), frames


def read_amass(path: str | Path) -> tuple[np.ndarray, float]:
    """Poses (T, 72 | 156 | 165) in axis-angle and frames per second of one AMASS file. Nothing in the file is executed."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(item.file_size for item in archive.infolist())
        if unpacked > MAX_BYTES:
            raise StudyError(f"{path} unpacks to {unpacked / 2**30:.0f} GiB: this is not a motion file, remove it")
        with np.load(path, allow_pickle=False) as file:  # 'gender' may be a pickled object in old files: it is never read
            rates = [key for key in ("mocap_framerate", "mocap_frame_rate") if key in file.files]
            if "poses" not in file.files or not rates:
                missing = "poses" if "poses" not in file.files else "mocap_framerate"
                raise StudyError(f"{path} has no '{missing}': give an AMASS motion (keys poses, trans, betas, mocap_framerate)")
            poses, rate = np.asarray(file["poses"], float), float(file[rates[0]])
    except StudyError:
        raise
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise StudyError(f"{path} is not a readable AMASS .npz ({error}): download it again or remove it") from error
    if poses.ndim != 2 or poses.shape[1] not in WIDTHS or not len(poses):
        known = ", ".join(f"{width} ({name})" for width, name in sorted(WIDTHS.items()))
        raise StudyError(f"{path}: 'poses' is {poses.shape}, expected (frames, n) with n one of {known}")
    if not np.isfinite(poses).all():
        row = int(np.argmin(np.isfinite(poses).all(axis=1)))
        raise StudyError(f"{path}: 'poses' is not finite in frame {row}: cut that frame out or remove the file")
    if not (np.isfinite(rate) and rate > 0):
        raise StudyError(f"{path}: '{rates[0]}' is {rate}, expected frames per second above 0")
    return poses, rate


def _upright(path: Path, root: Rotation) -> Rotation:
    """The z-up root orientation in y-up axes; StudyError where most frames are upright only if the file were y-up already."""
    y_up = Rotation.from_euler("x", -90, degrees=True) * root
    up = np.array([0.0, 1.0, 0.0])
    as_z_up, as_y_up = np.median(y_up.apply(up)[:, 1]), np.median(root.apply(up)[:, 1])
    if as_y_up > 0.7 > as_z_up:
        raise StudyError(f"{path} looks y-up (the person stands along y): rotate its root by +90° about x, AMASS motions are z-up")
    if as_z_up < -0.5:
        raise StudyError(f"{path}: the person stands on the head in most frames: check the file's axes, AMASS motions are z-up")
    return y_up
