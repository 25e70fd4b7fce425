"""The frozen parts of Stable Diffusion, VAE and CLIP, and the images that they take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from posedive_lib.body.conditions import CONDITIONS
from posedive_lib.devices import checked_device
from posedive_lib.errors import StudyError
from posedive_lib.generator.clip import ClipImageEncoder
from posedive_lib.intake.numbers import require_numbers
from posedive_lib.weights import load_part, local_folder, part_folder

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


@dataclass
class Encoders:
    """The frozen VAE and CLIP of a Stable Diffusion folder."""

    vae: AutoencoderKL
    clip: ClipImageEncoder

    @classmethod
    def from_stable_diffusion(
        cls,
        folder: str | Path,
        device: torch.device | str = "cpu",
        *,
        vae: str | Path | None = None,
        image_encoder: str | Path | None = None,
    ) -> Encoders:
        """From `vae/` and `image_encoder/`, or from the folder or hub id given for either.

        StudyError where either is incomplete, or its settings cannot be used.
        """
        from diffusers import AutoencoderKL  # takes seconds: only where something is encoded

        device, folder = checked_device(device), local_folder(folder)
        autoencoder = load_part(AutoencoderKL, folder, "vae", vae)
        _check_settings(autoencoder.config, part_folder(folder, "vae", vae) / "config.json")
        encoders = cls(autoencoder, ClipImageEncoder.from_stable_diffusion(folder, image_encoder))
        encoders.vae.requires_grad_(False).to(device)
        encoders.clip.model.to(device)
        return encoders

    load = from_stable_diffusion

    @property
    def factor(self) -> int:
        """How many times smaller a latent is than its image, in height and in width."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def _statistics(self) -> tuple[Tensor | None, Tensor | None]:
        """(mean, deviation) of latents as the VAE's configuration gives them, (1, C, 1, 1)."""
        config = self.vae.config
        mean = config.shift_factor if config.latents_mean is None else config.latents_mean
        mean, deviation = (
            None if given is None else torch.tensor(given, device=self.vae.device).view(1, -1, 1, 1)
            for given in (mean, config.latents_std)
        )
        return mean, deviation

    @torch.no_grad()
    def latents(self, images: Tensor) -> Tensor:
        """uint8 (B, H, W, 3) -> (B, C, h, w), scaled: the posterior's mean, without its noise."""
        images = images.to(self.vae.device)
        pixels = images.permute(0, 3, 1, 2).float().div(127.5).sub(1.0)  # (B, 3, H, W) in [-1, 1]
        latents = self.vae.encode(pixels).latent_dist.mean
        mean, deviation = self._statistics
        if mean is not None:
            latents = latents - mean
        if deviation is not None:
            latents = latents / deviation
        return latents * self.vae.config.scaling_factor

    @torch.no_grad()
    def images(self, latents: Tensor) -> Tensor:
        """(B, C, h, w) scaled latents -> uint8 (B, H, W, 3)."""
        latents = latents.to(self.vae.device) / self.vae.config.scaling_factor
        mean, deviation = self._statistics
        if deviation is not None:
            latents = latents * deviation
        if mean is not None:
            latents = latents + mean
        pixels = self.vae.decode(latents).sample
        rounded = pixels.float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)
        return rounded.permute(0, 2, 3, 1)


def _check_settings(config: Any, path: Path) -> None:
    """StudyError unless a VAE takes and gives RGB, and scales its latents by usable numbers.

    diffusers reads these settings and uses none of them itself.
    """
    for name in ("in_channels", "out_channels"):
        if config[name] != 3:
            raise StudyError(
                f"{path}: {name} is {config[name]}, but images have 3: use another VAE."
            )
    require_numbers(path, "scaling_factor", config["scaling_factor"], positive=True)
    if config["shift_factor"] is not None:
        require_numbers(path, "shift_factor", config["shift_factor"])
    for name in ("latents_mean", "latents_std"):
        if config[name] is not None:
            count = config["latent_channels"]
            require_numbers(path, name, config[name], count, positive=name == "latents_std")


def check_images(
    array: np.ndarray, name: str, channels: int, size: tuple[int, ...] | None = None
) -> None:
    """StudyError unless uint8 (N, H, W, channels), of `size` (height, width) if given."""
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != channels:
        raise StudyError(
            f"Each {name} must be uint8 (height, width, {channels}); "
            f"got {array.dtype} {array.shape[1:]}: convert it first."
        )
    if size is not None and tuple(array.shape[1:3]) != tuple(size):
        raise StudyError(
            f"Each {name} is {array.shape[1]} x {array.shape[2]} pixels, "
            f"but the images are {size[0]} x {size[1]}."
        )


def check_maps(maps: Sequence[np.ndarray], size: tuple[int, ...]) -> None:
    """StudyError unless depth, normals and skeleton are as `check_images` asks."""
    for (name, channels), array in zip(CONDITIONS.items(), maps, strict=True):
        check_images(array, f"map of {name}", channels, size)


def check_size(
    height: int, width: int, factor: int, unet: nn.Module, resize: str | None = None
) -> None:
    """StudyError unless both are multiples of the VAE's factor x 2^(U-Net levels - 1).

    resize: code that mends it, with {} for (width, height); by default the parameters do.
    """
    multiple = factor * 2 ** (len(unet.config.block_out_channels) - 1)
    if height % multiple or width % multiple:
        mend = "change image.height and image.width"
        if resize:
            fitting = [max(1, round(side / multiple)) * multiple for side in (width, height)]
            mend = "use " + resize.format(tuple(fitting))
        raise StudyError(
            f"Images are {height} x {width} pixels, but this generator needs multiples of "
            f"{multiple}: {mend}."
        )
