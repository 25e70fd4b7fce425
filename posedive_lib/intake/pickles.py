"""Arrays of an official SMPL `.pkl`, read without executing anything in it.

The official pickles are Python 2's. Their arrays are wrapped in chumpy objects and the joint
regressor is a sparse matrix. Only plain arrays are made here: of chumpy's and SciPy's objects, the
class's name and the stored state are kept, and the arrays are taken out of that state.
"""

import io
import math
import pickle
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy._core import multiarray
from scipy import sparse

from posedive_lib.errors import StudyError
from posedive_lib.intake.files import read_bytes

MAX_ENTRIES = 10**8  # of an array in a body; the official files' largest has 4 million
SPARSE = {
    f"{layout}_{kind}": getattr(sparse, f"{layout}_matrix")
    for layout in ("csc", "csr", "coo")
    for kind in ("matrix", "array")
}


def read_pickled_arrays(path: Path, keys: Collection[str]) -> dict[str, np.ndarray]:
    """Those of `keys` that the pickled dictionary has.

    StudyError: another class or function is asked for. A broken stream raises anything.
    """
    data = _ArrayUnpickler(io.BytesIO(read_bytes(path)), encoding="latin1").load()
    if not isinstance(data, dict):
        raise StudyError(f"{path} holds a {type(data).__name__}: it is no SMPL body file.")
    return {key: _array(value) for key, value in data.items() if key in keys}


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


# Python's own unpickler, not C's: that one reserves all memory that a wrong number asks for.
class _ArrayUnpickler(pickle._Unpickler):
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
