"""The pose estimator: a small ViTPose (simple decoder, COCO-17).

Its confidence means visibility (Eq. 2's sigma). The heatmap peak that it learns is 1 for a visible
joint, 0.5 for one that the person's own body hides, 0 for one that something else hides or that is
outside the frame.

Run: python -m miniworld.pretrain.vitpose
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import (
    VitPoseBackboneConfig,
    VitPoseConfig,
    VitPoseForPoseEstimation,
    VitPoseImageProcessor,
)

from miniworld.pretrain.common import (
    People,
    jitter_colour,
    people,
    save_model,
    settings,
    to_float,
    warm_start,
)
from miniworld.pretrain.loop import Loop
from posedive_lib.augment.confidence import to_heatmap

# COCO order: nose, then left/right pairs of eyes, ears, shoulders, elbows, wrists, hips, knees,
# ankles.
MIRRORED = np.array([0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15])


def build(config: dict[str, Any], height: int, width: int) -> VitPoseForPoseEstimation:
    """An untrained ViTPose for images of a size in pixels."""
    backbone = VitPoseBackboneConfig(
        image_size=(height, width),
        patch_size=(config["patch"], config["patch"]),
        hidden_size=config["width"],
        num_hidden_layers=config["layers"],
        num_attention_heads=config["heads"],
        mlp_ratio=4,
        out_indices=[config["layers"]],
    )
    return VitPoseForPoseEstimation(
        VitPoseConfig(
            backbone_config=backbone,
            num_labels=17,
            scale_factor=config["scale"],
            use_simple_decoder=True,
        )
    )


def warp(
    images: torch.Tensor, keypoints: np.ndarray, rng: np.random.Generator
) -> tuple[torch.Tensor, np.ndarray]:
    """Random scale, shift and tilt, the same for pixels (N,3,H,W) and keypoints (N,17,2).

    Outside, the border repeats.
    """
    n, _, height, width = images.shape
    scale = np.exp(rng.uniform(-0.25, 0.2, n))
    angle = np.radians(rng.normal(0, 5, n))
    shift = rng.uniform(-1, 1, (n, 2)) * [0.16 * width, 0.12 * height]
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1)  # (N,2,2)
    forward = scale[:, None, None] * rotation  # source pixel offset -> target pixel offset
    centre = np.array([width / 2, height / 2])  # pixel centres lie at integers + 0.5
    moved = np.einsum("nij,nkj->nki", forward, keypoints - centre) + centre + shift[:, None]
    inverse = np.linalg.inv(forward)
    # affine_grid asks for the way back, in units of half an image
    turn = inverse * centre[None, None] / centre[None, :, None]
    move = -np.einsum("nij,nj->ni", inverse, shift)[:, :, None] / centre[None, :, None]
    theta = np.concatenate([turn, move], 2)  # (N,2,3)
    grid = F.affine_grid(torch.from_numpy(theta).float(), images.shape, align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False), moved


def mirror(
    images: torch.Tensor, keypoints: np.ndarray, visible: np.ndarray, which: np.ndarray
) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Mirror the images `which` (N,) bool, with left and right joints exchanged."""
    images = torch.where(torch.from_numpy(which)[:, None, None, None], images.flip(-1), images)
    flipped = keypoints[:, MIRRORED].copy()
    flipped[..., 0] = images.shape[-1] - flipped[..., 0]
    keypoints = np.where(which[:, None, None], flipped, keypoints)
    return images, keypoints, np.where(which[:, None], visible[:, MIRRORED], visible)


