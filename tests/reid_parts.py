"""What the tests of the Re-ID models share.

A tiny random CLIP, its parameters, and people told apart by two colours.
"""

from types import SimpleNamespace as Section

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    PreTrainedTokenizerFast,
)

from posedive_lib.reid.image_set import ImageSet


def save_tiny_clip(folder, image_size=32, width=32, layers=2, patch=8, whole=False):
    """A random CLIP with byte-level tokens, in a Stable Diffusion layout or as one whole model."""
    vocabulary = {
        token: index
        for index, token in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), "<s>", "</s>"])
    }
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder = (
        normalizers.Lowercase(),
        pre_tokenizers.ByteLevel(),
        decoders.ByteLevel(),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    fast.save_pretrained(folder if whole else folder / "tokenizer")
    common = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "projection_dim": 16,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if whole:
            text = {
                **common,
                "vocab_size": len(vocabulary),
                "bos_token_id": fast.bos_token_id,
                "eos_token_id": fast.eos_token_id,
            }
            CLIPModel(
                CLIPConfig(
                    text_config=text,
                    vision_config={**common, "image_size": image_size, "patch_size": patch},
                    projection_dim=16,
                )
            ).save_pretrained(folder)
            return folder
        CLIPVisionModelWithProjection(
            CLIPVisionConfig(**common, image_size=image_size, patch_size=patch)
        ).save_pretrained(folder / "image_encoder")
        text = CLIPTextConfig(
            **common,
            vocab_size=len(vocabulary),
            max_position_embeddings=77,
            bos_token_id=fast.bos_token_id,
            eos_token_id=fast.eos_token_id,
        )
        CLIPTextModelWithProjection(text).save_pretrained(folder / "text_encoder")
    return folder


def tiny_params(**changes):
    """A section `reid` in small; changes by dotted name with `__` for the dot."""
    schedule = {
        "weight_decay": 1e-4,
        "warmup_epochs": 10,
        "warmup_factor": 0.1,
        "milestones": [30, 50],
        "gamma": 0.1,
    }
    architecture = Section(layer="basic", stem=8, widths=[8, 16], depths=[1, 1])
    params = Section(
        model="clip-reid",
        image=Section(height=32, width=16),
        instances=4,
        batch_size=16,
        precision="fp32",
        checkpoint_every=0,
        generated=Section(weight=1.0, max_share=1.0, camera="inherit"),
        random_erasing=0.5,
        label_smoothing=0.1,
        margin=0.3,
        stage1=Section(
            epochs=120,
            steps=20,
            learning_rate=3.5e-3,
            weight_decay=1e-4,
            warmup_epochs=5,
            warmup_rate=1e-4,
            final_rate=1e-5,
        ),
        stage2=Section(epochs=60, steps=30, learning_rate=1e-3, **schedule),
        head_factor=1.0,
        id_weight=0.25,
        triplet_weight=1.0,
        i2t_weight=1.0,
        camera_weight=0.0,
        patch_stride=None,
        resnet=Section(
            epochs=60, steps=40, learning_rate=3e-3, architecture=architecture, **schedule
        ),
    )
    for name, value in changes.items():
        *path, last = name.split("__")
        section = params
        for part in path:
            section = getattr(section, part)
        setattr(section, last, value)
    return params


def people(count, each, seed=0, first=0):
    """Coloured noise, one colour per identity, pids with gaps as in real sets."""
    rng = np.random.default_rng(seed)
    pids = np.repeat(np.arange(first, first + count), each)
    colour = np.random.default_rng(5).integers(40, 215, (64, 2, 3))
    base = colour[pids].repeat(16, axis=1)[:, :, None]
    shades = np.clip(base + rng.normal(0, 25, (len(pids), 32, 16, 3)), 0, 255).astype(np.uint8)
    return ImageSet(shades, pids * 7 + 3, np.tile(np.arange(each), count))
