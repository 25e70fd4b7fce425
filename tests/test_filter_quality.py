"""Measures of the filter against definitions written out, and by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posedive_lib.augment import filter_quality, measures
from posedive_lib.augment.selection import SIGMA_GEN, SIGMA_TAR, judge
from posedive_lib.body.table import BodyTable
from posedive_lib.errors import StudyError

LIMITS = SimpleNamespace(tau_ref=0.2, tau_tar=0.5, epsilon_gen=0.25, tau_gen=0.5, keypoints="body")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=25))
def test_auc_and_curve_are_their_definitions(pairs):
    score, good = np.array([p[0] for p in pairs], float), np.array([p[1] for p in pairs])
    won = [(a > b) + 0.5 * (a == b) for a in score[good] for b in score[~good]]
    assert filter_quality.auc(score, good) == pytest.approx(
        np.mean(won) if won else np.nan, nan_ok=True
    )
    for row in filter_quality.curve(score, good).itertuples():
        kept = score >= row.threshold
        assert row.kept == kept.sum() and row.lost_percent == pytest.approx(100 * (~kept).mean())
        assert row.precision == pytest.approx(
            good[kept].mean() if kept.any() else np.nan, nan_ok=True
        )
        assert row.recall == pytest.approx(kept[good].mean() if good.any() else np.nan, nan_ok=True)
        assert row.false_positive_rate == pytest.approx(
            kept[~good].mean() if (~good).any() else np.nan, nan_ok=True
        )
    if good.any() and not good.all():  # the area under the curve's own points
        table = filter_quality.curve(score, good).iloc[::-1]
        assert np.trapezoid(table["recall"], table["false_positive_rate"]) == pytest.approx(
            filter_quality.auc(score, good)
        )


def bodies(keypoints: np.ndarray, visible=None) -> BodyTable:
    n = len(keypoints)
    visible = np.full((n, 17), 2) if visible is None else visible
    return BodyTable(
        np.arange(n).astype(str),
        *(np.zeros((n, d)) for d in (3, 69, 10, 3)),
        np.ones(n),
        keypoints,
        visible,
    )


def test_key_point_errors_by_hand():
    wanted = np.zeros((2, 17, 2))
    wanted[:, 15:, 1] = 100  # nose at 0, ankles at 100: a height of 112
    estimated = wanted.copy()
    estimated[0, 5, 0] = 11.2  # one of twelve is a tenth of the height off
    estimated[1, 0, 0] = 500  # the nose does not count
    np.testing.assert_allclose(measures.keypoint_error(bodies(wanted), estimated), [0.1 / 12, 0])
    table = bodies(wanted)
    height = measures.height_by_keypoints(table)
    share = measures.pck(estimated, wanted, table.visible, height, within=0.09)
    assert share.tolist() == [11 / 12, 1]
    hidden = np.full((2, 17), 2)
    hidden[0, 5], hidden[1] = 1, 0
    np.testing.assert_array_equal(
        measures.keypoint_error(bodies(wanted, hidden), estimated), [0, np.nan]
    )


def test_a_photo_is_named_by_the_others_of_its_person():
    features, pids = (
        np.array([[1.0, 0], [1, 0.1], [0, 1], [1, 0.2], [0, 2]]),
        np.array([7, 7, 9, 9, 9]),
    )
    assert measures.named_by_the_others(features, pids).tolist() == [
        1,
        1,
        1,
        0,
        1,
    ]  # the fourth lies with the other person
    only = measures.named_by_the_others(np.array([[1.0, 0], [1, 0.1], [0, 1]]), np.array([7, 7, 9]))
    np.testing.assert_array_equal(only, [1, 1, np.nan])  # 9's only photo has no others


def test_the_right_person_is_named_by_the_other_rows_truth():
    truth, pids = np.array([[1.0, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]]), np.array([3, 3, 8, 8])
    assert measures.named_by_the_others(truth, pids, truth).all()
    swapped = truth[[2, 1, 0, 3]]
    assert measures.named_by_the_others(swapped, pids, truth).tolist() == [0, 1, 0, 1]
    truth[1] = [0, 1]  # the first is like nothing of its own person but itself
    assert measures.named_by_the_others(truth, pids, truth)[0] == 0


def test_identity_similarity_by_hand():
    real, real_pids = np.array([[2.0, 0], [0, 3], [0, 1]]), np.array([7, 9, 9])
    similarity, right = measures.identity_similarity(
        np.array([[1.0, 0], [1, 1e-3], [3, 4]]), np.array([7, 9, 9]), real, real_pids
    )
    np.testing.assert_allclose(similarity, [1, 1e-3, 0.8], atol=1e-5)
    assert right.tolist() == [True, False, True]
    with pytest.raises(StudyError, match="Identity 8"):
        measures.identity_similarity(np.ones((1, 2)), np.array([8]), real, real_pids)


def manifest(n=60, seed=0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    columns = {name: rng.uniform(0.3, 1, n) for name in SIGMA_TAR} | {
        name: rng.uniform(0.2, 1, n) for name in SIGMA_GEN
    }
    return pd.DataFrame(columns).assign(pid=1, index=range(n), reference_min=rng.uniform(0, 1, n))


def test_rules_at_their_limits_say_what_the_filter_does():
    rows = manifest()
    truths = {"pose": np.arange(60) % 3 > 0}
    table = filter_quality.rules_at(rows, LIMITS, truths).set_index("rule")
    judged = judge(rows, LIMITS)
    assert table.loc["all", "kept"] == judged["kept"].sum() and 0 < judged["kept"].sum() < 60
    assert table.loc["reference", "kept"] == (rows["reference_min"] >= 0.2).sum()
    assert (
        table.loc["confidence", "kept"] == (judged["gen_mean"] >= 0.5).sum()
        and table.loc["difference", "kept"] == (judged["difference"] <= 0.25).sum()
    )
    assert table.loc["all", "precision"] == pytest.approx(truths["pose"][judged["kept"]].mean())
    assert table.loc["all", "rejected_bad_percent"] == pytest.approx(
        100 * (~truths["pose"])[~judged["kept"]].mean()
    )


def test_tables_are_tidy_and_alternatives_are_compared_at_equal_loss():
    rows = manifest()
    good = rows[SIGMA_GEN].mean(axis=1).to_numpy() > 0.6
    scores = filter_quality.rule_scores(rows, LIMITS).assign(
        perfect=good.astype(float) + np.arange(60) / 1e3
    )
    scores["joined"] = filter_quality.both(scores["confidence"], scores["perfect"])
    long = filter_quality.at_equal_loss(scores, {"pose": good, "all": np.ones(60, bool)}, 50)
    assert list(long.columns) == filter_quality.COLUMNS and len(long) == 6 * 2
    areas = filter_quality.areas(scores, {"pose": good}).set_index("score")["auc"]
    assert areas["perfect"] == 1 and areas["joined"] > areas["target"]
    equal = filter_quality.at_equal_loss(scores, {"pose": good}, 25)
    precision = equal.set_index("score")["precision"]
    assert (equal["lost_percent"] - 25).abs().max() < 2 and precision[
        "perfect"
    ] == precision.max() > precision["target"]


def test_one_key_point_no_images_and_nan():
    assert np.isnan(filter_quality.auc([], np.zeros(0, bool))) and filter_quality.curve(
        [], np.zeros(0, bool)
    )["kept"].tolist() == [0]
    assert len(filter_quality.rules_at(manifest(0), LIMITS, {"pose": np.zeros(0, bool)})) == 5
    with pytest.raises(StudyError, match="NaN"):
        filter_quality.curve([0.1, np.nan], np.array([True, False]))
    with pytest.raises(StudyError, match="one score"):
        filter_quality.auc([0.1], np.array([True, False]))
