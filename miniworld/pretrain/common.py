"""What the pre-training scripts share: settings, the rendered people, batches and saving."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml
from safetensors import safe_open

from posedive_lib.errors import StudyError

if TYPE_CHECKING:
    from diffusers import ModelMixin
    from torch import nn
    from transformers import PreTrainedModel

HERE = Path(__file__).parent
ARRAYS = (
    "images",
    "keypoints",
    "visible",
    "person",
    "azimuth",
    "elevation",
    "skeleton",
    "depth",
    "normals",
    "neutral",
)


_others: list[Path] = []  # files of `use`


def use(path: Path) -> None:
    """Let `settings` take the values of this file in place of its own, in this process."""
    _others.append(path)


def settings() -> dict[str, Any]:
    """miniworld/pretrain/params.yaml as nested dictionaries, with the changes of `use`.

    StudyError where a change names a section or setting that is not there.
    """
    values = yaml.safe_load((HERE / "params.yaml").read_text())
    for path in _others:
        values = _changed(values, yaml.safe_load(path.read_text()), path)
    return values


def _changed(values: dict[str, Any], changes: dict[str, Any], path: Path) -> dict[str, Any]:
    """`values` with `changes` in their places, section by section."""
    for name, change in changes.items():
        if name not in values:
            raise StudyError(
                f"{path} sets {name!r}, which {HERE / 'params.yaml'} has not at this place: "
                "correct the name or remove it."
            )
        inner = isinstance(values[name], dict)
        values[name] = _changed(values[name], change, path) if inner else change
    return values


@dataclass
class People:
    """Rendered people, aligned by row; arrays are memory-mapped.

    images, neutral, skeleton, normals (N,H,W,3), depth (N,H,W,1): uint8.
    keypoints (N,17,2): pixels. visible (N,17): 2 visible, 1 hidden by the own body, 0 hidden
    otherwise or outside. person, azimuth, elevation (N,).
    """

    captions: list[str]
    rows: np.ndarray  # rows of this split
    arrays: dict[str, np.ndarray]

    def __getattr__(self, name: str) -> np.ndarray:
        try:
            return self.__dict__["arrays"][name]
        except KeyError:
            raise AttributeError(name) from None


def people(split: str) -> People:
    """Rows of `split`: "train", or "held-out" (persons no model has seen)."""
    config = settings()
    folder = Path(config["people_folder"])
    if not (folder / "captions.json").exists():
        raise StudyError(
            f"No rendered people in {folder}: run `python -m miniworld.pretrain.render` first."
        )
    arrays = {
        name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        for name in ARRAYS
        if (folder / f"{name}.npy").exists()
    }
    captions = json.loads((folder / "captions.json").read_text())
    person = np.asarray(arrays["person"])
    first_held_out = person.max() + 1 - config["people"]["held_out"]
    rows = np.flatnonzero((person >= first_held_out) == (split == "held-out"))
    return People(captions, rows, arrays)


def to_float(images: np.ndarray) -> torch.Tensor:
    """uint8 (N,H,W,C) to float (N,C,H,W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def jitter_colour(images: torch.Tensor, strength: float, rng: np.random.Generator) -> torch.Tensor:
    """Random gain per image and channel, contrast and brightness; images (N,3,H,W) in [-1, 1]."""
    n = len(images)
    all_channels = strength * rng.uniform(-1, 1, (n, 1, 1, 1))
    each_channel = 0.4 * strength * rng.uniform(-1, 1, (n, 3, 1, 1))
    gain = torch.from_numpy(1 + all_channels + each_channel)
    shift = torch.from_numpy(0.5 * strength * rng.uniform(-1, 1, (n, 1, 1, 1)))
    return (images * gain.float() + shift.float()).clamp(-1, 1)


def warm_start(model: nn.Module, folder: str | None) -> None:
    """Take weights of an earlier release where name and shape agree; None starts from nothing."""
    if folder is None:
        return
    own = model.state_dict()
    taken: dict[str, torch.Tensor] = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for key in file.keys():
                shape = tuple(file.get_slice(key).get_shape())
                if key in own and shape == tuple(own[key].shape):
                    taken[key] = file.get_tensor(key).float()
    print(f"{len(taken)} of {len(own)} tensors start from {folder}")
    model.load_state_dict(taken, strict=False)


def weights_digest(*folders: str | Path) -> str:
    """Short digest of the weights in these folders, to name what was computed with them."""
    digest = hashlib.sha256()
    for path in sorted(p for folder in folders for p in Path(folder).rglob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def save_model(model: PreTrainedModel | ModelMixin, folder: str | Path) -> None:
    """Write a library model as half-precision safetensors; the model itself stays as it is.

    Its config.json asks for float32, so that a plain `from_pretrained(folder)` computes in it.
    """
    copy.deepcopy(model).half().save_pretrained(folder, safe_serialization=True)
    path = Path(folder) / "config.json"
    config = json.loads(path.read_text())
    if "dtype" in config:
        path.write_text(json.dumps(config | {"dtype": "float32"}, indent=2) + "\n")


def batches(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """`rows` in order, `size` at a time."""
    return (rows[i : i + size] for i in range(0, len(rows), size))
