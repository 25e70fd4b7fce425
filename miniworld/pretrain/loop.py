"""One resumable training loop for all models."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from miniworld.pretrain.common import HERE, settings
from posedive_lib.checkpoints import load_checkpoint, save_checkpoint
from posedive_lib.devices import autocast
from posedive_lib.seeds import rng_for, seed_for

MOMENTS = ("exp_avg", "exp_avg_sq")  # Adam's
CPU = torch.device("cpu")


def learning_rate(step: int, steps: int, peak: float, warmup: int = 100) -> float:
    """Linear warm-up, then cosine to zero."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return 0.5 * peak * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


class Log:
    """Means of the losses in `log.csv`, one row every so many steps."""

    def __init__(self, path: Path, step: int, every: int = 20):
        self.every = every
        self.sums: dict[str, float] = {}
        self.count = 0
        old = path.read_text().splitlines()[1:] if path.exists() and step else []
        # an unbroken run would not have the rows after the checkpoint yet
        self.kept = [row for row in old if int(row.split(",")[0]) <= step]
        self.file = path.open("w", newline="")
        self.writer = csv.writer(self.file)
        self.begun = False

    def add(self, step: int, losses: dict[str, Tensor]) -> dict[str, float] | None:
        """Note the losses of a step; the means when a row was written."""
        if not self.begun:
            self.writer.writerow(["step", *losses])
            self.file.writelines(f"{row}\n" for row in self.kept)
            self.begun = True
        self.sums = {k: self.sums.get(k, 0.0) + float(v.detach()) for k, v in losses.items()}
        self.count += 1
        if step % self.every:
            return None
        means = {k: v / self.count for k, v in self.sums.items()}
        self.writer.writerow([step, *(f"{v:.5g}" for v in means.values())])
        self.file.flush()
        self.sums, self.count = {}, 0
        return means

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class Loop:
    """One training run: AdamW, warm-up and cosine, gradient clipping, log, exact resume.

    Every step draws from a generator seeded by (seed, name, step), so a resumed run repeats what an
    unbroken one would have done: exactly on the CPU, but for rounding on another `device`. The
    checkpoint holds the parameters, Adam's moments and, if asked for, the average of the
    parameters. It is named by the settings, so other settings start anew.
    """

    def __init__(
        self,
        name: str,
        modules: dict[str, nn.Module],
        config: dict[str, Any],
        *,
        ema_decay: float = 0.0,
        device: torch.device = CPU,
    ):
        self.name, self.config, self.ema_decay, self.device = name, config, ema_decay, device
        self.seed = settings()["seed"]
        self.folder = HERE / "runs" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps([self.seed, config], sort_keys=True)
        self.key = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.file = self.folder / f"checkpoint-{self.key}.safetensors"
        self.model = nn.ModuleDict(modules).to(device)
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
        self.average: dict[str, Tensor] = {}
        if ema_decay:
            self.average = {k: p.detach().clone() for k, p in self.parameters.items()}
        self.step = self._resume()

    def _save(self) -> None:
        tensors = {f"model/{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average/{k}": v for k, v in self.average.items()}
        for key, parameter in self.parameters.items():
            state = self.optimizer.state.get(parameter, {})
            tensors |= {f"{m}/{key}": state[m] for m in MOMENTS if m in state}
        save_checkpoint(self.file, tensors, {"key": self.key, "step": self.step})

    def _resume(self) -> int:
        """Step to go on from: 0 without a checkpoint."""
        if not self.file.exists():
            return 0
        tensors, about = load_checkpoint(self.file, self.key)
        step = int(about["step"])
        own = {k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")}
        self.model.load_state_dict(own)
        for key, parameter in self.parameters.items():
            if f"exp_avg/{key}" in tensors:
                moments = {m: tensors[f"{m}/{key}"].to(self.device) for m in MOMENTS}
                count = torch.tensor(float(step), device=self.device)
                self.optimizer.state[parameter] = {"step": count, **moments}
            if self.ema_decay:
                self.average[key] = tensors[f"average/{key}"].to(self.device)
        return step

    def run(
        self,
        loss_of: Callable[[int, np.random.Generator], dict[str, Tensor]],
        *,
        checkpoint_every: int = 250,
    ) -> nn.ModuleDict:
        """Train to config["steps"].

        `loss_of(step, rng)` returns named scalars; "loss" is the one to descend.
        """
        steps = self.config["steps"]
        if self.step >= steps:
            return self.finish()
        self.model.train()
        with (
            closing(Log(self.folder / "log.csv", self.step)) as log,
            tqdm(total=steps, initial=self.step, desc=self.name, mininterval=5) as bar,
        ):
            while self.step < steps:
                losses = self._descend(loss_of)
                bar.update()
                means = log.add(self.step, losses)
                if means:
                    bar.set_postfix({k: f"{v:.4g}" for k, v in means.items()}, refresh=False)
                if self.step % checkpoint_every == 0 or self.step == steps:
                    self._save()
        return self.finish()

    def _descend(
        self, loss_of: Callable[[int, np.random.Generator], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """One step of the optimiser; the losses before it."""
        torch.manual_seed(seed_for(self.seed, self.name, "torch", self.step))
        rate = learning_rate(self.step, self.config["steps"], self.config["learning_rate"])
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with autocast(self.device, "bf16" if self.config.get("bf16", False) else "fp32"):
            losses = loss_of(self.step, rng_for(self.seed, self.name, self.step))
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()
        self.step += 1
        if self.ema_decay:
            # a young average forgets faster
            decay = min(self.ema_decay, (1 + self.step) / (10 + self.step))
            for key, parameter in self.parameters.items():
                self.average[key].lerp_(parameter.detach(), 1 - decay)
        return losses

    def finish(self) -> nn.ModuleDict:
        """The trained modules in evaluation mode, with averaged weights where there are some."""
        with torch.no_grad():
            for key, value in self.average.items():
                self.parameters[key].copy_(value)
        return self.model.eval()
