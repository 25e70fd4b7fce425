"""Features of one's own images in one line: `extract(["a.jpg", "b.jpg"], "models/clip-reid")`."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from posedive_lib.datasets.images import read
from posedive_lib.errors import StudyError
from posedive_lib.intake.images import open_rgb, rgb_of
from posedive_lib.reid import models
from posedive_lib.reid.distances import as_features
from posedive_lib.reid.image_set import resized

Photo = str | Path | Image.Image | np.ndarray
BLOCK = 1024  # images in memory at a time, where they come as files


def extract(
    images: Iterable[Photo] | np.ndarray,
    model_folder: str | Path,
    *,
    camids: Sequence[int] | None = None,
    device: str | None = None,
    precision: str = "auto",
) -> np.ndarray:
    """(N, D) float32 features of length 1: their dot product is the cosine similarity.

    images: paths, images of PIL, arrays (H, W, 3) uint8 RGB, each of any size, or one array
    (N, H, W, 3). model_folder: what a model's `save` wrote. camids (N,): 0-based cameras, used by
    a model with camera embeddings (SIE) only. precision: as `reid.precision`; the training's may
    need a GPU.

    StudyError on an unreadable image, an incomplete folder, or features that are not finite.
    """
    model = models.load_trained(model_folder, device, precision)
    if isinstance(images, str | Path | Image.Image) or not isinstance(images, Iterable):
        raise StudyError(
            f"{images} is no list of images: give a list of paths, of images of PIL or of arrays."
        )
    given = images if isinstance(images, np.ndarray) and images.ndim > 1 else list(images)
    if camids is not None and len(camids) != len(given):
        raise StudyError(
            f"{len(given)} images with {len(camids)} cameras: one per image is needed."
        )
    parts = []
    for start in range(0, max(len(given), 1), BLOCK):
        some = given[start : start + BLOCK]
        if isinstance(some, list):
            some = _pixels(some, start, model.height, model.width)
        cameras = None if camids is None else np.asarray(camids)[start : start + BLOCK]
        parts.append(model.extract(some, cameras))
    return as_features(np.concatenate(parts), "extracted").astype(np.float32)


def _pixels(images: list[Photo], first: int, height: int, width: int) -> np.ndarray:
    """(N, height, width, 3) uint8; `first`: the number of the first image, for messages."""
    paths = [image for image in images if isinstance(image, str | Path)]
    if len(paths) == len(images):
        return read(paths, height, width, "bilinear")  # by threads
    arrays = (_array(image, number) for number, image in enumerate(images, first))
    return np.concatenate([resized(array[None], height, width) for array in arrays])


def _array(image: Photo, number: int) -> np.ndarray:
    """(H, W, 3) uint8."""
    if isinstance(image, str | Path):
        image = open_rgb(image)
    if isinstance(image, Image.Image):
        return np.asarray(rgb_of(image, f"Image {number} of the list", "leave it out"))
    about = f"of type {type(image).__name__}"
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
            return image
        about = f"{image.dtype} {image.shape}"
    raise StudyError(
        f"Image {number} of the list is {about}: "
        "give a path, an image of PIL or an array (H, W, 3) uint8."
    )
