"""Images compared by their features (§D, §F): labels, and cosine distances in blocks of rows.

A distance has the same bits whatever the block, and identical images share theirs. So ties are
ties in every computation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike

from posedive_lib.errors import StudyError

Array: TypeAlias = ArrayLike | torch.Tensor
Side: TypeAlias = tuple[Array, Array, Array]  # features (N, D), identities (N,), cameras (N,)

JUNK = -1  # identity of gallery images that are ignored
# Added to a cosine distance, 1536 rounds it to a multiple of 2^-42: the product's own rounding,
# which depends on the size of the block, is far smaller and vanishes.
GRID = 1536.0


@dataclass(frozen=True, eq=False)
class Labels:
    """Identities and cameras of queries (Q,) and gallery (G,), as integers."""

    q_pid: np.ndarray
    q_cam: np.ndarray
    g_pid: np.ndarray
    g_cam: np.ndarray

    @classmethod
    def checked(
        cls, query: tuple[Array, Array], gallery: tuple[Array, Array], n_query: int, n_gallery: int
    ) -> Labels:
        """From (identities, cameras) of both sides; StudyError unless there is one per image."""
        return cls(
            _integers(query[0], n_query, "query_pids"),
            _integers(query[1], n_query, "query_camids"),
            _integers(gallery[0], n_gallery, "gallery_pids"),
            _integers(gallery[1], n_gallery, "gallery_camids"),
        )

    @cached_property
    def _members(self) -> dict[int, np.ndarray]:
        """Gallery indices (ascending) of every identity."""
        order = np.argsort(self.g_pid, kind="stable")
        pids, starts = np.unique(self.g_pid[order], return_index=True)
        return dict(zip(pids.tolist(), np.split(order, starts[1:]), strict=False))

    def without_junk(self) -> Labels:
        """The same without gallery images of identity -1."""
        keep = self.g_pid != JUNK
        return Labels(self.q_pid, self.q_cam, self.g_pid[keep], self.g_cam[keep])

    def of_query(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """Gallery indices (ascending) of a query's identity: its matches, and the removed images.

        A match is under another camera; images under the query's own camera are removed.
        """
        pid = int(self.q_pid[query])
        same = self._members.get(pid)
        if pid == JUNK or same is None:
            return np.empty(0, np.intp), np.empty(0, np.intp)
        other = self.g_cam[same] != self.q_cam[query]
        return same[other], same[~other]


def as_numpy(values: Array) -> np.ndarray:
    """An array of what may be a tensor on any device."""
    if isinstance(values, torch.Tensor):
        return values.detach().cpu().numpy()
    return np.asarray(values)


def _integers(values: Array, count: int, what: str) -> np.ndarray:
    values = as_numpy(values)
    if values.shape != (count,):
        raise StudyError(
            f"{what} have shape {values.shape}, but there are {count} images: "
            "give one label per image."
        )
    if values.dtype.kind in "iufb":
        with np.errstate(invalid="ignore"):
            whole = values.astype(np.int64)
        if (whole == values).all():
            return whole
    raise StudyError(
        f"{what} are not whole numbers (type {values.dtype}): "
        "identities and cameras are integers, junk is -1."
    )


def as_features(features: Array, what: str) -> np.ndarray:
    """(N, D) float64 rows of unit length; zero rows stay zero.

    StudyError on another shape or values that are not finite.
    """
    if isinstance(features, torch.Tensor):
        features = features.detach().cpu().double()  # NumPy knows no bfloat16
    unit = np.array(as_numpy(features), dtype=np.float64)
    if unit.ndim != 2 or unit.shape[1] == 0:
        raise StudyError(f"{what} features have shape {unit.shape}: expected (N, D).")
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.sqrt(np.einsum("nd,nd->n", unit, unit))
    _refuse(
        np.flatnonzero(~np.isfinite(length)),
        len(unit),
        f"{what} features",
        "lower the learning rate or check the images",
    )
    return np.divide(unit, length[:, None], out=unit, where=length[:, None] > 0)


def _refuse(bad: np.ndarray, count: int, what: str, advice: str) -> None:
    if len(bad):
        raise StudyError(
            f"{len(bad)} of {count} {what} are not finite (the first in row {bad[0]}): {advice}."
        )


def pair_of_features(
    query_features: Array, gallery_features: Array
) -> tuple[np.ndarray, np.ndarray]:
    """Both as `as_features`; StudyError unless their lengths D agree and images differ in them."""
    query, gallery = as_features(query_features, "query"), as_features(gallery_features, "gallery")
    if query.shape[1] != gallery.shape[1]:
        raise StudyError(
            f"Query features have {query.shape[1]} numbers, gallery features {gallery.shape[1]}: "
            "extract both with the same model."
        )
    # Then every distance is a tie, and the order of the files would decide.
    several = len(query) > 1 and len(gallery) > 1
    if several and (gallery == gallery[0]).all() and (query == gallery[0]).all():
        raise StudyError(
            f"All {len(query)} query and {len(gallery)} gallery features are the same, so they "
            "tell nobody apart: check that the model was trained and that its images differ."
        )
    return query, gallery


def _twins(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(later, first) indices of identical rows of (N, D)."""
    # only rows that share their first number can be identical: seldom any
    _, group, counts = np.unique(features[:, 0], return_inverse=True, return_counts=True)
    first = np.arange(len(features))
    seen: dict[bytes, int] = {}
    for row in np.flatnonzero(counts[group] > 1).tolist():
        bits = (features[row] + 0.0).tobytes()  # + 0.0 makes -0.0 equal 0.0
        first[row] = seen.setdefault(bits, row)
    later = np.flatnonzero(first != np.arange(len(features)))
    return later, first[later]


