"""Key points and their confidence from ViTPose (`transformers`): the pose estimator P of Eq. 2.

The network sees the whole image, scaled to fit its input and padded with black. Re-ID images are
crops of one person, so no detector is needed. Heat maps follow the unbiased convention of ViTPose:
the centres of the first and last heat-map cells lie on those of the first and last input pixels.
Pixel centres lie at integers + 0.5, as in `posedive_lib.body.camera`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from posedive_lib.devices import processes
from posedive_lib.errors import StudyError
from posedive_lib.intake.files import read_json
from posedive_lib.intake.numbers import channel_statistics
from posedive_lib.weights import load_complete, local_folder

KEYPOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
SUBSETS = {"body": np.arange(5, 17), "all": np.arange(17)}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def keypoint_subset(name: str) -> np.ndarray:
    """COCO indices of a set of key points: `body` (shoulders to ankles, 12) or `all` (17)."""
    if name not in SUBSETS:
        raise StudyError(f"augment.keypoints is '{name}': use one of {', '.join(SUBSETS)}")
    return SUBSETS[name]


def to_heatmap(pixels: Any, input_size: tuple[int, int], heatmap_size: tuple[int, int]) -> Any:
    """Heat-map coordinates (cell centres at integers) of input pixels (..., 2) x, y.

    Arrays or tensors; sizes are (height, width).
    """
    sizes = zip(heatmap_size[::-1], input_size[::-1], strict=True)
    return (pixels - 0.5) * _like(pixels, [(cells - 1) / (size - 1) for cells, size in sizes])


def from_heatmap(cells: Any, input_size: tuple[int, int], heatmap_size: tuple[int, int]) -> Any:
    """Inverse of `to_heatmap`."""
    sizes = zip(heatmap_size[::-1], input_size[::-1], strict=True)
    return cells * _like(cells, [(size - 1) / (count - 1) for count, size in sizes]) + 0.5


def _like(points: Any, scale: list[float]) -> Any:
    return torch.as_tensor(scale).to(points) if torch.is_tensor(points) else np.array(scale)


def peaks(heatmaps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Peak positions (N, K, 2) x, y in cells, and heights (N, K), of heat maps (N, K, h, w).

    A parabola is fitted to the logarithm around the maximum, in x and y: exact for a Gaussian.
    """
    height, width = heatmaps.shape[2:]
    value, index = heatmaps.flatten(2).max(dim=2)
    row, column = index // width, index % width
    logs = heatmaps.clamp_min(1e-4).log().flatten(2)

    def shift(position: torch.Tensor, size: int, step: int) -> torch.Tensor:
        """Offset (N, K) in cells; `step`: distance of two neighbours in the flat map."""
        inside = (position > 0) & (position < size - 1)
        low, mid, high = (
            logs.gather(2, (index + move).clamp(0, height * width - 1)[..., None])[..., 0]
            for move in (-step, 0, step)
        )
        curve = low - 2 * mid + high
        offset = 0.5 * (low - high) / curve.clamp_max(-1e-6)
        # No offset on a flat map, nor at its border.
        return torch.where(inside & (curve < -1e-6), offset.clamp(-0.5, 0.5), 0.0)

    x, y = column + shift(column, width, 1), row + shift(row, height, width)
    return torch.stack([x, y], dim=-1), value


