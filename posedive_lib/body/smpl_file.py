"""SMPL body files: an `.npz`, or an official `.pkl`; checked before anything uses them."""

import shlex
from pathlib import Path

import numpy as np

from posedive_lib.errors import StudyError, unreadable
from posedive_lib.intake.arrays import read_npz
from posedive_lib.intake.files import open_file
from posedive_lib.intake.pickles import read_pickled_arrays

KEYS = ("v_template", "f", "weights", "shapedirs", "posedirs", "J_regressor", "kintree_table")
BETAS = 10  # directions of shape that the study uses
LEAST, MOST = 0.3, 3.0  # metres that a body measures with its arms apart


def read_smpl(path: Path, *, any_name: bool = False) -> dict[str, np.ndarray]:
    """The arrays `KEYS` of one SMPL body. StudyError: another kind of file, or arrays that misfit.

    `shapedirs` keeps all its directions. any_name: tell the kind of file by its content.
    """
    try:
        data = _read(path, _kind(path) if any_name else path.suffix.lower())
    except StudyError as error:
        named = str(error).startswith(str(path))
        raise StudyError(str(error) if named else f"{path}: {error}") from None
    except Exception as error:  # pickle streams of something else fail in many ways
        what = "cannot be read as an SMPL body"
        raise unreadable(path, error, what, "fetch the file again") from None
    missing = [key for key in KEYS if key not in data]
    if missing:
        raise StudyError(f"{path} lacks {', '.join(missing)}: it is no SMPL body file.")
    _check(path, data)
    return data


def _kind(path: Path) -> str:
    with open_file(path) as file:
        return ".npz" if file.read(4) == b"PK\3\4" else ".pkl"


def _read(path: Path, kind: str) -> dict[str, np.ndarray]:
    if kind == ".npz":
        return read_npz(path, KEYS, what="an SMPL body")
    if kind == ".pkl":
        return read_pickled_arrays(path, KEYS)
    names = shlex.join([str(path), "--out", str(path.with_suffix(".npz"))])
    raise StudyError(
        "an SMPL body is an .npz or an official .pkl file; "
        f"`python -m posedive_lib.body.convert {names}` makes an .npz of one under another name."
    )


def _check(path: Path, data: dict[str, np.ndarray]) -> None:
    """StudyError unless the arrays are those of one SMPL body.

    smplx would take others, and crash or pose nonsense later.
    """
    odd = [key for key in KEYS if data[key].dtype.kind not in "fiu"]
    if odd:
        raise StudyError(
            f"{path}: {odd[0]} holds {data[odd[0]].dtype}, not numbers: fetch the file again."
        )
    vertices = data["v_template"].size // 3
    expected = {
        "v_template": (vertices, 3),
        "weights": (vertices, 24),
        "shapedirs": (vertices, 3, *data["shapedirs"].shape[-1:]),
        "J_regressor": (24, vertices),
        "posedirs": (vertices, 3, 207),
        "kintree_table": (2, 24),
    }
    for name, shape in expected.items():
        if data[name].shape != shape:
            raise StudyError(
                f"{path}: {name} is {data[name].shape}, expected {shape} "
                f"for {vertices} vertices and 24 SMPL joints."
            )
    directions = data["shapedirs"].shape[2]
    if directions < BETAS:
        raise StudyError(
            f"{path}: shapedirs has {directions} directions, expected {BETAS} or more: fetch the "
            "file with all of them."
        )
    for name in ("v_template", "weights", "shapedirs", "posedirs", "J_regressor"):
        with np.errstate(over="ignore"):
            finite = np.isfinite(data[name].astype(np.float32)).all()  # as it is computed with
        if not finite:
            raise StudyError(f"{path}: {name} is not finite: fetch the file again.")
    height = float(np.ptp(data["v_template"], axis=0).max())
    if not LEAST <= height <= MOST:
        raise StudyError(f"{path}: its body measures {height:.4g}: write it in metres.")
    if not np.allclose(data["weights"].sum(axis=1), 1, atol=0.01):
        raise StudyError(f"{path}: weights of a vertex do not sum to 1: fetch the file again.")
    faces, parents = data["f"].astype(np.int64), data["kintree_table"][0, 1:].astype(np.int64)
    triangles = faces.ndim == 2 and faces.shape[1] == 3 and faces.size > 0
    if not triangles or faces.min() < 0 or faces.max() >= vertices:
        raise StudyError(
            f"{path}: f does not name triangles of its {vertices} vertices: fetch the file again."
        )
    if (parents < 0).any() or (parents >= np.arange(1, 24)).any():
        raise StudyError(f"{path}: kintree_table is no tree of joints: fetch the file again.")
