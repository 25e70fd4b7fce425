"""CLIP image embeddings of the reference in place of text (§B, "Injecting identity")."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posedive_lib.errors import StudyError
from posedive_lib.intake.files import read_json
from posedive_lib.intake.numbers import channel_statistics
from posedive_lib.weights import load_part, part_folder

BATCH = 64  # images through the tower at a time
OPENAI_MEAN, OPENAI_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass
class ClipImageEncoder:
    """Frozen CLIP vision tower with its own preprocessing.

    size: (height, width) of its input in pixels; mean and std per channel, of values in [0, 1].
    """

    model: nn.Module
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def from_stable_diffusion(
        cls, folder: Path, source: str | Path | None = None
    ) -> "ClipImageEncoder":
        """From `image_encoder/` (sd-image-variations layout) or `source` (such as CLIP ViT-L/14).

        Size, mean and std are those of `preprocessor_config.json`, else CLIP's own. StudyError
        where they are no sizes and no numbers.
        """
        from transformers import CLIPVisionModelWithProjection  # takes seconds

        model = load_part(CLIPVisionModelWithProjection, folder, "image_encoder", source)
        file, settings = _preprocessor(part_folder(folder, "image_encoder", source))
        # Files also give the size of a crop that is not made.
        cropped = settings.get("crop_size") if settings.get("do_center_crop", True) else None
        size = _size(file, cropped or settings.get("size") or model.config.image_size)
        if any(side % model.config.patch_size for side in size):
            raise StudyError(
                f"{folder}: CLIP input {size} is not a multiple of its patch size "
                f"{model.config.patch_size}."
            )
        mean, std = channel_statistics(
            file, settings, {"image_mean": OPENAI_MEAN, "image_std": OPENAI_STD}
        )
        return cls(model.requires_grad_(False), size, tuple(mean), tuple(std))

    @property
    def dimension(self) -> int:
        """Length D of a token: CLIP's joint space."""
        return self.model.config.projection_dim

    def preprocess(self, images: Tensor) -> Tensor:
        """uint8 (B, H, W, 3) -> float (B, 3, height, width): bicubic, antialiased, normalised.

        The whole crop is squeezed to `size`: a centre crop would cut off head and feet.
        """
        pixels = images.permute(0, 3, 1, 2).float()
        if tuple(pixels.shape[2:]) != self.size:
            pixels = F.interpolate(pixels, self.size, mode="bicubic", antialias=True).clamp(0, 255)
        mean = torch.tensor(self.mean, device=pixels.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(1, 3, 1, 1)
        return (pixels / 255 - mean) / std

    @torch.no_grad()
    def tokens(self, images: Tensor, kind: str = "pooled") -> Tensor:
        """uint8 (N, H, W, 3) -> tokens (N, T, D), on the encoder's device.

        "pooled": the projected image embedding, T = 1. "patch": every token, projected.
        """
        if kind not in ("pooled", "patch"):
            raise StudyError(f"generator.clip_tokens is {kind!r}: choose pooled or patch.")
        square = (self.model.config.image_size,) * 2
        found = []
        for part in images.split(BATCH):
            pixels = self.preprocess(part.to(self.model.device))
            output = self.model(pixels, interpolate_pos_encoding=self.size != square)
            if kind == "pooled":
                found.append(output.image_embeds[:, None])  # (B, 1, D)
            else:
                normalised = self.model.vision_model.post_layernorm(output.last_hidden_state)
                found.append(self.model.visual_projection(normalised))  # (B, T, D)
        return torch.cat(found)


def _preprocessor(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The preprocessor's file, in the encoder's folder or beside it, and its settings.

    Where there is none, the encoder's own configuration, and no settings.
    """
    for place in (folder, folder.parent / "feature_extractor"):
        path = place / "preprocessor_config.json"
        if path.is_file():
            return path, read_json(path)
    return folder / "config.json", {}


def _size(path: Path, size: Any) -> tuple[int, int]:
    """(height, width) from the forms that preprocessor files use; StudyError on any other.

    path: the file that says so.
    """
    height = width = size
    if isinstance(size, dict):
        height, width = size.get("height"), size.get("width")
        if "shortest_edge" in size:
            height = width = size["shortest_edge"]
    if any(type(side) is not int or side < 1 for side in (height, width)):
        raise StudyError(
            f"{path}: the size is {str(size)[:100]!r}, expected pixels as a whole number, "
            "shortest_edge, or height and width: fetch the file again."
        )
    return height, width
