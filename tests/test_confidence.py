"""ViTPose in and out: coordinates, confidence, loading."""

import json

import numpy as np
import pytest
import torch
from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation

from posedive_lib.augment.confidence import (
    PoseEstimator,
    from_heatmap,
    keypoint_subset,
    peaks,
    to_heatmap,
)
from posedive_lib.errors import StudyError


def tiny(image_size=(128, 64), labels=17, **head) -> VitPoseForPoseEstimation:
    torch.manual_seed(0)
    backbone = VitPoseBackboneConfig(
        image_size=list(image_size),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=2,
        out_indices=[2],
    )
    return VitPoseForPoseEstimation(
        VitPoseConfig(backbone_config=backbone, num_labels=labels, **head)
    ).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vitpose")
    tiny().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 128, 64, 3), dtype=np.uint8)


def gaussian(x, y, height=32, width=16, top=0.8):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return top * torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8)


def test_peak_of_a_gaussian_is_found_below_the_cell():
    maps = torch.stack([gaussian(7.3, 20.6), gaussian(0.0, 31.0), gaussian(4.0, 9.0)])[None]
    cells, value = peaks(maps)
    np.testing.assert_allclose(cells[0], [[7.3, 20.6], [0, 31], [4, 9]], atol=1e-3)
    assert 0.7 < float(value[0, 0]) <= 0.8


def test_flat_and_negative_maps_have_finite_peaks():
    cells, _ = peaks(torch.stack([torch.zeros(8, 8), -torch.rand(8, 8)])[None])
    assert torch.isfinite(cells).all()


def test_heatmap_coordinates_round_trip():
    pixels = np.array([[0.5, 0.5], [63.5, 127.5], [10.0, 90.0]])
    cells = to_heatmap(pixels, (128, 64), (32, 16))
    np.testing.assert_allclose(
        cells[:2], [[0, 0], [15, 31]]
    )  # first and last pixel centres are first and last cells
    np.testing.assert_allclose(from_heatmap(cells, (128, 64), (32, 16)), pixels)
    assert torch.allclose(
        from_heatmap(torch.tensor(cells), (128, 64), (32, 16)), torch.tensor(pixels)
    )


def test_estimate_does_not_depend_on_the_batch(folder, images):
    estimator = PoseEstimator(folder)
    keypoints, sigma = estimator.estimate(images)
    again, sigma_again = estimator.estimate(images, batch_size=2)
    assert keypoints.shape == (5, 17, 2) and sigma.shape == (5, 17)
    assert sigma.min() >= 0 and sigma.max() <= 1
    np.testing.assert_allclose(sigma, sigma_again, atol=1e-5)
    np.testing.assert_allclose(keypoints, again, atol=1e-2)
    empty = estimator.estimate(images[:0])
    assert empty[0].shape == (0, 17, 2) and empty[1].shape == (0, 17)


@pytest.mark.parametrize(
    "shape, padding", [((128, 64), 1.0), ((256, 128), 1.0), ((100, 80), 1.0), ((128, 64), 1.25)]
)
def test_key_points_come_back_in_the_pixels_of_the_image(folder, shape, padding, monkeypatch):
    """A bright dot is followed through resize and padding.

    The network is replaced by the brightness of its own input.
    """
    estimator = PoseEstimator(folder, padding=padding)

    def brightest(pixels):
        grey = (pixels * estimator.std + estimator.mean).mean(1, keepdim=True)
        maps = torch.nn.functional.interpolate(grey, (32, 16), mode="bilinear", align_corners=True)
        return type("Output", (), {"heatmaps": maps.expand(-1, 17, -1, -1)})()

    monkeypatch.setattr(estimator, "model", brightest)
    y, x = shape[0] * 0.3, shape[1] * 0.6
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    dot = 255 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (0.08 * shape[0]) ** 2 / 2)
    keypoints, _ = estimator.estimate(np.repeat(dot[None, ..., None], 3, axis=-1).astype(np.uint8))
    np.testing.assert_allclose(keypoints[0, 0], [x, y], atol=0.02 * shape[0])


def test_published_layout_loads(tmp_path):
    """256 × 192 input, the other head, a preprocessor file with its own normalisation."""
    tiny((256, 192), use_simple_decoder=False).save_pretrained(tmp_path)
    preprocessor = {
        "image_processor_type": "VitPoseImageProcessor",
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.25, 0.25, 0.25],
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    estimator = PoseEstimator(tmp_path)
    assert estimator.input_size == (256, 192) and float(estimator.mean.flatten()[0]) == 0.5
    pixels = estimator.preprocess(torch.full((1, 128, 64, 3), 255, dtype=torch.uint8))
    assert pixels.shape == (1, 3, 256, 192)
    assert (
        float(pixels[0, 0, 100, 0]) == -2 and float(pixels[0, 0, 100, 96]) == 2
    )  # black beside a white image


def test_what_is_not_a_pose_estimator_is_refused(tmp_path, folder, images):
    with pytest.raises(StudyError, match="config.json"):
        PoseEstimator(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(StudyError, match="expected 'vitpose'"):
        PoseEstimator(tmp_path)
    tiny(labels=21).save_pretrained(tmp_path)
    with pytest.raises(StudyError, match="21 key points"):
        PoseEstimator(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(StudyError, match="could not be loaded"):
        PoseEstimator(tmp_path)
    with pytest.raises(StudyError, match="uint8"):
        PoseEstimator(folder).estimate(images.astype(np.float32))
    with pytest.raises(StudyError, match="augment.keypoints"):
        keypoint_subset("face")
    assert len(keypoint_subset("body")) == 12 and len(keypoint_subset("all")) == 17


def test_broken_weights_are_noticed(tmp_path, images):
    model = tiny()
    model.head.conv.weight.data.fill_(float("nan"))
    model.save_pretrained(tmp_path)
    with pytest.raises(StudyError, match="not finite"):
        PoseEstimator(tmp_path).estimate(images)
