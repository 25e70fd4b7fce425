"""The VAE of the mini world's pre-training."""

import numpy as np
import torch
import torch.nn.functional as F

from miniworld.pretrain import vae
from miniworld.pretrain.common import People

CONFIG = {
    "channels": [4, 8],
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_groups": 2,
    "batch_size": 3,
    "colour_weight": 3.0,
    "l1_weight": 0.5,
    "edge_weight": 0.5,
    "latent_noise": 0.05,
    "kl_weight": 1e-5,
}


def photos(count: int = 6) -> torch.Tensor:
    """(count, 3, 32, 16) smooth random colours in [-1, 1]."""
    colours = torch.rand(count, 3, 4, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return F.interpolate(colours, (32, 16), mode="bilinear")


@torch.no_grad()
def test_normalised_latents_decode_to_the_same_images():
    torch.manual_seed(0)
    network = vae.build(CONFIG).eval()
    images = photos()
    before = network.encode(images).latent_dist
    decoded = network.decode(before.mean).sample
    vae.normalise_latents(network, [images[:4], images[4:]])
    after = network.encode(images).latent_dist
    assert torch.allclose(after.mean.mean((0, 2, 3)), torch.zeros(4), atol=1e-5)
    assert torch.allclose(after.mean.std((0, 2, 3)), torch.ones(4), atol=1e-4)
    assert torch.allclose(network.decode(after.mean).sample, decoded, atol=1e-4)
    ratio = before.mean.std((0, 2, 3))
    assert torch.allclose(
        before.std / after.std, ratio[None, :, None, None].expand_as(before.std), rtol=1e-3
    )
    assert network.config.scaling_factor == 1.0


def test_the_edge_error_sees_texture_and_not_brightness():
    flat = torch.full((1, 3, 8, 8), 0.3)
    stripes = flat.clone()
    stripes[..., ::2] = -0.3
    assert vae.edge_error(flat) == 0
    assert torch.isclose(vae.edge_error(stripes), torch.tensor(0.6))


def test_training_lowers_the_error_of_photos_it_has_seen():
    images = ((photos() + 1) * 127.5).byte().permute(0, 2, 3, 1).numpy()
    data = People([""] * len(images), np.arange(len(images)), {"images": images})
    torch.manual_seed(0)
    network = vae.build(CONFIG)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    found = []
    for step in range(40):
        batch = vae.draw(data, CONFIG, np.random.default_rng(step))
        assert batch.shape == (3, 3, 32, 16) and batch.abs().max() <= 1
        losses = vae.losses(network, batch, CONFIG)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        found.append(losses["loss"].item())
    assert np.mean(found[-8:]) < 0.9 * np.mean(found[:8])