def occlude(
    images: torch.Tensor, keypoints: np.ndarray, visible: np.ndarray, rng: np.random.Generator
) -> tuple[torch.Tensor, np.ndarray]:
    """Half of the images get a box in front, and visibility 0 of the joints behind it.

    The box is of one colour, of noise, or a piece of another image.
    """
    n, _, height, width = images.shape
    images, visible, others = images.clone(), visible.copy(), images.flip(0).clone()
    for i in np.flatnonzero(rng.random(n) < 0.5):
        h, w = int(rng.uniform(0.1, 0.45) * height), int(rng.uniform(0.2, 0.9) * width)
        top, left = rng.integers(0, height - h // 2), rng.integers(-w // 2, width - w // 2)
        rows, columns = slice(top, min(top + h, height)), slice(max(left, 0), min(left + w, width))
        kind = rng.integers(3)
        box = images[i, :, rows, columns]  # a view: what is written here is written there
        if kind == 0:
            box[:] = torch.from_numpy(rng.uniform(-1, 1, (3, 1, 1))).float()
        elif kind == 1:
            box[:] = torch.rand_like(box) * 2 - 1
        else:
            box[:] = others[i, :, rows, columns].roll(int(rng.integers(width)), -1)
        x, y = keypoints[i, :, 0], keypoints[i, :, 1]
        across, down = (
            (x >= columns.start) & (x < columns.stop),
            (y >= rows.start) & (y < rows.stop),
        )
        visible[i, across & down] = 0
    return images, visible


def soften(images: torch.Tensor, which: np.ndarray) -> torch.Tensor:
    """Half the resolution for the images `which` (N,) bool: generated images are soft."""
    small = F.interpolate(images, scale_factor=0.5, mode="bilinear", antialias=True)
    soft = F.interpolate(small, size=images.shape[2:], mode="bilinear")
    return torch.where(torch.from_numpy(which)[:, None, None, None], soft, images)


def heatmaps(
    keypoints: np.ndarray,
    visible: np.ndarray,
    image_size: tuple[int, int],
    size: tuple[int, int],
    config: dict[str, Any],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Target and weight (N,17,h,w).

    The target is a Gaussian of the joint's amplitude, the weight 1 + peak_weight * a unit Gaussian.
    """
    rows = np.arange(size[0])[None, None, :, None]
    columns = np.arange(size[1])[None, None, None, :]
    cells = to_heatmap(keypoints, image_size, size)
    distance = (rows - cells[..., 1, None, None]) ** 2 + (columns - cells[..., 0, None, None]) ** 2
    unit = np.exp(-distance / (2 * config["sigma"] ** 2)).astype(np.float32)
    amplitude = np.array([0.0, config["hidden_amplitude"], 1.0], np.float32)[visible]
    weight = torch.from_numpy(1 + config["peak_weight"] * unit)
    return torch.from_numpy(unit * amplitude[..., None, None]), weight


def draw(
    data: People, config: dict[str, Any], rng: np.random.Generator
) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """An augmented batch: images (B,3,H,W) in [-1,1], keypoints (B,17,2) pixels, visible (B,17).

    One image in eight is the grey-textured rendering that stands in for a target photo (Eq. 4).
    """
    rows = np.sort(rng.choice(data.rows, config["batch_size"], replace=False))
    pixels = data.images[rows].copy()
    keypoints, visible = data.keypoints[rows].astype(float), data.visible[rows].astype(int)
    if "neutral" in data.arrays:
        grey = rng.random(len(rows)) < 0.125
        pixels[grey] = data.neutral[rows[grey]]
    which = rng.random(len(rows)) < 0.5
    images, keypoints, visible = mirror(to_float(pixels), keypoints, visible, which)
    images, keypoints = warp(images, keypoints, rng)
    images, visible = occlude(images, keypoints, visible, rng)
    height, width = images.shape[2:]
    outside = (keypoints < 0).any(-1) | (keypoints[..., 0] > width) | (keypoints[..., 1] > height)
    visible[outside] = 0
    return jitter_colour(soften(images, rng.random(len(rows)) < 0.2), 0.25, rng), keypoints, visible


def main() -> None:
    """Train it and save it in its library's format."""
    everything = settings()
    config, data = everything["vitpose"], people("train")
    height, width = data.images.shape[1:3]
    torch.manual_seed(everything["seed"])
    model = build(config, height, width)
    warm_start(model, config["initial"])

    def loss_of(step: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        images, keypoints, visible = draw(data, config, rng)
        predicted = model(pixel_values=images).heatmaps.float()
        target, weight = heatmaps(keypoints, visible, (height, width), predicted.shape[2:], config)
        return {"loss": 10 * (weight * (predicted - target).square()).mean()}

    trained = Loop("vitpose", {"vitpose": model}, config, ema_decay=config["ema_decay"]).run(
        loss_of
    )
    folder = Path(everything["output"]) / "vitpose"
    save_model(trained["vitpose"], folder)
    VitPoseImageProcessor(
        size={"height": height, "width": width}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    ).save_pretrained(folder)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
