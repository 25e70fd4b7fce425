"""CLIP-ReID (Li et al., 2023) on `transformers` CLIP models of any size.

The prompt learner, the image encoder and its identity heads. Optional, as published: camera
embeddings (SIE) and overlapping patches (OLP).

Symbols: N images, L tokens, D width of the image encoder, E width of CLIP's common space. x11, x12
and proj are the class token before the last block, after it, and projected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModelWithProjection, CLIPVisionModelWithProjection
from transformers.activations import QuickGELUActivation

from posedive_lib.errors import StudyError
from posedive_lib.weights import load_clip

PREFIX, SUFFIX = "a photo of a", "person."
CONTEXT = 4  # learnable tokens [X]_1 … [X]_4 per identity: "A photo of a X X X X person."
QUICK = 1.702  # of the quick GELU
NO_CAMERA, MEAN_CAMERA = -1, -2  # rows of `ImageEncoder.camera_tokens` beside those of cameras


@dataclass(frozen=True)
class CameraEmbedding:
    """SIE: `rows` learned vectors, the first `photos` of them of the cameras of photos.

    weight: factor of what is added to the class token. By default there is none.
    """

    rows: int = 0
    photos: int = 0
    weight: float = 0.0


NO_CAMERAS = CameraEmbedding()


def resize_positions(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Position embeddings (1 + n*n, D) of a square grid, interpolated for another grid.

    The class token's stays as it is.
    """
    side = math.isqrt(len(positions) - 1)
    if side * side != len(positions) - 1:
        raise StudyError(
            f"The image encoder has {len(positions) - 1} patch positions, which is no square grid: "
            "it is no CLIP vision model."
        )
    if grid == (side, side):
        return positions
    patches = positions[1:].T.reshape(1, -1, side, side)  # (1, D, n, n)
    patches = functional.interpolate(patches, size=grid, mode="bilinear", align_corners=False)
    return torch.cat([positions[:1], patches.flatten(2)[0].T])


def patch_grid(height: int, width: int, patch: int, stride: int | None) -> tuple[int, int]:
    """Rows and columns of patches; 256 x 128 with stride 12 is 21 x 10.

    Overlapping patches (OLP) leave pixels over at the edge, as published.
    """
    step = stride or patch
    if min(height, width) < patch or step > patch:
        raise StudyError(
            f"Images of {height} x {width} pixels cannot be cut into {patch}-pixel patches every "
            f"{step} pixels: change reid.image or reid.patch_stride."
        )
    if step == patch and (height % patch or width % patch):
        raise StudyError(
            f"Images of {height} x {width} pixels do not divide into the image encoder's "
            f"{patch}-pixel patches: change reid.image."
        )
    return (height - patch) // step + 1, (width - patch) // step + 1


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention on (N, heads, L, d)."""
    if queries.device.type != "cpu" or queries.dtype is not torch.bfloat16:
        return functional.scaled_dot_product_attention(queries, keys, values, mask)
    # on the CPU in bfloat16 the fused kernel's backward is several times slower than products
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)  # (N, heads, L, L)
    return (scores if mask is None else scores + mask).softmax(dim=-1) @ values


def through_block(
    block: nn.Module, tokens: Tensor, mask: Tensor | None = None, place: int | None = None
) -> Tensor:
    """(N, L, D) through a CLIP block.

    place: compute only the token there, (N, D). It sees every token, and no other is used.
    """
    attention, device = block.self_attn, tokens.device.type
    normed = block.layer_norm1(tokens)
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        normed = normed.to(torch.get_autocast_dtype(device))  # once for the three projections
        mask = mask if mask is None else mask.to(normed.dtype)
    asking = normed
    if place is not None:
        asking = normed[:, place].unsqueeze(1)  # (N, 1, D)
        mask = None  # of masked tokens only the last is ever asked for, and it sees all

    def heads(x: Tensor) -> Tensor:  # (N, L, D) -> (N, heads, L, d)
        return x.unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2)

    queries, keys, values = (
        heads(attention.q_proj(asking)),
        heads(attention.k_proj(normed)),
        heads(attention.v_proj(normed)),
    )
    mixed = attend(queries, keys, values, mask).transpose(1, 2).flatten(2)  # (N, L or 1, D)
    out = attention.out_proj(mixed)
    tokens = tokens + out if place is None else tokens[:, place] + out[:, 0]
    return tokens + through_mlp(block.mlp, block.layer_norm2(tokens))


def through_mlp(mlp: nn.Module, x: Tensor) -> Tensor:
    """CLIP's perceptron."""
    if not isinstance(mlp.activation_fn, QuickGELUActivation):
        return mlp(x)
    # The quick GELU x·σ(1.702 x) is SiLU with the factor moved into the weights: in training two
    # passes over the hidden layer where the formula takes eight.
    hidden = functional.silu(functional.linear(x, QUICK * mlp.fc1.weight, QUICK * mlp.fc1.bias))
    return functional.linear(hidden, mlp.fc2.weight / QUICK, mlp.fc2.bias)


