"""Pose guiders (§B, "Injecting human pose and camera viewpoint"): one network per condition."""

import math
from collections.abc import Sequence

import torch
from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding
from torch import Tensor, nn

from posedive_lib.body.conditions import CONDITIONS
from posedive_lib.errors import StudyError

SILU_GAIN = 1.68  # keeps the second moment of normal inputs through SiLU: 1 / sqrt(E[SiLU(x)^2])


class PoseGuiders(nn.Module):
    """Depth, normals and skeleton -> one feature map for the denoising U-Net (§B).

    Each guider is the ControlNet conditioning embedding: 3x3 convolutions with SiLU, one stride-2
    convolution per halving of the VAE, and a zero-initialised last layer, so that fine-tuning
    starts from the base model. The outputs are concatenated along channels to the U-Net's first
    width.

    widths: output channels per condition; they sum to `unet_width`.
    channels: hidden channels, one more than the number of halvings.
    conditions: the ones in use. One left out (an ablation) gives zeros in its channels, as its
    guider does before training; nothing else changes.
    """

    def __init__(
        self,
        widths: dict[str, int],
        channels: list[int],
        unet_width: int,
        vae_factor: int,
        conditions: Sequence[str] = tuple(CONDITIONS),
    ):
        super().__init__()
        check_widths(widths, channels, unet_width, vae_factor, conditions)
        self.widths, self.factor = {name: widths[name] for name in CONDITIONS}, vae_factor
        self.guiders = nn.ModuleDict()
        for name in CONDITIONS:
            if name in conditions:
                self.guiders[name] = ControlNetConditioningEmbedding(
                    widths[name], CONDITIONS[name], tuple(channels)
                )
        for guider in self.guiders.values():
            initialise(guider)

    def forward(self, depth: Tensor, normals: Tensor, skeleton: Tensor) -> Tensor:
        """Float maps in [0, 1], (B, 1 or 3, H, W) -> (B, unet_width, H / factor, W / factor)."""
        maps = {"depth": depth, "normals": normals, "skeleton": skeleton}
        batch, _, height, width = skeleton.shape
        size = height // self.factor, width // self.factor
        features = [
            self.guiders[name](maps[name])
            if name in self.guiders
            else skeleton.new_zeros(batch, channels, *size)
            for name, channels in self.widths.items()
        ]
        return torch.cat(features, dim=1)


def initialise(guider: ControlNetConditioningEmbedding) -> None:
    """Gaussian weights (as in Animate Anyone) with SiLU's gain, no biases, zero last layer.

    With PyTorch's default a map's variation shrinks to a fiftieth on its way through the layers.
    Beside a guider that gets through first, such a guider never learns.
    """
    for convolution in [guider.conv_in, *guider.blocks]:
        inputs = convolution.weight[0].numel()  # that each output pixel sums over
        nn.init.normal_(convolution.weight, std=SILU_GAIN / math.sqrt(inputs))
        nn.init.zeros_(convolution.bias)
    nn.init.zeros_(guider.conv_out.weight)
    nn.init.zeros_(guider.conv_out.bias)


def check_widths(
    widths: dict[str, int],
    channels: list[int],
    unet_width: int,
    vae_factor: int,
    conditions: Sequence[str],
) -> None:
    """StudyError unless the guiders fit U-Net and VAE, and every condition is a known one."""
    unknown = [name for name in conditions if name not in CONDITIONS]
    if unknown:
        raise StudyError(
            f"generator.conditions names {', '.join(unknown)}: choose from {', '.join(CONDITIONS)}."
        )
    if set(widths) != set(CONDITIONS):
        raise StudyError(
            f"generator.guider_widths must name exactly {', '.join(CONDITIONS)}, "
            f"not {', '.join(widths)}."
        )
    if sum(widths.values()) != unet_width:
        raise StudyError(
            f"generator.guider_widths sum to {sum(widths.values())}, but the U-Net's first width "
            f"is {unet_width}: change the widths so that they sum to it."
        )
    levels = int(math.log2(vae_factor)) + 1
    if len(channels) != levels:
        raise StudyError(
            f"generator.guider_channels has {len(channels)} entries, but this VAE reduces images "
            f"{vae_factor} times: give {levels} entries."
        )


def maps_to_float(maps: Tensor) -> Tensor:
    """uint8 condition maps (B, H, W, C) -> float (B, C, H, W) in [0, 1], the lineage's range."""
    return maps.permute(0, 3, 1, 2).float().div(255.0)
