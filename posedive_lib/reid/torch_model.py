"""What the study asks of a Re-ID model, `fit`, `extract` and `save`/`load`, and the half of it that all models share."""

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import nn

from posedive_lib.errors import StudyError
from posedive_lib.reid.image_set import ImageSet, resized
from posedive_lib.reid.loop import Machine, load_tensors, save_tensors
from posedive_lib.reid.transforms import augment, normalise
from posedive_lib.seeds import seed_for

MODEL_FILE = "model.safetensors"
EXTRACT_BATCH = 128


class Baseline(Protocol):
    """A Re-ID model of the study."""

    def fit(
        self, train: ImageSet, *, seed: int, progress=None, checkpoints: Path | None = None
    ) -> dict: ...

    def extract(self, images: np.ndarray, camids: np.ndarray | None = None) -> np.ndarray: ...

    def save(self, folder: str | Path) -> None: ...


class TorchBaseline:
    """Feature extraction and files for a network with `features(pixels, cameras)`; a model adds `fit`, `about` and `rebuild`.

    params: the section `reid` of params.yaml; None for a model that is only loaded. pretrained: a folder or hub id of published weights.
    """

    name: ClassVar[str]
    weights: ClassVar[str]  # the entry of `paths` in params.yaml with its published weights
    mean: ClassVar[tuple[float, ...]] = (0.5, 0.5, 0.5)
    std: ClassVar[tuple[float, ...]] = (0.5, 0.5, 0.5)

    def __init__(
        self,
        params,
        pretrained: str | Path | None,
        height: int,
        width: int,
        device: str | None = None,
        precision: str | None = None,
    ):
        self.params, self.pretrained, self.height, self.width = params, pretrained, height, width
        self.machine = Machine(device, precision or getattr(params, "precision", "fp32"))
        self.precision = self.machine.precision
        self.model: nn.Module | None = None

    def about(self) -> dict[str, Any]:
        """What `rebuild` needs beside the weights, as JSON has it."""
        raise NotImplementedError

    def rebuild(self, about: dict[str, Any]) -> nn.Module:
        """The network that `about` describes, with any weights."""
        raise NotImplementedError

    def camera_rows(self, camids: np.ndarray | None, count: int) -> np.ndarray | None:
        """Rows of the camera embedding for `features`; None where the model has none."""
        return None

    def sized(self, images: np.ndarray, resample: str = "bilinear") -> np.ndarray:
        """(N, H, W, 3) uint8 in the size of the model."""
        images = np.asarray(images)
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
            raise StudyError(
                f"Images have shape {images.shape} and type {images.dtype}: expected (N, H, W, 3) uint8."
            )
        return resized(images, self.height, self.width, resample)

    def extract(self, images: np.ndarray, camids: np.ndarray | None = None) -> np.ndarray:
        """(N, H, W, 3) uint8 of any size, and cameras (N,) where the model uses them, to test features (N, D) float32."""
        if self.model is None:
            raise StudyError(f"This {self.name} has no weights: call fit or load first.")
        images = self.sized(images)
        rows = self.camera_rows(camids, len(images))
        self.model.to(self.machine.device)
        return self.in_batches(self.model.features, images, rows)

    @torch.inference_mode()
    def in_batches(self, function, images: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
        """`function(pixels, cameras)` of all images, without augmentation and with the model in its test mode."""
        training = self.model.training
        self.model.eval()
        device, parts = self.machine.device, []
        for start in range(0, max(len(images), 1), EXTRACT_BATCH):  # no image gives (0, D)
            batch = slice(start, start + EXTRACT_BATCH)
            pixels = normalise(
                torch.from_numpy(np.ascontiguousarray(images[batch])).to(device),
                self.mean,
                self.std,
            )
            cameras = None if rows is None else torch.from_numpy(rows[batch]).to(device)
            with self.machine.autocast():
                parts.append(function(pixels, cameras).float().cpu())
        self.model.train(training)
        return torch.cat(parts).numpy()

    def augmented(self, images: np.ndarray, rows: np.ndarray, seed: int, step: int) -> torch.Tensor:
        """Training pixels of a step: a function of the seed and the step, so that a resumed run draws the same."""
        generator = torch.Generator().manual_seed(
            seed_for(seed, "augmentation", step, self.machine.index)
        )
        batch = torch.from_numpy(images[rows]).to(self.machine.device)
        return augment(batch, generator, self.params.random_erasing, self.mean, self.std)

    def image_weights(self, train: ImageSet) -> torch.Tensor | None:
        """Loss weights (N,) of the images, or None where all count alike."""
        if self.params.generated.weight == 1.0 or not train.generated.any():
            return None
        weights = np.where(train.generated, self.params.generated.weight, 1.0)
        return torch.tensor(weights, dtype=torch.float32, device=self.machine.device)

    def save(self, folder: str | Path) -> None:
        """Write `model.safetensors`: the weights, and in its header as JSON all that is needed to rebuild the model."""
        if self.model is None:
            raise StudyError(f"This {self.name} has no weights: call fit or load first.")
        if self.machine.main:
            about = {
                "format": 1,
                "model": self.name,
                "height": self.height,
                "width": self.width,
                "precision": self.precision,
                **self.about(),
            }
            save_tensors(self.model.state_dict(), Path(folder) / MODEL_FILE, about)

    def load(self, folder: str | Path) -> "TorchBaseline":
        """Read what `save` wrote; StudyError if the folder holds something else."""
        file = Path(folder) / MODEL_FILE
        tensors, about = load_tensors(file)
        if about.get("model") != self.name:
            raise StudyError(
                f"{file} holds {about.get('model', 'no Re-ID model')}, not {self.name}: load it as what it is."
            )
        try:
            self.height, self.width = about["height"], about["width"]
            with torch.random.fork_rng(devices=[]):
                model = self.rebuild(about)
            model.load_state_dict(tensors)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise StudyError(
                f"{file} does not fit the {self.name} that it describes ({str(error).splitlines()[0]}): train it again."
            ) from None
        self.model = model.to(self.machine.device).eval()
        return self


def run_key(params, train: ImageSet, seed: int, *more) -> str:
    """Identifies a training run: a checkpoint of another one must not be resumed."""
    digest = hashlib.sha256(json.dumps([plain(params), seed, *more], sort_keys=True).encode())
    for array in (train.images, train.pids, train.camids, train.generated):
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:32]


def plain(params) -> Any:
    """A section of the parameters as JSON has it."""
    if hasattr(params, "model_dump"):
        return params.model_dump()
    return (
        {name: plain(value) for name, value in vars(params).items()}
        if hasattr(params, "__dict__")
        else params
    )
