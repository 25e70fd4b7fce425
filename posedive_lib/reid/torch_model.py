"""What all Re-ID models share: images in their size, features, files, training batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from posedive_lib.datasets.archives import Archived
from posedive_lib.errors import StudyError
from posedive_lib.intake.tensors import load_tensors
from posedive_lib.model_digests import published_digests
from posedive_lib.reid.image_set import Images, ImageSet, Joined, check_pixels, resized
from posedive_lib.reid.learning_rate import epoch_of, steps_of
from posedive_lib.reid.loop import Checkpoint, History, Machine, Progress, Stage
from posedive_lib.reid.sampler import PKSampler
from posedive_lib.reid.transforms import HALVES, augment, normalise
from posedive_lib.seeds import seed_for
from posedive_lib.weights import first_line, plain, save_tensors

if TYPE_CHECKING:
    from posedive_lib.params import PromptStage, ReID, StepStage

MODEL_FILE = "model.safetensors"
EXTRACT_BATCH = 128


@dataclass(frozen=True)
class TrainingRun:
    """One call of `fit`: its N images of P identities, and where it reports to."""

    train: ImageSet
    images: Images  # (N, H, W, 3) uint8 in the size of the model
    pids: np.ndarray  # (P,) ascending
    labels: Tensor  # (N,) places in `pids`, on the device
    weights: Tensor | None  # (N,) loss weights; None where all count alike
    seed: int
    progress: Progress | None
    folder: Path | None  # of checkpoints

    def targets(self, rows: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """Labels and loss weights of a batch."""
        index = torch.from_numpy(rows).to(self.labels.device)
        return self.labels[index], None if self.weights is None else self.weights[index]


class TorchReIDModel:
    """A Re-ID model around a network with `features(pixels, cameras)`.

    A further model adds `fit`, `about` and `rebuild`. params: the section `reid` of params.yaml;
    None for a model that is only loaded. pretrained: a folder or hub id of published weights.
    """

    name: ClassVar[str]
    weights: ClassVar[str]  # the entry of `paths` in params.yaml with its published weights
    mean: ClassVar[tuple[float, ...]] = HALVES
    std: ClassVar[tuple[float, ...]] = HALVES

    def __init__(
        self,
        params: ReID | None,
        pretrained: str | Path | None,
        height: int,
        width: int,
        device: str | None = None,
        precision: str | None = None,
    ) -> None:
        self.params: Any = params
        self.pretrained, self.height, self.width = pretrained, height, width
        self.machine = Machine(device, precision or (params.precision if params else "fp32"))
        self.precision = self.machine.precision
        self.model: Any = None  # the network, from `fit` or `load` on

    def fit(
        self,
        train: ImageSet,
        *,
        seed: int,
        progress: Progress | None = None,
        checkpoints: str | Path | None = None,
    ) -> dict[str, History]:
        """Train on the images; returns the history of each stage.

        checkpoints: a folder for the state every `reid.checkpoint_every` steps. Called again after
        a kill, training goes on there and ends in the same weights.
        """
        raise NotImplementedError

    def about(self) -> dict[str, Any]:
        """What `rebuild` needs beside the weights, as JSON has it."""
        raise NotImplementedError

    def rebuild(self, about: dict[str, Any]) -> nn.Module:
        """The network that `about` describes, with any weights."""
        raise NotImplementedError

    def camera_rows(self, camids: np.ndarray | None, count: int) -> np.ndarray | None:
        """Rows of the camera embedding for `features`; None where the model has none."""
        return None

    # ---- use

    def extract(self, images: Images, camids: np.ndarray | None = None) -> np.ndarray:
        """(N, H, W, 3) uint8 of any size to test features (N, D) float32.

        camids: cameras (N,), where the model uses them.
        """
        self._require_network()
        images = self.sized(images)
        rows = self.camera_rows(camids, len(images))
        self.model.to(self.machine.device)
        return self.in_batches(self.model.features, images, rows)

    def sized(self, images: Images, resample: str = "bilinear") -> Images:
        """(N, H, W, 3) uint8 in the size of the model."""
        given = images if isinstance(images, Archived | Joined) else np.asarray(images)
        check_pixels(given)
        return resized(given, self.height, self.width, resample)

    @torch.inference_mode()
    def in_batches(
        self,
        function: Callable[[Tensor, Tensor | None], Tensor],
        images: Images,
        rows: np.ndarray | None,
    ) -> np.ndarray:
        """`function(pixels, cameras)` of all images, not augmented, the network in test mode."""
        training = self.model.training
        self.model.eval()
        device, parts = self.machine.device, []
        for start in range(0, max(len(images), 1), EXTRACT_BATCH):  # no image gives (0, D)
            batch = slice(start, start + EXTRACT_BATCH)
            pixels = torch.from_numpy(np.ascontiguousarray(images[batch])).to(device)
            cameras = None if rows is None else torch.from_numpy(rows[batch]).to(device)
            pixels = normalise(pixels, self.mean, self.std)
            with self.machine.autocast():
                parts.append(function(pixels, cameras).float().cpu())
        self.model.train(training)
        return torch.cat(parts).numpy()

    def save(self, folder: str | Path) -> None:
        """Write `model.safetensors`: the weights, and in its header what rebuilds the network."""
        self._require_network()
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

    def load(self, folder: str | Path) -> Self:
        """Read what `save` wrote; StudyError if the folder holds something else."""
        file = Path(folder) / MODEL_FILE
        tensors, about = load_tensors(file)
        if about.get("model") != self.name:
            raise StudyError(
                f"{file} holds {about.get('model', 'no Re-ID model')}, not {self.name}: "
                "load it as what it is."
            )
        try:
            self.height, self.width = _side(about["height"]), _side(about["width"])
            with torch.random.fork_rng(devices=[]):  # layers draw initial values
                model = self.rebuild(about)
            model.load_state_dict(tensors)
        except Exception as error:  # of wrong settings, the libraries raise unrelated classes
            raise StudyError(
                f"{file} does not fit the {self.name} that it describes ({first_line(error)}): "
                "train it again."
            ) from None
        self.model = model.to(self.machine.device).eval()
        return self

    def _require_network(self) -> None:
        if self.model is None:
            raise StudyError(f"This {self.name} has no weights: call fit or load first.")

    # ---- training

    def training_run(
        self,
        train: ImageSet,
        seed: int,
        progress: Progress | None,
        checkpoints: str | Path | None,
    ) -> TrainingRun:
        """The images of `fit` as the stages need them."""
        device, generated = self.machine.device, self.params.generated
        pids, labels = np.unique(train.pids, return_inverse=True)
        weights = None
        if generated.weight != 1.0 and train.generated.any():
            each = np.where(train.generated, generated.weight, 1.0)
            weights = torch.tensor(each, dtype=torch.float32, device=device)
        return TrainingRun(
            train,
            self.sized(train.images, "bicubic"),
            pids,
            torch.from_numpy(labels).to(device),
            weights,
            seed,
            progress,
            Path(checkpoints) if checkpoints else None,
        )

    def stage(
        self,
        name: str,
        run: TrainingRun,
        module: nn.Module,
        groups: list[tuple[list[Tensor], float]],
        schedule: PromptStage | StepStage,
        rate: Callable[[int, Any], float],
        key: str,
    ) -> Stage:
        """The loop of one stage. rate: (epoch, schedule) -> learning rate; key: of `run_key`."""
        steps = steps_of(schedule, len(run.images), self.params.batch_size)

        def rate_of_step(step: int) -> float:
            return rate(epoch_of(step, steps, schedule.epochs), schedule)

        checkpoint = None
        if run.folder:
            file = run.folder / f"{name}.safetensors"
            checkpoint = Checkpoint(file, self.params.checkpoint_every, key)
        return Stage(
            name,
            module,
            groups,
            rate_of_step,
            steps,
            schedule.weight_decay,
            self.machine,
            checkpoint,
        )

    def pk_sampler(self, run: TrainingRun, steps: int) -> PKSampler:
        """Batches of P identities with K images each, different ones where there are K."""
        p = self.params
        return PKSampler(
            run.train.pids,
            p.batch_size,
            p.instances,
            steps,
            seed_for(run.seed, "pk"),
            generated=run.train.generated,
            max_share=p.generated.max_share,
            copies=run.train.copies(),
        )

    def augmented(self, run: TrainingRun, rows: np.ndarray, step: int) -> Tensor:
        """Training pixels (B, 3, H, W) of a step.

        They depend on seed, step and process alone, so a resumed run draws the same.
        """
        seed = seed_for(run.seed, "augmentation", step, self.machine.index)
        generator = torch.Generator().manual_seed(seed)
        batch = torch.from_numpy(run.images[rows]).to(self.machine.device)
        return augment(batch, generator, self.params.random_erasing, self.mean, self.std)

    def run_key(self, run: TrainingRun, *stages: str) -> str:
        """Identifies a training by all that determines it; "" where nothing is checkpointed.

        stages: the sections of the parameters that it depends on beside the common ones. So a
        change in stage 2 alone keeps what stage 1 learned.
        """
        if not run.folder:
            return ""
        apart = ("seeds", "checkpoint_every", "stage1", "stage2")
        values = plain(self.params)
        settings = {name: value for name, value in values.items() if name not in apart}
        settings |= {name: values[name] for name in stages}
        weights = published_digests(self.pretrained) if self.pretrained else []
        named = [settings, run.seed, weights, self.height, self.width]
        text = json.dumps([*named, self.machine.processes], sort_keys=True)
        digest = hashlib.sha256(text.encode())
        train = run.train
        for start in range(0, len(train), EXTRACT_BATCH):
            images = train.images[start : start + EXTRACT_BATCH]
            digest.update(np.ascontiguousarray(images).data)
        for array in (train.pids, train.camids, train.generated):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:32]


def _side(pixels: Any) -> int:
    """Height or width of a model's images, as its file says; ValueError for no whole number."""
    if type(pixels) is not int or pixels < 1:  # True is an int, too
        raise ValueError(f"height or width is {str(pixels)[:100]!r}")
    return pixels
