"""Measures of likeness on images whose values are known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from posedive_lib.generator.likeness import detail, psnr

RNG = np.random.default_rng(0)
TRUTH = RNG.integers(40, 200, (2, 32, 16, 3), dtype=np.uint8)
WHERE = np.zeros((2, 32, 16), bool)
WHERE[:, 8:24, 4:12] = True


def test_psnr_counts_only_the_pixels_asked_for():
    images = TRUTH.copy()
    images[0, 8:24, 4:12] += 10
    images[1, :8] += 10
    expected = 10 * np.log10(255**2 / 100)
    assert psnr(images, TRUTH, WHERE) == pytest.approx([expected, 10 * np.log10(255**2 / 1e-6)])
    assert np.isnan(psnr(images, TRUTH, np.zeros_like(WHERE))).all()


def test_detail_is_the_share_of_the_gradients_energy():
    assert detail(TRUTH, TRUTH, WHERE) == pytest.approx([1, 1])
    halved = np.round(TRUTH / 2).astype(np.uint8)
    assert detail(halved, TRUTH, WHERE) == pytest.approx([0.25, 0.25], rel=0.02)
    blurred = gaussian_filter(TRUTH, (0, 1, 1, 0))
    assert (detail(blurred, TRUTH, WHERE) < 0.2).all()
