"""What the pre-trained models can do on people they have never seen: metrics.csv and pictures.

Run: python -m miniworld.pretrain.evaluate [folder]   (default: data/pretrained)
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from string import Formatter

import numpy as np
import torch
from safetensors import safe_open

from miniworld.pretrain.common import HERE, people
from miniworld.pretrain.measures import (
    clip_metrics,
    phase1_metrics,
    pose_metrics,
    resnet_metrics,
    text_to_image_metrics,
    vae_metrics,
)
from miniworld.pretrain.scenes import scenes
from posedive_lib.writing import placed

# What README.md shows: model, measure, and values by their names in metrics.csv.
SHOWN = (
    (
        "VAE",
        "decoded photo against photo: PSNR on all of it, on the person (dB)",
        "{vae_psnr_db:.1f}, {vae_psnr_person_db:.1f}",
    ),
    (
        "VAE",
        "detail that it passes: person, background",
        "{vae_detail_person:.2f}, {vae_detail_background:.2f}",
    ),
    (
        "CLIP",
        "photo → its caption among 100 people, caption → photo",
        "{clip_image_to_caption_top1:.0%}, {clip_caption_to_image_top1:.0%}",
    ),
    (
        "CLIP for CLIP-ReID",
        "photo → its caption, caption → photo (it learned three things in ten)",
        "{clip_reid_image_to_caption_top1:.0%}, {clip_reid_caption_to_image_top1:.0%}",
    ),
    (
        "ResNet",
        "AUROC of its score for a label, mean over labels",
        "{resnet_label_auroc:.2f}",
    ),
    (
        "ViTPose",
        "PCK@0.1: visible joints, all in view, grey renderings",
        "{vitpose_pck10_visible:.2f}, {vitpose_pck10_all_in_view:.2f}, "
        "{vitpose_pck10_grey_renderings:.2f}",
    ),
    (
        "ViTPose",
        "AUROC of confidence: visible joints against hidden, against occluded",
        "{vitpose_auroc_visible_vs_hidden:.2f}, {vitpose_auroc_visible_vs_occluded:.2f}",
    ),
    (
        "ViTPose",
        "mean confidence: visible, behind the own body, occluded",
        "{vitpose_sigma_visible:.2f}, {vitpose_sigma_own_body:.2f}, {vitpose_sigma_occluded:.2f}",
    ),
    (
        "U-Net",
        "CLIP finds a sample's caption among 48; for photos",
        "{unet_sample_to_caption_top1_of_48:.0%}; {photo_to_caption_top1_of_48:.0%}",
    ),
    ("phase 1", "PCK@0.1 of the wanted pose, by the ViTPose above", "{phase1_pck10:.2f}"),
    (
        "phase 1",
        "the right person of 100, by CLIP's features of the true photos, without background",
        "{phase1_identity_top1:.0%}",
    ),
    (
        "phase 1",
        "PSNR on the person (dB): any view, within 45° of the reference, beyond 120°",
        "{phase1_psnr_person_db:.1f}, {phase1_near_psnr_person_db:.1f}, "
        "{phase1_far_psnr_person_db:.1f}",
    ),
    (
        "phase 1",
        "PSNR on the person where the target is the reference itself (dB)",
        "{phase1_self_copy_psnr_person_db:.1f}",
    ),
    (
        "phase 1",
        "detail against the true photo's: person, background",
        "{phase1_detail_person:.2f}, {phase1_detail_background:.2f}",
    ),
)


def sizes(folder: Path) -> dict[str, float]:
    """Millions of parameters of each part."""
    parts = sorted(folder.rglob("*.safetensors"))

    def count(path: Path) -> int:
        with safe_open(path, "pt") as file:
            return sum(int(np.prod(file.get_slice(k).get_shape())) for k in file.keys())

    return {f"parameters_million {p.relative_to(folder).parent}": count(p) / 1e6 for p in parts}


def measure_all(folder: Path) -> dict[str, float]:
    """Every measure of the models that a folder holds."""
    data, pictures, sd = people("held-out"), HERE / "pictures", folder / "stable-diffusion"
    result: dict[str, float] = {}
    if (sd / "vae").is_dir():
        result |= vae_metrics(sd, data, pictures)
    if (sd / "image_encoder").is_dir():
        result |= clip_metrics("clip", sd, data, data.captions)
    if (folder / "clip").is_dir():
        captions = [scene.caption() for scene in scenes(data.captions)]
        result |= clip_metrics("clip_reid", folder / "clip", data, captions)
    if (folder / "resnet").is_dir():
        result |= resnet_metrics(folder / "resnet", data)
    if (folder / "vitpose").is_dir():
        result |= pose_metrics(folder / "vitpose", data)
    if (sd / "unet").is_dir():
        result |= text_to_image_metrics(sd, data, pictures)
    if (folder / "phase1").is_dir():
        result |= phase1_metrics(folder, data, pictures)
    return result | sizes(folder)


def measured(values: dict[str, float]) -> str:
    """The table of README.md: measures of the models that were there."""
    lines = ["| model | measure | value |", "|---|---|---|"]
    for model, what, form in SHOWN:
        names = [name for _, name, _, _ in Formatter().parse(form) if name]
        if all(name in values for name in names):
            value = form.format_map(values).replace("%", " %")
            lines.append(f"| {model} | {what} | {value} |")
    return "\n".join(lines)


def main(folder: Path) -> None:
    """Print the measures of a folder's models, write metrics.csv and the table of README.md."""
    result = measure_all(folder)
    for name, value in result.items():
        print(f"{name:48s} {value:.4g}")
    with (HERE / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["metric", "value"])
        writer.writerows([name, f"{value:.4g}"] for name, value in result.items())
    page = HERE / "README.md"
    page.write_text(placed(page.read_text(encoding="utf-8"), "measured", measured(result)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "data/pretrained"))
