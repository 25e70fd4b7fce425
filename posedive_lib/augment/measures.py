"""Is it the right pose, and the right person? Measures of images whose targets are known.

Pose: estimated against wanted key points. Person: features against those of known images, by the
cosine. Features are computed in the precision in which they are given.
"""

import numpy as np

from posedive_lib.augment.confidence import keypoint_subset
from posedive_lib.body.table import BodyTable
from posedive_lib.errors import StudyError

HEAD = 1.12  # from nose to ankles is about 1 / 1.12 of the standing height


def height_by_keypoints(bodies: BodyTable) -> np.ndarray:
    """(N,) heights in pixels of persons in the image, from the extent of their key points."""
    return np.ptp(bodies.keypoints[..., 1], axis=1) * HEAD


def height_by_mask(mask: np.ndarray) -> np.ndarray:
    """(N,) heights in pixels of persons in the image, from their masks (N, H, W)."""
    rows = np.asarray(mask.any(axis=2))  # (N, H)
    return mask.shape[1] - rows.argmax(1) - rows[:, ::-1].argmax(1)


def pck(
    estimated: np.ndarray,
    wanted: np.ndarray,
    visible: np.ndarray,
    height: np.ndarray,
    *,
    within: float = 0.1,
    keypoints: str = "body",
    unseen: float = np.nan,
) -> np.ndarray:
    """(N,) share of the visible key points within `within` heights of the wanted ones.

    estimated, wanted: (N, 17, 2) pixels; visible: (N, 17), 2 where visible; height: (N,) pixels.
    unseen: the value where no key point is visible.
    """
    subset = keypoint_subset(keypoints)
    distance = np.linalg.norm(estimated[:, subset] - wanted[:, subset], axis=-1)  # (N, K) pixels
    seen = visible[:, subset] == 2
    near = (distance <= within * height[:, None]) & seen
    return np.where(seen.any(1), near.sum(1) / np.maximum(seen.sum(1), 1), unseen)


def body_pck(bodies: BodyTable, estimated: np.ndarray, keypoints: str = "body") -> np.ndarray:
    """(N,) PCK of candidates against their target bodies, 0 where no key point is visible."""
    return pck(
        np.asarray(estimated, float),
        bodies.keypoints,
        bodies.visible,
        height_by_keypoints(bodies),
        keypoints=keypoints,
        unseen=0.0,
    )


def keypoint_error(bodies: BodyTable, estimated: np.ndarray, keypoints: str = "body") -> np.ndarray:
    """(N,) mean distance of visible key points, in heights of the person; NaN where none is."""
    subset = keypoint_subset(keypoints)
    distance = np.linalg.norm(np.asarray(estimated, float) - bodies.keypoints, axis=-1)
    relative = (distance / np.maximum(height_by_keypoints(bodies), 1e-9)[:, None])[:, subset]
    seen = bodies.visible[:, subset] == 2
    count = seen.sum(axis=1)
    return np.where(count > 0, (relative * seen).sum(axis=1) / np.maximum(count, 1), np.nan)


def _unit(features: np.ndarray) -> np.ndarray:
    """Rows at length 1."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def kernel_distance(
    features: np.ndarray, known: np.ndarray, counts: np.ndarray | None = None
) -> np.ndarray:
    """Kernel inception distance of two sets of images, with a network of one's own.

    Maximum mean discrepancy under the kernel (1 + cosine)^3 (Bińkowski et al. 2018). Unbiased: 0 on
    average where both sets are of one distribution, and then often below 0. features, known (N, D):
    an image and its truth in each row, which are not compared. counts (..., N): how often each row
    counts, as in a bootstrap; a value for each.
    """
    from sklearn.metrics.pairwise import polynomial_kernel  # seconds, and not needed elsewhere

    count = np.ones(len(features)) if counts is None else counts
    left, right = _unit(features), _unit(known)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return polynomial_kernel(a, b, degree=3, gamma=1, coef0=1)

    between = kernel(left, left) + kernel(right, right) - 2 * kernel(left, right)  # (N, N)
    np.fill_diagonal(between, 0)  # no image is compared with itself, nor with its truth
    pairs = count.sum(-1) ** 2 - (count**2).sum(-1)
    return np.asarray(((count @ between) * count).sum(-1) / pairs)


def similarity_to_people(
    features: np.ndarray, known: np.ndarray, known_pids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cosine (N, P) of features (N, D) to each person's mean of known (M, D), and the P pids."""
    people, unit = np.unique(known_pids), _unit(known)
    means = np.stack([unit[np.asarray(known_pids) == pid].mean(axis=0) for pid in people])
    return _unit(features) @ _unit(means).T, people


def identity_top1(
    features: np.ndarray, pids: np.ndarray, known: np.ndarray, known_pids: np.ndarray
) -> np.ndarray:
    """(N,) whether the nearest known person is the right one."""
    similarity, people = similarity_to_people(features, known, known_pids)
    return people[similarity.argmax(1)] == pids


def identity_similarity(
    features: np.ndarray, pids: np.ndarray, known: np.ndarray, known_pids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cosine (N,) to the right person's known images, and whether no other person is nearer (N,).

    features (N, D) of images of pids (N,); known (M, D) of real images of known_pids (M,).
    StudyError where a person has no real image.
    """
    unknown = np.setdiff1d(pids, known_pids)
    if len(unknown):
        raise StudyError(
            f"Identity {unknown[0]} has generated images but no real one: "
            "give the real training images of every identity."
        )
    similarity, people = similarity_to_people(
        np.asarray(features, float), np.asarray(known, float), known_pids
    )
    own = similarity[np.arange(len(similarity)), np.searchsorted(people, pids)]
    return own, own >= similarity.max(axis=1, initial=-np.inf)


def named_by_the_others(
    features: np.ndarray, pids: np.ndarray, known: np.ndarray | None = None
) -> np.ndarray:
    """(N,) 1 where the nearest person is the right one by known images of the other rows, else 0.

    NaN where the person has no other row. features, known (by default the features themselves):
    (N, D) of identities pids (N,). Row by row they are of the same target, so that no image is
    compared with its own.
    """
    each = _unit(np.asarray(features, float))
    others = each if known is None else _unit(np.asarray(known, float))
    people, place = np.unique(pids, return_inverse=True)
    # Sums less the image's own row, in place of a mean over the others for each image.
    sums = np.zeros((len(people), others.shape[1]))
    np.add.at(sums, place, others)
    similarity = each @ _unit(sums).T  # (N, P)
    similarity[np.arange(len(each)), place] = (each * _unit(sums[place] - others)).sum(axis=1)
    return np.where(np.bincount(place)[place] > 1, similarity.argmax(axis=1) == place, np.nan)
