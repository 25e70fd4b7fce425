"""extract(images, model_folder): features of one's own images in one line."""

import shutil
from functools import partial

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from reid_parts import people, save_tiny_clip, tiny_params

from posedive_lib.errors import StudyError
from posedive_lib.intake.tensors import load_tensors
from posedive_lib.own_data.features import extract
from posedive_lib.reid.clip_reid_training import ClipReIDModel
from posedive_lib.reid.models import load_trained
from posedive_lib.reid.resnet import ResNetModel
from posedive_lib.weights import save_tensors


@pytest.fixture(scope="module", params=["clip-reid", "resnet"])
def trained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    params = tiny_params(stage1__steps=2, stage2__steps=3, resnet__steps=3)
    kind, weights = (
        (ClipReIDModel, save_tiny_clip(folder / "clip"))
        if request.param == "clip-reid"
        else (ResNetModel, None)
    )
    model = kind(params, weights, 32, 16, "cpu")
    model.fit(people(4, 5), seed=0)
    model.save(folder / "saved")
    return model, folder / "saved"


def test_arrays_and_paths_give_the_same_unit_features(trained, tmp_path):
    model, folder = trained
    # In bfloat16, which `auto` may be, features depend on how many images come together.
    extracted = partial(extract, model_folder=folder, device="cpu", precision="fp32")
    images = np.random.default_rng(0).integers(0, 256, (5, 40, 24, 3), dtype=np.uint8)
    features = extracted(images)
    assert features.dtype == np.float32 and features.shape[0] == 5
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    own = model.extract(images)
    np.testing.assert_allclose(
        features, own / np.linalg.norm(own, axis=1, keepdims=True), atol=1e-6
    )
    paths = []
    for index, image in enumerate(images):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(image).save(paths[-1])
    for same in (
        paths,
        np.array(paths, str),
        [Image.open(path) for path in paths],
        (image for image in images),
        [*paths[:2], *images[2:]],
    ):
        assert np.array_equal(extracted(same), features)
    small = Image.fromarray(images[0]).resize((12, 20))
    different = extracted(
        [images[1], small.convert("L"), np.asarray(small)]
    )  # of different sizes and modes
    np.testing.assert_allclose(
        different[[0, 2]],
        [features[1], extracted(np.asarray(small)[None])[0]],
        atol=1e-6,
    )
    assert np.abs(different[1] - different[2]).max() > 1e-3
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(images[0]).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as turned:
        assert np.array_equal(
            extracted([turned]),
            extracted([tmp_path / "turned.png"]),
        )
        assert turned.size == (24, 40)  # the caller's image is as it was
    assert extracted([]).shape == (0, features.shape[1])


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
    for wrong in (Image.new("RGB", (16, 32)), None, 3):
        with pytest.raises(StudyError, match="no list of images"):
            extract(wrong, folder)
    for wrong, said in (
        (images[0] / 255, "float64"),
        (images[0, :, :, 0], r"\(32, 16\)"),
        (None, "NoneType"),
        (Image.new("I;16", (16, 32)), "8 bits"),
    ):
        with pytest.raises(StudyError, match=f"Image 1 of the list is .*{said}"):
            extract([images[0], wrong], folder)
    for options, said in (
        (dict(precision="fp99"), "'fp99': choose one of auto"),
        (dict(device="cuda:99"), "no device 'cuda:99'"),
        (dict(device="tin"), "no device 'tin'"),
    ):
        with pytest.raises(StudyError, match=said):
            load_trained(folder, **options)


def test_a_model_trained_in_half_precision_gives_features_on_a_cpu(trained, tmp_path):
    _, folder = trained
    own = tmp_path / "fp16"
    shutil.copytree(folder, own)
    tensors, about = load_tensors(own / "model.safetensors")
    save_tensors(tensors, own / "model.safetensors", {**about, "precision": "fp16"})
    images = np.zeros((2, 32, 16, 3), np.uint8)
    assert np.isfinite(extract(images, own, device="cpu")).all()
    with pytest.raises(StudyError, match="fp16 needs a GPU"):
        extract(images, own, device="cpu", precision="fp16")


def test_features_that_are_not_finite_are_refused(trained, tmp_path):
    tensors, about = load_tensors(trained[1] / "model.safetensors")
    lost = {n: t.fill_(torch.nan) if t.is_floating_point() else t for n, t in tensors.items()}
    save_tensors(lost, tmp_path / "model.safetensors", about)
    with pytest.raises(StudyError, match="2 of 2 extracted features are not finite"):
        extract(np.zeros((2, 32, 16, 3), np.uint8), tmp_path, device="cpu")


def test_a_model_file_that_says_too_little_is_refused(trained, tmp_path):
    tensors, about = load_tensors(trained[1] / "model.safetensors")
    for name in ("height", "precision", "model"):
        save_tensors(
            tensors,
            tmp_path / "model.safetensors",
            {key: value for key, value in about.items() if key != name},
        )
        if name == "precision":
            assert (
                load_trained(tmp_path).precision == "fp32"
            )  # not one of the model's own properties
            continue
        with pytest.raises(StudyError, match=r"model\.safetensors"):
            load_trained(tmp_path)
