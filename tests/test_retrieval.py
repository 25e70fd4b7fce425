"""CMC, mAP and mINP against their definition, written out one query at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from posedive_lib.errors import StudyError
from posedive_lib.reid import retrieval
from posedive_lib.reid.distances import CosineRows, _twins
from posedive_lib.reid.retrieval import evaluate, evaluate_distances
from posedive_lib.reid.single_shot import evaluate_single_gallery_shot


def brute_force(qf, qp, qc, gf, gp, gc, max_rank, kind):
    """Sort the whole gallery per query and walk down the list."""
    qf = qf / np.linalg.norm(qf, axis=1, keepdims=True)
    gf = gf / np.linalg.norm(gf, axis=1, keepdims=True)
    aps, inps, firsts, valid = [], [], [], []
    for f, pid, cam in zip(qf, qp, qc, strict=True):
        entries = [
            (-sum(a * b for a, b in zip(f, g, strict=True)), i)
            for i, g in enumerate(gf)
            if gp[i] != -1 and not (gp[i] == pid and gc[i] == cam)
        ]
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
    """Ties, junk (-1), distractors (0), one-image identities, both float types.

    Also matches under the same camera only, and galleries of one image.
    """
    seed, n_query, n_gallery = (
        draw(st.integers(0, 10**6)),
        draw(st.integers(1, 8)),
        draw(st.integers(1, 40)),
    )
    people, cameras = draw(st.integers(1, 8)), draw(st.integers(1, 3))
    rng = np.random.default_rng(seed)
    tied = draw(st.booleans())

    def features(n):
        if not tied:
            return rng.normal(size=(n, 6)).astype(draw(st.sampled_from([np.float32, np.float64])))
        out = np.zeros(
            (n, 6)
        )  # four entries of ±1 have length two, so that every similarity is exact in binary
        for row in out:
            row[rng.choice(6, 4, replace=False)] = rng.choice([-1.0, 1.0], 4)
        return out

    query, gallery = features(n_query), features(n_gallery)
    if tied and draw(st.booleans()):
        gallery = gallery[rng.integers(0, n_gallery, n_gallery)]
    pids = rng.integers(-1, people, n_gallery)
    return (
        query,
        rng.integers(-1, people, n_query),
        rng.integers(0, cameras, n_query),
        gallery,
        pids,
        rng.integers(0, cameras, n_gallery),
    )


def same(result, other):
    """Equal to the last bit."""
    for name in (
        "cmc",
        "average_precision",
        "inverse_negative_penalty",
        "first_rank",
        "valid",
        "mAP",
        "mINP",
        "n_valid",
        "n_queries",
    ):
        assert np.array_equal(getattr(result, name), getattr(other, name)), name


@settings(max_examples=150, deadline=None)
@given(
    case=cases(),
    kind=st.sampled_from(["rectangular", "trapezoidal"]),
    max_rank=st.integers(1, 60),
    rows=st.sampled_from([1, 2, 3, 100]),
    many=st.sampled_from([1, 3, 256]),
    device=st.sampled_from([None, "cpu"]),
)
def test_equals_the_definition(case, kind, max_rank, rows, many, device):
    double = tuple(part.astype(np.float64) if part.dtype == np.float32 else part for part in case)
    expected = brute_force(*double, max_rank, kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "BLOCK_BYTES", 1)
        patch.setattr(retrieval, "LEAST_ROWS", rows)
        patch.setattr(retrieval, "MANY_MATCHES", many)
        if expected is None:
            with pytest.raises(StudyError, match="another camera"):
                evaluate(*case, max_rank=max_rank, average_precision=kind, device=device)
            return
        result = evaluate(*case, max_rank=max_rank, average_precision=kind, device=device)
    mean_ap, mean_inp, cmc, aps, valid = expected
    np.testing.assert_allclose(result.mAP, mean_ap, atol=1e-9)
    np.testing.assert_allclose(result.mINP, mean_inp, atol=1e-9)
    np.testing.assert_allclose(result.cmc, cmc, atol=1e-9)
    np.testing.assert_allclose(result.average_precision, aps, atol=1e-9)
    assert np.array_equal(result.valid, valid)
    assert (
        result.n_valid == valid.sum()
        and result.n_queries == len(valid)
        and result.cmc.shape == (max_rank,)
    )


@settings(max_examples=60, deadline=None)
@given(
    case=cases(),
    kind=st.sampled_from(["rectangular", "trapezoidal"]),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    levels=st.integers(1, 30),
)
def test_given_distances(case, kind, dtype, levels):
    """Distances on few levels tie; the definition sees the same order through angles."""
    query, qp, qc, gallery, gp, gc = case
    distances = (
        np.random.default_rng(len(gallery))
        .integers(0, levels, (len(query), len(gallery)))
        .astype(dtype)
    )
    before = distances.copy()
    expected = [
        brute_force(
            np.array([[1.0, 0.0]]),
            qp[i : i + 1],
            qc[i : i + 1],
            np.stack([np.cos(d / levels), np.sin(d / levels)], 1),
            gp,
            gc,
            9,
            kind,
        )
        for i, d in enumerate(distances.astype(np.float64))
    ]
    expected = [one for one in expected if one is not None]
    if not expected:
        return
    result = evaluate_distances(distances, qp, qc, gp, gc, max_rank=9, average_precision=kind)
    np.testing.assert_allclose(result.average_precision, [one[0] for one in expected], atol=1e-9)
    np.testing.assert_allclose(
        result.inverse_negative_penalty, [one[1] for one in expected], atol=1e-9
    )
    np.testing.assert_allclose(result.cmc, np.mean([one[2] for one in expected], axis=0), atol=1e-9)
    assert np.array_equal(distances, before)


def random_case(seed=0, n_query=70, n_gallery=900, people=12, dim=37, copies=False):
    rng = np.random.default_rng(seed)
    gallery = rng.normal(size=(n_gallery, dim)).astype(np.float32)
    if copies:
        gallery = gallery[rng.integers(0, n_gallery // 3, n_gallery)]
    return (
        rng.normal(size=(n_query, dim)),
        rng.integers(1, people, n_query),
        rng.integers(0, 4, n_query),
        gallery,
        rng.integers(-1, people, n_gallery),
        rng.integers(0, 4, n_gallery),
    )


@pytest.mark.parametrize("copies", [False, True])
def test_block_size_device_and_way_of_counting_change_no_bit(copies, monkeypatch):
    """With and without copies of images: a matrix product may round their similarities apart."""
    case = random_case(copies=copies)
    reference = evaluate(*case)
    same(evaluate(*(torch.from_numpy(part) for part in case)), reference)
    for rows, many in [(1, 256), (7, 256), (64, 1), (200, 50)]:
        monkeypatch.setattr(retrieval, "BLOCK_BYTES", 1)
        monkeypatch.setattr(retrieval, "LEAST_ROWS", rows)
        monkeypatch.setattr(retrieval, "MANY_MATCHES", many)
        same(evaluate(*case), reference)
        same(evaluate(*case, device="cpu"), reference)


@pytest.mark.parametrize("values", [[-0.5, 0.5], [0.0, -0.0, 1.0], np.linspace(-1, 1, 7) / 3])
def test_copies_are_found(values):
    rows = np.random.default_rng(0).choice(values, (3000, 9))
    later, first = _twins(rows)
    seen = {}
    expected = [
        (i, seen[key]) for i, key in enumerate(map(tuple, rows)) if seen.setdefault(key, i) != i
    ]
    assert list(zip(later, first, strict=True)) == expected


def test_a_block_at_a_time(monkeypatch):
    """No block holds more rows than asked for, so memory does not grow with queries x gallery."""
    seen = []
    original = CosineRows.__getitem__
    monkeypatch.setattr(
        CosineRows, "__getitem__", lambda self, rows: seen.append(original(self, rows)) or seen[-1]
    )
    monkeypatch.setattr(retrieval, "LEAST_ROWS", 3)
    monkeypatch.setattr(retrieval, "BLOCK_BYTES", 8 * 900 * 5)
    evaluate(*random_case())
    assert (
        max(block.nbytes for block in seen) <= 8 * 900 * 5
        and sum(len(block) for block in seen) == 70
    )


def test_agrees_with_scikit_learn():
    case = random_case(3)
    result = evaluate(*case)
    qf, qp, qc, gf, gp, gc = case
    similarity = (qf / np.linalg.norm(qf, axis=1, keepdims=True)) @ (
        gf / np.linalg.norm(gf, axis=1, keepdims=True)
    ).T.astype(np.float64)
    kept = (gp != -1) & ~((gp == qp[:, None]) & (gc == qc[:, None]))
    expected = [
        average_precision_score(gp[keep] == pid, row[keep])
        for row, keep, pid in zip(similarity, kept, qp, strict=True)
        if (gp[keep] == pid).any()
    ]
    np.testing.assert_allclose(result.average_precision, expected, atol=1e-9)


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
    result = evaluate(
        point,
        [1],
        [0],
        np.repeat(point, 1001, 0),
        np.r_[np.zeros(1000, int), 1],
        np.ones(1001, int),
    )
    assert result.first_rank.tolist() == [1000]


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_features_that_are_all_the_same_are_refused(value):
    """A collapsed model: the order of the files would decide the numbers."""
    same, labels = np.full((4, 7), value), [1, 2, 3, 4]
    with pytest.raises(StudyError, match="All 4 query and 4 gallery features are the same"):
        evaluate(same, labels, [0] * 4, same, labels, [1] * 4)
    same[2, 0] += 1e-3
    assert evaluate(same, labels, [0] * 4, same, labels, [1] * 4).n_valid == 4


def test_tensors_and_queries_without_match():
    features = torch.eye(4)
    result = evaluate(
        features,
        [1, 2, 3, 4],
        [0, 0, 0, 0],
        features,
        torch.tensor([1, 2, 9, 9]),
        np.array([1, 0, 1, 1]),
    )
    assert (
        result.valid.tolist() == [True, False, False, False]
        and result.mAP == 1.0
        and result.n_valid == 1
    )


def test_short_gallery_extends_the_curve():
    result = worked([0, 0, 1], max_rank=7)
    assert result.cmc.tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert worked([0, 0, 1], max_rank=2).cmc.tolist() == [0, 0]


def test_junk_in_the_gallery_changes_nothing():
    query, qp, qc, gallery, gp, gc = random_case(5)
    keep = gp != -1
    same(
        evaluate(query, qp, qc, gallery, gp, gc),
        evaluate(query, qp, qc, gallery[keep], gp[keep], gc[keep]),
    )
    distances = 1 - query.astype(np.float32) @ gallery.T / 100
    same(
        evaluate_distances(distances, qp, qc, gp, gc),
        evaluate_distances(distances[:, keep], qp, qc, gp[keep], gc[keep]),
    )


def test_wrong_input_is_refused():
    good = np.eye(3)
    bad = good.copy()
    bad[1, 1] = np.nan
    labels = [1, 2, 3]
    with pytest.raises(
        StudyError, match=r"1 of 3 gallery features are not finite \(the first in row 1\)"
    ):
        evaluate(good, labels, [0] * 3, bad, labels, [1] * 3)
    with pytest.raises(StudyError, match="query features are not finite"):
        evaluate(np.full((3, 3), np.inf), labels, [0] * 3, good, labels, [1] * 3)
    with pytest.raises(
        StudyError, match=r"1 of 3 rows of distances are not finite \(the first in row 1\)"
    ):
        evaluate_distances(bad, labels, [0] * 3, labels, [1] * 3)
    with pytest.raises(StudyError, match="of floats"):
        evaluate_distances(np.eye(3, dtype=int), labels, [0] * 3, labels, [1] * 3)
    with pytest.raises(StudyError, match="gallery_camids"):
        evaluate(good, labels, [0] * 3, good, labels, [1] * 2)
    with pytest.raises(StudyError, match="query_pids are not whole numbers"):
        evaluate(good, ["a", "b", "c"], [0] * 3, good, labels, [1] * 3)
    with pytest.raises(StudyError, match="same model"):
        evaluate(good, labels, [0] * 3, np.eye(3, 4), labels, [1] * 3)
    with pytest.raises(StudyError, match="trapezoidal"):
        evaluate(good, labels, [0] * 3, good, labels, [1] * 3, average_precision="square")
    with pytest.raises(StudyError, match="gallery_pids are not whole numbers"):
        evaluate(good, labels, [0] * 3, good, [1, 2, np.nan], [1] * 3)
    with pytest.raises(StudyError, match="device 'nowhere'"):
        evaluate(good, labels, [0] * 3, good, labels, [1] * 3, device="nowhere")
    with pytest.raises(StudyError, match="max_rank is 0"):
        evaluate(good, labels, [0] * 3, good, labels, [1] * 3, max_rank=0)


def test_no_valid_query_names_the_cause():
    features, labels = np.eye(3), [1, 2, 3]
    with pytest.raises(
        StudyError,
        match=r"all 3 queries .* share their camera with every true match "
        r"\(query cameras: 0\): check that camera ids differ",
    ):
        evaluate(features, labels, [0] * 3, features, labels, [0] * 3)
    with pytest.raises(StudyError, match="share no identity"):
        evaluate(features, labels, [0] * 3, features, [4, 5, 6], [1] * 3)
    with pytest.raises(StudyError, match="3 queries and 0 gallery images"):
        evaluate(features, labels, [0] * 3, features, [-1] * 3, [1] * 3)


def test_single_gallery_shot_is_the_average_over_draws():
    """By hand: the match comes from {near, far}, the other identity from {middle, farthest}.

    So the match is first in 3 of 4 draws.
    """
    angle = np.array([0.1, 0.5, 0.3, 0.7, 0.0])
    gallery = np.stack([np.cos(angle), np.sin(angle)], 1)
    given = (
        [[1.0, 0.0]],
        [5],
        [0],
        gallery,
        [5, 5, 6, 6, 5],
        [1, 1, 1, 1, 0],
    )  # the last image shares the query's camera
    result = evaluate_single_gallery_shot(*given, seed=0, repeats=20_000, max_rank=4)
    np.testing.assert_allclose(result.cmc, [0.75, 1, 1, 1], atol=0.015)
    again = evaluate_single_gallery_shot(*given, seed=0, repeats=20_000, max_rank=4)
    assert np.array_equal(again.cmc, result.cmc)
    assert not np.array_equal(
        evaluate_single_gallery_shot(*given, seed=1, repeats=20_000, max_rank=4).cmc, result.cmc
    )


def test_single_gallery_shot_of_single_images_is_the_plain_curve():
    query, qp, qc, _, _, _ = random_case(7, n_query=40, people=30)
    rng = np.random.default_rng(1)
    gallery, gp, gc = rng.normal(size=(30, 37)), np.arange(30), rng.integers(0, 4, 30)
    one, plain = (
        evaluate_single_gallery_shot(query, qp, qc, gallery, gp, gc, seed=3, repeats=2),
        evaluate(query, qp, qc, gallery, gp, gc),
    )
    np.testing.assert_allclose(one.cmc, plain.cmc, atol=1e-12)
    assert np.array_equal(one.valid, plain.valid)
    with pytest.raises(StudyError, match="camera ids differ"):
        evaluate_single_gallery_shot(query, qp, qc * 0, gallery, gp, gc * 0, seed=0)
