"""Retrieval by groups against its definition.

That is: take the other groups' true matches out of the gallery and evaluate.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posedive_lib.errors import StudyError
from posedive_lib.reid.breakdown import azimuth_bins, cells, match_table
from posedive_lib.reid.retrieval import evaluate


def random_case(seed, n_query=30, n_gallery=200, people=9, tied=False):
    rng = np.random.default_rng(seed)
    features = (
        (lambda n: rng.integers(0, 2, (n, 4)) * 2.0 - 1)
        if tied
        else (lambda n: rng.normal(size=(n, 8)))
    )
    return (
        features(n_query),
        rng.integers(0, people, n_query),
        rng.integers(0, 3, n_query),
        features(n_gallery),
        rng.integers(-1, people, n_gallery),
        rng.integers(0, 3, n_gallery),
    )


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), bins=st.integers(1, 5), tied=st.booleans())
def test_equals_the_definition(seed, bins, tied):
    qf, qp, qc, gf, gp, gc = case = random_case(seed, tied=tied)
    rng = np.random.default_rng(seed + 1)
    of_query, of_gallery = rng.integers(0, bins, len(qp)), rng.integers(0, bins, len(gp))
    table = cells(match_table(*case), of_query, of_gallery, resamples=0)
    assert len(table) == len(np.unique(of_query)) * len(np.unique(of_gallery))
    for row in table.itertuples():
        aps, hits = [], []
        for i in np.flatnonzero(of_query == row.query_group):
            keep = (gp != qp[i]) | (of_gallery == row.gallery_group)
            try:
                result = evaluate(
                    qf[i : i + 1],
                    qp[i : i + 1],
                    qc[i : i + 1],
                    gf[keep],
                    gp[keep],
                    gc[keep],
                    max_rank=1,
                )
            except StudyError:
                continue  # no match in this cell
            aps.append(result.mAP)
            hits.append(result.cmc[0])
        assert row.n_query == len(aps)
        if aps:
            assert row.mAP == pytest.approx(
                100 * np.mean(aps), abs=1e-9
            ) and row.rank1 == pytest.approx(100 * np.mean(hits), abs=1e-9)
        else:
            assert np.isnan([row.mAP, row.rank1, row.mAP_low, row.mAP_high]).all()


def test_one_group_is_the_whole():
    case = random_case(1)
    result = evaluate(*case)
    table = cells(match_table(*case), np.zeros(30, int))
    assert len(table) == 1 and table.gallery_group[0] == "all"
    assert table.mAP[0] == pytest.approx(100 * result.mAP) and table.rank1[0] == pytest.approx(
        100 * result.cmc[0]
    )
    assert table.n_query[0] == result.n_valid and table.n_match[0] == len(match_table(*case))


def test_match_table_rows_are_rows_of_the_given_arrays():
    qf, qp, qc, gf, gp, gc = case = random_case(2)
    table = match_table(*case)
    assert (gp[table.gallery] == qp[table["query"]]).all() and (
        gc[table.gallery] != qc[table["query"]]
    ).all()
    assert (table.query_camid == qc[table["query"]]).all() and (
        table.gallery_camid == gc[table.gallery]
    ).all()
    assert len(table) == sum(
        ((gp == p) & (gc != c) & (p != -1)).sum() for p, c in zip(qp, qc, strict=True)
    )
    assert table.groupby("query")["rank"].min().tolist() == evaluate(*case).first_rank.tolist()


def test_camera_pairs():
    case = random_case(3)
    table = cells(match_table(*case), case[2], case[5])
    own = table.query_group == table.gallery_group
    assert own.sum() == 3 and (table.n_query[own] == 0).all()
    assert (~own).sum() == 6 and (table.n_query[~own] > 0).all()


def test_interval_covers_and_is_seeded():
    case = random_case(4, n_query=200, people=40)
    table = match_table(*case)
    one, same, other = (cells(table, np.zeros(200, int), seed=seed).iloc[0] for seed in (0, 0, 1))
    assert (
        one.mAP_low < one.mAP < one.mAP_high
        and one.mAP_low == same.mAP_low
        and one.mAP_low != other.mAP_low
    )
    people = np.array([table[table["query"] == q]["pid"].iloc[0] for q in table["query"].unique()])
    ap = 100 * evaluate(*case).average_precision
    rng = np.random.default_rng(9)
    groups = [ap[people == p] for p in np.unique(people)]
    means = [
        np.concatenate([groups[i] for i in rng.integers(0, len(groups), len(groups))]).mean()
        for _ in range(1000)
    ]
    np.testing.assert_allclose(
        [one.mAP_low, one.mAP_high], np.percentile(means, [2.5, 97.5]), atol=0.25 * np.std(means)
    )


def test_azimuth_bins():
    assert azimuth_bins([0, 22, 23, -22, -23, 180, -180, 540, 359], 8).tolist() == [
        0,
        0,
        45,
        0,
        -45,
        -180,
        -180,
        -180,
        0,
    ]
    assert set(azimuth_bins(np.linspace(-360, 360, 1441), 12)) == set(np.arange(-180, 180, 30))
    with pytest.raises(StudyError, match="1 of 2 azimuths .* row 1"):
        azimuth_bins([0, np.nan])


def test_wrong_groups_are_refused():
    table = match_table(*random_case(0))
    with pytest.raises(StudyError, match="gallery_group has shape"):
        cells(table, np.zeros(30), np.zeros(3))
    with pytest.raises(StudyError, match="query_group is missing in row 4"):
        cells(table, [None if i == 4 else "a" for i in range(30)])


def test_nothing_matches():
    table = cells(match_table(np.eye(2), [1, 2], [0, 0], np.eye(2), [1, 2], [0, 0]), [0, 1], [0, 1])
    assert len(table) == 4 and table.mAP.isna().all() and (table.n_query == 0).all()
