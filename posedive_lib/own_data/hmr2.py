"""Import what 4D-Humans (HMR2) estimates for images as a table of bodies, and export one (§B).

HMR2 looks at a square crop, resized to 256 px, and writes rotation matrices and a weak-perspective
camera `pred_cam` = (s, tx, ty). Its camera looks along z (OpenCV axes, identity extrinsics) with a
focal length of 5000 px on the 256 px crop, hence `pred_cam_t` = (tx, ty, 2 * 5000 / (256 s)).
A box of b pixels around (cx, cy) in an image of W x H has depth 2 f / (b s) and the extra shift
2 (cx - W/2) / (b s), likewise y. Re-ID images are crops themselves: without boxes, the box is the
whole image as HMR2 enlarges it, centred, b = max(H, 4/3 W).

Containers (4D-Humans' own demo writes meshes only; its trackers write pickles, which are programs
and not read here):
- `.npz` of plain arrays, or `.safetensors` (`path` as a JSON list in the metadata);
- `.json`: a dictionary of columns, or a list with one dictionary per image; `pred_smpl_params` may
  be nested.
Columns: `global_orient` (N, 3, 3) or (N, 1, 3, 3), `body_pose` (N, 23, 3, 3), `betas` (N, 10),
`pred_cam` or `pred_cam_t` (N, 3), `path` (N,) relative to the data set's folder, `img_size` (N, 2)
width and height of the files as they lie in the data set; optionally `box_center` (N, 2),
`box_size` (N,). To write one::

    smpl = {k: v.cpu().numpy() for k, v in out["pred_smpl_params"].items()}
    numpy.savez("hmr2.npz", path=..., img_size=..., pred_cam=..., **smpl)

    python -m posedive_lib.own_data.hmr2 hmr2.npz --body data/body/SMPL_NEUTRAL.npz --out smpl.npz
"""

import argparse
import json
import sys
from collections import Counter
from os.path import expanduser
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation
from smplx import SMPL

from posedive_lib import params as parameters
from posedive_lib.body.camera import project
from posedive_lib.body.smpl import COCO_FROM_SMPL, load_smpl, pose
from posedive_lib.body.table import BodyTable
from posedive_lib.datasets.arguments import add_params
from posedive_lib.errors import StudyError, command, shown, unreadable
from posedive_lib.intake.arrays import read_npz
from posedive_lib.intake.files import load_json
from posedive_lib.intake.tensors import read_tensors

FOCAL, CROP = 5000.0, 256.0  # pixels, of HMR2's network
SHAPES = {
    "global_orient": (3, 3),
    "body_pose": (23, 3, 3),
    "betas": (10,),
    "pred_cam": (3,),
    "pred_cam_t": (3,),
    "path": (),
    "img_size": (2,),
    "box_center": (2,),
    "box_size": (),
}
# Other shapes in which HMR2's code writes a column
ALSO = {"global_orient": (1, 3, 3), "box_size": (1,)}
NEEDED = ("global_orient", "body_pose", "betas", "path", "img_size")


def read_hmr2(path: str | Path) -> dict[str, np.ndarray]:
    """Checked columns of an HMR2 file, float64.

    StudyError: another container, a column missing or misshapen, two bodies of one image, NaN,
    matrices that are no rotations, bodies behind the camera.
    """
    path = Path(path)
    if path.suffix in (".pkl", ".joblib", ".pt", ".pth"):
        raise StudyError(
            f"{path} is a pickle, which could run a program: "
            "save HMR2's results as .npz, .json or .safetensors"
        )
    if path.suffix not in READERS:
        raise StudyError(f"{path} holds no HMR2 results: give an .npz, .json or .safetensors file")
    raw = READERS[path.suffix](path)
    columns: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, value in raw.items():
        column = _column(name)
        if column in SHAPES and column in columns:
            raise StudyError(
                f"{path} has two columns {column}, {origins[column]} and {name}: leave HMR2's own."
            )
        columns[column], origins[column] = value, name
    missing = [name for name in NEEDED if name not in columns]
    if "pred_cam" not in columns and "pred_cam_t" not in columns:
        missing.append("pred_cam")
    if missing:
        raise StudyError(
            f"{path} lacks {', '.join(missing)}: write it with all columns of HMR2's results"
        )
    names = _names(path, columns["path"])
    checked = {
        name: _numbers(path, name, columns[name], names)
        for name in SHAPES
        if name in columns and name != "path"
    }
    _check(path, checked, names)
    return {"path": np.array(names), **checked}