class ImageEncoder(nn.Module):
    """CLIP vision transformer for images of one size: the three features CLIP-ReID trains on.

    stride: below the patch size it makes patches overlap (OLP). generator: draws the SIE rows.
    """

    def __init__(
        self,
        clip: CLIPVisionModelWithProjection,
        height: int,
        width: int,
        *,
        stride: int | None = None,
        sie: CameraEmbedding = NO_CAMERAS,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.vision, self.projection = clip.vision_model, clip.visual_projection
        self.stride, self.sie = stride or clip.config.patch_size, sie
        embeddings = self.vision.embeddings
        embeddings.patch_embedding.stride = (self.stride, self.stride)
        grid = patch_grid(height, width, clip.config.patch_size, stride)
        positions = resize_positions(embeddings.position_embedding.weight.detach(), grid)
        # learned further in stage 2, so kept in the training size
        self.positions = nn.Parameter(positions.clone())
        del embeddings.position_embedding
        if sie.rows:
            rows = torch.empty(sie.rows, clip.config.hidden_size)
            self.cameras = nn.Parameter(nn.init.trunc_normal_(rows, std=0.02, generator=generator))

    def camera_tokens(self, cameras: Tensor) -> Tensor:
        """SIE: rows (N,) to what is added to the class token (N, D).

        `NO_CAMERA` adds nothing, `MEAN_CAMERA` the mean over the photos' cameras.
        """
        mean = self.cameras[: self.sie.photos].mean(dim=0, keepdim=True)
        nothing = self.cameras.new_zeros(1, self.cameras.shape[1])
        rows = torch.cat([self.cameras, mean, nothing])  # so that -2 and -1 count from the end
        return self.sie.weight * functional.embedding(cameras % len(rows), rows)

    def forward(
        self, pixels: Tensor, cameras: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, H, W) in [-1, 1] to x11 (N, D), x12 (N, D), proj (N, E)."""
        vision, embed = self.vision, self.vision.embeddings.patch_embedding
        # the convolution as a product: on the CPU its backward pass is several times faster
        size, step = embed.kernel_size[0], self.stride
        patches = pixels.unfold(2, size, step).unfold(3, size, step)  # (N, 3, rows, cols, p, p)
        patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)  # (N, L-1, 3 p p)
        patches = functional.linear(patches, embed.weight.flatten(1), embed.bias)  # (N, L-1, D)
        first = vision.embeddings.class_embedding.expand(len(pixels), 1, -1)  # (N, 1, D)
        if cameras is not None and self.sie.rows:
            first = first + self.camera_tokens(cameras)[:, None]
        tokens = vision.pre_layrnorm(torch.cat([first, patches], dim=1) + self.positions)
        for block in vision.encoder.layers[:-1]:
            tokens = through_block(block, tokens)
        x11 = tokens[:, 0]
        x12 = vision.post_layernorm(through_block(vision.encoder.layers[-1], tokens, place=0))
        return x11, x12, self.projection(x12)


class PromptLearner(nn.Module):
    """Stage 1: "A photo of a [X]_1 … [X]_4 person." through CLIP's frozen text transformer."""

    def __init__(
        self,
        text: CLIPTextModelWithProjection,
        tokenizer: Any,
        identities: int,
        generator: Generator,
    ) -> None:
        super().__init__()
        self.text = text.requires_grad_(False).eval()
        embed = text.get_input_embeddings()
        prefix = [tokenizer.bos_token_id, *tokenizer(PREFIX, add_special_tokens=False)["input_ids"]]
        suffix = [*tokenizer(SUFFIX, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            self.register_buffer("prefix", embed(torch.tensor(prefix)).clone())
            self.register_buffer("suffix", embed(torch.tensor(suffix)).clone())
        shape = identities, CONTEXT, embed.embedding_dim
        self.context = nn.Parameter(torch.randn(*shape, generator=generator) * 0.02)
        length = len(prefix) + CONTEXT + len(suffix)
        if length > text.config.max_position_embeddings:
            raise StudyError(
                f"The prompt has {length} tokens, but the text encoder holds "
                f"{text.config.max_position_embeddings}: use another tokenizer or text encoder."
            )
        # Nothing after the end token is seen under the causal mask: no padding to 77 tokens.
        self.register_buffer("mask", torch.full((length, length), -torch.inf).triu(1)[None, None])

    def forward(self, labels: Tensor) -> Tensor:
        """Text features (N, E) of the identities `labels` (N,), pooled at the end token."""
        people, place = labels.unique(return_inverse=True)  # a repeated identity is computed once
        count, model = len(people), self.text.text_model
        # embedding() adds gradients in a fixed order; indexing does not when several threads run
        context = functional.embedding(people, self.context.flatten(1)).unflatten(1, (CONTEXT, -1))
        prefix, suffix = (part.expand(count, -1, -1) for part in (self.prefix, self.suffix))
        hidden = model.embeddings(inputs_embeds=torch.cat([prefix, context, suffix], dim=1))
        for block in model.encoder.layers[:-1]:
            hidden = through_block(block, hidden, self.mask)
        end = through_block(model.encoder.layers[-1], hidden, place=-1)
        features = self.text.text_projection(model.final_layer_norm(end)).float()  # (people, E)
        return functional.embedding(place, features)

    @torch.no_grad()
    def all_features(self, block: int = 256) -> Tensor:
        """Text features (identities, E) of all learned prompts."""
        every = torch.arange(len(self.context), device=self.context.device)
        return torch.cat([self(labels) for labels in every.split(block)]).float()


class IdentityHead(nn.Module):
    """BNNeck: batch norm with its bias frozen at zero, then a linear classifier without bias."""

    def __init__(self, width: int, identities: int, generator: Generator) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.norm.bias.requires_grad_(False)
        self.classifier = nn.Linear(width, identities, bias=False)
        initial = torch.randn(identities, width, generator=generator) * 0.001
        with torch.no_grad():
            self.classifier.weight.copy_(initial)

    def forward(self, features: Tensor) -> Tensor:
        """(N, width) to logits (N, identities)."""
        return self.classifier(self.norm(features.float()))


class ClipReID(nn.Module):
    """What stage 2 trains: the image encoder and an identity head on x12 and on proj."""

    def __init__(self, encoder: ImageEncoder, identities: int, generator: Generator) -> None:
        super().__init__()
        self.encoder = encoder
        self.head12 = IdentityHead(encoder.projection.in_features, identities, generator)
        self.head_proj = IdentityHead(encoder.projection.out_features, identities, generator)

    def forward(self, pixels: Tensor, cameras: Tensor | None = None) -> tuple[Tensor, ...]:
        """x11, x12, proj and the logits (N, identities) of both heads."""
        x11, x12, proj = self.encoder(pixels, cameras)
        return x11, x12, proj, self.head12(x12), self.head_proj(proj)

    def features(self, pixels: Tensor, cameras: Tensor | None = None) -> Tensor:
        """(N, D + E): x12 and proj side by side, before batch norm: the test feature."""
        return torch.cat(self.encoder(pixels, cameras)[1:], dim=1)


def from_pretrained(
    source: str | Path, height: int, width: int, identities: int, seed: int, **options: Any
) -> tuple[ClipReID, PromptLearner]:
    """The model and its prompts on CLIP's published weights (`weights.load_clip`).

    options: those of `ImageEncoder`.
    """
    vision, text, tokenizer = load_clip(source)
    widths = vision.visual_projection.out_features, text.text_projection.out_features
    if widths[0] != widths[1]:
        raise StudyError(
            f"Image and text encoder project to {widths[0]} and {widths[1]} numbers: "
            "take both from one CLIP."
        )
    generator = Generator().manual_seed(seed)
    # layers draw initial values from the global generator before ours replace them
    with torch.random.fork_rng(devices=[]):
        prompts = PromptLearner(text, tokenizer, identities, generator)
        encoder = ImageEncoder(vision, height, width, generator=generator, **options)
        return ClipReID(encoder, identities, generator), prompts
