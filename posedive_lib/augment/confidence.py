"""Key points and their confidence from ViTPose (`transformers`): the pose estimation model P of Eq. 2.

The network sees the whole image, scaled to fit its input and padded with black where the shapes differ; Re-ID images are person crops,
so no detector is needed. Heat maps follow the unbiased convention ViTPose is trained with: the centres of the first and last heat-map
cells lie on the centres of the first and last input pixels. `to_heatmap` and `from_heatmap` are that convention, for training too.
Pixel coordinates have pixel centres at integers + 0.5, as in `posedive_lib.body.camera`.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from posedive_lib.errors import StudyError

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
    """COCO indices of the set of key points: `body` (shoulders to ankles, 12) or `all` (17)."""
    if name not in SUBSETS:
        raise StudyError(f"augment.keypoints is '{name}': use one of {', '.join(SUBSETS)}")
    return SUBSETS[name]


def to_heatmap(pixels, input_size: tuple[int, int], heatmap_size: tuple[int, int]):
    """Heat-map coordinates (cell centres at integers) of network input pixels (..., 2) x, y; sizes are (height, width)."""
    scale = [
        (cells - 1) / (size - 1)
        for cells, size in zip(heatmap_size[::-1], input_size[::-1], strict=True)
    ]
    return (pixels - 0.5) * (
        torch.as_tensor(scale).to(pixels) if torch.is_tensor(pixels) else np.array(scale)
    )


def from_heatmap(cells, input_size: tuple[int, int], heatmap_size: tuple[int, int]):
    """Inverse of `to_heatmap`."""
    scale = [
        (size - 1) / (cells - 1)
        for cells, size in zip(heatmap_size[::-1], input_size[::-1], strict=True)
    ]
    return (
        cells * (torch.as_tensor(scale).to(cells) if torch.is_tensor(cells) else np.array(scale))
        + 0.5
    )


def peaks(heatmaps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Peak positions (N, K, 2) x, y in cells, with sub-cell refinement, and heights (N, K) of heat maps (N, K, h, w).

    The refinement fits a parabola to the logarithm around the maximum, in x and y: exact for a Gaussian.
    """
    count, points, height, width = heatmaps.shape
    value, index = heatmaps.flatten(2).max(dim=2)
    row, column = index // width, index % width
    logs = heatmaps.clamp_min(1e-4).log().flatten(2)

    def shift(position: torch.Tensor, size: int, step: int) -> torch.Tensor:
        inside = (position > 0) & (position < size - 1)
        low, mid, high = (
            logs.gather(2, (index + move).clamp(0, height * width - 1)[..., None])[..., 0]
            for move in (-step, 0, step)
        )
        curve = low - 2 * mid + high
        offset = torch.where(
            curve < -1e-6, 0.5 * (low - high) / curve.clamp_max(-1e-6), torch.zeros_like(curve)
        )
        return torch.where(inside, offset.clamp(-0.5, 0.5), torch.zeros_like(offset))

    return torch.stack(
        [column + shift(column, width, 1), row + shift(row, height, width)], dim=-1
    ), value


class PoseEstimator:
    """ViTPose with COCO-17 key points from a `transformers` folder, ours or a published one (such as vitpose-base-simple).

    folder: holds config.json, model.safetensors and, if its normalisation is not ImageNet's, preprocessor_config.json.
    padding: the crop is shown this many times smaller inside the input; published models were trained with boxes enlarged by 1.25.
    StudyError: no such folder, another architecture, missing weights, not 17 key points.
    """

    def __init__(self, folder: str | Path, padding: float = 1.0, device: str = "cpu"):
        from transformers import VitPoseForPoseEstimation

        from posedive_lib.loading import differing, first_line, quiet

        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise StudyError(
                f"{folder} holds no ViTPose (no config.json): set paths.pose_estimator to a transformers ViTPose folder"
            )
        if not padding >= 1:
            raise StudyError(f"padding is {padding}, expected 1 or more")
        config = json.loads((folder / "config.json").read_text())
        if config.get("model_type") != "vitpose":
            raise StudyError(
                f"{folder}/config.json is of type '{config.get('model_type')}', expected 'vitpose'"
            )
        try:
            with quiet():
                model, loading = VitPoseForPoseEstimation.from_pretrained(
                    folder,
                    use_safetensors=True,
                    local_files_only=True,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,
                )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise StudyError(
                f"{folder} could not be loaded as ViTPose ({first_line(error)}): download it again"
            ) from error
        wrong = differing(loading | {"unexpected_keys": ()})
        if wrong:
            raise StudyError(
                f"{folder}/model.safetensors lacks {wrong[0]}, or has it in another shape: download it again"
            )
        if model.config.num_labels != len(KEYPOINTS):
            raise StudyError(
                f"{folder} predicts {model.config.num_labels} key points, expected COCO's 17"
            )
        self.model, self.device, self.padding = model.eval().to(device), device, padding
        self.input_size = tuple(model.config.backbone_config.image_size)
        self.experts = model.config.backbone_config.num_experts > 1
        self.mean, self.std = self._normalisation(folder)

    def _normalisation(self, folder: Path) -> list[torch.Tensor]:
        file = folder / "preprocessor_config.json"
        given = json.loads(file.read_text()) if file.is_file() else {}
        return [
            torch.tensor(given.get(key) or IMAGENET[key], device=self.device).view(1, 3, 1, 1)
            for key in ("image_mean", "image_std")
        ]

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
        """Key points (N, 17, 2) in pixels of the given images and σ (N, 17) = heat-map maximum clipped to [0, 1], Eq. 2.

        images: uint8 (N, H, W, 3). progress: a bar's label.
        """
        images = np.asarray(images)
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
            raise StudyError(
                f"images are {images.dtype} {images.shape}, expected uint8 (N, H, W, 3)"
            )
        keypoints, sigma = (
            np.zeros((len(images), 17, 2), np.float32),
            np.zeros((len(images), 17), np.float32),
        )
        top, left, height, width = self._frame(*images.shape[1:3])
        with tqdm(total=len(images), desc=progress, unit="image", disable=progress is None) as bar:
            for start in range(0, len(images), batch_size):
                rows = slice(start, start + batch_size)
                pixels = self.preprocess(torch.from_numpy(np.ascontiguousarray(images[rows])))
                expert = (
                    {
                        "dataset_index": torch.zeros(
                            len(pixels), dtype=torch.long, device=self.device
                        )
                    }
                    if self.experts
                    else {}
                )
                heatmaps = self.model(pixels, **expert).heatmaps.float()
                if not torch.isfinite(heatmaps).all():
                    raise StudyError(
                        "The pose estimator's heat maps are not finite: its weights are broken, download or train it again"
                    )
                cells, value = peaks(heatmaps)
                inputs = (
                    from_heatmap(cells, self.input_size, tuple(heatmaps.shape[-2:])).cpu().numpy()
                )
                keypoints[rows] = (inputs - (left, top)) * (
                    images.shape[2] / width,
                    images.shape[1] / height,
                )
                sigma[rows] = value.clamp(0, 1).cpu().numpy()
                bar.update(len(pixels))
        return keypoints, sigma