def _numbers(path: Path, name: str, value: Any, names: list[str]) -> np.ndarray:
    """A column of finite numbers in its shape."""
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":  # dates, complex numbers and text become floats, too
            raise TypeError
        array = array.astype(float)
    except (ValueError, TypeError, OverflowError):
        raise StudyError(
            f"{path}: {name} is not an array of numbers with one row per image: write it again"
        ) from None
    full = len(names), *SHAPES[name]
    if array.shape == (len(names), *ALSO.get(name, SHAPES[name])):
        array = array.reshape(full)
    if array.shape != full:
        raise StudyError(
            f"{path}: {name} is {array.shape}, expected {full}: "
            "HMR2 writes SMPL's 24 joints as rotation matrices"
        )
    finite = np.isfinite(array).reshape(len(names), -1).all(1)
    if not finite.all():
        lost = names[int(finite.argmin())]
        raise StudyError(f"{path}: {name} of {lost} is not finite: leave that image out")
    return array


def _check(path: Path, columns: dict[str, np.ndarray], names: list[str]) -> None:
    """StudyError for matrices that are no rotations, sizes and depths that are not above 0."""
    rotations = np.concatenate([columns["global_orient"][:, None], columns["body_pose"]], 1)
    with np.errstate(over="ignore", invalid="ignore"):  # of numbers that are far from any rotation
        off = np.abs(rotations @ rotations.mT - np.eye(3)).max((1, 2, 3))
        off = off + np.abs(np.linalg.det(rotations) - 1).max(1)
    if not off.max() <= 1e-2:
        raise StudyError(
            f"{path}: {names[int(off.argmax())]} has a joint that is no rotation matrix: "
            "leave that image out"
        )
    for name in ("img_size", "box_size"):
        if name in columns and not (columns[name] > 0).all():
            raise StudyError(f"{path}: {name} is not above 0 everywhere: give pixels")
    depth = columns["pred_cam"][:, 0] if "pred_cam" in columns else columns["pred_cam_t"][:, 2]
    if (depth <= 0).any():
        raise StudyError(
            f"{path}: {names[int((depth <= 0).argmax())]} lies behind the camera "
            "(scale or depth not above 0): leave it out"
        )


def _names(path: Path, listed: Any) -> list[str]:
    """The images' paths (N,), each once."""
    names = listed.tolist() if isinstance(listed, np.ndarray) else listed
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise StudyError(
            f"{path}: path is no list of texts: "
            "give each image's path relative to the data set's folder"
        )
    if not names:
        raise StudyError(f"{path} holds no images: run HMR2 again")
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise StudyError(
            f"{path} holds {count} bodies of {name}: keep the one of the image's person"
        )
    return names


def _column(name: str) -> str:
    """The name of a column, also where it is one of a nested table."""
    return name.replace("/", ".").rsplit(".", 1)[-1]


def _is_read(name: str) -> bool:
    """Whether a column is read; HMR2's meshes take many times the memory of all the others."""
    return _column(name) in SHAPES


def _read_npz(path: Path) -> dict[str, Any]:
    return read_npz(path, _is_read, what="HMR2 results")


def _read_json(path: Path) -> dict[str, Any]:
    content = load_json(path, "cannot be read as JSON", "write it again, a large one as .npz")
    entries = content if isinstance(content, list) else [content]
    if not entries or not all(_is_entry(entry) for entry in entries):
        raise StudyError(
            f"{path} holds no HMR2 results: give a dictionary of columns or a list with one "
            "dictionary per image, pred_smpl_params too"
        )
    rows = []
    for entry in entries:
        nested = entry.pop("pred_smpl_params", {})
        rows.append(entry | nested)
    if not isinstance(content, list):
        return rows[0]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("pred_smpl_params", {}), dict)


def _read_safetensors(path: Path) -> dict[str, Any]:
    words = "cannot be read as safetensors", "write it again"
    columns, metadata = read_tensors(path, *words, framework="np", wanted=_is_read)
    try:
        return columns | ({"path": json.loads(metadata["path"])} if metadata.get("path") else {})
    except (ValueError, RecursionError) as error:
        raise unreadable(path, error, *words) from None


READERS = {".npz": _read_npz, ".json": _read_json, ".safetensors": _read_safetensors}


