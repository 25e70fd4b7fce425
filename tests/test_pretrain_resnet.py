"""The ResNet of the second Re-ID model: what supervises it, its size, and that Re-ID loads it."""

import numpy as np
import pytest
import torch
import yaml
from pipeline import ROOT

from miniworld.pretrain import resnet
from miniworld.pretrain.common import save_model
from miniworld.wardrobe import caption, sample_identities
from posedive_lib.weights import load_resnet


@pytest.fixture(scope="module")
def captions() -> list[str]:
    people = sample_identities("resnet-test", 300, 3).to_dict("records")
    return [caption(who, azimuth) for who in people for azimuth in (0, 90, 180)]


def test_labels_are_things_with_their_own_adjectives():
    found = resnet.labels(
        "a photo of a person from the front with olive skin, no hair, a black jacket over a teal "
        "shirt, a pink sash on the back, green shorts and black socks, an orange shoulder bag."
    )
    assert {"black jacket", "teal shirt", "pink sash", "green shorts", "black socks"} <= found
    assert {"no hair", "orange bag", "shoulder bag", "olive skin", "jacket"} <= found
    assert "black shirt" not in found and "green socks" not in found and "front" not in found


def test_every_word_of_a_caption_is_a_label_or_part_of_one(captions):
    """A garment that THINGS lacks would give its adjectives to the next one."""
    names, holds = resnet.table(captions, 1)
    words = {word for name in names for word in name.split()}
    said = " ".join(text.split(" with ", 1)[1] for text in captions)
    unknown = {word.strip(",.") for word in said.split()} - words - resnet.NO_ADJECTIVES
    assert unknown <= {"person"}
    assert holds.shape == (len(captions), len(names)) and holds.any(axis=0).all()
    # From behind another print shows than from the front, so labels are of photos, not of people.
    assert (holds[0::3] != holds[2::3]).any()
    few, _ = resnet.table(captions, 30)
    assert 0 < len(few) < len(names)


def test_the_model_fits_the_bundle_and_the_second_re_id_model(captions, tmp_path):
    config = yaml.safe_load((ROOT / "miniworld/pretrain/params.yaml").read_text())["resnet"]
    names, _ = resnet.table(captions, 5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = resnet.build(config, names)
    assert 2 * sum(value.numel() for value in model.state_dict().values()) < 5e6
    save_model(model.eval(), tmp_path)
    pixels = torch.randn(2, 3, 128, 64)
    with torch.no_grad():
        expected = model.half().float().resnet(pixels).last_hidden_state
        found = load_resnet(tmp_path).eval()(pixels).feature_maps[-1]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_it_learns_what_is_visible():
    """Two colours of noise, a label each: a few steps tell them apart."""
    rng = np.random.default_rng(0)
    config = {"layer": "basic", "stem": 8, "widths": [8, 16], "depths": [1, 1]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = resnet.build(config, ["red shirt", "blue shirt"])
    adam = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        red = torch.from_numpy(rng.random(16) < 0.5)
        images = torch.from_numpy(rng.normal(0, 0.3, (16, 3, 32, 16))).float()
        images[red, 0] += 0.6
        images[~red, 2] += 0.6
        pixels = resnet.normalised(resnet.augmented(images.clamp(-1, 1), rng))
        return pixels, torch.stack([red, ~red], 1).float()

    for _ in range(30):
        pixels, wanted = batch()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(pixels).logits, wanted)
        adam.zero_grad()
        loss.backward()
        adam.step()
    pixels, wanted = batch()
    with torch.no_grad():
        assert ((model.eval()(pixels).logits > 0) == wanted.bool()).float().mean() > 0.9
