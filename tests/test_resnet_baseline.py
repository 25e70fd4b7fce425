"""The ResNet model behind the same interface as CLIP-ReID."""

import numpy as np
import pytest
import torch
from reid_parts import people, tiny_params
from torch import nn
from transformers import ResNetBackbone, ResNetConfig, ResNetForImageClassification

from posedive_lib.errors import StudyError
from posedive_lib.reid import models
from posedive_lib.reid.resnet import ResNetModel, ResNetReID


def small(layer="basic", **more):
    return ResNetConfig(
        layer_type=layer, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], **more
    )


@pytest.mark.parametrize(
    "layer, more",
    [("basic", {}), ("bottleneck", {}), ("bottleneck", {"downsample_in_bottleneck": True})],
)
def test_the_last_stage_keeps_its_resolution(layer, more):
    pixels = torch.randn(2, 3, 64, 32)
    usual = ResNetBackbone(small(layer, **more)).eval()
    shape = usual(pixels).feature_maps[-1].shape
    weights = {name: value.clone() for name, value in usual.state_dict().items()}
    model = ResNetReID(usual, 4, torch.Generator().manual_seed(0)).eval()
    maps = model.backbone(pixels).feature_maps[-1]
    assert maps.shape == (2, 16, 2 * shape[2], 2 * shape[3])
    assert all(
        torch.equal(value, weights[name]) for name, value in model.backbone.state_dict().items()
    )
    features, logits = model(pixels)
    torch.testing.assert_close(features, maps.mean(dim=(2, 3)), atol=1e-5, rtol=1e-5)
    assert logits.shape == (2, 4) and not model.head.norm.bias.requires_grad
    torch.testing.assert_close(model.features(pixels), model.head.norm(features))


def test_a_run_learns_and_repeats():
    train, test = people(6, 6), people(8, 4, seed=1, first=6)
    query, gallery = test.take(test.camids == 0), test.take(test.camids > 0)
    first, again, other = (
        models.train_and_evaluate(
            train,
            query,
            gallery,
            tiny_params(),
            pretrained=None,
            seed=seed,
            model="resnet",
            device="cpu",
        )
        for seed in (1, 1, 2)
    )
    assert {**first, "seconds": 0} == {**again, "seconds": 0} and first["losses"] != other["losses"]
    history = first["losses"]["resnet"]
    assert set(history) == {"rate", "loss", "id", "triplet"} and np.mean(
        history["loss"][-5:]
    ) < np.mean(history["loss"][:5])
    assert (
        first["model"] == "resnet"
        and first["mAP"] > 60
        and first["patch_stride"] is None
        and first["generated_camera"] is None
    )


def test_a_killed_run_ends_in_the_same_weights(tmp_path):
    params, train = tiny_params(checkpoint_every=6, resnet__steps=14), people(5, 6)

    def kill(stage, step, steps):
        if step == 9:
            raise KeyboardInterrupt

    whole = ResNetModel(params, None, 32, 16, "cpu")
    history = whole.fit(train, seed=0)
    with pytest.raises(KeyboardInterrupt):
        ResNetModel(params, None, 32, 16, "cpu").fit(
            train, seed=0, checkpoints=tmp_path, progress=kill
        )
    resumed = ResNetModel(params, None, 32, 16, "cpu")
    assert resumed.fit(train, seed=0, checkpoints=tmp_path) == history
    assert all(
        torch.equal(value, resumed.model.state_dict()[name])
        for name, value in whole.model.state_dict().items()
    )


def test_published_weights_are_taken(tmp_path):
    torch.manual_seed(0)
    published = ResNetForImageClassification(small(num_labels=3))
    published.save_pretrained(tmp_path / "resnet")
    model = ResNetModel(
        tiny_params(resnet__steps=1, resnet__learning_rate=0.0), tmp_path / "resnet", 32, 16, "cpu"
    )
    model.fit(people(4, 4), seed=0)
    mine, theirs = model.model.backbone.state_dict(), published.resnet.state_dict()
    kernels = [
        name for name, module in published.resnet.named_modules() if isinstance(module, nn.Conv2d)
    ]
    assert kernels and all(
        torch.equal(mine[f"{name}.weight"], theirs[f"{name}.weight"]) for name in kernels
    )
    with pytest.raises(StudyError, match="No folder .*gone"):
        ResNetModel(tiny_params(), tmp_path / "gone", 32, 16, "cpu").fit(people(4, 4), seed=0)


def test_save_and_load(tmp_path):
    train = people(4, 4)
    model = ResNetModel(tiny_params(resnet__steps=3), None, 32, 16, "cpu")
    model.fit(train, seed=0)
    model.save(tmp_path)
    loaded = models.load_trained(tmp_path, "cpu")
    assert isinstance(loaded, ResNetModel)
    assert np.array_equal(
        loaded.extract(train.images), model.extract(train.images)
    ) and loaded.extract(train.images).shape == (16, 16)