def boxes(columns: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Box centres (N, 2) and sizes (N,) in pixels of the image.

    Those of the columns, or the whole image as HMR2 enlarges it.
    """
    size = columns["img_size"]
    whole = np.maximum(size[:, 1], size[:, 0] * 4 / 3)
    return columns.get("box_center", size / 2), columns.get("box_size", whole)


def camera_of(columns: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Translations (N, 3) in metres and focal lengths (N,) in pixels, both of the whole image."""
    centre, box = boxes(columns)
    if "pred_cam" in columns:
        scale, shift = columns["pred_cam"][:, 0], columns["pred_cam"][:, 1:]
    else:
        scale = 2 * FOCAL / (CROP * columns["pred_cam_t"][:, 2])
        shift = columns["pred_cam_t"][:, :2]
    focal = FOCAL / CROP * columns["img_size"].max(1)
    moved = shift + 2 * (centre - columns["img_size"] / 2) / (box * scale)[:, None]
    return np.column_stack([moved, 2 * focal / (box * scale)]), focal


def import_hmr2(path: str | Path, model: SMPL, *, focal: float | None = None) -> BodyTable:
    """HMR2's results as a table, in pixels of images of `img_size`; key points are the bodies' own.

    All key points inside the image are marked visible. focal: in image heights, to bring the
    bodies before a camera of that focal length, as `conditions.focal`. Depth shrinks with it, so
    the size in the image stays. None keeps HMR2's, 5000/256 image heights. StudyError unless it is
    above 0.
    """
    if focal is not None and not 0 < focal < np.inf:
        raise StudyError(
            f"The focal length is {focal}: "
            "give image heights above 0, as conditions.focal of the parameters"
        )
    columns = read_hmr2(path)
    with np.errstate(all="ignore"):  # of numbers too large or too small, see below
        cam_t, native = camera_of(columns)
    wrong = ~np.isfinite(cam_t).all(axis=1) | ~np.isfinite(native)
    if wrong.any():
        raise StudyError(
            f"{path}: the camera of {shown(columns['path'][wrong.argmax()])} is at no finite "
            "place: write pred_cam and the box as HMR2 gives them."
        )
    size = columns["img_size"]
    wanted = native if focal is None else focal * size[:, 1]
    cam_t[:, 2] *= wanted / native
    orient, body_pose = _vectors(columns["global_orient"]), _vectors(columns["body_pose"])
    keypoints = np.empty((len(cam_t), 17, 2))
    for row, (width, height) in enumerate(size):
        _, joints = pose(model, orient[row], body_pose[row], columns["betas"][row])
        keypoints[row] = project(joints[COCO_FROM_SMPL] + cam_t[row], wanted[row], height, width)
    inside = ((keypoints >= 0) & (keypoints < size[:, None])).all(-1)
    return BodyTable(
        path=columns["path"],
        global_orient=orient,
        body_pose=body_pose,
        betas=columns["betas"],
        cam_t=cam_t,
        focal=wanted,
        keypoints=keypoints,
        visible=np.where(inside, 2, 0).astype(np.int8),
    )


def _vectors(matrices: np.ndarray) -> np.ndarray:
    """Axis-angle (N, 3 J) of rotation matrices (N, ..., 3, 3) of J joints."""
    vectors = Rotation.from_matrix(matrices.reshape(-1, 3, 3)).as_rotvec()
    return vectors.reshape(len(matrices), -1)


def _matrices(vectors: np.ndarray, joints: int) -> np.ndarray:
    """Rotation matrices (N, J, 3, 3) of axis-angle (N, 3 J)."""
    rotations = Rotation.from_rotvec(np.asarray(vectors, float).reshape(-1, 3))
    return rotations.as_matrix().reshape(-1, joints, 3, 3)


def export_hmr2(table: BodyTable, img_size: np.ndarray) -> dict[str, np.ndarray]:
    """The columns that HMR2 would write for a table: the inverse of the import.

    img_size (N, 2): width, height.
    """
    # A column of its own: of a mere view, safetensors writes memory that is not the view's.
    img_size = np.broadcast_to(np.asarray(img_size, float), (len(table), 2)).copy()
    _, box = boxes({"img_size": img_size})
    depth = table.cam_t[:, 2] * (FOCAL / CROP * img_size.max(1)) / table.focal
    scale = 2 * FOCAL / CROP * img_size.max(1) / (box * depth)
    cam = np.column_stack([scale, table.cam_t[:, :2]])
    return {
        "path": table.path,
        "img_size": img_size,
        "betas": np.asarray(table.betas, float),
        "pred_cam": cam,
        "pred_cam_t": np.column_stack([cam[:, 1:], 2 * FOCAL / (CROP * scale)]),
        "global_orient": _matrices(table.global_orient, 1),
        "body_pose": _matrices(table.body_pose, 23),
    }


@command()
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Import HMR2 (4D-Humans) results.")
    parser.add_argument("results", type=expanduser, help=".npz, .json or .safetensors")
    parser.add_argument("--body", type=expanduser, help="SMPL body file (default: paths.body)")
    parser.add_argument(
        "--focal", type=float, help="focal length in image heights (default: conditions.focal)"
    )
    add_params(parser, "paths.body and conditions.focal")
    parser.add_argument(
        "--out", type=expanduser, default="smpl.npz", help="the table (default: %(default)s)"
    )
    given = parser.parse_args(arguments)
    if Path(given.out).exists():
        raise StudyError(f"{given.out} exists: name another table with --out, or remove it first")
    body, focal = given.body, given.focal
    if body is None or focal is None:
        P = parameters.load(given.params)
        body = P.paths.body if body is None else body
        focal = P.conditions.focal if focal is None else focal
    table = import_hmr2(given.results, load_smpl(body), focal=focal)
    table.save(given.out)
    print(f"{given.out}: {len(table)} bodies")
    return 0


if __name__ == "__main__":
    sys.exit(main())
