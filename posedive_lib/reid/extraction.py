"""Features of one's own images in one line: `extract(["a.jpg", "b.jpg"], "models/clip-reid")`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from posedive_lib.errors import StudyError
from posedive_lib.reid import models
from posedive_lib.datasets.images import read

BLOCK = 1024   # images in memory at a time, where they come as files


def extract(images: Sequence[str | Path] | np.ndarray, model_folder: str | Path, *, camids: Sequence[int] | None = None, device: str | None = None) -> np.ndarray:
    """(N, D) float32 features of length 1: their dot product is the cosine similarity.

    images: paths, or RGB (N, H, W, 3) uint8 of any size. model_folder: what a model's `save` wrote. camids (N,): 0-based cameras, used by
    a model with camera embeddings (SIE) only. StudyError on an unreadable image or an incomplete folder.
    """
    model = models.load(model_folder, device)
    if isinstance(images, str | Path):
        raise StudyError(f"{images} is one path: give a list of paths, [{str(images)!r}].")
    if camids is not None and len(camids) != len(images):
        raise StudyError(f"{len(images)} images with {len(camids)} cameras: one per image is needed.")
    parts = []
    for start in range(0, max(len(images), 1), BLOCK):
        some = images[start : start + BLOCK]
        pixels = some if isinstance(images, np.ndarray) else read(some, model.height, model.width, "bilinear")
        parts.append(model.extract(pixels, None if camids is None else np.asarray(camids)[start : start + BLOCK]))
    features = np.concatenate(parts)
    return features / np.linalg.norm(features, axis=1, keepdims=True).clip(min=np.finfo(np.float32).tiny)
