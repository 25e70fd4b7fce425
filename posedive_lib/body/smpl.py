"""Load SMPL bodies and pose them, without executing anything in the file."""

import contextlib
import io
import pickle
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from smplx import SMPL
from smplx.lbs import batch_rigid_transform, batch_rodrigues, blend_shapes, vertices2joints
from smplx.utils import Struct

from posedive_lib.body.archive import read_npz
from posedive_lib.errors import StudyError

MAX_ENTRIES = 10**8  # of an array in a body; the official files' largest has 4 million
KEYS = ("v_template", "f", "weights", "shapedirs", "posedirs", "J_regressor", "kintree_table")

# COCO-17 in smplx's joint output: 24 SMPL joints, then nose, right eye, left eye, right ear, left ear, …
COCO_FROM_SMPL = [24, 26, 25, 28, 27, 16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8]


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles arrays, sparse matrices and chumpy's array wrapper; refuses every other class."""

    ALLOWED = {
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "scalar"),
        ("scipy.sparse.csc", "csc_matrix"),
        ("scipy.sparse._csc", "csc_matrix"),
        ("_codecs", "encode"),
    }

    def find_class(self, module, name):
        if module.startswith("chumpy"):
            return _Chumpy
        if (module, name) in self.ALLOWED:
            return super().find_class("scipy.sparse" if name == "csc_matrix" else module, name)
        raise StudyError(
            f"the SMPL file asks for {module}.{name}: only plain arrays are read; convert it to .npz first."
        )


class _Chumpy:
    """Stands in for chumpy's wrapper, whose state holds the array as `x`."""

    def __setstate__(self, state):
        self.__dict__.update(state)

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.__dict__["x"], dtype)


