"""Filtering by the pose estimator's confidence (§E, Eq. 2–6).

sigma is (N, K) in [0, 1]: the confidence σ_k (Eq. 2) of each of K key points in each of N images.
Thresholds are in [0, 1]; a value that reaches one passes.
"""

from numbers import Real

import numpy as np
from numpy.typing import ArrayLike

from posedive_lib.errors import StudyError

RULES = ("reference", "target", "difference", "confidence")  # in the order of their application


def difference(sigma_gen: ArrayLike, sigma_tar: ArrayLike) -> np.ndarray:
    """Eq. 5: mean absolute difference in confidence of generated and target images, (N,)."""
    generated, target = _pair(sigma_gen, sigma_tar)
    return _mean(np.abs(generated - target)) if len(generated) else np.zeros(0)


def keep_reference(sigma: ArrayLike, tau_ref: float) -> np.ndarray:
    """Eq. 3: True where the least confident key point reaches tau_ref, (N,)."""
    sigma, tau_ref = _checked(sigma, "sigma"), _threshold(tau_ref, "tau_ref")
    return sigma.min(axis=1) >= tau_ref if len(sigma) else np.zeros(0, bool)


def keep_target(sigma: ArrayLike, tau_tar: float) -> np.ndarray:
    """Eq. 4: True where the mean confidence reaches tau_tar, (N,)."""
    return _mean(_checked(sigma, "sigma")) >= _threshold(tau_tar, "tau_tar")


def keep_generated(
    sigma_gen: ArrayLike, sigma_tar: ArrayLike, epsilon_gen: float, tau_gen: float
) -> np.ndarray:
    """Eq. 5–6: True where the difference is at most epsilon_gen and the mean reaches tau_gen."""
    generated, target = _pair(sigma_gen, sigma_tar)
    epsilon_gen, tau_gen = _threshold(epsilon_gen, "epsilon_gen"), _threshold(tau_gen, "tau_gen")
    return (difference(generated, target) <= epsilon_gen) & (_mean(generated) >= tau_gen)


def first_rule(
    sigma_gen: ArrayLike,
    sigma_tar: ArrayLike,
    sigma_ref: ArrayLike | None = None,
    *,
    tau_tar: float,
    epsilon_gen: float,
    tau_gen: float,
    tau_ref: float = 0.0,
) -> np.ndarray:
    """The first of RULES that rejects each image, "" where it is kept; (N,) of str.

    sigma_ref None: the references passed already.
    """
    generated, target = _pair(sigma_gen, sigma_tar)
    reference = np.ones(len(generated), bool)
    if sigma_ref is not None:
        reference = keep_reference(sigma_ref, tau_ref)
    if len(reference) != len(generated):
        raise StudyError(
            f"sigma_ref has {len(reference)} rows but sigma_gen has {len(generated)}: "
            "give one reference row per image"
        )
    kept = {
        "reference": reference,
        "target": keep_target(target, tau_tar),
        "difference": keep_generated(generated, target, epsilon_gen, 0.0),
        "confidence": keep_generated(generated, target, 1.0, tau_gen),
    }
    return np.select([~kept[rule] for rule in RULES], RULES, default="").astype(str)


def _checked(sigma: ArrayLike, name: str) -> np.ndarray:
    """sigma as float (N, K); StudyError for another shape, NaN or a value outside [0, 1].

    An empty set may have any K.
    """
    sigma = np.asarray(sigma, dtype=float)
    if sigma.ndim in (1, 2) and len(sigma) == 0:
        return sigma.reshape(0, sigma.shape[1] if sigma.ndim == 2 else 0)
    if sigma.ndim != 2 or sigma.shape[1] == 0:
        raise StudyError(
            f"{name} is {sigma.shape}, expected (images, key points) with at least one key point"
        )
    if np.isnan(sigma).any():
        row = int(np.argmax(np.isnan(sigma).any(axis=1)))
        raise StudyError(
            f"{name} is NaN for image {row}: run the pose estimator on it again or leave it out"
        )
    if sigma.min() < 0 or sigma.max() > 1:
        raise StudyError(
            f"{name} lies in [{sigma.min():.3g}, {sigma.max():.3g}], expected [0, 1]: "
            "clip the heat-map maxima first"
        )
    return sigma


def _pair(sigma_gen: ArrayLike, sigma_tar: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    generated, target = _checked(sigma_gen, "sigma_gen"), _checked(sigma_tar, "sigma_tar")
    if len(generated) != len(target) or (len(target) and generated.shape != target.shape):
        raise StudyError(
            f"sigma_gen is {generated.shape} but sigma_tar is {target.shape}: "
            "give one target row for every generated image"
        )
    return generated, target


def _threshold(value: float, name: str) -> float:
    if not isinstance(value, Real) or not 0 <= value <= 1:  # also refuses NaN
        raise StudyError(f"{name} is {value}, expected a number in [0, 1]")
    return float(value)


def _mean(sigma: np.ndarray) -> np.ndarray:
    return sigma.mean(axis=1) if len(sigma) else np.zeros(0)
