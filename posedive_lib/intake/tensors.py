"""Tensors of safetensors files, and of pickled ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from posedive_lib.errors import require_readable, unreadable


def read_tensors(
    path: str | Path,
    what: str,
    mend: str,
    framework: str = "pt",
    wanted: Callable[[str], bool] = lambda name: True,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Name → tensor on the CPU, and the header's metadata. StudyError `path what (reason): mend.`

    framework: "pt" for PyTorch's tensors, "np" for arrays. wanted: says of a name whether its
    tensor is read.
    """
    require_readable(path)
    try:
        with safe_open(path, framework) as file:
            names = filter(wanted, file.keys())
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    # A kind of numbers that NumPy lacks is a TypeError or an AttributeError.
    except (OSError, SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise unreadable(path, error, what, mend) from None


def read_pickled_tensors(path: str | Path, what: str, mend: str) -> dict[str, torch.Tensor]:
    """Name → tensor of a pytorch_model.bin; classes other than tensors are refused, not made."""
    require_readable(path)
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(tensors, dict) or not all(map(torch.is_tensor, tensors.values())):
            raise ValueError("it is no table of tensors")
        return tensors
    except Exception as error:  # a broken pickle fails in many ways
        reason = ValueError(str(error).strip().split("\n")[0][:200] or type(error).__name__)
        raise unreadable(path, reason, what, mend) from None


def load_tensors(
    path: str | Path,
    what: str = "is missing, damaged or no file of weights",
    mend: str = "fetch it again, or remove it and train again",
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors, and the JSON object `about` of the metadata ({} where there is none)."""
    tensors, metadata = read_tensors(path, what, mend)
    try:
        about = json.loads(metadata.get("about", "{}"))
        if not isinstance(about, dict):
            raise ValueError("its header holds no names and values")
    except (ValueError, RecursionError) as error:
        raise unreadable(path, error, what, mend) from None
    return tensors, about