class CosineRows:
    """Rows of the (Q, G) cosine distances of unit features, plus a constant, a block at a time.

    device: a torch device that computes them, with float64; None: NumPy.
    """

    def __init__(self, query: np.ndarray, gallery: np.ndarray, device: str | None = None) -> None:
        self.shape = len(query), len(gallery)
        self.parts: list[Any] = [-query, gallery, *_twins(gallery)]
        if device is not None:
            try:
                self.parts = [torch.from_numpy(part).to(device) for part in self.parts]
            except (RuntimeError, TypeError, AssertionError) as error:
                raise StudyError(
                    f"The features do not go to device '{device}' ({error}): "
                    "use a device with float64 and room for them, or None."
                ) from None

    def __getitem__(self, rows: slice) -> Any:
        """(B, G) float64, an array or a tensor."""
        minus_query, gallery, later, first = self.parts
        distance = minus_query[rows] @ gallery.T
        distance += GRID
        if len(later):  # columns of identical images may still differ in rounding
            distance[:, later] = distance[:, first]
        return distance


class GivenRows:
    """Rows of a given (Q, N) matrix of distances of any float type, of the columns `keep` (N,)."""

    def __init__(self, distances: np.ndarray, keep: np.ndarray) -> None:
        self.shape = len(distances), int(keep.sum())
        self.distances, self.keep = distances, keep

    def __getitem__(self, rows: slice) -> np.ndarray:
        """(B, G); StudyError on distances that are not finite."""
        block = self.distances[rows]
        if self.shape[1] < len(self.keep):
            block = block[:, self.keep]
        _refuse(
            rows.start + np.flatnonzero(~np.isfinite(block).all(axis=1)),
            self.shape[0],
            "rows of distances",
            "check the features they come from",
        )
        return block


def cosine_rows(query: Side, gallery: Side, device: str | None = None) -> tuple[CosineRows, Labels]:
    """Checked features and labels, without the gallery's junk.

    Gallery indices from here on count the images that are left.
    """
    q, g = pair_of_features(query[0], gallery[0])
    labels = Labels.checked(query[1:], gallery[1:], len(q), len(g))
    keep = labels.g_pid != JUNK
    return CosineRows(q, g if keep.all() else g[keep], device), labels.without_junk()
