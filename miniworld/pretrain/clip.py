"""CLIP: image and text encoder trained on (image, caption of what is visible in it).

No identity label is used: two views of one person are different examples with different captions.
Beside the contrastive loss, a throw-away decoder writes the caption from the image embedding, as in
CoCa. So a small image encoder looks at every visible detail, and not only at the few that tell the
people of one batch apart.

Two are trained. `clip`, for Stable Diffusion, reads captions of all that is visible of the person.
`clip_reid`, which CLIP-ReID starts from, reads captions as the web has them
(`miniworld.pretrain.scenes`): with place, action and viewpoint, and with most things left out.

Run: python -m miniworld.pretrain.clip [clip | clip_reid]
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from miniworld.pretrain.common import (
    jitter_colour,
    people,
    save_model,
    settings,
    to_float,
    warm_start,
)
from miniworld.pretrain.loop import Loop
from miniworld.pretrain.scenes import scenes
from miniworld.pretrain.tokenizer import check, train_tokenizer

if TYPE_CHECKING:
    from transformers import CLIPTokenizer


class CaptionDecoder(nn.Module):
    """One causal transformer layer: next caption token, from image embedding and words so far."""

    def __init__(self, vocabulary: int, width: int, length: int):
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(0.02 * torch.randn(length, width))
        self.image = nn.Linear(width, width)
        self.layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.words.weight, std=0.02)

    def forward(self, image_embeds: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """image_embeds (B,D), ids (B,T) -> logits (B,T-1,V) for ids[:, 1:]."""
        prefix = self.image(image_embeds).unsqueeze(1)
        tokens = self.words(ids[:, :-1]) + self.places[: ids.shape[1] - 1] + prefix
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        return self.norm(self.layer(tokens, src_mask=mask, is_causal=True)) @ self.words.weight.T


def build(config: dict[str, Any], tokenizer: CLIPTokenizer) -> dict[str, nn.Module]:
    """Image encoder, text encoder, logit scale (learned, as CLIP's) and caption decoder."""
    width = config["width"]
    image = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=config["image_layers"],
            num_attention_heads=config["image_heads"],
            image_size=config["image_size"],
            patch_size=config["patch"],
            projection_dim=config["projection"],
        )
    )
    text = CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=config["text_layers"],
            num_attention_heads=config["text_heads"],
            max_position_embeddings=config["max_tokens"],
            projection_dim=config["projection"],
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    scale = nn.Module()
    scale.log = nn.Parameter(torch.tensor(np.log(1 / 0.07), dtype=torch.float32))
    return {
        "image": image,
        "text": text,
        "scale": scale,
        "decoder": CaptionDecoder(len(tokenizer), config["projection"], config["max_tokens"]),
    }


def shorten(caption: str, rng: np.random.Generator) -> str:
    """Half of the time, a random part of the caption's phrases, in their order."""
    head, *phrases = re.split(r", ", caption.rstrip("."))
    if rng.random() < 0.5 or len(phrases) < 2:
        return caption
    keep = np.sort(rng.choice(len(phrases), rng.integers(1, len(phrases)), replace=False))
    return ", ".join([head, *(phrases[i] for i in keep)])


def augment(images: np.ndarray, captions: list[str], rng: np.random.Generator) -> torch.Tensor:
    """Small shifts and colour changes, and mirroring where the caption names no side.

    images (B,H,W,3) uint8; returns (B,3,H,W) in [-1,1].
    """
    pixels = jitter_colour(to_float(images), 0.1, rng)
    height, width = pixels.shape[2:]
    pixels = F.pad(pixels, (4, 4, 6, 6), mode="replicate")
    for i, caption in enumerate(captions):
        if rng.random() < 0.5 and not re.search(r"\b(left|right)\b", caption):
            pixels[i] = pixels[i].flip(-1)
    tops, lefts = rng.integers(0, 13, len(pixels)), rng.integers(0, 9, len(pixels))
    places = zip(pixels, tops, lefts, strict=True)
    return torch.stack([p[:, y : y + height, x : x + width] for p, y, x in places])


