"""CLIP-ReID's training in two stages (§D, §F; Li et al., 2023).

The result is a function of images, parameters and seed. Stage 1 learns prompts against fixed image
features; stage 2 learns the image encoder against the fixed text features of the prompts.
"""

from __future__ import annotations

import hashlib
import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Generator, Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from posedive_lib.checkpoints import load_checkpoint
from posedive_lib.errors import StudyError
from posedive_lib.intake.tensors import load_tensors
from posedive_lib.reid import losses
from posedive_lib.reid.clip_reid import (
    MEAN_CAMERA,
    NO_CAMERA,
    CameraEmbedding,
    ClipReID,
    ImageEncoder,
    from_pretrained,
)
from posedive_lib.reid.image_set import Images, ImageSet
from posedive_lib.reid.learning_rate import stage1_rate, stage2_rate
from posedive_lib.reid.loop import History, Progress
from posedive_lib.reid.sampler import shuffled_batches
from posedive_lib.reid.torch_model import EXTRACT_BATCH, TorchReIDModel, TrainingRun
from posedive_lib.seeds import seed_for
from posedive_lib.weights import save_tensors

if TYPE_CHECKING:
    from posedive_lib.params import ReID

PROMPTS_FILE = "prompts.safetensors"  # what stage 1 learned
# Stage-1 features of whole batches: the runs of a study share photos and weights.
SEEN: dict[bytes, np.ndarray] = {}
SEEN_BATCHES = 512  # at most so many, the oldest go first


