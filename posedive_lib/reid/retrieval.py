"""§D, §F: CMC, mAP and mINP under the standard protocol, exact and in bounded memory.

Per query, gallery images of the same identity *and* camera are removed, as are images of identity -1 (junk); identity 0 (distractors) stays as
negatives. The rest is ranked by distance, ties by gallery index. Nothing sorts the gallery: the rank of a match is the number of images
ahead of it, counted in one comparison with the row of distances, and a row is first cut to what is at least as near as its worst match.
"""

from dataclasses import dataclass

import numpy as np
import torch

from posedive_lib.errors import StudyError

JUNK = -1
BLOCK_BYTES = 64 * 2**20   # of one block of float64 distances,
LEAST_ROWS = 32            # unless that is fewer rows: the product of a few rows with a large gallery is slow
MANY_MATCHES = 256         # from here on, sorting the distances once is cheaper than one pass per match
GRID = 1536.0              # added to a cosine distance, it rounds to multiples of 2^-42: differences of rounding in the product are no differences


@dataclass(frozen=True)
class RetrievalResult:
    """Fractions in [0, 1]; a query is valid if the gallery holds its identity under another camera.

    Attributes:
        mAP, mINP: means over valid queries.
        cmc: (max_rank,) share of valid queries with a match among the first k.
        average_precision, inverse_negative_penalty: (n_valid,) per valid query, in query order.
        first_rank: (n_valid,) 0-based rank of the best match.
        n_valid, n_queries, valid: how many queries count, of how many, and which: (n_queries,) bool.
    """

    mAP: float
    mINP: float
    cmc: np.ndarray
    average_precision: np.ndarray
    inverse_negative_penalty: np.ndarray
    first_rank: np.ndarray
    n_valid: int
    n_queries: int
    valid: np.ndarray


