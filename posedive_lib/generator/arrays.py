"""What training reads: latents, CLIP tokens and condition maps.

They are encoded once, because VAE and CLIP are frozen.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from posedive_lib.errors import StudyError
from posedive_lib.generator.encoders import Encoders, check_images, check_maps
from posedive_lib.intake.arrays import begin_npy, map_npy, read_npz, write_npz
from posedive_lib.writing import replacing_folder

DIMENSIONS = {
    "latents": 4,
    "clip_tokens": 3,
    "pid": 1,
    "camid": 1,
    "depth": 4,
    "normals": 4,
    "skeleton": 4,
}


@dataclass
class TrainingImages:
    """N photos with their conditions: what `encode` turns into `TrainingArrays`.

    photos, normals and skeleton (N, H, W, 3), depth (N, H, W, 1) uint8; pid, camid (N,) int.
    """

    photos: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    skeleton: np.ndarray
    pid: np.ndarray
    camid: np.ndarray

    def check(self) -> None:
        """StudyError unless photos and conditions have the types and shapes above."""
        check_images(self.photos, "image", 3)
        check_maps((self.depth, self.normals, self.skeleton), self.photos.shape[1:3])


@dataclass
class TrainingArrays:
    """N images, encoded.

    latents (N, C, h, w) float32, scaled; clip_tokens (N, T, D) float32; pid, camid (N,) int;
    depth (N, H, W, 1), normals and skeleton (N, H, W, 3) uint8;
    reference_ok and target_ok (N,) bool from Eq. 3 and 4, by default all True; azimuth (N,)
    degrees, by default unknown (NaN).
    """

    latents: np.ndarray
    clip_tokens: np.ndarray
    pid: np.ndarray
    camid: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    skeleton: np.ndarray
    reference_ok: np.ndarray | None = None
    target_ok: np.ndarray | None = None
    azimuth: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("reference_ok", "target_ok"):
            if getattr(self, name) is None:
                setattr(self, name, np.ones(len(self.latents), dtype=bool))
        if self.azimuth is None:
            self.azimuth = np.full(len(self.latents), np.nan)
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if len(set(lengths.values())) != 1:
            raise StudyError(f"The training arrays differ in length: {lengths}.")

    def __len__(self) -> int:
        return len(self.latents)

    def save(self, path: str | Path) -> None:
        """Write an `.npz`, whole or not at all."""
        write_npz(path, {field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def read(cls, path: str | Path) -> "TrainingArrays":
        """Read what `save` wrote, or map what `join` did; StudyError on anything else."""
        names, what, path = [field.name for field in fields(cls)], "training arrays", Path(path)
        if path.is_dir():
            columns = {name: map_npy(path / f"{name}.npy", what=what) for name in names}
        else:
            columns = read_npz(path, names, what=what, limit=sys.maxsize)
        for name, dimensions in DIMENSIONS.items():
            if name not in columns or columns[name].ndim != dimensions:
                raise StudyError(
                    f"{path} holds no training arrays ({name} is missing or of another shape): "
                    "name a file that TrainingArrays.save wrote."
                )
        return cls(**columns)


def join(files: Sequence[Path], rows: int, folder: Path) -> None:
    """The arrays of several files, `rows` images in all, as a folder of one `.npy` per column.

    It is there whole or not at all, and one file at a time is in memory.
    """
    with replacing_folder(folder) as draft:
        for number, file in enumerate(files):
            for name, array in vars(TrainingArrays.read(file)).items():
                with (draft / f"{name}.npy").open("ab") as column:
                    if not number:
                        begin_npy(column, array, rows)
                    column.write(np.ascontiguousarray(array).data)


def encode(
    images: TrainingImages,
    encoders: Encoders,
    *,
    clip_tokens: str = "pooled",
    batch_size: int = 64,
    progress: bool = True,
) -> TrainingArrays:
    """Photos -> latents and CLIP tokens (`pooled` or `patch`), `batch_size` photos at a time."""
    images.check()
    device = encoders.clip.model.device
    latents, tokens = [], []
    starts = range(0, len(images.photos), batch_size)
    for start in tqdm(starts, desc="encode", disable=not progress):
        photos = np.ascontiguousarray(images.photos[start : start + batch_size])
        batch = torch.from_numpy(photos).to(device)
        latents.append(encoders.latents(batch).float().cpu().numpy())
        tokens.append(encoders.clip.tokens(batch, clip_tokens).float().cpu().numpy())
    rest = {name: np.asarray(value) for name, value in vars(images).items() if name != "photos"}
    return TrainingArrays(np.concatenate(latents), np.concatenate(tokens), **rest)
