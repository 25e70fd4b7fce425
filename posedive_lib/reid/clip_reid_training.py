"""CLIP-ReID's training in two stages (§D, §F; Li et al., 2023), as a function of its images, parameters and seed."""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from posedive_lib.errors import StudyError
from posedive_lib.reid import losses
from posedive_lib.reid.clip_reid import ClipReID, ImageEncoder, PromptLearner, from_pretrained
from posedive_lib.reid.image_set import ImageSet
from posedive_lib.reid.learning_rate import epoch_of, stage1_rate, stage2_rate, steps_of
from posedive_lib.reid.loop import Stage, load_tensors, save_tensors
from posedive_lib.reid.sampler import PKSampler, shuffled_batches
from posedive_lib.reid.torch_model import EXTRACT_BATCH, TorchBaseline, plain, run_key
from posedive_lib.seeds import seed_for

PROMPTS_FILE = "prompts.safetensors"  # what stage 1 learned
SEEN: dict[
    bytes, np.ndarray
] = {}  # stage-1 features of whole batches: the runs of a study share photos and weights
SEEN_BATCHES = 512  # at most so many, the oldest go first


class ClipReIDBaseline(TorchBaseline):
    """CLIP-ReID. `pretrained`: a CLIP of the `transformers` layout, or the folder of a Stable Diffusion layout (`weights.load_clip`)."""

    name, weights = "clip-reid", "clip"
    cameras: list[
        int
    ] = []  # camera ids of the photos it was trained on, where it embeds cameras (SIE)

    def fit(
        self,
        train: ImageSet,
        *,
        seed: int,
        progress=None,
        checkpoints: str | Path | None = None,
        prompts: str | Path | None = None,
    ) -> dict:
        """Train; returns per stage the learning rate, the loss and each term of it, per step. `progress(stage, step, steps)` is called per step.

        checkpoints: a folder for the state every `reid.checkpoint_every` steps and for what stage 1 learned; called again after a kill,
        training goes on there and ends in the same weights. prompts: such a `prompts.safetensors`, from which stage 2 starts at once.
        """
        pids, labels = np.unique(train.pids, return_inverse=True)
        self.start(len(pids), seed, train.camids)
        images, labels = (
            self.sized(train.images, "bicubic"),
            torch.from_numpy(labels).to(self.machine.device),
        )
        weights = self.image_weights(train)
        folder = Path(checkpoints) if checkpoints else None
        first = self._learn_prompts(
            train, images, labels, pids, weights, seed, progress, folder, prompts
        )
        second = self._train_encoder(train, images, labels, weights, seed, progress, folder)
        self.prompts = None  # the frozen text encoder is needed no more
        return {"stage1": first, "stage2": second}

    def start(
        self, identities: int = 1, seed: int = 0, camids: np.ndarray | None = None
    ) -> "ClipReIDBaseline":
        """Take CLIP's published weights, as training does; without training, `extract` then gives CLIP's own features."""
        p = self.params
        self.cameras = np.unique(camids).tolist() if p.camera_weight and camids is not None else []
        rows = len(self.cameras) + (p.generated.camera == "generated") if self.cameras else 0
        self.model, self.prompts = from_pretrained(
            self.pretrained,
            self.height,
            self.width,
            identities,
            seed_for(seed, "heads"),
            stride=p.patch_stride,
            cameras=rows,
            camera_weight=p.camera_weight,
            real=len(self.cameras),
        )
        self.model.to(self.machine.device)
        return self

    def _learn_prompts(
        self, train: ImageSet, images, labels, pids, weights, seed: int, progress, folder, given
    ) -> dict[str, list[float]]:
        """Stage 1: image features are computed once, without augmentation; only the prompts learn."""
        p, model = self.params, self.prompts
        key = self._key(train, seed, "stage1") if folder else ""
        done = Path(given) if given else folder / PROMPTS_FILE if folder else None
        if given or (done and done.is_file()):
            return _load_prompts(done, model.to(self.machine.device), pids, None if given else key)
        features = torch.from_numpy(self._clip_features(images)).to(self.machine.device)
        steps = steps_of(p.stage1, len(images), p.batch_size)
        batches = shuffled_batches(
            len(images),
            p.batch_size,
            steps,
            seed_for(seed, "stage1"),
            generated=train.generated,
            max_share=p.generated.max_share,
        )

        def terms(prompts, step: int, rows: np.ndarray) -> dict[str, Tensor]:
            rows = torch.from_numpy(self.machine.share(rows)).to(labels.device)
            image, target, weight = (
                features[rows],
                labels[rows],
                None if weights is None else weights[rows],
            )
            text = prompts(target)
            return {
                "image_to_text": losses.supervised_contrastive(image, text, target, target, weight),
                "text_to_image": losses.supervised_contrastive(text, image, target, target, weight),
            }

        stage = Stage(
            "stage1",
            model,
            [([model.context], 1.0)],
            lambda step: stage1_rate(epoch_of(step, steps, p.stage1.epochs), p.stage1),
            steps,
            p.stage1.weight_decay,
            self.machine,
            checkpoint=folder and folder / "stage1.safetensors",
            every=p.checkpoint_every,
            key=key,
        )
        history = stage.run(batches, terms, progress)
        if folder and self.machine.main:
            save_tensors(
                {"context": model.context},
                folder / PROMPTS_FILE,
                {"key": key, "pids": pids.tolist(), "history": history},
            )
        return history

    def _clip_features(self, images: np.ndarray) -> np.ndarray:
        """(N, E) projected features by the untrained encoder, no cameras embedded; a batch of an earlier run in this process is looked up."""
        encoder, parts = self.model.encoder, []
        start = hashlib.sha256(
            repr(
                [
                    self.machine.device,
                    self.precision,
                    torch.get_num_threads(),
                    images.shape[1:],
                    encoder.stride,
                ]
            ).encode()
        )
        for name, value in encoder.state_dict().items():
            if name != "cameras":
                start.update(value.detach().cpu().contiguous().numpy())
        for first in range(0, len(images), EXTRACT_BATCH):
            batch, digest = (
                np.ascontiguousarray(images[first : first + EXTRACT_BATCH]),
                start.copy(),
            )
            digest.update(batch)
            key = digest.digest()
            if key not in SEEN:
                SEEN[key] = self.in_batches(lambda pixels, _: encoder(pixels)[2], batch, None)
            parts.append(SEEN[key])
        while len(SEEN) > SEEN_BATCHES:
            del SEEN[next(iter(SEEN))]
        return np.concatenate(parts)

    def _train_encoder(
        self, train: ImageSet, images, labels, weights, seed: int, progress, folder
    ) -> dict[str, list[float]]:
        """Stage 2: the image encoder and the identity heads learn against the fixed text features of all identities."""
        p, model = self.params, self.model
        steps = steps_of(p.stage2, len(images), p.batch_size)
        sampler = PKSampler(
            train.pids,
            p.batch_size,
            p.instances,
            steps,
            seed_for(seed, "pk"),
            generated=train.generated,
            max_share=p.generated.max_share,
        )
        cameras = self.camera_rows(train.camids, len(images), train.generated)
        with self.machine.autocast():
            text = self.prompts.all_features()

        def terms(network, step: int, rows: np.ndarray) -> dict[str, Tensor]:
            rows = self.machine.share(rows, sampler.instances)
            pixels = self.augmented(images, rows, seed, step)
            own = None if cameras is None else torch.from_numpy(cameras[rows]).to(pixels.device)
            rows = torch.from_numpy(rows).to(labels.device)
            return stage2_terms(
                network(pixels, own),
                labels[rows],
                text,
                p,
                None if weights is None else weights[rows],
            )

        stage = Stage(
            "stage2",
            model.train(),
            parameter_groups(model, p.head_factor),
            lambda step: stage2_rate(epoch_of(step, steps, p.stage2.epochs), p.stage2),
            steps,
            p.stage2.weight_decay,
            self.machine,
            checkpoint=folder and folder / "stage2.safetensors",
            every=p.checkpoint_every,
            key=self._key(train, seed, "stage1", "stage2") if folder else "",
        )
        history = stage.run(sampler, terms, progress)
        model.eval()
        return history

    def _key(self, train: ImageSet, seed: int, *stages: str) -> str:
        """What a stage depends on: a change in stage 2 alone keeps what stage 1 learned."""
        settings = {
            name: value
            for name, value in plain(self.params).items()
            if name not in ("seeds", "checkpoint_every", "stage1", "stage2")
        }
        settings |= {name: plain(getattr(self.params, name)) for name in stages}
        return run_key(
            settings,
            train,
            seed,
            str(self.pretrained),
            self.height,
            self.width,
            self.machine.processes,
        )

    def camera_rows(
        self, camids: np.ndarray | None, count: int, generated: np.ndarray | None = None
    ) -> np.ndarray | None:
        """SIE: rows of the camera embedding. Unknown cameras are refused; images of no known camera (None) get the mean of all."""
        if not self.cameras:
            return None
        if camids is None:
            return np.full(count, -2)
        place = np.searchsorted(self.cameras, camids).clip(max=len(self.cameras) - 1)
        unknown = np.setdiff1d(camids, self.cameras)
        if len(unknown):
            raise StudyError(
                f"Camera {unknown[0]} was not among the training cameras {self.cameras}, so it has no embedding: "
                "give no cameras, or train with reid.camera_weight 0."
            )
        if generated is not None and self.params.generated.camera != "inherit":
            place = np.where(
                generated,
                len(self.cameras) if self.params.generated.camera == "generated" else -1,
                place,
            )
        return place

    def about(self) -> dict[str, Any]:
        encoder = self.model.encoder
        return {
            "vision": encoder.vision.config.to_dict()
            | {"projection_dim": encoder.projection.out_features},
            "cameras": self.cameras,
            "identities": self.model.head12.classifier.out_features,
            "camera_rows": len(encoder.cameras) if self.cameras else 0,
            "camera_weight": encoder.camera_weight,
            "patch_stride": encoder.stride,
        }

    def rebuild(self, about: dict[str, Any]) -> ClipReID:
        vision = CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(about["vision"]))
        self.cameras = about["cameras"]
        encoder = ImageEncoder(
            vision,
            self.height,
            self.width,
            stride=about["patch_stride"],
            cameras=about["camera_rows"],
            camera_weight=about["camera_weight"],
            real=len(self.cameras),
        )
        return ClipReID(encoder, about["identities"], torch.Generator().manual_seed(0))