@dataclass(frozen=True)
class Labels:
    """Identities and cameras of queries (Q,) and gallery (G,), as integers."""

    q_pid: np.ndarray
    q_cam: np.ndarray
    g_pid: np.ndarray
    g_cam: np.ndarray

    @classmethod
    def check(cls, query_pids, query_camids, n_query: int, gallery_pids, gallery_camids, n_gallery: int) -> "Labels":
        named = {"query_pids": (query_pids, n_query), "query_camids": (query_camids, n_query), "gallery_pids": (gallery_pids, n_gallery), "gallery_camids": (gallery_camids, n_gallery)}
        return cls(*(_integers(values, count, name) for name, (values, count) in named.items()))

    def __post_init__(self):
        order = np.argsort(self.g_pid, kind="stable")
        pids, starts = np.unique(self.g_pid[order], return_index=True)
        object.__setattr__(self, "_members", dict(zip(pids.tolist(), np.split(order, starts[1:]), strict=True)) if len(pids) else {})

    def without_junk(self) -> "Labels":
        """The same without gallery images of identity -1."""
        keep = self.g_pid != JUNK
        return self if keep.all() else Labels(self.q_pid, self.q_cam, self.g_pid[keep], self.g_cam[keep])

    def of_query(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """Gallery indices (ascending) of its matches under another camera, and of the images removed as they share its camera."""
        pid = int(self.q_pid[query])
        same = self._members.get(pid)
        if pid == JUNK or same is None:
            return np.empty(0, np.intp), np.empty(0, np.intp)
        other = self.g_cam[same] != self.q_cam[query]
        return same[other], same[~other]


def _array(values) -> np.ndarray:
    return values.detach().cpu().double().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _integers(values, count: int, what: str) -> np.ndarray:
    values = _array(values)
    if values.shape != (count,):
        raise StudyError(f"{what} have shape {values.shape}, but there are {count} images: give one label per image.")
    if values.dtype.kind in "iufb":
        with np.errstate(invalid="ignore"):
            whole = values.astype(np.int64)
        if (whole == values).all():
            return whole
    raise StudyError(f"{what} are not whole numbers (type {values.dtype}): identities and cameras are integers, junk is -1.")


def as_features(features, what: str) -> np.ndarray:
    """(N, D) float64 rows of unit length; zero rows stay zero. StudyError on another shape or non-finite values."""
    features = np.array(_array(features), dtype=np.float64)
    if features.ndim != 2 or features.shape[1] == 0:
        raise StudyError(f"{what} features have shape {features.shape}: expected (N, D).")
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.sqrt(np.einsum("nd,nd->n", features, features))
    _refuse(np.flatnonzero(~np.isfinite(length)), len(features), f"{what} features", "lower the learning rate or check the images")
    return np.divide(features, length[:, None], out=features, where=length[:, None] > 0)


def _refuse(bad: np.ndarray, count: int, what: str, mend: str) -> None:
    if len(bad):
        raise StudyError(f"{len(bad)} of {count} {what} are not finite (the first in row {bad[0]}): {mend}.")


def pair_of_features(query_features, gallery_features) -> tuple[np.ndarray, np.ndarray]:
    """Both as `as_features`; StudyError unless their lengths agree."""
    query, gallery = as_features(query_features, "query"), as_features(gallery_features, "gallery")
    if query.shape[1] != gallery.shape[1]:
        raise StudyError(f"Query features have {query.shape[1]} numbers, gallery features {gallery.shape[1]}: extract both with the same model.")
    return query, gallery


def _twins(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(later, first) indices of identical rows, whose columns of a matrix product may still differ in rounding."""
    key = np.zeros(len(features), np.uint64)
    factors = np.random.default_rng(0).integers(1, 2**63, features.shape[1], dtype=np.uint64) | np.uint64(1)
    for start in range(0, len(features), 4096):   # a hash of each row's bits, the upper half folded into the lower; + 0.0 makes -0.0 equal 0.0
        bits = (features[start : start + 4096] + 0.0).view(np.uint64)
        key[start : start + 4096] = ((bits ^ (bits >> np.uint64(32))) * factors).sum(axis=1, dtype=np.uint64)
    _, first, which = np.unique(key, return_index=True, return_inverse=True)
    later = np.flatnonzero(first[which] != np.arange(len(features)))
    if len(later):   # no two rows that only share their hash
        later = later[[np.array_equal(features[i], features[j]) for i, j in zip(later, first[which[later]], strict=True)]]
    return later, first[which[later]]


class CosineRows:
    """Rows of the (Q, G) cosine distances of unit features, plus a constant, a block at a time: NumPy, or torch on `device`."""

    def __init__(self, query: np.ndarray, gallery: np.ndarray, device: str | None = None):
        self.shape = len(query), len(gallery)
        self.twins = _twins(gallery)
        self.query, self.gallery = -query, gallery
        if device is not None:
            try:
                self.query, self.gallery, *self.twins = (torch.from_numpy(part).to(device) for part in (self.query, self.gallery, *self.twins))
            except (RuntimeError, TypeError, AssertionError) as error:
                raise StudyError(f"The features do not go to device '{device}' ({error}): use a device with float64 and room for them, or None.") from None

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
        _refuse(rows.start + np.flatnonzero(~np.isfinite(block).all(axis=1)), self.shape[0], "rows of distances", "check the features they come from")
        return block


def match_ranks(distance: np.ndarray, matches: np.ndarray) -> np.ndarray:
    """0-based ranks (P,) of the gallery indices `matches` (P,), ascending, in one row of distances (G,); ties by gallery index."""
    values = distance[matches]
    if len(matches) >= MANY_MATCHES:
        return _many_ranks(distance, matches, values)
    near = distance <= values.max()
    if np.count_nonzero(near) < len(distance) // 4:
        kept = np.flatnonzero(near)
        distance, matches = distance[kept], np.searchsorted(kept, matches)
    count = np.count_nonzero
    return np.array([count(distance[:index] <= value) + count(distance[index + 1 :] < value) for index, value in zip(matches.tolist(), values, strict=True)])


def _many_ranks(distance: np.ndarray, matches: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The same from sorted values (not sorted images); only values that occur more than once need a look at who has them."""
    ordered = np.sort(distance)
    ranks, end = np.searchsorted(ordered, values, side="left"), np.searchsorted(ordered, values, side="right")
    for value in np.unique(values[end - ranks > 1]):
        mine = values == value
        ranks[mine] += np.searchsorted(np.flatnonzero(distance == value), matches[mine])
    return ranks


def _block_ranks(block: np.ndarray, start: int, labels: Labels) -> list[np.ndarray]:
    ranks, row = [], np.empty_like(block[0])
    for query, given in enumerate(block, start):
        matches, removed = labels.of_query(query)
        row[:] = given
        row[removed] = np.inf   # never ahead of a match
        ranks.append(match_ranks(row, matches) if len(matches) else matches)
    return ranks


def _block_ranks_torch(block: torch.Tensor, start: int, labels: Labels) -> list[np.ndarray]:
    """`_block_ranks` on any device: for the j-th match of every query at once, count what is ahead of it."""
    found = [labels.of_query(query) for query in range(start, start + len(block))]
    index, width = torch.arange(block.shape[1], device=block.device), max((len(matches) for matches, _ in found), default=0)
    for row, (_, removed) in zip(block, found, strict=True):
        row[torch.from_numpy(removed).to(block.device)] = torch.inf
    padded = torch.from_numpy(np.stack([np.resize(matches, width) if len(matches) else np.zeros(width, np.intp) for matches, _ in found])).to(block.device)
    ranks = torch.empty_like(padded)
    for j in range(width):
        at = padded[:, j : j + 1]
        value = block.gather(1, at)
        ranks[:, j] = ((block < value) | ((block == value) & (index < at))).sum(dim=1)
    return [row[: len(matches)] for row, (matches, _) in zip(ranks.cpu().numpy(), found, strict=True)]


def ranks_of_matches(rows: CosineRows | GivenRows, labels: Labels) -> list[np.ndarray]:
    """0-based ranks of every match (in the order of `Labels.of_query`) of every query; empty where there is none.

    Holds one block of rows at a time; the result does not depend on its size.
    """
    n_query, n_gallery = rows.shape
    step, ranks = max(LEAST_ROWS, BLOCK_BYTES // (8 * max(1, n_gallery))), []
    for start in range(0, n_query, step):
        block = rows[start : min(start + step, n_query)]
        ranks += _block_ranks_torch(block, start, labels) if isinstance(block, torch.Tensor) else _block_ranks(block, start, labels)
    return ranks


def average_precisions(ranks: np.ndarray, starts: np.ndarray, kind: str = "rectangular") -> np.ndarray:
    """AP of each list of 0-based ranks, ascending; the lists lie one after another in `ranks` and begin at `starts`.

    'rectangular' (usual: the precision at each match, averaged) or 'trapezoidal' (the original Market-1501 evaluation: the mean of the
    precision at the match and just before it).
    """
    counts = np.diff(np.append(starts, len(ranks)))
    hits = np.arange(1, len(ranks) + 1) - np.repeat(starts, counts)
    precision = hits / (ranks + 1)
    if kind == "trapezoidal":
        before = np.where(ranks > 0, (hits - 1) / np.maximum(ranks, 1), 1.0)
        precision = (before + precision) / 2
    return np.add.reduceat(precision, starts) / counts


def _check_options(max_rank: int, kind: str) -> None:
    if kind not in ("rectangular", "trapezoidal"):
        raise StudyError(f"average_precision is '{kind}': use 'rectangular' or 'trapezoidal'.")
    if max_rank < 1:
        raise StudyError(f"max_rank is {max_rank}: it must be at least 1.")


def no_valid_query(labels: Labels) -> StudyError:
    """Why no query has a match, as far as the labels tell."""
    there = np.isin(labels.q_pid, labels.g_pid[labels.g_pid != JUNK])
    if len(there) == 0 or len(labels.g_pid) == 0:
        cause = f"there are {len(there)} queries and {len(labels.g_pid)} gallery images: check that both were read"
    elif not there.any():
        cause = "query and gallery share no identity: check that both are of one split and that identities were not relabelled separately"
    else:
        cameras = np.unique(labels.q_cam[there])
        cause = (f"all {there.sum()} queries whose identity is in the gallery share their camera with every true match "
                 f"(query cameras: {', '.join(map(str, cameras[:5]))}{', …' if len(cameras) > 5 else ''}): check that camera ids differ between query and gallery")
    return StudyError(f"No query has a match in the gallery under another camera: {cause}.")


def summary(ranks: list[np.ndarray], labels: Labels, max_rank: int, kind: str) -> RetrievalResult:
    """Metrics from the ranks of all matches. A gallery shorter than `max_rank` extends the last value of its CMC."""
    found = [np.sort(row) for row in ranks if len(row)]
    if not found:
        raise no_valid_query(labels)
    counts = np.array([len(row) for row in found])
    first, last = np.array([row[0] for row in found]), np.array([row[-1] for row in found])
    precision = average_precisions(np.concatenate(found), counts.cumsum() - counts, kind)
    penalty = counts / (last + 1)
    cmc = np.bincount(np.minimum(first, max_rank), minlength=max_rank + 1)[:max_rank].cumsum() / len(found)
    return RetrievalResult(
        mAP=float(precision.mean()), mINP=float(penalty.mean()), cmc=cmc, average_precision=precision, inverse_negative_penalty=penalty,
        first_rank=first, n_valid=len(found), n_queries=len(ranks), valid=np.array([len(row) > 0 for row in ranks], dtype=bool),
    )


def cosine_rows(query_features, query_pids, query_camids, gallery_features, gallery_pids, gallery_camids, device=None) -> tuple[CosineRows, Labels]:
    """Checked features and labels, without the gallery's junk: gallery indices count the images that are left."""
    query, gallery = pair_of_features(query_features, gallery_features)
    labels = Labels.check(query_pids, query_camids, len(query), gallery_pids, gallery_camids, len(gallery))
    keep = labels.g_pid != JUNK
    return CosineRows(query, gallery if keep.all() else gallery[keep], device), labels.without_junk()


def evaluate(
    query_features, query_pids, query_camids, gallery_features, gallery_pids, gallery_camids, *, max_rank=50, average_precision="rectangular",
    device: str | None = None,
) -> RetrievalResult:
    """§D, §F: compare features (Q, D) and (G, D), arrays or tensors, by cosine distance (float64 inside, to 2^-42).

    `device`: a torch device that computes and counts ("cuda"; it must know float64); None: NumPy, with the same result.
    Queries without a match under another camera are left out of every mean. Raises StudyError on non-finite features, labels that
    do not fit, an unknown AP and when no query is valid.
    """
    _check_options(max_rank, average_precision)
    rows, labels = cosine_rows(query_features, query_pids, query_camids, gallery_features, gallery_pids, gallery_camids, device)
    return summary(ranks_of_matches(rows, labels), labels, max_rank, average_precision)


def evaluate_distances(distances, query_pids, query_camids, gallery_pids, gallery_camids, *, max_rank=50, average_precision="rectangular") -> RetrievalResult:
    """§D, §F: `evaluate` from given distances (Q, G), smaller is nearer, of any float type: re-ranked, or of another metric."""
    _check_options(max_rank, average_precision)
    distances = distances.detach().cpu().numpy() if isinstance(distances, torch.Tensor) else np.asarray(distances)
    if distances.ndim != 2 or distances.dtype.kind != "f":
        raise StudyError(f"The distances have shape {distances.shape} and type {distances.dtype}: expected (queries, gallery) of floats.")
    labels = Labels.check(query_pids, query_camids, distances.shape[0], gallery_pids, gallery_camids, distances.shape[1])
    rows, labels = GivenRows(distances, labels.g_pid != JUNK), labels.without_junk()
    return summary(ranks_of_matches(rows, labels), labels, max_rank, average_precision)
