"""k-reciprocal re-ranking against its definition with dense matrices and sets."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posedive_lib.errors import StudyError
from posedive_lib.reid import reranking
from posedive_lib.reid.reranking import RerankingOptions, k_reciprocal


def dense(query, gallery, k1, k2, lam, power):
    """Equations of the paper, with Python sets."""
    x = np.concatenate([query, gallery])
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    n = len(x)
    distance = np.array([[np.linalg.norm(a - b) ** power for b in x] for a in x])
    distance /= distance.max(axis=1, keepdims=True)
    np.fill_diagonal(distance, -1)  # an image comes before its copies
    rank = np.argsort(distance, axis=1, kind="stable")
    np.fill_diagonal(distance, 0)

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
    jaccard = np.array(
        [
            [
                1
                - np.minimum(encoding[i], encoding[j]).sum()
                / np.maximum(encoding[i], encoding[j]).sum()
                for j in range(q, n)
            ]
            for i in range(q)
        ]
    )
    return (1 - lam) * jaccard + lam * distance[:q, q:]


def clustered(seed, n_query=11, n_gallery=60, dim=8, people=9, noise=0.5):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(people, dim))
    return tuple(
        centres[rng.integers(0, people, n)] + rng.normal(size=(n, dim)) * noise
        for n in (n_query, n_gallery)
    )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_query=st.integers(1, 8),
    n_gallery=st.integers(2, 40),
    k1=st.integers(1, 25),
    k2=st.integers(1, 9),
    lam=st.sampled_from([0.0, 0.3, 1.0]),
    power=st.sampled_from([1, 2, 4]),
    block=st.sampled_from([1, 7, 512]),
    noise=st.sampled_from([1e-3, 0.5, 3.0]),
)
def test_equals_the_definition(seed, n_query, n_gallery, k1, k2, lam, power, block, noise):
    query, gallery = clustered(seed, n_query, n_gallery, noise=noise)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reranking, "BLOCK", block)
        ours = k_reciprocal(query, gallery, k1=k1, k2=k2, lambda_value=lam, power=power)
    np.testing.assert_allclose(ours, dense(query, gallery, k1, k2, lam, power), atol=1e-7)


def test_equals_the_definition_where_columns_are_grouped():
    """A gallery wide enough for the bound on the k-th neighbour to come from groups of columns."""
    query, gallery = clustered(3, 20, 400, dim=12, people=30)
    np.testing.assert_allclose(
        k_reciprocal(query, gallery), dense(query, gallery, 20, 6, 0.3, 2), atol=1e-7
    )


def test_neighbours_are_the_nearest_in_float64():
    """Differences far below the precision of the float32 pass still decide."""
    rng = np.random.default_rng(0)
    x = np.array([1.0, 0, 0]) + rng.normal(size=(500, 3)) * 1e-5
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    index, farthest = reranking._neighbours(x, 10)
    cosine = x @ x.T
    for i, found in enumerate(index):
        others = np.delete(cosine[i], i)
        assert found[0] == i and len(set(found)) == 10
        np.testing.assert_allclose(
            np.sort(cosine[i, found[1:]])[::-1], np.sort(others)[::-1][:9], atol=1e-12
        )
    np.testing.assert_allclose(farthest, cosine.min(axis=1), atol=1e-6)


def test_copies_of_an_image_come_in_the_order_of_their_index():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 33))[rng.integers(0, 5, 300)]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    index, _ = reranking._neighbours(x, 12)
    for i, found in enumerate(index):
        copies = [j for j in np.flatnonzero((x == x[i]).all(axis=1)) if j != i]
        assert found.tolist() == [i, *copies][:12]


def test_the_power_matters_and_tensors_are_taken():
    query, gallery = clustered(5)
    squared = k_reciprocal(query, gallery)
    assert np.abs(squared - k_reciprocal(query, gallery, power=1)).max() > 1e-3
    np.testing.assert_array_equal(
        squared, k_reciprocal(torch.from_numpy(query), torch.from_numpy(gallery), power=2)
    )


def test_fewer_images_than_neighbours():
    rng = np.random.default_rng(0)
    out = k_reciprocal(rng.normal(size=(2, 4)), rng.normal(size=(3, 4)))
    assert (
        out.shape == (2, 3)
        and np.isfinite(out).all()
        and (out >= 0).all()
        and (out <= 1 + 1e-12).all()
    )


def test_options_are_stored_as_they_were_used():
    assert RerankingOptions().record() == {"k1": 20, "k2": 6, "lambda_value": 0.3, "power": 2}
    query, gallery = clustered(6)
    np.testing.assert_array_equal(
        k_reciprocal(query, gallery, **RerankingOptions().record()), k_reciprocal(query, gallery)
    )


def test_wrong_input_is_refused():
    with pytest.raises(StudyError, match="lambda_value"):
        k_reciprocal(np.eye(3), np.eye(3), lambda_value=2)
    for name, values in {
        "k1": (2.5, 0, "3", None),
        "k2": (1.5, np.nan),
        "power": (0, np.inf, np.nan, 1e6, "2"),
        "lambda_value": (np.nan, None),
    }.items():
        for value in values:
            with pytest.raises(StudyError, match=f"{name}={value}"):
                k_reciprocal(np.eye(3), np.eye(3), **{name: value})
    assert k_reciprocal(
        np.eye(3), np.eye(3), k1=np.int64(2), k2=np.int32(1), power=np.float32(2)
    ).shape == (3, 3)
    for query, gallery in ((0, 3), (3, 0), (0, 0)):
        with pytest.raises(StudyError, match=f"{query} queries and {gallery} gallery"):
            k_reciprocal(np.eye(3)[:query], np.eye(3)[:gallery])
    with pytest.raises(StudyError, match="same model"):
        k_reciprocal(np.eye(3), np.eye(4))
    with pytest.raises(StudyError, match="not finite"):
        k_reciprocal(np.eye(3) * np.nan, np.eye(3))