def _read(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".npz":
        return read_npz(path, KEYS, what="an SMPL body")
    if path.suffix == ".pkl":
        with open(path, "rb") as file:
            data = _ArrayUnpickler(file, encoding="latin1").load()
        return {k: _dense(v) for k, v in data.items() if k in KEYS}
    raise StudyError("an SMPL body is an .npz or an official .pkl file.")


def _dense(value) -> np.ndarray:
    """A plain array; a sparse matrix is checked first, because unpacking one whose indices lie writes outside its memory."""
    if sparse.issparse(value):
        value.check_format(full_check=True)
        if np.prod([float(n) for n in value.shape]) > MAX_ENTRIES:
            raise StudyError(f"a sparse matrix of {value.shape} is no part of a body.")
        return value.toarray()
    return np.asarray(value)


def _check(path: Path, data: dict[str, np.ndarray]) -> None:
    """StudyError unless the arrays are those of one SMPL body: smplx would take others, and crash or pose nonsense later."""
    odd = [k for k in KEYS if data[k].dtype.kind not in "fiu"]
    if odd:
        raise StudyError(
            f"{path}: {odd[0]} holds {data[odd[0]].dtype}, not numbers: fetch the file again."
        )
    vertices = len(data["v_template"])
    if data["weights"].shape != (vertices, 24) or data["shapedirs"].shape[:2] != (vertices, 3):
        raise StudyError(
            f"{path}: weights {data['weights'].shape} do not fit {vertices} vertices and 24 SMPL joints."
        )
    expected = {
        "v_template": (vertices, 3),
        "J_regressor": (24, vertices),
        "posedirs": (vertices, 3, 207),
        "kintree_table": (2, 24),
    }
    for name, shape in expected.items():
        if data[name].shape != shape:
            raise StudyError(
                f"{path}: {name} is {data[name].shape}, expected {shape} for an SMPL body of 24 joints."
            )
    for name in ("v_template", "weights", "shapedirs", "posedirs", "J_regressor"):
        if not np.isfinite(data[name]).all():
            raise StudyError(f"{path}: {name} is not finite: fetch the file again.")
    faces, parents = data["f"].astype(np.int64), data["kintree_table"][0, 1:].astype(np.int64)
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.min() < 0 or faces.max() >= vertices:
        raise StudyError(
            f"{path}: f does not name triangles of its {vertices} vertices: fetch the file again."
        )
    if (parents < 0).any() or (parents >= np.arange(1, 24)).any():
        raise StudyError(f"{path}: kintree_table is no tree of joints: fetch the file again.")


def load_smpl(path: str | Path) -> SMPL:
    """`smplx` SMPL layer (float32, batch size 1, 10 betas) from an `.npz` or an official `.pkl`.

    Raises:
        StudyError: file missing, of another kind, lacking a key, or of an unexpected shape.
    """
    path = Path(path)
    if not path.is_file():
        raise StudyError(
            f"{path} is missing: run `dvc pull` for the bundled body, or point paths.body at your SMPL file."
        )
    try:
        data = _read(path)
    except StudyError as error:
        raise (
            error if str(error).startswith(str(path)) else StudyError(f"{path}: {error}")
        ) from None
    except Exception as error:  # pickle streams of something else fail in many ways
        raise StudyError(
            f"{path} cannot be read as an SMPL body ({error}): fetch the file again."
        ) from None
    missing = [k for k in KEYS if k not in data]
    if missing:
        raise StudyError(f"{path} lacks {', '.join(missing)}: it is no SMPL body file.")
    _check(path, data)
    data["shapedirs"] = data["shapedirs"][:, :, :10]
    with contextlib.redirect_stdout(
        io.StringIO()
    ):  # smplx prints a warning for every file with fewer than 300 shape directions
        model = SMPL(
            model_path=str(path),
            data_struct=Struct(**data),
            num_betas=data["shapedirs"].shape[2],
            batch_size=1,
        )
    correctives = model.posedirs.numpy().T  # (3 V, 207)
    if (
        np.count_nonzero(correctives) < 0.2 * correctives.size
    ):  # the mini world's act near their joints alone
        correctives = sparse.csr_matrix(correctives)
    model.correctives = correctives
    return model


@lru_cache(maxsize=4)
def cached_smpl(path: str) -> SMPL:
    """`load_smpl`, once per process and path."""
    return load_smpl(path)


@torch.no_grad()
def pose(
    model: SMPL, global_orient, body_pose, betas, offsets=None, extra=None
) -> tuple[np.ndarray, np.ndarray]:
    """Linear blend skinning of one body by smplx's own functions, with clothing offsets and rigid accessories.

    Args:
        global_orient (3,), body_pose (69,), betas (10,).
        offsets: (V, 3) added to the shaped template (clothes), metres; or None.
        extra: accessories as (points (E, 3) in the template's frame, joint weights (E, 24)); or None.

    Returns:
        vertices (V + E, 3), joints (45, 3) in smplx's order, both before translation.
    """
    betas = torch.as_tensor(betas, dtype=torch.float32).reshape(1, -1)
    full = torch.as_tensor(
        np.concatenate([np.ravel(global_orient), np.ravel(body_pose)]), dtype=torch.float32
    )
    shaped = model.v_template + blend_shapes(betas, model.shapedirs)
    rest = vertices2joints(model.J_regressor, shaped)
    rotations = batch_rodrigues(full.view(-1, 3)).view(1, 24, 3, 3)
    feature = (rotations[0, 1:] - torch.eye(3)).reshape(-1).numpy()
    shaped = shaped + torch.from_numpy(model.correctives @ feature).view(1, -1, 3)
    joints, transforms = batch_rigid_transform(rotations, rest, model.parents)
    transforms = transforms[0].view(24, 16)

    def place(points, weights):
        blended = (weights @ transforms).view(-1, 4, 4)
        return (blended[:, :3, :3] @ points[:, :, None])[..., 0] + blended[:, :3, 3]

    naked, marks = shaped[0], model.vertex_joint_selector.extra_joints_idxs
    dressed = naked if offsets is None else naked + torch.as_tensor(offsets, dtype=torch.float32)
    vertices, landmarks = (
        place(dressed, model.lbs_weights),
        place(naked[marks], model.lbs_weights[marks]),
    )
    if extra is not None and len(extra[0]):
        points, weights = (torch.as_tensor(array, dtype=torch.float32) for array in extra)
        moved = points + weights @ (
            rest[0] - model.J_regressor @ model.v_template
        )  # other people's joints are elsewhere
        vertices = torch.cat([vertices, place(moved, weights)])
    return vertices.numpy(), torch.cat([joints[0], landmarks]).numpy()
