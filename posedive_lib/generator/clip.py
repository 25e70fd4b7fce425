"""CLIP image embeddings of the reference in place of text (§B, "Injecting identity")."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from posedive_lib.errors import StudyError
from posedive_lib.generator import folders
from posedive_lib.loading import read_json

BATCH = 64  # images through the tower at a time
OPENAI_MEAN, OPENAI_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass
class ClipImageEncoder:
    """Frozen CLIP vision tower with its own preprocessing; `size` (height, width) in pixels, mean and std per channel."""

    model: nn.Module
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def load(cls, stable_diffusion: Path, source: str | Path | None = None) -> "ClipImageEncoder":
        """From `image_encoder/` (sd-image-variations layout) or `source` (such as CLIP ViT-L/14), with its `preprocessor_config.json`
        if there is one, else the encoder's square."""
        model = folders.load_part(
            CLIPVisionModelWithProjection, stable_diffusion, "image_encoder", source
        )
        where = folders.part_folder(stable_diffusion, "image_encoder", source)
        settings = {}
        for path in (
            where / "preprocessor_config.json",
            where.parent / "feature_extractor" / "preprocessor_config.json",
        ):
            if path.is_file():
                settings = read_json(path)
                break
        cropped = (
            settings.get("crop_size") if settings.get("do_center_crop", True) else None
        )  # a crop that is not made has a size, too
        size = _size(cropped or settings.get("size") or model.config.image_size)
        if any(side % model.config.patch_size for side in size):
            raise StudyError(
                f"{stable_diffusion}: CLIP input {size} is not a multiple of its patch size {model.config.patch_size}."
            )
        mean, std = settings.get("image_mean", OPENAI_MEAN), settings.get("image_std", OPENAI_STD)
        return cls(model.requires_grad_(False), size, tuple(mean), tuple(std))

    @property
    def dimension(self) -> int:
        """Length D of a token: CLIP's joint space."""
        return self.model.config.projection_dim

    def preprocess(self, images: Tensor) -> Tensor:
        """uint8 (B, H, W, 3) -> float (B, 3, *size): bicubic with antialias, then CLIP's mean and std.

        The whole crop is squeezed to `size`: a centre crop would cut off head and feet.
        """
        pixels = images.permute(0, 3, 1, 2).float()
        if tuple(pixels.shape[2:]) != self.size:
            pixels = F.interpolate(pixels, self.size, mode="bicubic", antialias=True).clamp(0, 255)
        mean, std = (
            torch.tensor(x, device=pixels.device).view(1, 3, 1, 1) for x in (self.mean, self.std)
        )
        return (pixels / 255 - mean) / std

    @torch.no_grad()
    def tokens(self, images: Tensor, kind: str = "pooled") -> Tensor:
        """uint8 (N, H, W, 3) -> (N, T, D), on the encoder's device: "pooled" gives the projected image embedding (T = 1), "patch" projects
        every token. Computed `BATCH` images at a time."""
        if kind not in ("pooled", "patch"):
            raise StudyError(f"generator.clip_tokens is {kind!r}: choose pooled or patch.")
        square = (self.model.config.image_size,) * 2
        found = []
        for part in images.split(BATCH):
            output = self.model(
                self.preprocess(part.to(self.model.device)),
                interpolate_pos_encoding=self.size != square,
            )
            found.append(
                output.image_embeds[:, None]
                if kind == "pooled"
                else self.model.visual_projection(
                    self.model.vision_model.post_layernorm(output.last_hidden_state)
                )
            )
        return torch.cat(found)


def _size(size: int | dict) -> tuple[int, int]:
    """(height, width) from the forms that preprocessor files use."""
    if isinstance(size, int):
        return size, size
    if "shortest_edge" in size:
        return size["shortest_edge"], size["shortest_edge"]
    return size["height"], size["width"]
