"""Models of the published sizes with random weights, in the layouts that the library loads.

tiny: a small part of the widths and few layers, to try a benchmark without a GPU.
"""

import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    VitPoseBackboneConfig,
    VitPoseConfig,
    VitPoseForPoseEstimation,
)

from tests.published import CLIP_VIT_L, SD15_UNET, SD_VAE

NARROW = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
NARROW |= {"num_attention_heads": 4, "projection_dim": 48}


def stable_diffusion(folder: Path, device: str, tiny: bool) -> Path:
    """Stable Diffusion 1.5: U-Net, VAE, scheduler, and the CLIP ViT-L/14 image encoder."""
    unet, vae, clip = dict(SD15_UNET), dict(SD_VAE), dict(CLIP_VIT_L)
    if tiny:
        unet |= {"block_out_channels": (32, 64, 128, 128), "cross_attention_dim": 48}
        vae |= {"block_out_channels": (32, 32, 32, 32)}
        clip |= NARROW
    with torch.device(device):  # initial values are drawn far faster on a GPU
        UNet2DConditionModel(**unet).save_pretrained(folder / "unet")
        AutoencoderKL(**vae).save_pretrained(folder / "vae")
        encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**clip))
    encoder.save_pretrained(folder / "image_encoder")
    schedule = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    DDIMScheduler(**schedule).save_pretrained(folder / "scheduler")
    return folder


def clip_vit_b(folder: Path, tokenizer: Path, device: str, tiny: bool) -> Path:
    """CLIP ViT-B/16 with the tokenizer of another CLIP."""
    vision, text, shared = {"patch_size": 16}, {}, 512
    if tiny:
        shared = NARROW["projection_dim"]
        vision, text = {**vision, **NARROW}, NARROW
    with torch.device(device):
        model = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=shared))
    model.save_pretrained(folder)
    for file in tokenizer.glob("tokenizer*"):
        shutil.copy(file, folder)
    return folder


def vitpose_h(folder: Path, device: str, tiny: bool) -> Path:
    """ViTPose-H with its simple decoder: 32 blocks of width 1280, patches of 16 pixels."""
    width, layers, heads = (64, 2, 4) if tiny else (1280, 32, 16)
    backbone = VitPoseBackboneConfig(
        image_size=[256, 192],
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        mlp_ratio=4,
        out_indices=[layers],
    )
    with torch.device(device):
        model = VitPoseForPoseEstimation(VitPoseConfig(backbone_config=backbone, num_labels=17))
    model.save_pretrained(folder)
    return folder
