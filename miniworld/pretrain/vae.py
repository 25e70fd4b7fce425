"""The latent space: an AutoencoderKL (factor 8) trained on rendered people.

Run: python -m miniworld.pretrain.vae
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import Downsample2D, ResnetBlock2D, Upsample2D

from miniworld.pretrain.common import (
    batches,
    jitter_colour,
    people,
    save_model,
    settings,
    to_float,
    warm_start,
)
from miniworld.pretrain.loop import Loop

if TYPE_CHECKING:
    from miniworld.pretrain.common import People

# Orthonormal: brightness, red against blue, green against both.
OPPONENT = torch.tensor([[3**-0.5] * 3, [2**-0.5, 0, -(2**-0.5)], [6**-0.5, -2 * 6**-0.5, 6**-0.5]])


def build(config: dict[str, Any]) -> AutoencoderKL:
    """Convolutions only, without attention: images of any size mean the same to it."""
    levels = len(config["channels"])
    return AutoencoderKL(
        block_out_channels=config["channels"],
        latent_channels=config["latent_channels"],
        sample_size=128,
        down_block_types=["DownEncoderBlock2D"] * levels,
        up_block_types=["UpDecoderBlock2D"] * levels,
        layers_per_block=config["layers_per_block"],
        norm_num_groups=config["norm_groups"],
        mid_block_add_attention=False,
    )


@torch.no_grad()
def start_as_blur(vae: AutoencoderKL) -> None:
    """Set the initial weights so that three latents are 8x8 means of R, G, B; decoding blurs them.

    With the usual initial weights a small VAE learns brightness first and stays grey for thousands
    of steps. Here every residual branch starts at zero, every resampling as an average or a blur,
    and colours travel as pairs (c, -c) through the last SiLU, because silu(c) - silu(-c) = c. All
    weights then train as usual.
    """
    colours = range(3)
    row = torch.tensor([0.25, 0.5, 0.25])
    blur = row[:, None] * row
    average = torch.tensor([[0.25, 0.25, 0.0], [0.25, 0.25, 0.0], [0.0, 0.0, 0.0]])
    for module in vae.modules():
        if isinstance(module, ResnetBlock2D):
            module.conv2.weight.zero_()
            if module.conv_shortcut is not None:
                shared = min(module.in_channels, module.out_channels)
                module.conv_shortcut.weight[:shared, :, 0, 0] = torch.eye(
                    shared, module.in_channels
                )
                module.conv_shortcut.bias.zero_()
        elif isinstance(module, Downsample2D | Upsample2D):
            module.conv.weight.mul_(0.2)
            module.conv.bias.zero_()
            kernel = average if isinstance(module, Downsample2D) else blur
            for channel in range(module.channels):
                module.conv.weight[channel, channel] = kernel
    for half, gain in ((vae.encoder, 1.0), (vae.decoder, 0.45)):  # a pixel deviates by about 0.45
        half.conv_in.weight[:6], half.conv_in.bias[:6] = 0, 0
        half.conv_out.weight[:3], half.conv_out.bias[:3] = 0, 0
        for c in colours:
            half.conv_in.weight[c, c, 1, 1], half.conv_in.weight[3 + c, c, 1, 1] = 1, -1
            half.conv_out.weight[c, c, 1, 1], half.conv_out.weight[c, 3 + c, 1, 1] = gain, -gain
    for layer in (vae.quant_conv, vae.post_quant_conv):
        layer.weight[:3] = 0
        layer.bias.zero_()
        for c in colours:
            layer.weight[c, c] = 1
    latents = vae.config.latent_channels
    vae.quant_conv.weight[latents:] *= 0.1
    vae.quant_conv.bias[latents:] = -4  # little noise to start with


def draw(data: People, config: dict[str, Any], rng: np.random.Generator) -> torch.Tensor:
    """A batch of photos (B,3,H,W) in [-1, 1], mirrored and tinted at random."""
    images = data.images[np.sort(rng.choice(data.rows, config["batch_size"], replace=False))]
    if rng.random() < 0.5:
        images = images[:, :, ::-1]
    return jitter_colour(to_float(images), 0.15, rng)


def edge_error(error: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference between neighbouring pixels of an error (B,3,H,W).

    The squared error alone is content with a blurred texture. This one asks for its edges.
    """
    across, down = error.diff(dim=3).abs().mean(), error.diff(dim=2).abs().mean()
    return across + down


def losses(
    vae: AutoencoderKL, images: torch.Tensor, config: dict[str, Any]
) -> dict[str, torch.Tensor]:
    """Errors of pixels, of their colours (more heavily) and of edges, and a small KL term."""
    posterior = vae.encode(images).latent_dist
    latents = posterior.sample()
    latents = latents + config["latent_noise"] * torch.randn_like(latents)
    error = vae.decode(latents).sample.float() - images
    opponent = torch.einsum("kc,nchw->nkhw", OPPONENT, error)
    weight = torch.tensor([1.0, config["colour_weight"], config["colour_weight"]])[:, None, None]
    absolute = (weight.sqrt() * opponent.abs()).mean()
    fit = (weight * opponent.square()).mean() + config["l1_weight"] * absolute
    kl = posterior.kl().mean() / posterior.mean[0].numel()
    psnr = -10 * torch.log10(error.detach().square().mean() / 4)
    loss = fit + config["edge_weight"] * edge_error(error) + config["kl_weight"] * kl
    return {"loss": loss, "psnr": psnr, "kl": kl}


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, images: list[torch.Tensor]) -> None:
    """Give every latent channel mean 0 and deviation 1 over batches of images (B,3,H,W).

    Channels differ several times in size. Noise would drown the small ones first, and they hold
    the detail. The 1x1 convolutions on either side of the latents take the change, so images
    decode as before, and whoever uses the VAE needs nothing but `scaling_factor` 1.
    """
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in images])
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    channels = len(mean)
    inner, outer = vae.quant_conv, vae.post_quant_conv
    outer.bias += outer.weight[:, :, 0, 0] @ mean
    outer.weight *= deviation[:, None, None]
    inner.weight[:channels] /= deviation[:, None, None, None]
    inner.bias[:channels] = (inner.bias[:channels] - mean) / deviation
    inner.bias[channels:] -= 2 * deviation.log()  # the posterior's log variance
    vae.register_to_config(scaling_factor=1.0)


def main() -> None:
    """Train it and save it in its library's format."""
    everything = settings()
    config, folder = everything["vae"], Path(everything["output"]) / "stable-diffusion/vae"
    data = people("train")
    torch.manual_seed(everything["seed"])
    vae = build(config)
    start_as_blur(vae)
    warm_start(vae, config["initial"])

    def loss_of(step: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        return losses(vae, draw(data, config, rng), config)

    Loop("vae", {"vae": vae}, config).run(loss_of)
    rows = data.rows[:: max(1, len(data.rows) // 1024)]
    normalise_latents(vae, [to_float(data.images[part]) for part in batches(rows, 32)])
    save_model(vae, folder)


if __name__ == "__main__":
    torch.set_num_threads(settings()["threads"])
    main()
