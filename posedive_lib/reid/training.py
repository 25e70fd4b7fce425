"""§D, §F: train CLIP-ReID in its two stages and measure it; one run is a function of its images, parameters and seed.

A baseline has three methods, `fit`, `extract` and `save`/`load`; `run` needs no more, so that a second one can follow.
"""

import json
import math
import time
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from posedive_lib.errors import StudyError
from posedive_lib.reid import losses
from posedive_lib.reid.augmentation import augment, normalise
from posedive_lib.reid.clip_reid import ClipReID
from posedive_lib.reid.images import ImageSet
from posedive_lib.reid.retrieval import evaluate
from posedive_lib.reid.sampler import PKSampler, shuffled_batches
from posedive_lib.seeds import seed_for

EXTRACT_BATCH = 128


class Baseline(Protocol):
    """What the study asks of a Re-ID method."""

    def fit(self, train: ImageSet, *, seed: int, progress=None) -> dict: ...

    def extract(self, images: np.ndarray) -> np.ndarray: ...

    def save(self, folder: str | Path) -> None: ...


def stage1_rate(step: int, steps: int) -> float:
    """Share of the learning rate: warm-up over the first 1/24 from 1/35, then a cosine down to 1/350 (CLIP-ReID's 120 epochs)."""
    warmup = max(1, steps // 24)
    if step < warmup:
        return 1 / 35 + (1 - 1 / 35) * step / warmup
    return 1 / 350 + (1 - 1 / 350) * (1 + math.cos(math.pi * step / steps)) / 2


def stage2_rate(step: int, steps: int, warmup: float) -> float:
    """Share of the learning rate: linear warm-up from 0.1 over the share `warmup`, then a tenth after 1/2 and again after 5/6."""
    done = step / steps
    if done < warmup:
        return 0.1 + 0.9 * done / warmup
    return 1.0 if done < 1 / 2 else 0.1 if done < 5 / 6 else 0.01


class ClipReIDBaseline:
    """CLIP-ReID, both stages. `params` is the section `reid` of params.yaml; `pretrained` the folder of the CLIP weights."""

    def __init__(self, params, pretrained: str | Path, height: int, width: int, device: str | None = None):
        self.params, self.pretrained, self.height, self.width = params, Path(pretrained), height, width
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model: ClipReID | None = None

    def fit(self, train: ImageSet, *, seed: int, progress=None) -> dict:
        """Train on uint8 images of any identities; returns the loss of each step. `progress(stage, step, steps)` is called per step."""
        pids, labels = np.unique(train.pids, return_inverse=True)
        sampler = PKSampler(labels, self.params.batch_size, self.params.instances, self.params.stage2.steps, seed_for(seed, "pk"))
        self._check_size(train.images)
        with torch.random.fork_rng(devices=[]):   # layers draw initial values from the global generator before ours replace them
            self.model = ClipReID.from_pretrained(self.pretrained, self.height, self.width, len(pids), seed_for(seed, "heads")).to(self.device)
        images, labels = torch.from_numpy(np.ascontiguousarray(train.images)), torch.from_numpy(labels).to(self.device)
        progress = progress or (lambda stage, step, steps: None)
        first = self._learn_prompts(images, labels, seed, progress)
        second = self._train_encoder(images, labels, sampler, seed, progress)
        return {"stage1": first, "stage2": second}

    def _learn_prompts(self, images, labels, seed: int, progress) -> list[float]:
        """Stage 1: image features are computed once, without augmentation; only the prompts learn."""
        model, options, history = self.model, self.params.stage1, []
        features = torch.from_numpy(self._features(images)[1]).to(self.device)
        optimiser = torch.optim.Adam([model.prompts.context], lr=options.learning_rate, weight_decay=options.weight_decay)
        batches = shuffled_batches(len(images), self.params.batch_size, options.steps, seed_for(seed, "stage1"))
        for step, rows in enumerate(batches):
            _set_rate(optimiser, stage1_rate(step, options.steps))
            target, image = labels[rows], features[rows]
            people, place = target.unique(return_inverse=True)   # images of one identity share one text feature
            text = model.prompts(model.text, people)[place]
            loss = losses.supervised_contrastive(image, text, target, target) + losses.supervised_contrastive(text, image, target, target)
            _step(optimiser, loss, history, "stage1")
            progress("stage1", step + 1, options.steps)
        return history

    def _train_encoder(self, images, labels, sampler, seed: int, progress) -> list[float]:
        """Stage 2: the image encoder and the identity heads learn against the fixed text features of all identities."""
        model, options, history = self.model, self.params.stage2, []
        generator = torch.Generator().manual_seed(seed_for(seed, "augmentation"))
        text = model.text_features()
        optimiser = torch.optim.Adam(_groups(model, options.learning_rate), weight_decay=options.weight_decay)
        model.train()
        for step, rows in enumerate(sampler):
            _set_rate(optimiser, stage2_rate(step, options.steps, options.warmup))
            pixels = augment(images[rows].to(self.device), generator, self.params.random_erasing)
            _step(optimiser, self._loss(pixels, labels[rows], text), history, "stage2")
            progress("stage2", step + 1, options.steps)
        model.eval()
        return history

    def _loss(self, pixels, labels, text) -> torch.Tensor:
        """0.25 (ID_x12 + ID_proj) + (triplet of x11, x12, proj) + I2TCE, weights from the parameters."""
        model, p = self.model, self.params
        x11, x12, proj = model.encoder(pixels)
        ids = sum(losses.identity(head(x), labels, p.label_smoothing) for head, x in ((model.head12, x12), (model.head_proj, proj)))
        triplets = sum(losses.hard_triplet(x, labels, p.margin) for x in (x11, x12, proj))
        i2t = losses.identity(proj @ text.T, labels, p.label_smoothing)
        return p.id_weight * ids + p.triplet_weight * triplets + p.i2t_weight * i2t

    def _check_size(self, images: np.ndarray) -> None:
        if images.shape[1:3] != (self.height, self.width):
            raise StudyError(f"Images are {images.shape[1]} x {images.shape[2]} pixels, the model takes {self.height} x {self.width}: load them in that size.")

    @torch.no_grad()
    def _features(self, images) -> tuple[np.ndarray, np.ndarray]:
        """x12 (N, D) and proj (N, E) float32, without augmentation."""
        self.model.eval()
        parts = [self.model.encoder(normalise(batch.to(self.device)))[1:] for batch in images.split(EXTRACT_BATCH)]
        return tuple(torch.cat(group).float().cpu().numpy() for group in zip(*parts, strict=True))

    def extract(self, images: np.ndarray) -> np.ndarray:
        """(N, H, W, 3) uint8 to test features (N, D + E) float32: x12 and proj side by side, before batch norm."""
        if self.model is None:
            raise StudyError("This CLIP-ReID has no weights: call fit or load first.")
        self._check_size(images)
        if len(images) == 0:
            return np.zeros((0, self.model.head12.norm.num_features + self.model.head_proj.norm.num_features), np.float32)
        return np.concatenate(self._features(torch.from_numpy(np.ascontiguousarray(images))), axis=1)

    def save(self, folder: str | Path) -> None:
        """Write weights (safetensors) and what is needed to rebuild the model; the frozen text encoder is not repeated."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = {key: value.contiguous() for key, value in self.model.state_dict().items() if not key.startswith("text.")}
        save_file(state, folder / "model.safetensors")
        about = {"identities": len(self.model.prompts.context), "height": self.height, "width": self.width}
        (folder / "clip_reid.json").write_text(json.dumps(about))

    def load(self, folder: str | Path) -> "ClipReIDBaseline":
        """Read what `save` wrote; StudyError if the folder holds something else."""
        folder = Path(folder)
        try:
            about = json.loads((folder / "clip_reid.json").read_text())
            state = load_file(folder / "model.safetensors")
            self.height, self.width = about["height"], about["width"]
            with torch.random.fork_rng(devices=[]):
                model = ClipReID.from_pretrained(self.pretrained, self.height, self.width, about["identities"], seed=0)
            unknown = model.load_state_dict(state, strict=False)
        except (OSError, KeyError, json.JSONDecodeError, SafetensorError, RuntimeError) as error:
            raise StudyError(f"{folder} holds no CLIP-ReID of this size ({error}): train it again.") from None
        if unknown.unexpected_keys or any(not key.startswith("text.") for key in unknown.missing_keys):
            raise StudyError(f"{folder} holds another model than CLIP-ReID: train it again.")
        self.model = model.to(self.device).eval()
        return self


def _set_rate(optimiser: torch.optim.Optimizer, share: float) -> None:
    for group in optimiser.param_groups:
        group.setdefault("full_rate", group["lr"])
        group["lr"] = group["full_rate"] * share


def _groups(model: ClipReID, rate: float) -> list[dict]:
    """Biases learn at twice the rate; the text encoder and the prompts are fixed in stage 2."""
    parts = [(name, value) for module in (model.encoder, model.head12, model.head_proj) for name, value in module.named_parameters() if value.requires_grad]
    biases = [value for name, value in parts if name.endswith("bias")]
    return [{"params": [value for name, value in parts if not name.endswith("bias")], "lr": rate}, {"params": biases, "lr": 2 * rate}]


def _step(optimiser: torch.optim.Optimizer, loss: torch.Tensor, history: list[float], stage: str) -> None:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise StudyError(f"The loss of CLIP-ReID's {stage} is {value} at step {len(history)}: lower reid.{stage}.learning_rate.")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    history.append(value)


def measure(baseline: Baseline, query: ImageSet, gallery: ImageSet, *, max_rank: int = 50, average_precision: str = "rectangular") -> dict:
    """mAP, ranks and mINP in percent, with the protocol they were measured under and the AP of each valid query (fractions)."""
    result = evaluate(
        baseline.extract(query.images), query.pids, query.camids, baseline.extract(gallery.images), gallery.pids, gallery.camids,
        max_rank=max_rank, average_precision=average_precision,
    )
    ranks = {f"rank{k}": 100 * float(result.cmc[k - 1]) for k in (1, 5, 10) if k <= max_rank}
    return {
        "mAP": 100 * result.mAP, **ranks, "mINP": 100 * result.mINP, "n_query": result.n_queries, "n_valid": result.n_valid, "n_gallery": len(gallery),
        "average_precision": average_precision, "distance": "cosine", "reranking": "none",
        "query_ap": result.average_precision.tolist(), "query_first_rank": result.first_rank.tolist(), "query_valid": result.valid.tolist(),
    }


def run(
    train: ImageSet, query: ImageSet, gallery: ImageSet, params, *, pretrained: str | Path, seed: int, baseline: Baseline | None = None,
    save_to: str | Path | None = None, progress=None, device: str | None = None,
) -> dict:
    """§D, §F: one Re-ID run: train CLIP-ReID (or `baseline`) on `train`, measure on `query` against `gallery`.

    `params` is the section `reid` of params.yaml. Returns the numbers of `measure` with `n_train`, `n_identities`, `losses` of both stages
    and `seconds`; everything but the time is determined by the arguments. Nothing random comes from, or changes, a global generator.
    """
    started = time.perf_counter()
    height, width = train.images.shape[1:3]
    baseline = baseline or ClipReIDBaseline(params, pretrained, height, width, device)
    history = baseline.fit(train, seed=seed, progress=progress)
    metrics = measure(baseline, query, gallery)
    if save_to is not None:
        baseline.save(save_to)
    return {
        **metrics, "n_train": len(train), "n_identities": int(len(np.unique(train.pids))), "seed": seed,
        "losses": history, "seconds": round(time.perf_counter() - started, 2),
    }
