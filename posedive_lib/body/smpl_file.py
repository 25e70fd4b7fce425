"""SMPL body files, read without executing anything in them: `.npz`, or an official `.pkl`.

The official pickles are Python 2's. Their arrays are wrapped in chumpy objects and the joint
regressor is a sparse matrix. Only plain arrays are made here: of chumpy's and SciPy's objects, the
class's name and the stored state are kept, and the arrays are taken out of that state.
"""

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy._core import multiarray
from scipy import sparse

from posedive_lib.errors import StudyError, unreadable
from posedive_lib.intake.arrays import read_npz

MAX_ENTRIES = 10**8  # of an array in a body; the official files' largest has 4 million
KEYS = ("v_template", "f", "weights", "shapedirs", "posedirs", "J_regressor", "kintree_table")
SPARSE = {
    f"{layout}_{kind}": getattr(sparse, f"{layout}_matrix")
    for layout in ("csc", "csr", "coo")
    for kind in ("matrix", "array")
}


def read_smpl(path: Path) -> dict[str, np.ndarray]:
    """The arrays `KEYS` of one SMPL body. StudyError: another kind of file, or arrays that misfit.

    `shapedirs` keeps all its directions.
    """
    try:
        data = _read(path)
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


def _read(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".npz":
        return read_npz(path, KEYS, what="an SMPL body")
    if path.suffix == ".pkl":
        with open(path, "rb") as file:
            data = _ArrayUnpickler(file, encoding="latin1").load()
        return {key: _array(value) for key, value in data.items() if key in KEYS}
    raise StudyError("an SMPL body is an .npz or an official .pkl file.")


class _Stored:
    """An object of the file that is not made: a class of its name without code, and its state."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _reconstructor(kind: type, base: type, state: Any) -> _Stored:
    """Stands in for `copyreg._reconstructor`, by which Python 2 makes an object."""
    if not (isinstance(kind, type) and issubclass(kind, _Stored) and base is object):
        raise StudyError(f"the SMPL file makes an object of {kind}: convert it to .npz first.")
    return kind()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Stands in for `_codecs.encode`, by which Python 3 writes bytes for Python 2."""
    if encoding != "latin1":
        raise StudyError(f"the SMPL file encodes bytes as {encoding}: convert it to .npz first.")
    return text.encode("latin1")


def _from_buffer(
    buffer: bytes, dtype: np.dtype, shape: tuple, order: str, axes: tuple | None = None
) -> np.ndarray:
    """Stands in for NumPy's `_frombuffer`, which pickles of protocol 5 ask for."""
    array = np.frombuffer(buffer, dtype=dtype)
    if order == "K" and axes is not None:
        return array.reshape(shape).transpose(axes)
    return array.reshape(shape, order="F" if order == "F" else "C")


class _ArrayUnpickler(pickle.Unpickler):
    """Makes arrays and `_Stored` objects; refuses every other class and function."""

    ALLOWED: dict[tuple[str, str], Any] = {
        ("numpy", "dtype"): np.dtype,
        ("numpy", "ndarray"): np.ndarray,
        ("_codecs", "encode"): _encode,
        # Python 2's names, then Python 3's
        ("copy_reg", "_reconstructor"): _reconstructor,
        ("copyreg", "_reconstructor"): _reconstructor,
        ("__builtin__", "object"): object,
        ("builtins", "object"): object,
        ("__builtin__", "set"): set,
        ("builtins", "set"): set,
    }
    for core in ("numpy.core", "numpy._core"):
        ALLOWED[f"{core}.multiarray", "_reconstruct"] = multiarray._reconstruct
        ALLOWED[f"{core}.multiarray", "scalar"] = multiarray.scalar
        ALLOWED[f"{core}.numeric", "_frombuffer"] = _from_buffer

    def find_class(self, module: str, name: str) -> Any:
        package = module.split(".")[0]
        is_sparse = module.startswith("scipy.sparse") and name in SPARSE
        if package == "chumpy" or is_sparse:
            return type(name, (_Stored,), {})
        if (module, name) in self.ALLOWED:
            return self.ALLOWED[module, name]
        raise StudyError(
            f"the SMPL file asks for {module}.{name}: only plain arrays are read; "
            "convert it to .npz first."
        )


def _array(value: Any) -> np.ndarray:
    """A plain array of whatever the file holds for one key."""
    if not isinstance(value, _Stored):
        return np.asarray(value)
    kind, state = type(value).__name__, value.state
    if not isinstance(state, dict):
        raise StudyError(f"the SMPL file holds a {kind} without its arrays: fetch the file again.")
    if kind in SPARSE:
        return _dense(kind, state)
    if kind == "Select":  # chumpy's indexing: entries of another array, in another shape
        chosen = _array(state["a"]).ravel()[_array(state["idxs"])]
        return chosen.reshape(state.get("preferred_shape", chosen.shape))
    if "x" in state:  # chumpy's own array
        return _array(state["x"])
    raise StudyError(f"the SMPL file holds chumpy's {kind}: convert it to .npz first.")


def _dense(kind: str, state: dict[str, Any]) -> np.ndarray:
    """A sparse matrix as a plain array.

    Its indices are checked first: SciPy would write outside its memory for indices that lie.
    """
    shape = state["_shape"] if "_shape" in state else state["shape"]
    if math.prod(float(length) for length in shape) > MAX_ENTRIES:
        raise StudyError(f"a sparse matrix of {shape} is no part of a body.")
    values = _array(state["data"])
    if kind.startswith("coo"):
        places = state["coords"] if "coords" in state else (state["row"], state["col"])
        row, column = (_array(place) for place in places)
        return sparse.coo_matrix((values, (row, column)), shape).toarray()
    parts = values, _array(state["indices"]), _array(state["indptr"])
    matrix = SPARSE[kind](parts, shape=shape)
    matrix.check_format(full_check=True)
    return matrix.toarray()


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
    for name in ("v_template", "weights", "shapedirs", "posedirs", "J_regressor"):
        if not np.isfinite(data[name]).all():
            raise StudyError(f"{path}: {name} is not finite: fetch the file again.")
    faces, parents = data["f"].astype(np.int64), data["kintree_table"][0, 1:].astype(np.int64)
    triangles = faces.ndim == 2 and faces.shape[1] == 3 and faces.size > 0
    if not triangles or faces.min() < 0 or faces.max() >= vertices:
        raise StudyError(
            f"{path}: f does not name triangles of its {vertices} vertices: fetch the file again."
        )
    if (parents < 0).any() or (parents >= np.arange(1, 24)).any():
        raise StudyError(f"{path}: kintree_table is no tree of joints: fetch the file again.")
