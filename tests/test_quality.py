"""How good generated images are: similarity to the truth, and data without it."""

from types import SimpleNamespace

import numpy as np
import pytest
from pipeline import ROOT

from posedive_lib.generator.encoders import Encoders
from posedive_lib.generator.likeness import psnr
from posedive_lib.study import quality


def test_ssim_of_an_image_with_itself_is_one():
    image = np.random.default_rng(0).integers(0, 256, (2, 16, 12, 3), dtype=np.uint8)
    assert quality.foreground_ssim(image, image, np.ones((2, 16, 12), bool)) == pytest.approx(
        [1, 1]
    )


def test_images_pass_the_vae_in_any_batch():
    generator = SimpleNamespace(
        encoders=Encoders.from_stable_diffusion(ROOT / "data/pretrained/stable-diffusion")
    )
    ramp = np.linspace(0, 255, 128).astype(np.uint8)[None, :, None, None]
    images = (
        np.broadcast_to(ramp, (3, 128, 64, 3)) // np.array([1, 2, 3], np.uint8)[:, None, None, None]
    )
    passed = quality.through_vae(generator, images)
    assert passed.shape == images.shape and passed.dtype == np.uint8
    assert (
        np.abs(passed.astype(int) - quality.through_vae(generator, images, batch_size=2)).max() <= 1
    )
    assert psnr(passed, images, np.ones(images.shape[:3], bool)).min() > 20