def losses(
    model: dict[str, Any], pixels: torch.Tensor, ids: torch.Tensor, caption_weight: float
) -> dict[str, torch.Tensor]:
    """Symmetric contrastive loss, in which equal captions are all positives, and captioning loss.

    pixels (B,3,H,W), ids (B,T).
    """
    image = model["image"](pixel_values=pixels, interpolate_pos_encoding=True).image_embeds
    text = model["text"](input_ids=ids).text_embeds
    scale = model["scale"].log.exp().clamp(max=100)
    logits = scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T  # (B,B)
    same = (ids[:, None] == ids[None]).all(-1).float()
    target = same / same.sum(1, keepdim=True)
    contrastive = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    end = model["text"].config.eos_token_id
    counted = (ids[:, 1:] != end) | (ids[:, :-1] != end)  # words and the first end token
    words = F.cross_entropy(model["decoder"](image, ids)[counted], ids[:, 1:][counted])
    top1 = (logits.argmax(1) == torch.arange(len(ids))).float().mean()
    return {
        "loss": contrastive + caption_weight * words,
        "contrastive": contrastive,
        "caption": words,
        "top1": top1,
    }


def processor(height: int, width: int) -> CLIPImageProcessor:
    """Photos of any size to the size trained on, in [-1, 1]."""
    return CLIPImageProcessor(
        size={"height": height, "width": width},
        do_center_crop=False,
        do_resize=True,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


def save_parts(
    model: nn.ModuleDict, tokenizer: CLIPTokenizer, folder: Path, height: int, width: int
) -> None:
    """image_encoder/ (with its preprocessor), text_encoder/ and tokenizer/ of Stable Diffusion."""
    save_model(model["image"], folder / "image_encoder")
    save_model(model["text"], folder / "text_encoder")
    tokenizer.save_pretrained(folder / "tokenizer")
    processor(height, width).save_pretrained(folder / "image_encoder")


def save_whole(
    model: nn.ModuleDict, tokenizer: CLIPTokenizer, folder: Path, height: int, width: int
) -> None:
    """A `CLIPModel` with its tokenizer and preprocessor, as OpenAI's is published."""
    image, text = model["image"], model["text"]
    whole = CLIPModel(
        CLIPConfig(
            text_config=text.config.to_dict(),
            vision_config=image.config.to_dict(),
            projection_dim=image.config.projection_dim,
        )
    )
    whole.vision_model, whole.visual_projection = image.vision_model, image.visual_projection
    whole.text_model, whole.text_projection = text.text_model, text.text_projection
    whole.logit_scale.data = model["scale"].log.data.clone()
    save_model(whole, folder)
    tokenizer.save_pretrained(folder)
    processor(height, width).save_pretrained(folder)


def captions_of(
    name: str, config: dict[str, Any], captions: list[str]
) -> tuple[list[str], Callable[[int, np.random.Generator], str]]:
    """All captions in full, and a row's caption as one training step reads it."""
    if name == "clip":
        return captions, lambda row, rng: shorten(captions[row], rng)
    known = scenes(captions)

    def shares(row: int, rng: np.random.Generator) -> str:
        return known[row].caption(rng, config["circumstance"], config["look"])

    return [scene.caption() for scene in known], shares


def main(name: str = "clip") -> None:
    """Train one of the two (see above) and save it in its library's format."""
    everything = settings()
    config, data = everything[name], people("train")
    full, draw = captions_of(name, config, data.captions)
    tokenizer = train_tokenizer(full, config["max_tokens"])
    check(tokenizer, full)
    torch.manual_seed(everything["seed"])
    model = build(config, tokenizer)
    warm_start(model["image"], config["initial"])

    def loss_of(step: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        rows = np.sort(rng.choice(data.rows, config["batch_size"], replace=False))
        captions = [draw(i, rng) for i in rows]
        ids = tokenizer(captions, padding=True, return_tensors="pt")["input_ids"]
        return losses(
            model, augment(data.images[rows], captions, rng), ids, config["caption_weight"]
        )

    trained = Loop(name, model, config, ema_decay=config["ema_decay"]).run(loss_of)
    output = Path(everything["output"])
    height, width = data.images.shape[1:3]
    if name == "clip":
        save_parts(trained, tokenizer, output / "stable-diffusion", height, width)
    else:
        save_whole(trained, tokenizer, output / "clip", height, width)
    print(f"temperature: logits are multiplied by {float(trained['scale'].log.exp()):.1f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
