"""Images compared by their features (§D, §F): labels of queries and gallery, and cosine distances a block of rows at a time.

Distances are exact to the last bit whatever the block and however often an image occurs, so that ties are ties everywhere.
"""

from dataclasses import dataclass

import numpy as np
import torch

from posedive_lib.errors import StudyError

JUNK = -1  # identity of gallery images that are ignored
GRID = 1536.0  # added to a cosine distance, it rounds to multiples of 2^-42: differences of rounding in the product are no differences


@dataclass(frozen=True)
class Labels:
    """Identities and cameras of queries (Q,) and gallery (G,), as integers."""

    q_pid: np.ndarray
    q_cam: np.ndarray
    g_pid: np.ndarray
    g_cam: np.ndarray

    @classmethod
    def check(
        cls, query_pids, query_camids, n_query: int, gallery_pids, gallery_camids, n_gallery: int
    ) -> "Labels":
        named = {
            "query_pids": (query_pids, n_query),
            "query_camids": (query_camids, n_query),
            "gallery_pids": (gallery_pids, n_gallery),
            "gallery_camids": (gallery_camids, n_gallery),
        }
        return cls(*(_integers(values, count, name) for name, (values, count) in named.items()))

    def __post_init__(self):
        order = np.argsort(self.g_pid, kind="stable")
        pids, starts = np.unique(self.g_pid[order], return_index=True)
        object.__setattr__(
            self,
            "_members",
            dict(zip(pids.tolist(), np.split(order, starts[1:]), strict=True)) if len(pids) else {},
        )

    def without_junk(self) -> "Labels":
        """The same without gallery images of identity -1."""
        keep = self.g_pid != JUNK
        return (
            self
            if keep.all()
            else Labels(self.q_pid, self.q_cam, self.g_pid[keep], self.g_cam[keep])
        )

    def of_query(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """Gallery indices (ascending) of its matches under another camera, and of the images removed as they share its camera."""
        pid = int(self.q_pid[query])
        same = self._members.get(pid)
        if pid == JUNK or same is None:
            return np.empty(0, np.intp), np.empty(0, np.intp)
        other = self.g_cam[same] != self.q_cam[query]
        return same[other], same[~other]


def _array(values) -> np.ndarray:
    return (
        values.detach().cpu().double().numpy()
        if isinstance(values, torch.Tensor)
        else np.asarray(values)
    )


def _integers(values, count: int, what: str) -> np.ndarray:
    values = _array(values)
    if values.shape != (count,):
        raise StudyError(
            f"{what} have shape {values.shape}, but there are {count} images: give one label per image."
        )
    if values.dtype.kind in "iufb":
        with np.errstate(invalid="ignore"):
            whole = values.astype(np.int64)
        if (whole == values).all():
            return whole
    raise StudyError(
        f"{what} are not whole numbers (type {values.dtype}): identities and cameras are integers, junk is -1."
    )


def as_features(features, what: str) -> np.ndarray:
    """(N, D) float64 rows of unit length; zero rows stay zero. StudyError on another shape or non-finite values."""
    features = np.array(_array(features), dtype=np.float64)
    if features.ndim != 2 or features.shape[1] == 0:
        raise StudyError(f"{what} features have shape {features.shape}: expected (N, D).")
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.sqrt(np.einsum("nd,nd->n", features, features))
    _refuse(
        np.flatnonzero(~np.isfinite(length)),
        len(features),
        f"{what} features",
        "lower the learning rate or check the images",
    )
    return np.divide(features, length[:, None], out=features, where=length[:, None] > 0)


def _refuse(bad: np.ndarray, count: int, what: str, mend: str) -> None:
    if len(bad):
        raise StudyError(
            f"{len(bad)} of {count} {what} are not finite (the first in row {bad[0]}): {mend}."
        )


def pair_of_features(query_features, gallery_features) -> tuple[np.ndarray, np.ndarray]:
    """Both as `as_features`; StudyError unless their lengths agree."""
    query, gallery = as_features(query_features, "query"), as_features(gallery_features, "gallery")
    if query.shape[1] != gallery.shape[1]:
        raise StudyError(
            f"Query features have {query.shape[1]} numbers, gallery features {gallery.shape[1]}: extract both with the same model."
        )
    return query, gallery


def _twins(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(later, first) indices of identical rows, whose columns of a matrix product may still differ in rounding."""
    key = np.zeros(len(features), np.uint64)
    factors = np.random.default_rng(0).integers(
        1, 2**63, features.shape[1], dtype=np.uint64
    ) | np.uint64(1)
    for start in range(
        0, len(features), 4096
    ):  # a hash of each row's bits, the upper half folded into the lower; + 0.0 makes -0.0 equal 0.0
        bits = (features[start : start + 4096] + 0.0).view(np.uint64)
        key[start : start + 4096] = ((bits ^ (bits >> np.uint64(32))) * factors).sum(
            axis=1, dtype=np.uint64
        )
    _, first, which = np.unique(key, return_index=True, return_inverse=True)
    later = np.flatnonzero(first[which] != np.arange(len(features)))
    if len(later):  # no two rows that only share their hash
        later = later[
            [
                np.array_equal(features[i], features[j])
                for i, j in zip(later, first[which[later]], strict=True)
            ]
        ]
    return later, first[which[later]]


class CosineRows:
    """Rows of the (Q, G) cosine distances of unit features, plus a constant, a block at a time: NumPy, or torch on `device`."""

    def __init__(self, query: np.ndarray, gallery: np.ndarray, device: str | None = None):
        self.shape = len(query), len(gallery)
        self.twins = _twins(gallery)
        self.query, self.gallery = -query, gallery
        if device is not None:
            try:
                self.query, self.gallery, *self.twins = (
                    torch.from_numpy(part).to(device)
                    for part in (self.query, self.gallery, *self.twins)
                )
            except (RuntimeError, TypeError, AssertionError) as error:
                raise StudyError(
                    f"The features do not go to device '{device}' ({error}): use a device with float64 and room for them, or None."
                ) from None

    def __getitem__(self, rows: slice):
        """(B, G) float64. Equal whatever the block, as results are on the grid and identical images share one."""
        distance = self.query[rows] @ self.gallery.T
        distance += GRID
        later, first = self.twins
        if len(later):
            distance[:, later] = distance[:, first]
        return distance


class GivenRows:
    """Rows of a given (Q, N) matrix of distances of any float type, of the columns `keep` (N,) bool."""

    def __init__(self, distances: np.ndarray, keep: np.ndarray):
        self.shape, self.distances, self.keep = (len(distances), int(keep.sum())), distances, keep

    def __getitem__(self, rows: slice) -> np.ndarray:
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


def cosine_rows(
    query_features,
    query_pids,
    query_camids,
    gallery_features,
    gallery_pids,
    gallery_camids,
    device=None,
) -> tuple[CosineRows, Labels]:
    """Checked features and labels, without the gallery's junk: gallery indices count the images that are left."""
    query, gallery = pair_of_features(query_features, gallery_features)
    labels = Labels.check(
        query_pids, query_camids, len(query), gallery_pids, gallery_camids, len(gallery)
    )
    keep = labels.g_pid != JUNK
    return CosineRows(
        query, gallery if keep.all() else gallery[keep], device
    ), labels.without_junk()
