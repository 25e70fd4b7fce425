"""How good generated images are: similarity to the truth, and data without it."""

from types import SimpleNamespace

import numpy as np
import pytest
from pipeline import ROOT

from posedive_lib.augment.measures import kernel_distance
from posedive_lib.generator.encoders import Encoders
from posedive_lib.generator.likeness import psnr
from posedive_lib.study import quality


def test_likeness_is_told_apart_by_what_the_reference_shows():
    """Targets of two people; the second one's never show the side of the reference."""
    truth = np.random.default_rng(0).integers(60, 190, (4, 16, 8, 3), dtype=np.uint8)
    images = truth + np.array([10, 20, 30, 40], np.uint8)[:, None, None, None]
    mask = np.zeros(truth.shape[:3], bool)
    mask[:, 4:12, 2:6] = True
    points = np.zeros((4, 17, 2), np.float32)
    targets = quality.Targets(
        **dict.fromkeys(("references", "skeleton", "depth", "normals"), truth),
        truth=truth,
        mask=mask,
        keypoints=points,
        visible=np.full((4, 17), 2),
        pids=np.array([7, 7, 9, 9]),
        seeds=np.arange(4),
        turn=np.array([10.0, 130.0, 90.0, np.nan]),
    )
    estimator = SimpleNamespace(estimate=lambda images: (points, None))
    reid = SimpleNamespace(extract=lambda images: np.eye(len(images), 3, dtype=np.float32))
    known, pids = np.eye(2, 3, dtype=np.float32), np.array([7, 9])
    found = quality.per_person(images, targets, estimator, reid, known, pids)
    decibels = 20 * np.log10(255 / np.array([10, 20, 30, 40]))
    assert found["psnr"] == pytest.approx([decibels[:2].mean(), decibels[2:].mean()])
    assert found["psnr_same_side"] == pytest.approx(decibels[:1])
    assert found["psnr_other_side"] == pytest.approx(decibels[1:2])
    assert found["detail"] == pytest.approx([1, 1])


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


def test_the_kernel_distance_tells_blurred_from_sharp_and_is_zero_between_equals():
    rng = np.random.default_rng(0)
    true, same, other = (rng.normal(centre, 1, (200, 16)) for centre in (0, 0, 0.5))
    assert abs(kernel_distance(same, true)) < 0.05 < 0.5 < kernel_distance(other, true)
    twice = np.full(200, 2.0)
    assert kernel_distance(other, true, twice) == pytest.approx(kernel_distance(other, true))
    pids = np.repeat(np.arange(50), 4)
    value, low, high, people = quality.distance(other, true, pids, seed=0)
    assert low < value < high and people == 50 and low > 0
    assert quality.distance(other, true, pids, seed=0) == (value, low, high, people)


def test_heads_are_cut_where_nose_and_eyes_are_seen():
    images = np.zeros((3, 24, 12, 3), np.uint8)
    keypoints, visible = np.full((3, 17, 2), 6.0), np.full((3, 17), 2)
    images[0, 6, 6] = 200
    keypoints[2, :3] = [11, 1]  # in a corner, so beyond the frame its edge goes on
    images[2, 1, 11] = 100
    visible[1, 2] = 1  # an eye behind the head
    targets = SimpleNamespace(keypoints=keypoints, visible=visible)
    rows = quality.faces(targets, 48)
    assert rows.tolist() == [0, 2] and quality.faces(targets, 1).tolist() == [0]
    first, second = quality.heads(images, targets, rows)
    assert first.shape == second.shape == (4, 4, 3)
    assert first[2, 2, 0] == 200 and second[2, 2:, 0].tolist() == [100, 100]
