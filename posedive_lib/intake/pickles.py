"""Arrays of an SMPL `.pkl`, read without executing anything in it.

The official pickles are Python 2's. Their arrays are wrapped in chumpy objects and the joint
regressor is a sparse matrix. Only plain arrays are made here. Of every other object, whatever its
class, the names of module and class and the stored state are kept. The arrays are taken out of the
state of chumpy's, SciPy's and NumPy's objects, and only for the keys that are asked for.
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

from posedive_lib.errors import StudyError, shown
from posedive_lib.intake.files import read_bytes

MAX_ENTRIES = 10**8  # of an array in a body; the official files' largest has 4 million
SPARSE = {
    f"{layout}_{kind}": getattr(sparse, f"{layout}_matrix")
    for layout in ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")
    for kind in ("matrix", "array")
}
MEND = "save its arrays as an .npz with the program that wrote the file"


def read_pickled_arrays(path: Path, keys: Collection[str]) -> dict[str, np.ndarray]:
    """Those of `keys` that the pickled dictionary has.

    StudyError: one of them is an object without plain numbers. A broken stream raises anything.
    """
    data = _ArrayUnpickler(io.BytesIO(read_bytes(path)), encoding="latin1").load()
    if not isinstance(data, dict):
        raise StudyError(f"{path} holds a {_kind(data)}: it is no SMPL body file.")
    # Python 3 keeps the text of Python 2 as bytes where a program told it so.
    named = {k.decode("latin1") if isinstance(k, bytes) else k: v for k, v in data.items()}
    return {key: _array(key, value) for key, value in named.items() if key in keys}


class _Stored:
    """An object of the file that is not made: a class of its name without code, and its state.

    It also stands for what a function would have given. module: where the class was.
    items: what a dictionary's class held.
    """

    module = ""
    state: Any
    items: dict[Any, Any]

    def __new__(cls, *arguments: Any, **named: Any) -> "_Stored":
        made = super().__new__(cls)
        made.state, made.items = None, {}
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def extend(self, items: Any) -> None:
        """What a list or a set would take; no array is made of it."""

    append = add = extend


def _stored(module: str, name: str) -> type[_Stored]:
    """The class that stands for `module.name`."""
    return type(name, (_Stored,), {"module": module})


def _kind(value: Any) -> str:
    """The class of a value, or what a `_Stored` one stands for, for messages."""
    kind = value if isinstance(value, type) else type(value)
    return shown(f"{kind.module}.{kind.__name__}" if issubclass(kind, _Stored) else kind.__name__)


def _reconstructor(kind: Any, base: Any, state: Any) -> _Stored:
    """Stands in for `copyreg._reconstructor`, by which Python 2 makes an object."""
    stored = isinstance(kind, type) and issubclass(kind, _Stored)
    made = kind() if stored else _stored("copyreg", "_reconstructor")()
    if isinstance(state, dict):
        made.items = state
    return made


def _encode(text: str, encoding: str = "latin1") -> Any:
    """Stands in for `_codecs.encode`, by which Python 3 writes bytes for Python 2."""
    return text.encode("latin1") if encoding == "latin1" else _stored("_codecs", "encode")()


def _empty_array(*arguments: Any) -> np.ndarray:
    """Stands in for NumPy's `_reconstruct`: a plain array also of a subclass such as a matrix.

    The state that follows says its shape, its kind of numbers and their bytes.
    """
    return np.ndarray((0,), np.int8)


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
    """Makes arrays, and `_Stored` objects in place of every other class and function."""

    KNOWN: dict[tuple[str, str], Any] = {
        ("numpy", "dtype"): np.dtype,
        ("numpy", "ndarray"): np.ndarray,
        ("_codecs", "encode"): _encode,
        ("collections", "OrderedDict"): dict,
        # Python 2's names, then Python 3's
        ("copy_reg", "_reconstructor"): _reconstructor,
        ("copyreg", "_reconstructor"): _reconstructor,
        ("__builtin__", "set"): set,
        ("builtins", "set"): set,
    }
    for core in ("numpy.core", "numpy._core"):
        KNOWN[f"{core}.multiarray", "_reconstruct"] = _empty_array
        KNOWN[f"{core}.multiarray", "scalar"] = multiarray.scalar
        KNOWN[f"{core}.numeric", "_frombuffer"] = _from_buffer

    def find_class(self, module: str, name: str) -> Any:
        return self.KNOWN.get((module, name)) or _stored(module, name)


def _array(key: str, value: Any) -> np.ndarray:
    """A plain array of whatever the file holds for one key."""
    if not isinstance(value, _Stored):
        array = np.asarray(value)
        for item in array.flat if array.dtype == object else ():
            if isinstance(item, _Stored):
                raise StudyError(f"{key} holds objects of {_kind(item)}, not numbers: {MEND}.")
        return array
    kind, package, state = type(value).__name__, value.module.split(".")[0], value.state
    if value.module.startswith("numpy.ma") and isinstance(state, tuple):
        return _unmasked(key, state)
    if package == "chumpy" and kind == "Select":  # indexing: entries of another array, in a shape
        chosen = _array(key, state["a"]).ravel()[_array(key, state["idxs"])]
        return chosen.reshape(state.get("preferred_shape", chosen.shape))
    if package == "chumpy" and isinstance(state, dict) and "x" in state:  # its own array
        return _array(key, state["x"])
    if package == "scipy" and kind in SPARSE and isinstance(state, dict):
        return _dense(key, kind.split("_")[0], state, value.items)
    named = f"chumpy's {kind}" if package == "chumpy" else f"an object of {_kind(value)}"
    raise StudyError(f"{key} is {named}, not numbers: {MEND}.")


def _unmasked(key: str, state: tuple) -> np.ndarray:
    """The numbers of a masked array. StudyError where some are masked."""
    version, shape, dtype, fortran, raw, mask = state[:6]
    mask = mask.encode("latin1") if isinstance(mask, str) else mask
    if not isinstance(mask, bytes):
        raise ValueError("a masked array has no mask")
    if any(mask):
        raise StudyError(f"{key} is a masked array, and {sum(mask):,} values are missing: {MEND}.")
    array = _empty_array()
    array.__setstate__((version, shape, dtype, fortran, raw))
    return array


def _dense(key: str, layout: str, state: dict[str, Any], items: dict[Any, Any]) -> np.ndarray:
    """A sparse matrix as a plain array.

    Its indices are checked first: SciPy would write outside its memory for indices that lie.
    """
    shape = state["_shape"] if "_shape" in state else state["shape"]
    if math.prod(float(length) for length in shape) > MAX_ENTRIES:
        raise StudyError(f"a sparse matrix of {shape} is no part of a body.")
    if layout in ("coo", "dok", "lil"):
        values, row, column = _places(key, layout, state, items)
        return sparse.coo_matrix((values, (row, column)), shape).toarray()
    values = _array(key, state["data"])
    if layout == "dia":
        offsets = _array(key, state["offsets"])
        if offsets.size and not -shape[0] < offsets.min() <= offsets.max() < shape[1]:
            raise ValueError("a diagonal lies outside of its matrix")
        return sparse.dia_matrix((values, offsets), shape).toarray()
    parts = values, _array(key, state["indices"]), _array(key, state["indptr"])
    matrix = SPARSE[f"{layout}_matrix"](parts, shape=shape)
    matrix.check_format(full_check=True)
    return matrix.toarray()


def _places(
    key: str, layout: str, state: dict[str, Any], items: dict[Any, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (N,), rows (N,) and columns (N,) of a sparse matrix that keeps entries one by one."""
    if layout == "coo":
        places = state["coords"] if "coords" in state else (state["row"], state["col"])
        row, column = (_array(key, place) for place in places)
        return _array(key, state["data"]), row, column
    if layout == "dok":
        entries = state.get("_dict", items)
        row, column = np.array(list(entries), int).reshape(-1, 2).T
        return np.array(list(entries.values())), row, column
    lengths = [len(row) for row in state["rows"]]
    if lengths != [len(row) for row in state["data"]]:
        raise ValueError("a sparse matrix has other numbers of columns than of values")
    columns = np.array([column for row in state["rows"] for column in row], int)
    values = np.array([value for row in state["data"] for value in row])
    return values, np.repeat(np.arange(len(lengths)), lengths), columns
