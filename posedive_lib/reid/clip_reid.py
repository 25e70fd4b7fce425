"""CLIP-ReID (Li et al., 2023) on `transformers` CLIP models of any size: the prompt learner, the encoder and its identity heads.

Weights come from the folder of a Stable Diffusion layout (`image_encoder`, `text_encoder`, `tokenizer`) or of any CLIP saved the same way.
"""

import math
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoTokenizer, CLIPTextModelWithProjection, CLIPVisionModelWithProjection

from posedive_lib.errors import StudyError

PREFIX, SUFFIX = "a photo of a", "person."
CONTEXT = 4   # learnable tokens per identity: "A photo of a X X X X person."


def _pretrained(loader, folder: Path):
    if not folder.is_dir():
        raise StudyError(f"The folder {folder} is missing: CLIP-ReID needs image_encoder, text_encoder and tokenizer below paths.stable_diffusion.")
    try:
        return loader.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise StudyError(f"Cannot load {folder} ({error}): fetch the weights again.") from None


def resize_positions(positions: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Position embeddings (1 + n*n, D) of a square grid for another grid: class token kept, patches interpolated bilinearly."""
    side = math.isqrt(len(positions) - 1)
    if side * side != len(positions) - 1:
        raise StudyError(f"The image encoder has {len(positions) - 1} patch positions, which is no square grid: it is no CLIP vision model.")
    if grid == (side, side):
        return positions
    patches = positions[1:].T.reshape(1, -1, side, side)
    patches = functional.interpolate(patches, size=grid, mode="bilinear", align_corners=False)
    return torch.cat([positions[:1], patches.flatten(2)[0].T])


def last_block(block: nn.Module, tokens: torch.Tensor, place: int) -> torch.Tensor:
    """(N, L, D) through a CLIP block, for the token at `place` alone: (N, D). It sees every token; nothing else of the output is used."""
    attention = block.self_attn
    normed = block.layer_norm1(tokens)
    here = normed[:, place].unsqueeze(1)

    def heads(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2)

    mixed = functional.scaled_dot_product_attention(heads(attention.q_proj(here)), heads(attention.k_proj(normed)), heads(attention.v_proj(normed)))
    token = tokens[:, place] + attention.out_proj(mixed.transpose(1, 2).flatten(2))[:, 0]
    return token + block.mlp(block.layer_norm2(token))


class ImageEncoder(nn.Module):
    """CLIP vision transformer for images of one size, giving the three features that CLIP-ReID trains on."""

    def __init__(self, clip: CLIPVisionModelWithProjection, height: int, width: int):
        super().__init__()
        patch = clip.config.patch_size
        if height % patch or width % patch:
            raise StudyError(f"Images of {height} x {width} pixels do not divide into the image encoder's {patch}-pixel patches: change image.height or image.width.")
        self.vision, self.projection = clip.vision_model, clip.visual_projection
        positions = resize_positions(self.vision.embeddings.position_embedding.weight.detach(), (height // patch, width // patch))
        self.positions = nn.Parameter(positions.clone())   # learned further in stage 2, so kept in the training size
        del self.vision.embeddings.position_embedding

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(N, 3, H, W) in [-1, 1] to x11 (N, D), x12 (N, D), proj (N, E): class token before the last block, after it, and projected."""
        vision = self.vision
        patches = vision.embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([vision.embeddings.class_embedding.expand(len(pixels), 1, -1), patches], dim=1)
        tokens = vision.pre_layrnorm(tokens + self.positions)
        for block in vision.encoder.layers[:-1]:
            tokens = block(tokens, None)
        x11 = tokens[:, 0]
        x12 = vision.post_layernorm(last_block(vision.encoder.layers[-1], tokens, 0))
        return x11, x12, self.projection(x12)


class PromptLearner(nn.Module):
    """Stage 1: four learnable tokens per identity in "A photo of a X X X X person.", through CLIP's frozen text transformer."""

    def __init__(self, text: CLIPTextModelWithProjection, tokenizer, identities: int, generator: torch.Generator):
        super().__init__()
        embed = text.get_input_embeddings()
        prefix = [tokenizer.bos_token_id, *tokenizer(PREFIX, add_special_tokens=False)["input_ids"]]
        suffix = [*tokenizer(SUFFIX, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            self.register_buffer("prefix", embed(torch.tensor(prefix)).clone())
            self.register_buffer("suffix", embed(torch.tensor(suffix)).clone())
        self.context = nn.Parameter(torch.randn(identities, CONTEXT, embed.embedding_dim, generator=generator) * 0.02)
        length = len(prefix) + CONTEXT + len(suffix)
        if length > text.config.max_position_embeddings:
            raise StudyError(f"The prompt has {length} tokens, but the text encoder holds {text.config.max_position_embeddings}: use another tokenizer or text encoder.")
        # nothing after the end token is seen under the causal mask, so the prompt is not padded to 77 tokens
        self.register_buffer("mask", torch.full((length, length), -torch.inf).triu(1)[None, None])

    def forward(self, text: CLIPTextModelWithProjection, labels: torch.Tensor) -> torch.Tensor:
        """Text features (N, E) of the identities `labels` (N,), pooled at the end token."""
        count = len(labels)
        tokens = torch.cat([self.prefix.expand(count, -1, -1), self.context[labels], self.suffix.expand(count, -1, -1)], dim=1)
        hidden = text.text_model.embeddings(inputs_embeds=tokens)
        for block in text.text_model.encoder.layers[:-1]:
            hidden = block(hidden, self.mask)
        end = last_block(text.text_model.encoder.layers[-1], hidden, -1)
        return text.text_projection(text.text_model.final_layer_norm(end))


class IdentityHead(nn.Module):
    """BNNeck: batch norm with its bias frozen at zero, then a linear classifier without bias."""

    def __init__(self, width: int, identities: int, generator: torch.Generator):
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.norm.bias.requires_grad_(False)
        self.classifier = nn.Linear(width, identities, bias=False)
        with torch.no_grad():
            self.classifier.weight.copy_(torch.randn(identities, width, generator=generator) * 0.001)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.norm(features))


class ClipReID(nn.Module):
    """The whole model for `identities` training identities."""

    def __init__(self, vision, text, tokenizer, height: int, width: int, identities: int, seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        if vision.config.projection_dim != text.config.projection_dim:
            raise StudyError(f"Image and text encoder project to {vision.config.projection_dim} and {text.config.projection_dim} numbers: take both from one CLIP.")
        self.encoder = ImageEncoder(vision, height, width)
        self.text = text.requires_grad_(False)
        self.prompts = PromptLearner(text, tokenizer, identities, generator)
        self.head12 = IdentityHead(vision.config.hidden_size, identities, generator)
        self.head_proj = IdentityHead(vision.config.projection_dim, identities, generator)

    @classmethod
    def from_pretrained(cls, folder: str | Path, height: int, width: int, identities: int, seed: int) -> "ClipReID":
        """From `<folder>/image_encoder`, `<folder>/text_encoder` and `<folder>/tokenizer`; StudyError naming what is missing."""
        folder = Path(folder)
        vision = _pretrained(CLIPVisionModelWithProjection, folder / "image_encoder")
        text = _pretrained(CLIPTextModelWithProjection, folder / "text_encoder")
        tokenizer = _pretrained(AutoTokenizer, folder / "tokenizer")
        return cls(vision, text, tokenizer, height, width, identities, seed)

    @torch.no_grad()
    def text_features(self, block: int = 256) -> torch.Tensor:
        """Text features (identities, E) of all learned prompts."""
        every = torch.arange(len(self.prompts.context), device=self.prompts.context.device)
        return torch.cat([self.prompts(self.text, labels) for labels in every.split(block)])
