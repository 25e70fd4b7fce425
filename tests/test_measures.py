"""Measures of pose and person against hand-derived values."""

import numpy as np
import pytest

from posedive_lib.augment import measures


def test_pck_counts_visible_body_key_points_within_a_tenth_of_the_height():
    mask = np.zeros((1, 120, 60), bool)
    mask[0, 10:110, 20:40] = True  # 100 pixels tall
    truth = np.full((1, 17, 2), 50.0)
    visible = np.full((1, 17), 2)
    visible[0, 5] = 1  # hidden by the body: does not count
    estimated = truth.copy()
    estimated[0, 5] += 50
    estimated[0, 6, 0] += 10.0  # just inside
    estimated[0, 7, 0] += 10.1  # just outside
    estimated[0, 0] += 50  # a face point: not in the body subset
    assert measures.pck(estimated, truth, visible, measures.height_by_mask(mask)) == pytest.approx(
        [10 / 11]
    )


def test_pck_is_undefined_where_nothing_is_visible():
    mask = np.ones((1, 4, 4), bool)
    assert np.isnan(
        measures.pck(
            np.zeros((1, 17, 2)),
            np.zeros((1, 17, 2)),
            np.zeros((1, 17), int),
            measures.height_by_mask(mask),
        )
    ).all()


def test_identity_top1_uses_the_mean_of_a_persons_photos():
    gallery = np.array([[1.0, 0], [0.8, 0.6], [0, 1], [0, 2]])
    assert measures.identity_top1(
        np.array([[1.0, 0.1], [0.1, 1.0], [1.0, 0.0]]),
        np.array([3, 9, 9]),
        gallery,
        np.array([3, 3, 9, 9]),
    ).tolist() == [True, True, False]
