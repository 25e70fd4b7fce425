"""k-reciprocal re-ranking against its definition with dense matrices and sets."""

import numpy as np
import pytest

from posedive_lib.errors import StudyError
from posedive_lib.reid import reranking
from posedive_lib.reid.reranking import k_reciprocal


def dense(query, gallery, k1, k2, lam, power):
    """Equations of the paper, with Python sets."""
    x = np.concatenate([query, gallery])
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    n = len(x)
    distance = np.array([[np.linalg.norm(a - b) ** power for b in x] for a in x])
    distance /= distance.max(axis=1, keepdims=True)
    rank = np.argsort(distance, axis=1, kind="stable")

    def reciprocal(i, k):
        return {j for j in rank[i, : k + 1] if i in rank[j, : k + 1]}

    encoding = np.zeros((n, n))
    for i in range(n):
        members = reciprocal(i, k1)
        grown = set(members)
        for j in members:
            half = reciprocal(j, int(np.around(k1 / 2)))
            if len(half & members) > 2 / 3 * len(half):
                grown |= half
        grown = sorted(grown)
        encoding[i, grown] = np.exp(-distance[i, grown])
        encoding[i] /= encoding[i].sum()
    encoding = np.array([encoding[rank[i, :k2]].mean(axis=0) for i in range(n)])
    q = len(query)
    jaccard = np.array([[1 - np.minimum(encoding[i], encoding[j]).sum() / np.maximum(encoding[i], encoding[j]).sum() for j in range(q, n)] for i in range(q)])
    return (1 - lam) * jaccard + lam * distance[:q, q:]


@pytest.mark.parametrize(("k1", "k2", "lam", "power", "block"), [(20, 6, 0.3, 2, 512), (7, 1, 0.0, 1, 13), (5, 3, 1.0, 4, 7), (12, 4, 0.5, 2, 30)])
def test_equals_the_definition(k1, k2, lam, power, block, monkeypatch):
    monkeypatch.setattr(reranking, "BLOCK", block)
    rng = np.random.default_rng(k1)
    centres = rng.normal(size=(9, 8))
    query = centres[rng.integers(0, 9, 11)] + rng.normal(size=(11, 8)) * 0.5
    gallery = centres[rng.integers(0, 9, 60)] + rng.normal(size=(60, 8)) * 0.5
    ours = k_reciprocal(query, gallery, k1=k1, k2=k2, lambda_value=lam, power=power)
    np.testing.assert_allclose(ours, dense(query, gallery, k1, k2, lam, power), atol=1e-9)


def test_fewer_images_than_neighbours():
    rng = np.random.default_rng(0)
    out = k_reciprocal(rng.normal(size=(2, 4)), rng.normal(size=(3, 4)))
    assert out.shape == (2, 3) and np.isfinite(out).all() and (out >= 0).all() and (out <= 1 + 1e-12).all()


def test_wrong_input_is_refused():
    with pytest.raises(StudyError, match="lambda_value"):
        k_reciprocal(np.eye(3), np.eye(3), lambda_value=2)
    with pytest.raises(StudyError, match="not finite"):
        k_reciprocal(np.eye(3) * np.nan, np.eye(3))
