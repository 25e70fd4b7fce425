"""CMC, mAP and mINP against their definition, written out one query at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posedive_lib.errors import StudyError
from posedive_lib.reid import retrieval
from posedive_lib.reid.retrieval import evaluate


def brute_force(qf, qp, qc, gf, gp, gc, max_rank, kind):
    """Sort the whole gallery per query and walk down the list."""
    qf = qf / np.linalg.norm(qf, axis=1, keepdims=True)
    gf = gf / np.linalg.norm(gf, axis=1, keepdims=True)
    aps, inps, firsts, valid = [], [], [], []
    for f, pid, cam in zip(qf, qp, qc, strict=True):
        entries = [(-sum(a * b for a, b in zip(f, g, strict=True)), i) for i, g in enumerate(gf) if gp[i] != -1 and not (gp[i] == pid and gc[i] == cam)]
        listed = [gp[i] == pid for _, i in sorted(entries)]
        valid.append(pid != -1 and any(listed))
        if not valid[-1]:
            continue
        hits, total, precision_sum, old = 0, sum(listed), 0.0, 1.0
        for rank, hit in enumerate(listed, start=1):
            hits += hit
            precision = hits / rank
            if hit:
                precision_sum += precision if kind == "rectangular" else (old + precision) / 2
            old = precision
        aps.append(precision_sum / total)
        inps.append(total / max(rank for rank, hit in enumerate(listed, start=1) if hit))
        firsts.append(listed.index(True))
    if not aps:
        return None
    cmc = [np.mean([first <= k for first in firsts]) for k in range(max_rank)]
    return np.mean(aps), np.mean(inps), np.array(cmc), np.array(aps), np.array(valid)


@st.composite
def cases(draw):
    seed, n_query, n_gallery = draw(st.integers(0, 10**6)), draw(st.integers(1, 8)), draw(st.integers(1, 40))
    people, cameras = draw(st.integers(1, 8)), draw(st.integers(1, 3))
    rng = np.random.default_rng(seed)
    if draw(st.booleans()):   # ties: four entries of ±1 have length two, so that every similarity is exact in binary
        def features(n):
            out = np.zeros((n, 6))
            for row in out:
                row[rng.choice(6, 4, replace=False)] = rng.choice([-1.0, 1.0], 4)
            return out
    else:
        def features(n):
            return rng.normal(size=(n, 6))
    gallery = features(n_gallery)
    gallery = gallery[rng.integers(0, n_gallery, n_gallery)] if draw(st.booleans()) and np.abs(gallery).max() == 1 else gallery
    pids = rng.integers(-1, people, n_gallery)   # -1 junk, 0 distractor-like; some people have a single image
    return (features(n_query), rng.integers(-1, people, n_query), rng.integers(0, cameras, n_query), gallery, pids, rng.integers(0, cameras, n_gallery))


@settings(max_examples=150, deadline=None)
@given(case=cases(), kind=st.sampled_from(["rectangular", "trapezoidal"]), max_rank=st.integers(1, 60), block=st.sampled_from([1, 700, 2**20]))
def test_equals_the_definition(case, kind, max_rank, block):
    expected = brute_force(*case, max_rank, kind)
    before, retrieval.BLOCK_BYTES = retrieval.BLOCK_BYTES, block
    try:
        if expected is None:
            with pytest.raises(StudyError, match="another camera"):
                evaluate(*case, max_rank=max_rank, average_precision=kind)
            return
        result = evaluate(*case, max_rank=max_rank, average_precision=kind)
    finally:
        retrieval.BLOCK_BYTES = before
    mean_ap, mean_inp, cmc, aps, valid = expected
    np.testing.assert_allclose(result.mAP, mean_ap, atol=1e-9)
    np.testing.assert_allclose(result.mINP, mean_inp, atol=1e-9)
    np.testing.assert_allclose(result.cmc, cmc, atol=1e-9)
    np.testing.assert_allclose(result.average_precision, aps, atol=1e-9)
    assert np.array_equal(result.valid, valid)
    assert result.n_valid == valid.sum() and result.n_queries == len(valid) and result.cmc.shape == (max_rank,)


def worked(ranks_hit, **options):
    """One query whose gallery, in order of distance, is a match where `ranks_hit` says so."""
    angle = np.linspace(0, 1, len(ranks_hit))
    gallery = np.stack([np.cos(angle), np.sin(angle)], 1)
    pids = np.where(ranks_hit, 5, 6)
    return evaluate([[1.0, 0.0]], [5], [0], gallery, pids, np.ones(len(pids), int), **options)


def test_worked_example():
    result = worked([0, 1, 0, 1], max_rank=6)
    assert result.mAP == pytest.approx(0.5) and result.mINP == pytest.approx(0.5)
    assert result.cmc.tolist() == [0, 1, 1, 1, 1, 1]
    assert worked([0, 1, 0, 1], average_precision="trapezoidal").mAP == pytest.approx(1 / 3)
    assert worked([1, 1, 1]).mAP == 1 and worked([1, 1, 1]).mINP == 1


def test_collapsed_features_rank_by_gallery_index():
    rng = np.random.default_rng(0)
    point = rng.normal(size=(1, 7)) * 0.3
    result = evaluate(point, [1], [0], np.repeat(point, 1001, 0), np.r_[np.zeros(1000, int), 1], np.ones(1001, int))
    assert result.first_rank.tolist() == [1000]


def test_tensors_and_queries_without_match():
    features = torch.eye(4)
    result = evaluate(features, [1, 2, 3, 4], [0, 0, 0, 0], features, torch.tensor([1, 2, 9, 9]), np.array([1, 0, 1, 1]))
    assert result.valid.tolist() == [True, False, False, False] and result.mAP == 1.0 and result.n_valid == 1


def test_wrong_input_is_refused():
    good = np.eye(3)
    bad = good.copy()
    bad[1, 1] = np.nan
    labels = [1, 2, 3]
    with pytest.raises(StudyError, match="1 of 3 gallery features are not finite"):
        evaluate(good, labels, [0] * 3, bad, labels, [1] * 3)
    with pytest.raises(StudyError, match="gallery_camids"):
        evaluate(good, labels, [0] * 3, good, labels, [1] * 2)
    with pytest.raises(StudyError, match="same model"):
        evaluate(good, labels, [0] * 3, np.eye(3, 4), labels, [1] * 3)
    with pytest.raises(StudyError, match="trapezoidal"):
        evaluate(good, labels, [0] * 3, good, labels, [1] * 3, average_precision="square")
    with pytest.raises(StudyError, match="camera ids differ"):
        evaluate(good, labels, [0] * 3, good, labels, [0] * 3)
