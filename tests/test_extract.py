"""extract(images, model_folder): features of one's own images in one line."""

import numpy as np
import pytest
from PIL import Image

from posedive_lib.errors import StudyError
from posedive_lib.reid.extraction import extract
from posedive_lib.reid.resnet import ResNetBaseline
from posedive_lib.reid.training import ClipReIDBaseline
from reid_parts import people, save_tiny_clip, tiny_params


@pytest.fixture(scope="module", params=["clip-reid", "resnet"])
def trained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    params = tiny_params(stage1__steps=2, stage2__steps=3, resnet__steps=3)
    kind, weights = (ClipReIDBaseline, save_tiny_clip(folder / "clip")) if request.param == "clip-reid" else (ResNetBaseline, None)
    baseline = kind(params, weights, 32, 16, "cpu")
    baseline.fit(people(4, 5), seed=0)
    baseline.save(folder / "saved")
    return baseline, folder / "saved"


def test_arrays_and_paths_give_the_same_unit_features(trained, tmp_path):
    baseline, folder = trained
    images = np.random.default_rng(0).integers(0, 256, (5, 40, 24, 3), dtype=np.uint8)
    features = extract(images, folder, device="cpu")
    assert features.dtype == np.float32 and features.shape[0] == 5
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    own = baseline.extract(images)
    np.testing.assert_allclose(features, own / np.linalg.norm(own, axis=1, keepdims=True), atol=1e-6)
    paths = []
    for index, image in enumerate(images):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(image).save(paths[-1])
    assert np.array_equal(extract(paths, folder, device="cpu"), features)
    assert extract([], folder, device="cpu").shape == (0, features.shape[1])


def test_mistakes_get_one_sentence(trained, tmp_path):
    _, folder = trained
    images = np.zeros((2, 32, 16, 3), np.uint8)
    with pytest.raises(StudyError, match=r"No model\.safetensors"):
        extract(images, tmp_path)
    with pytest.raises(StudyError, match="give a list of paths"):
        extract("a.jpg", folder)
    with pytest.raises(StudyError, match=r"a\.jpg is missing"):
        extract([tmp_path / "a.jpg"], folder)
    with pytest.raises(StudyError, match="1 cameras"):
        extract(images, folder, camids=[0])
    with pytest.raises(StudyError, match="uint8"):
        extract(images / 255, folder)