class PoseEstimator:
    """ViTPose with COCO-17 key points, ours or a published one (such as vitpose-base-simple).

    folder: a `transformers` folder or hub id, with config.json, model.safetensors and, if the
    normalisation is not ImageNet's, preprocessor_config.json.
    padding: how many times smaller the crop is shown inside the input; published models were
    trained with boxes enlarged by 1.25. device: by default this process's GPU, if it has one.
    StudyError: no such folder, another architecture, missing weights, not 17 key points.
    """

    def __init__(self, folder: str | Path, padding: float = 1.0, device: str | None = None):
        from transformers import VitPoseForPoseEstimation

        folder = local_folder(folder)
        if not (folder / "config.json").is_file():
            raise StudyError(
                f"{folder} holds no ViTPose (no config.json): "
                "set paths.pose_estimator to a transformers ViTPose folder"
            )
        if not padding >= 1:
            raise StudyError(f"padding is {padding}, expected 1 or more")
        kind = read_json(folder / "config.json").get("model_type")
        if kind != "vitpose":
            raise StudyError(f"{folder}/config.json is of type '{kind}', expected 'vitpose'")
        model: Any = load_complete(
            VitPoseForPoseEstimation, folder, may_hold=("",), use_safetensors=True
        )
        if model.config.num_labels != len(KEYPOINTS):
            raise StudyError(
                f"{folder} predicts {model.config.num_labels} key points, expected COCO's 17"
            )
        device = device or str(processes().device)
        self.model, self.device = model.to(device), device
        self.folder, self.padding = folder, padding
        backbone = model.config.backbone_config
        self.input_size = tuple(backbone.image_size)
        self.experts = backbone.num_experts > 1
        file = folder / "preprocessor_config.json"
        given = read_json(file) if file.is_file() else {}
        self.mean, self.std = (
            torch.tensor(values, device=device).view(1, 3, 1, 1)
            for values in channel_statistics(file, given, IMAGENET)
        )

    def __reduce__(self) -> tuple:
        """Another process loads it from its folder, on its own device."""
        return PoseEstimator, (self.folder, self.padding)

    def _frame(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Where the image lies in the input: top, left, height, width."""
        scale = min(self.input_size[0] / height, self.input_size[1] / width) / self.padding
        inner = max(1, round(height * scale)), max(1, round(width * scale))
        return (self.input_size[0] - inner[0]) // 2, (self.input_size[1] - inner[1]) // 2, *inner

    def preprocess(self, images: torch.Tensor) -> torch.Tensor:
        """Network input (N, 3, h, w) of images uint8 (N, H, W, 3)."""
        top, left, height, width = self._frame(*images.shape[1:3])
        pixels = images.to(self.device).permute(0, 3, 1, 2).float() / 255
        if (height, width) != tuple(images.shape[1:3]):
            pixels = F.interpolate(
                pixels, (height, width), mode="bilinear", align_corners=False, antialias=True
            )
        pad = (left, self.input_size[1] - width - left, top, self.input_size[0] - height - top)
        return (F.pad(pixels, pad) - self.mean) / self.std

    @torch.inference_mode()
    def estimate(
        self, images: np.ndarray, batch_size: int = 64, progress: str | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Key points (N, 17, 2) in pixels of the images, and their confidence σ (N, 17) of Eq. 2.

        σ is the heat map's maximum, clipped to [0, 1]. images: uint8 (N, H, W, 3). progress: a
        bar's label.
        """
        images = np.asarray(images)
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
            raise StudyError(
                f"images are {images.dtype} {images.shape}, expected uint8 (N, H, W, 3)"
            )
        keypoints = np.zeros((len(images), len(KEYPOINTS), 2), np.float32)
        sigma = np.zeros((len(images), len(KEYPOINTS)), np.float32)
        top, left, height, width = self._frame(*images.shape[1:3])
        factor = images.shape[2] / width, images.shape[1] / height  # input pixels to the image's
        with tqdm(total=len(images), desc=progress, unit="image", disable=progress is None) as bar:
            for start in range(0, len(images), batch_size):
                rows = slice(start, start + batch_size)
                heatmaps = self.heatmaps(images[rows])
                cells, value = peaks(heatmaps)
                size = heatmaps.shape[2], heatmaps.shape[3]
                inputs = from_heatmap(cells, self.input_size, size).cpu().numpy()
                keypoints[rows] = (inputs - (left, top)) * factor
                sigma[rows] = value.clamp(0, 1).cpu().numpy()
                bar.update(len(inputs))
        return keypoints, sigma

    @torch.inference_mode()
    def heatmaps(self, images: np.ndarray) -> torch.Tensor:
        """H_k of Eq. 2, (N, 17, h, w): how likely key point k lies in each cell.

        images: uint8 (N, H, W, 3). StudyError where the network gives numbers that are not finite.
        """
        pixels = self.preprocess(torch.from_numpy(np.ascontiguousarray(images)))
        options = {}
        if self.experts:  # ViTPose++ has an expert per data set; COCO's is the first
            first = torch.zeros(len(pixels), dtype=torch.long, device=self.device)
            options["dataset_index"] = first
        heatmaps = self.model(pixels, **options).heatmaps.float()
        if not torch.isfinite(heatmaps).all():
            raise StudyError(
                "The pose estimator's heat maps are not finite: "
                "its weights are broken, download or train it again"
            )
        return heatmaps