class ClipReIDModel(TorchReIDModel):
    """CLIP-ReID. `pretrained`: a CLIP, or a Stable Diffusion layout (`weights.load_clip`)."""

    name, weights = "clip-reid", "clip"
    cameras: list[int] = []  # camera ids of the training photos, where it embeds cameras (SIE)
    prompts: Any = None  # the `PromptLearner`, from `start` to the end of `fit`

    def fit(
        self,
        train: ImageSet,
        *,
        seed: int,
        progress: Progress | None = None,
        checkpoints: str | Path | None = None,
        prompts: str | Path | None = None,
    ) -> dict[str, History]:
        """Train in the stages "stage1" and "stage2"; see `TorchReIDModel.fit`.

        The folder `checkpoints` also gets `prompts.safetensors`, what stage 1 learned. prompts:
        such a file, from which stage 2 starts at once.
        """
        self.start(len(np.unique(train.pids)), seed, train.camids)
        run = self.training_run(train, seed, progress, checkpoints)
        first = self._learn_prompts(run, prompts)
        second = self._train_encoder(run)
        self.prompts = None  # the frozen text encoder is needed no more
        return {"stage1": first, "stage2": second}

    def start(self, identities: int = 1, seed: int = 0, camids: np.ndarray | None = None) -> Self:
        """Take CLIP's published weights, as training does.

        Without training, `extract` then gives CLIP's own features.
        """
        p = self.params
        self.cameras = np.unique(camids).tolist() if p.camera_weight and camids is not None else []
        photos = len(self.cameras)
        rows = photos + (p.generated.camera == "generated") if photos else 0
        if self.pretrained is None:
            raise StudyError("CLIP-ReID starts from a CLIP: name its folder or hub id.")
        self.model, self.prompts = from_pretrained(
            self.pretrained,
            self.height,
            self.width,
            identities,
            seed_for(seed, "heads"),
            stride=p.patch_stride,
            sie=CameraEmbedding(rows, photos, p.camera_weight),
        )
        self.model.to(self.machine.device)
        return self

    # ---- stage 1

    def _learn_prompts(self, run: TrainingRun, given: str | Path | None) -> History:
        """Stage 1: image features are computed once, not augmented; only the prompts learn."""
        p, prompts, device = self.params, self.prompts, self.machine.device
        key = self.run_key(run, "stage1")
        learned = run.folder / PROMPTS_FILE if run.folder else None
        if given:
            return self._take_prompts(run, Path(given), *load_tensors(Path(given)))
        if learned and learned.is_file():
            return self._take_prompts(run, learned, *load_checkpoint(learned, key))
        features = torch.from_numpy(self._clip_features(run.images)).to(device)  # (N, E)
        stage = self.stage(
            "stage1", run, prompts, [([prompts.context], 1.0)], p.stage1, stage1_rate, key
        )
        batches = shuffled_batches(
            len(run.images),
            p.batch_size,
            stage.steps,
            seed_for(run.seed, "stage1"),
            generated=run.train.generated,
            max_share=p.generated.max_share,
        )

        def terms(module: nn.Module, step: int, rows: np.ndarray) -> dict[str, Tensor]:
            rows = self.machine.share(rows)
            image = features[torch.from_numpy(rows).to(device)]
            labels, weights = run.targets(rows)
            text = module(labels)  # (B, E)
            contrastive = partial(losses.supervised_contrastive, labels=labels, weights=weights)
            return {
                "image_to_text": contrastive(image, text),  # L_i2t
                "text_to_image": contrastive(text, image),  # L_t2i
            }

        history = stage.run(batches, terms, run.progress)
        if learned and self.machine.main:
            about = {"key": key, "pids": run.pids.tolist(), "history": history}
            save_tensors({"context": prompts.context}, learned, about)
        return history

    def _take_prompts(
        self, run: TrainingRun, path: Path, tensors: dict[str, Tensor], about: dict[str, Any]
    ) -> History:
        """Put what stage 1 learned into the model, if it is for the same identities."""
        context = self.prompts.to(self.machine.device).context
        learned = tensors.get("context")
        same_people = about.get("pids") == run.pids.tolist()
        if learned is None or not same_people or learned.shape != context.shape:
            raise StudyError(
                f"{path} holds no prompts for these {len(run.pids)} identities and this text "
                "encoder: train stage 1 on this training set."
            )
        with torch.no_grad():
            context.copy_(learned)
        return about["history"]

    def _clip_features(self, images: Images) -> np.ndarray:
        """(N, E) projected features by the untrained encoder, no cameras embedded.

        A batch that an earlier run in this process has computed is looked up.
        """
        encoder, parts = self.model.encoder, []
        machine = [self.machine.device, self.precision, torch.get_num_threads()]
        same = hashlib.sha256(repr([*machine, images.shape[1:], encoder.stride]).encode())
        for name, value in encoder.state_dict().items():
            if name != "cameras":
                same.update(value.detach().cpu().contiguous().numpy())
        for first in range(0, len(images), EXTRACT_BATCH):
            batch = np.ascontiguousarray(images[first : first + EXTRACT_BATCH])
            digest = same.copy()
            digest.update(batch.data)
            key = digest.digest()
            if key not in SEEN:
                SEEN[key] = self.in_batches(lambda pixels, _: encoder(pixels)[2], batch, None)
            parts.append(SEEN[key])
        while len(SEEN) > SEEN_BATCHES:
            del SEEN[next(iter(SEEN))]
        return np.concatenate(parts)

    # ---- stage 2

    def _train_encoder(self, run: TrainingRun) -> History:
        """Stage 2: image encoder and identity heads learn against fixed text features."""
        p, model, machine = self.params, self.model, self.machine
        stage = self.stage(
            "stage2",
            run,
            model.train(),
            parameter_groups(model, p.head_factor),
            p.stage2,
            stage2_rate,
            self.run_key(run, "stage1", "stage2"),
        )
        sampler = self.pk_sampler(run, stage.steps)
        cameras = self.camera_rows(run.train.camids, len(run.images), run.train.generated)
        with machine.autocast():
            text = self.prompts.all_features()  # (P, E)

        def terms(network: nn.Module, step: int, rows: np.ndarray) -> dict[str, Tensor]:
            rows = machine.share(rows, sampler.instances)
            pixels = self.augmented(run, rows, step)  # (B, 3, H, W)
            own = None if cameras is None else torch.from_numpy(cameras[rows]).to(machine.device)
            labels, weights = run.targets(rows)
            return stage2_terms(network(pixels, own), labels, text, p, weights)

        history = stage.run(sampler, terms, run.progress)
        model.eval()
        return history

    def camera_rows(
        self, camids: np.ndarray | None, count: int, generated: np.ndarray | None = None
    ) -> np.ndarray | None:
        """SIE: rows of the camera embedding (count,).

        Images of no known camera (None) get the mean of all. StudyError on a camera that was not
        trained.
        """
        if not self.cameras:
            return None
        if camids is None:
            return np.full(count, MEAN_CAMERA)
        rows = np.searchsorted(self.cameras, camids).clip(max=len(self.cameras) - 1)
        unknown = np.setdiff1d(camids, self.cameras)
        if len(unknown):
            raise StudyError(
                f"Camera {unknown[0]} was not among the training cameras {self.cameras}, so it has "
                "no embedding: give no cameras, or train with reid.camera_weight 0."
            )
        if generated is None or self.params.generated.camera == "inherit":
            return rows
        # the row behind those of the photos' cameras is that of all generated images
        own = len(self.cameras) if self.params.generated.camera == "generated" else NO_CAMERA
        return np.where(generated, own, rows)

    # ---- files

    def about(self) -> dict[str, Any]:
        """See `TorchReIDModel.about`."""
        encoder = self.model.encoder
        vision = encoder.vision.config.to_dict()
        return {
            "vision": vision | {"projection_dim": encoder.projection.out_features},
            "cameras": self.cameras,
            "identities": self.model.head12.classifier.out_features,
            "camera_rows": encoder.sie.rows,
            "camera_weight": encoder.sie.weight,
            "patch_stride": encoder.stride,
        }

    def rebuild(self, about: dict[str, Any]) -> ClipReID:
        """See `TorchReIDModel.rebuild`. ValueError: cameras or their weight are no numbers."""
        _check_cameras(about["cameras"], about["camera_weight"])
        vision = CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(about["vision"]))
        self.cameras = about["cameras"]
        sie = CameraEmbedding(about["camera_rows"], len(self.cameras), about["camera_weight"])
        stride = about["patch_stride"]
        encoder = ImageEncoder(vision, self.height, self.width, stride=stride, sie=sie)
        return ClipReID(encoder, about["identities"], Generator().manual_seed(0))


