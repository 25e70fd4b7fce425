"""The state of a training in one safetensors file, so that a stopped one resumes exactly."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from posedive_lib.errors import StudyError
from posedive_lib.intake.tensors import load_tensors
from posedive_lib.writing import replacing


def save_checkpoint(path: str | Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write `tensors`, with `about` (anything JSON can hold) in the header, whole or not at all.

    Weights, optimiser and step become current together, by one rename: a kill leaves the last
    good file. StudyError where the file cannot be written.
    """
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with replacing(path) as draft:
        save_file(copies, draft, metadata={"about": json.dumps(about)})


def load_checkpoint(path: str | Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_checkpoint` wrote: tensors on the CPU, and `about`.

    key: what `about["key"]` has to be; it names everything that determines the training.
    StudyError if the file is missing, damaged, or of a training with another key.
    """
    tensors, about = load_tensors(
        path, "is missing, damaged or no checkpoint", "remove it, and the training starts anew"
    )
    if about.get("key") != key:
        raise StudyError(
            f"{path} belongs to a training with other data, parameters, seed or starting weights: "
            "remove it, or choose another folder."
        )
    return tensors, about