def stage2_terms(
    outputs: tuple[Tensor, ...], labels: Tensor, text: Tensor, p, weights: Tensor | None = None
) -> dict[str, Tensor]:
    """0.25 (ID_x12 + ID_proj) + (triplet of x11, x12, proj) + I2TCE, each term times its weight from the parameters `p`.

    outputs: those of `ClipReID`; text (identities, E): the features of all prompts, logits of images to text being plain dot products.
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
        "image_to_text": p.i2t_weight * identity(functional.linear(proj, text)),
    }


def parameter_groups(
    model: torch.nn.Module, head_factor: float = 1.0
) -> list[tuple[list[Tensor], float]]:
    """Biases learn at twice the rate, the identity heads at `head_factor` times it; what is frozen (the bias of a BNNeck) is left out.

    The published 1.0 lets new heads grow over thousands of steps. In a run of a hundred they would stay near zero, and Adam, blind to
    the size of a gradient, would meanwhile push the encoder about at random.
    """
    factors: dict[float, list[Tensor]] = {1.0: [], 2.0: [], head_factor: []}
    for name, value in model.named_parameters():
        if value.requires_grad:
            factors[
                head_factor if "classifier" in name else 2.0 if name.endswith("bias") else 1.0
            ].append(value)
    return [(values, factor) for factor, values in factors.items() if values]


def _load_prompts(
    path: Path, model: PromptLearner, pids: np.ndarray, key: str | None
) -> dict[str, list[float]]:
    """Put what stage 1 learned into the model: for the same identities, and with `key` of the same run."""
    tensors, about = load_tensors(path)
    if (
        "context" not in tensors
        or about.get("pids") != pids.tolist()
        or tensors["context"].shape != model.context.shape
    ):
        raise StudyError(
            f"{path} holds no prompts for these {len(pids)} identities and this text encoder: train stage 1 on this training set."
        )
    if key is not None and about.get("key") != key:
        raise StudyError(
            f"{path} belongs to a run with other images, parameters or seed: remove it or choose another folder."
        )
    with torch.no_grad():
        model.context.copy_(tensors["context"])
    return about["history"]
