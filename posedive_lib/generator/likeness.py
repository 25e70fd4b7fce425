"""How like the truth a generated image is, pixel by pixel and in its detail."""

import numpy as np

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601: grey of red, green and blue


def psnr(images: np.ndarray, truth: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of each image in dB (N,), over its pixels in `where` (N, H, W).

    images, truth: uint8 (N, H, W, 3). NaN where an image has no such pixel; equal images: 108 dB.
    """
    error = np.square(images.astype(float) - truth).mean(axis=-1)
    return 10 * np.log10(255**2 / np.maximum(_mean(error, where), 1e-6))


def detail(images: np.ndarray, truth: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Energy of the grey image's gradient against the truth's (N,), over pixels in `where`.

    1: as much fine structure as the true image; a blurred image has less, a noisy one more.
    Arguments as in `psnr`.
    """
    return _mean(_energy(images), where) / np.maximum(_mean(_energy(truth), where), 1e-6)


def _energy(images: np.ndarray) -> np.ndarray:
    """Squared length of the grey image's gradient (N, H, W), by central differences."""
    rows, columns = np.gradient(images.astype(float) @ LUMA, axis=(1, 2))
    return rows**2 + columns**2


def _mean(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return (values * where).sum(axis=(1, 2)) / where.sum(axis=(1, 2))
