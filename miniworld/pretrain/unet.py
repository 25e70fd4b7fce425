"""The prior: a text-to-image U-Net in the VAE's latent space, as Stable Diffusion's.

Run: python -m miniworld.pretrain.unet   (after vae and clip)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tqdm import tqdm
from transformers import CLIPTextModel

from miniworld.pretrain.common import (
    HERE,
    People,
    batches,
    people,
    save_model,
    settings,
    to_float,
    warm_start,
    weights_digest,
)
from miniworld.pretrain.loop import Loop
from miniworld.pretrain.tokenizer import load_tokenizer
from posedive_lib.devices import processes
from posedive_lib.generator.noise_schedule import loss_weights

if TYPE_CHECKING:
    from transformers import CLIPTokenizer


def build(
    config: dict[str, Any], latent_channels: int, height: int, width: int, text_width: int
) -> UNet2DConditionModel:
    """The smallest U-Net with Stable Diffusion's block types.

    Cross-attention everywhere but on the coarsest level. height, width: of the images, pixels.
    """
    levels = len(config["channels"])
    return UNet2DConditionModel(
        sample_size=[height // 8, width // 8],
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=config["channels"],
        layers_per_block=config["layers_per_block"],
        norm_num_groups=config["norm_groups"],
        down_block_types=["CrossAttnDownBlock2D"] * (levels - 1) + ["DownBlock2D"],
        up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * (levels - 1),
        cross_attention_dim=text_width,
        attention_head_dim=config["heads"],
    )


def noise_schedule(config: dict[str, Any]) -> DDIMScheduler:
    """Stable Diffusion's betas; with zero_snr, rescaled so that the last step is pure noise."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=config["prediction_type"],
        rescale_betas_zero_snr=config["zero_snr"],
        timestep_spacing="trailing" if config["zero_snr"] else "leading",
    )


@torch.no_grad()
def encode_people(data: People, vae_folder: Path) -> np.ndarray:
    """Scaled latents of every row, float16 (N,C,h,w), kept on disk beside the checkpoints."""
    cache = HERE / f"runs/unet/latents-{weights_digest(vae_folder)}.npy"
    if not cache.exists():
        vae = AutoencoderKL.from_pretrained(vae_folder, torch_dtype=torch.float32).eval()
        vae.to(processes().device)
        latents = []
        parts = list(batches(np.arange(len(data.images)), 64))
        for part in tqdm(parts, desc="latents", mininterval=5):
            mean = vae.encode(to_float(data.images[part]).to(vae.device)).latent_dist.mean
            latents.append((mean * vae.config.scaling_factor).half().cpu().numpy())
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.save(cache, np.concatenate(latents))
    return np.load(cache, mmap_mode="r", allow_pickle=False)


def losses(
    unet: UNet2DConditionModel,
    scheduler: DDIMScheduler,
    latents: torch.Tensor,
    text: torch.Tensor,
    config: dict[str, Any],
) -> dict[str, torch.Tensor]:
    """Squared error of the prediction at a random time, weighted as the generator's.

    latents (B,C,h,w), text (B,T,D). `snr_gamma` 0: not weighted.
    """
    noise = torch.randn_like(latents)
    last = scheduler.config.num_train_timesteps
    uniform = torch.rand(len(latents), device=latents.device)
    times = (last * uniform ** config["timestep_power"]).long()
    noisy = scheduler.add_noise(latents, noise, times)
    is_v = scheduler.config.prediction_type == "v_prediction"
    target = scheduler.get_velocity(latents, noise, times) if is_v else noise
    error = (unet(noisy, times, text).sample.float() - target).square().mean((1, 2, 3))
    return {
        "loss": (loss_weights(scheduler, times, config["snr_gamma"]) * error).mean(),
        "unweighted": error.mean(),
    }


@torch.no_grad()
def text_states(
    text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, captions: list[str]
) -> torch.Tensor:
    """Last hidden states (B, max_tokens, D), padded as Stable Diffusion's pipeline does.

    On the encoder's device.
    """
    read = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
    return text_encoder(read["input_ids"].to(text_encoder.device)).last_hidden_state


def write_index(folder: Path) -> None:
    """model_index.json: StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)."""
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.42.1",
        "vae": ["diffusers", "AutoencoderKL"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "feature_extractor": [None, None],
        "safety_checker": [None, None],
        "requires_safety_checker": False,
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def main() -> None:
    """Train it, on a GPU if there is one, and save it in its library's format."""
    everything = settings()
    config, data = everything["unet"], people("train")
    folder = Path(everything["output"]) / "stable-diffusion"
    text_folder = folder / "text_encoder"
    text_encoder = CLIPTextModel.from_pretrained(text_folder, torch_dtype=torch.float32).eval()
    device = processes().device
    text_encoder.to(device)
    tokenizer = load_tokenizer(folder / "tokenizer")
    latents = encode_people(data, folder / "vae")
    height, width = data.images.shape[1:3]
    torch.manual_seed(everything["seed"])
    unet = build(config, latents.shape[1], height, width, text_encoder.config.hidden_size)
    warm_start(unet, config["initial"])
    scheduler = noise_schedule(config)

    def loss_of(step: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        rows = np.sort(rng.choice(data.rows, config["batch_size"], replace=False))
        clean = torch.from_numpy(latents[rows]).float().to(device)
        captions = ["" if rng.random() < config["text_dropout"] else data.captions[i] for i in rows]
        text = text_states(text_encoder, tokenizer, captions)
        return losses(unet, scheduler, clean, text, config)

    loop = Loop("unet", {"unet": unet}, config, ema_decay=config["ema_decay"], device=device)
    save_model(loop.run(loss_of)["unet"], folder / "unet")
    scheduler.save_pretrained(folder / "scheduler")
    write_index(folder)


if __name__ == "__main__":
    torch.set_num_threads(settings()["threads"])
    main()
