"""What the pre-training scripts share: settings, the rendered people, and one resumable training loop."""

import copy
import csv
import hashlib
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm

from posedive_lib.errors import StudyError
from posedive_lib.seeds import rng_for, seed_for
from posedive_lib.writing import replacing

HERE = Path(__file__).parent
ARRAYS = (
    "images",
    "keypoints",
    "visible",
    "person",
    "azimuth",
    "elevation",
    "skeleton",
    "depth",
    "normals",
    "neutral",
)


def settings() -> dict:
    """miniworld/pretrain/params.yaml as nested dictionaries."""
    return yaml.safe_load((HERE / "params.yaml").read_text())


@dataclass
class People:
    """Rendered people, aligned by row; arrays are memory-mapped.

    images (N,H,W,3), neutral (N,H,W,3), skeleton (N,H,W,3), depth (N,H,W,1), normals (N,H,W,3) uint8;
    keypoints (N,17,2) pixels; visible (N,17): 2 visible, 1 hidden by the own body, 0 hidden otherwise or outside.
    """

    captions: list[str]
    rows: np.ndarray  # rows of this split
    arrays: dict[str, np.ndarray]

    def __getattr__(self, name: str) -> np.ndarray:
        try:
            return self.__dict__["arrays"][name]
        except KeyError:
            raise AttributeError(name) from None


def people(split: str) -> People:
    """Rows of `split`: "train", or "held-out" (persons no model has seen)."""
    config = settings()
    folder = Path(config["people_folder"])
    if not (folder / "captions.json").exists():
        raise StudyError(
            f"No rendered people in {folder}: run `python -m miniworld.pretrain.render` first."
        )
    arrays = {
        name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        for name in ARRAYS
        if (folder / f"{name}.npy").exists()
    }
    captions = json.loads((folder / "captions.json").read_text())
    person = np.asarray(arrays["person"])
    first_held_out = person.max() + 1 - config["people"]["held_out"]
    rows = np.flatnonzero((person >= first_held_out) == (split == "held-out"))
    return People(captions, rows, arrays)


def to_float(images: np.ndarray) -> torch.Tensor:
    """uint8 (N,H,W,C) to float (N,C,H,W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def jitter_colour(images: torch.Tensor, strength: float, rng: np.random.Generator) -> torch.Tensor:
    """Random gain per image and channel, contrast and brightness; images (N,3,H,W) in [-1, 1]."""
    n = len(images)
    gain = torch.from_numpy(
        1
        + strength * rng.uniform(-1, 1, (n, 1, 1, 1))
        + 0.4 * strength * rng.uniform(-1, 1, (n, 3, 1, 1))
    )
    shift = torch.from_numpy(0.5 * strength * rng.uniform(-1, 1, (n, 1, 1, 1)))
    return (images * gain.float() + shift.float()).clamp(-1, 1)


def warm_start(model: nn.Module, folder: str | None) -> None:
    """Weights of an earlier release where name and shape agree, in place; None starts from nothing."""
    if folder is None:
        return
    own, taken = model.state_dict(), {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            taken |= {
                key: file.get_tensor(key).float()
                for key in file.keys()
                if key in own and tuple(file.get_slice(key).get_shape()) == tuple(own[key].shape)
            }
    print(f"{len(taken)} of {len(own)} tensors start from {folder}")
    model.load_state_dict(taken, strict=False)


def weights_digest(*folders: Path) -> str:
    """Short digest of the weights in these folders, for the names of what was computed with them."""
    digest = hashlib.sha256()
    for path in sorted(p for folder in folders for p in Path(folder).rglob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _digest(config: dict) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def _learning_rate(step: int, steps: int, peak: float, warmup: int = 100) -> float:
    """Linear warm-up, then cosine to zero."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return 0.5 * peak * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


