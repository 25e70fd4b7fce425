"""The ResNet that the second Re-ID model starts from, as ImageNet's would be.

It is supervised by what is visible in a photo: which garments, in which colours and cuts, which
hair and bags. Identities are no labels, and the people appear in no data set. It is saved in the
layout of `transformers`, as microsoft/resnet-50 is, classifier included.

Run: python -m miniworld.pretrain.resnet
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import ConvNextImageProcessor, ResNetConfig, ResNetForImageClassification

from miniworld.pretrain.common import jitter_colour, people, save_model, settings, to_float
from miniworld.pretrain.loop import Loop
from posedive_lib.reid.resnet import ResNetModel

# What a caption's adjectives belong to; "back" and "front" say where a print is.
THINGS = (
    "skin hair beard scarf shirt jacket sleeves shoulders square disc band sash back front "
    "trousers shorts skirt stripe socks shoes bag backpack"
).split()
NO_ADJECTIVES = {"a", "an", "the", "and", "with", "over", "on", "of"}
PAD = 4  # pixels by which a training image is shifted at most


def labels(caption: str) -> set[str]:
    """What a caption says is visible: things, and every adjective with its thing.

    "with a red shirt, no hair." gives shirt, red shirt, hair, no hair. The viewpoint is left out.
    """
    found: set[str] = set()
    adjectives: list[str] = []
    for word in re.findall(r"[a-z]+", caption.split(" with ", 1)[-1]):
        if word in THINGS:
            found |= {word, *(f"{adjective} {word}" for adjective in adjectives)}
            adjectives = []
        elif word not in NO_ADJECTIVES:
            adjectives.append(word)
    return found


def table(captions: list[str], at_least: int) -> tuple[list[str], np.ndarray]:
    """Names (L,) of the labels that occur so often at least, and (N, L) uint8: which hold."""
    each = [labels(caption) for caption in captions]
    counts: dict[str, int] = {}
    for found in each:
        for name in found:
            counts[name] = counts.get(name, 0) + 1
    names = sorted(name for name, count in counts.items() if at_least <= count < len(captions))
    place = {name: column for column, name in enumerate(names)}
    holds = np.zeros((len(captions), len(names)), np.uint8)
    for row, found in enumerate(each):
        holds[row, [place[name] for name in found if name in place]] = 1
    return names, holds


def build(config: dict[str, Any], names: list[str]) -> ResNetForImageClassification:
    """An untrained ResNet with a logit per label."""
    return ResNetForImageClassification(
        ResNetConfig(
            layer_type=config["layer"],
            embedding_size=config["stem"],
            hidden_sizes=list(config["widths"]),
            depths=list(config["depths"]),
            id2label=dict(enumerate(names)),
            label2id={name: column for column, name in enumerate(names)},
            problem_type="multi_label_classification",
        )
    )


def normalised(images: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) in [-1, 1] as the Re-ID model will see them."""
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (ResNetModel.mean, ResNetModel.std))
    return ((images + 1) / 2 - mean) / std


def augmented(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Half of the images mirrored, all shifted by up to PAD pixels, in other light."""
    flip = torch.from_numpy(rng.random(len(images)) < 0.5)[:, None, None, None]
    images = F.pad(torch.where(flip, images.flip(-1), images), (PAD,) * 4, mode="replicate")
    height, width = images.shape[2] - 2 * PAD, images.shape[3] - 2 * PAD
    offsets = rng.integers(0, 2 * PAD + 1, (len(images), 2)).tolist()
    pairs = zip(images, offsets, strict=True)
    cut = [image[:, y : y + height, x : x + width] for image, (y, x) in pairs]
    return jitter_colour(torch.stack(cut), 0.2, rng)


def main() -> None:
    """Train it and save it in its library's format."""
    everything = settings()
    config, data = everything["resnet"], people("train")
    names, holds = table(data.captions, config["at_least"])
    torch.manual_seed(everything["seed"])
    model = build(config, names).to(memory_format=torch.channels_last)

    def loss_of(step: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        rows = np.sort(rng.choice(data.rows, config["batch_size"], replace=False))
        pixels = normalised(augmented(to_float(data.images[rows]), rng))
        logits = model(pixels.contiguous(memory_format=torch.channels_last)).logits.float()
        wanted = torch.from_numpy(holds[rows]).float()
        return {"loss": F.binary_cross_entropy_with_logits(logits, wanted)}

    # No average of the weights: batch norm's statistics would be of others.
    trained = Loop("resnet", {"resnet": model}, config).run(loss_of)
    folder = Path(everything["output"]) / "resnet"
    save_model(trained["resnet"], folder)
    height, width = data.images.shape[1:3]
    ConvNextImageProcessor(
        size={"height": height, "width": width},
        image_mean=list(ResNetModel.mean),
        image_std=list(ResNetModel.std),
    ).save_pretrained(folder)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
