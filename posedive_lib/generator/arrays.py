"""What training reads: latents, CLIP tokens and condition maps, encoded once (VAE and CLIP are frozen)."""

import sys
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from tqdm import tqdm

from posedive_lib.body.archive import read_npz, write_npz
from posedive_lib.errors import StudyError
from posedive_lib.generator import folders
from posedive_lib.generator.clip import ClipImageEncoder
from posedive_lib.precision import checked_device

DIMENSIONS = {
    "latents": 4,
    "clip_tokens": 3,
    "pid": 1,
    "camid": 1,
    "depth": 4,
    "normals": 4,
    "skeleton": 4,
}


@dataclass
class TrainingArrays:
    """N images. latents (N, C, h, w) float32, scaled; clip_tokens (N, T, D) float32; pid, camid (N,) int;
    depth (N, H, W, 1), normals and skeleton (N, H, W, 3) uint8; reference_ok and target_ok (N,) bool from Eq. 3 and 4."""

    latents: np.ndarray
    clip_tokens: np.ndarray
    pid: np.ndarray
    camid: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    skeleton: np.ndarray
    reference_ok: np.ndarray | None = None
    target_ok: np.ndarray | None = None

    def __post_init__(self):
        for name in ("reference_ok", "target_ok"):
            if getattr(self, name) is None:
                setattr(self, name, np.ones(len(self.latents), dtype=bool))
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if len(set(lengths.values())) != 1:
            raise StudyError(f"The training arrays differ in length: {lengths}.")

    def __len__(self) -> int:
        return len(self.latents)

    def save(self, path: str | Path) -> None:
        """Write an `.npz`, whole or not at all."""
        write_npz(path, {field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: str | Path) -> "TrainingArrays":
        """Read what `save` wrote; StudyError on anything else."""
        columns = read_npz(
            path, [field.name for field in fields(cls)], what="training arrays", limit=sys.maxsize
        )
        wrong = [
            name
            for name, dimensions in DIMENSIONS.items()
            if name not in columns or columns[name].ndim != dimensions
        ]
        if wrong:
            raise StudyError(
                f"{path} holds no training arrays ({wrong[0]} is missing or of another shape): name a file that TrainingArrays.save wrote."
            )
        return cls(**columns)


@dataclass
class Encoders:
    """The frozen VAE and CLIP of a Stable Diffusion folder."""

    vae: AutoencoderKL
    clip: ClipImageEncoder

    @classmethod
    def load(
        cls,
        stable_diffusion: Path,
        device: torch.device | str = "cpu",
        *,
        vae=None,
        image_encoder=None,
    ) -> "Encoders":
        """From `vae/` and `image_encoder/`, or from the folders or hub ids given for either (sd-vae-ft-mse, CLIP ViT-L/14)."""
        device = checked_device(device)
        encoders = cls(
            folders.load_part(AutoencoderKL, stable_diffusion, "vae", vae),
            ClipImageEncoder.load(stable_diffusion, image_encoder),
        )
        encoders.vae.requires_grad_(False).to(device)
        encoders.clip.model.to(device)
        return encoders

    @property
    def factor(self) -> int:
        """Down-factor of the VAE."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @torch.no_grad()
    def latents(self, images: Tensor) -> Tensor:
        """uint8 (B, H, W, 3) -> (B, C, h, w): the posterior's mean (no sampling noise in a cache) times the scaling factor."""
        pixels = images.permute(0, 3, 1, 2).float().div(127.5).sub(1.0)
        return self.vae.encode(pixels).latent_dist.mean * self.vae.config.scaling_factor

    @torch.no_grad()
    def images(self, latents: Tensor) -> Tensor:
        """(B, C, h, w) scaled latents -> uint8 (B, H, W, 3)."""
        pixels = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        return (
            pixels.float()
            .add(1.0)
            .mul(127.5)
            .round()
            .clamp(0, 255)
            .to(torch.uint8)
            .permute(0, 2, 3, 1)
        )


def encode(
    images,
    depth,
    normals,
    skeleton,
    pid,
    camid,
    stable_diffusion: str | Path,
    *,
    clip_tokens: str = "pooled",
    vae=None,
    image_encoder=None,
    batch_size: int = 64,
    device="cpu",
    progress: bool = True,
) -> TrainingArrays:
    """uint8 images (N, H, W, 3) and their maps -> TrainingArrays, with the VAE and CLIP of `stable_diffusion`, or those named."""
    folder = folders.resolve(stable_diffusion)
    encoders = Encoders.load(folder, device, vae=vae, image_encoder=image_encoder)
    check_images(images, "image", 3)
    for name, maps, channels in (
        ("depth map", depth, 1),
        ("normal map", normals, 3),
        ("skeleton", skeleton, 3),
    ):
        check_images(maps, name, channels, images.shape[1:3])
    latents, tokens = [], []
    for start in tqdm(range(0, len(images), batch_size), desc="encode", disable=not progress):
        batch = torch.from_numpy(np.ascontiguousarray(images[start : start + batch_size])).to(
            device
        )
        latents.append(encoders.latents(batch).float().cpu().numpy())
        tokens.append(encoders.clip.tokens(batch, clip_tokens).float().cpu().numpy())
    return TrainingArrays(
        np.concatenate(latents),
        np.concatenate(tokens),
        np.asarray(pid),
        np.asarray(camid),
        np.asarray(depth),
        np.asarray(normals),
        np.asarray(skeleton),
    )


def check_images(
    array: np.ndarray, name: str, channels: int, size: tuple[int, int] | None = None
) -> None:
    """StudyError unless uint8 (N, H, W, channels), of `size` (height, width) if given."""
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != channels:
        raise StudyError(
            f"Each {name} must be uint8 (height, width, {channels}); got {array.dtype} {array.shape[1:]}: convert it first."
        )
    if size is not None and tuple(array.shape[1:3]) != tuple(size):
        raise StudyError(
            f"Each {name} is {array.shape[1]} x {array.shape[2]} pixels, but the images are {size[0]} x {size[1]}."
        )


def check_size(height: int, width: int, factor: int, unet: nn.Module) -> None:
    """StudyError unless height and width are multiples of VAE factor x 2^(U-Net levels - 1)."""
    multiple = factor * 2 ** (len(unet.config.block_out_channels) - 1)
    if height % multiple or width % multiple:
        raise StudyError(
            f"Images are {height} x {width} pixels, but this generator needs multiples of {multiple}: change image.height and image.width."
        )