class Loop:
    """One training run: AdamW, warm-up and cosine, gradient clipping, CSV log, progress bar, exact resume.

    Every step draws from a generator seeded by (seed, name, step), so a resumed run repeats what an unbroken
    one would have done. Checkpoints are safetensors: parameters, Adam's moments and, if asked for, the average.
    """

    def __init__(
        self, name: str, modules: dict[str, nn.Module], config: dict, *, ema_decay: float = 0.0
    ):
        self.name, self.config, self.ema_decay = name, config, ema_decay
        self.seed = settings()["seed"]
        self.folder = HERE / "runs" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.model = nn.ModuleDict(modules)
        self.parameters = dict(self.model.named_parameters())
        decay = [p for p in self.parameters.values() if p.ndim > 1]
        plain = [p for p in self.parameters.values() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decay}, {"params": plain, "weight_decay": 0.0}],
            lr=config["learning_rate"],
            weight_decay=config["weight_decay"],
            betas=(0.9, 0.98),
            fused=True,
        )
        self.average = (
            {k: p.detach().clone() for k, p in self.parameters.items()} if ema_decay else {}
        )
        self.step = self._resume()

    @property
    def _file(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    def _save(self) -> None:
        tensors = {
            f"model/{k}": v.detach().contiguous().clone()
            for k, v in self.model.state_dict().items()
        }
        tensors |= {f"average/{k}": v.contiguous() for k, v in self.average.items()}
        for key, parameter in self.parameters.items():
            state = self.optimizer.state.get(parameter, {})
            tensors |= {
                f"{m}/{key}": state[m].contiguous() for m in ("exp_avg", "exp_avg_sq") if m in state
            }
        with replacing(self._file) as draft:
            save_file(tensors, draft, {"step": str(self.step), "config": _digest(self.config)})

    def _resume(self) -> int:
        """Step to go on from: 0 without a checkpoint, or where it belongs to other settings."""
        if not self._file.exists():
            return 0
        with safe_open(self._file, "pt") as file:
            metadata = file.metadata()
            if metadata["config"] != _digest(self.config):
                return 0
            step = int(metadata["step"])
            self.model.load_state_dict(
                {k[6:]: file.get_tensor(k) for k in file.keys() if k.startswith("model/")}
            )
            for key, parameter in self.parameters.items():
                if f"exp_avg/{key}" in file.keys():
                    self.optimizer.state[parameter] = {
                        "step": torch.tensor(float(step)),
                        "exp_avg": file.get_tensor(f"exp_avg/{key}"),
                        "exp_avg_sq": file.get_tensor(f"exp_avg_sq/{key}"),
                    }
                if self.ema_decay:
                    self.average[key] = file.get_tensor(f"average/{key}")
        return step

    def run(
        self,
        loss_of: Callable[[int, np.random.Generator], dict[str, torch.Tensor]],
        *,
        log_every: int = 20,
        checkpoint_every: int = 250,
    ) -> nn.ModuleDict:
        """Train to config["steps"]; `loss_of(step, rng)` returns named scalars, "loss" is the one to descend."""
        steps, sums, count = self.config["steps"], {}, 0
        if self.step >= steps:
            return self.finish()
        log = self.folder / "log.csv"
        rows = log.read_text().splitlines()[1:] if log.exists() and self.step else []
        kept = [row for row in rows if int(row.split(",")[0]) <= self.step]
        self.model.train()
        with (
            log.open("w", newline="") as file,
            tqdm(total=steps, initial=self.step, desc=self.name, mininterval=5) as bar,
        ):
            writer, header = csv.writer(file), False
            while self.step < steps:
                torch.manual_seed(seed_for(self.seed, self.name, "torch", self.step))
                for group in self.optimizer.param_groups:
                    group["lr"] = _learning_rate(self.step, steps, self.config["learning_rate"])
                with torch.autocast("cpu", torch.bfloat16, enabled=self.config.get("bf16", False)):
                    losses = loss_of(self.step, rng_for(self.seed, self.name, self.step))
                self.optimizer.zero_grad(set_to_none=True)
                losses["loss"].backward()
                nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
                self.optimizer.step()
                self.step, count = self.step + 1, count + 1
                self._update_average()
                sums = {k: sums.get(k, 0.0) + float(v.detach()) for k, v in losses.items()}
                bar.update()
                if not header:
                    writer.writerow(["step", *losses])
                    file.writelines(f"{row}\n" for row in kept)
                    header = True
                if self.step % log_every == 0:
                    means = {k: v / count for k, v in sums.items()}
                    writer.writerow([self.step, *(f"{v:.5g}" for v in means.values())])
                    file.flush()
                    bar.set_postfix({k: f"{v:.4g}" for k, v in means.items()}, refresh=False)
                    sums, count = {}, 0
                if self.step % checkpoint_every == 0 or self.step == steps:
                    self._save()
        return self.finish()

    def _update_average(self) -> None:
        if self.ema_decay:
            decay = min(self.ema_decay, (1 + self.step) / (10 + self.step))
            for key, parameter in self.parameters.items():
                self.average[key].lerp_(parameter.detach(), 1 - decay)

    def finish(self) -> nn.ModuleDict:
        """The trained modules in evaluation mode, with averaged weights where an average was kept."""
        with torch.no_grad():
            for key, value in self.average.items():
                self.parameters[key].copy_(value)
        return self.model.eval()


def save_model(model, folder: Path) -> None:
    """Write a library model as half-precision safetensors; the model itself stays as it is.

    A transformers config.json asks for float32, so that a plain `from_pretrained(folder)` computes in it on a CPU.
    """
    copy.deepcopy(model).half().save_pretrained(folder, safe_serialization=True)
    path = Path(folder) / "config.json"
    config = json.loads(path.read_text())
    if "dtype" in config:
        path.write_text(json.dumps(config | {"dtype": "float32"}, indent=2) + "\n")


def batches(rows: Iterable[int], size: int) -> Iterable[np.ndarray]:
    """`rows` in order, `size` at a time."""
    rows = np.asarray(rows)
    return (rows[i : i + size] for i in range(0, len(rows), size))