def _check_cameras(cameras: Any, weight: Any) -> None:
    """ValueError unless cameras are ascending whole numbers, and their weight a finite number.

    Images find their camera by this order, long after loading.
    """
    if any(type(camera) is not int for camera in cameras) or sorted(set(cameras)) != cameras:
        raise ValueError(f"cameras are {str(cameras)[:100]!r}")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
        raise ValueError(f"camera_weight is {str(weight)[:100]!r}")


def stage2_terms(
    outputs: tuple[Tensor, ...],
    labels: Tensor,
    text: Tensor,
    p: ReID,
    weights: Tensor | None = None,
) -> dict[str, Tensor]:
    """L_stage2 = 0.25 (L_id of x12, proj) + (L_tri of x11, x12, proj) + L_i2tce, term by term.

    outputs: those of `ClipReID`. text (P, E): the features of all prompts; the logits of images to
    text are plain dot products. Each term is times its weight from the parameters.
    """
    x11, x12, proj, logits12, logits_proj = outputs
    identity = partial(losses.identity, labels=labels, smoothing=p.label_smoothing, weights=weights)
    triplet = partial(losses.hard_triplet, labels=labels, margin=p.margin, weights=weights)
    return {
        "id_x12": p.id_weight * identity(logits12),
        "id_proj": p.id_weight * identity(logits_proj),
        "triplet_x11": p.triplet_weight * triplet(x11),
        "triplet_x12": p.triplet_weight * triplet(x12),
        "triplet_proj": p.triplet_weight * triplet(proj),
        "image_to_text": p.i2t_weight
        * losses.image_to_text(proj, text, labels, p.label_smoothing, weights),
    }


def parameter_groups(
    model: nn.Module, head_factor: float = 1.0
) -> list[tuple[list[Tensor], float]]:
    """(parameters, factor of the learning rate): biases 2, identity heads `head_factor`, others 1.

    What is frozen (the bias of a BNNeck) is left out. The published `head_factor` 1.0 lets new
    heads grow over thousands of steps. In a run of a hundred they would stay near zero. Adam,
    blind to the size of a gradient, would meanwhile push the encoder about at random.
    """
    groups: dict[float, list[Tensor]] = {1.0: [], 2.0: [], head_factor: []}
    for name, value in model.named_parameters():
        if not value.requires_grad:
            continue
        if "classifier" in name:
            groups[head_factor].append(value)
        else:
            groups[2.0 if name.endswith("bias") else 1.0].append(value)
    return [(values, factor) for factor, values in groups.items() if values]
