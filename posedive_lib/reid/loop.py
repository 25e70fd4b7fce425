"""The optimisation loop of every Re-ID model: one process or several, any precision.

A run that was killed and resumed ends in the same weights as one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from posedive_lib.checkpoints import load_checkpoint, save_checkpoint
from posedive_lib.devices import (
    PRECISIONS,
    autocast,
    checked_device,
    chosen_precision,
    processes,
)
from posedive_lib.errors import StudyError

History = dict[str, list[float]]  # learning rate, loss and its weighted terms, per step
Progress = Callable[[str, int, int], Any]  # called with (stage, steps done, steps)
Terms = Callable[[nn.Module, int, np.ndarray], dict[str, Tensor]]  # (module, step, batch of rows)


class Machine:
    """Where to compute: the given device, else the GPU or CPU that `accelerate` finds.

    Under `accelerate launch` it is one of the processes. precision: that of `reid.precision`.
    """

    def __init__(self, device: str | None, precision: str) -> None:
        chosen = checked_device(device) if device else None
        state = processes()  # one for all: the first that is made decides where later ones compute
        self.processes, self.index = state.num_processes, state.process_index
        self.device = chosen if chosen and self.processes == 1 else state.device
        self.precision = chosen_precision(self.device, precision, "reid.precision")
        self.dtype = PRECISIONS[self.precision]

    @property
    def main(self) -> bool:
        """Whether this process writes files."""
        return self.index == 0

    def autocast(self) -> torch.autocast:
        """Context of the precision; weights and optimiser stay float32."""
        return autocast(self.device, self.precision)

    def parallel(self, module: nn.Module) -> nn.Module:
        """`module` on the device; with several processes their gradients are averaged."""
        module.to(self.device)
        if self.processes == 1:
            return module
        accelerator = Accelerator(mixed_precision="no", cpu=self.device.type == "cpu")
        return accelerator.prepare_model(module)

    def agree(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the first one's values.

        Needed for running statistics, which each process computes from its own part of a batch.
        """
        if self.processes > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, 0)

    def share(self, rows: np.ndarray, group: int = 1) -> np.ndarray:
        """This process's part of a batch, in whole groups of `group` rows."""
        parts = np.array_split(rows.reshape(-1, group), self.processes)
        if not len(parts[-1]):
            raise StudyError(
                f"A batch of {len(rows)} images cannot be shared by {self.processes} processes: "
                "raise reid.batch_size or start fewer."
            )
        return parts[self.index].ravel()


@dataclass(frozen=True)
class Checkpoint:
    """Where and how often (steps) a stage writes its state; `key` says which run it belongs to."""

    file: Path
    every: int
    key: str


class Stage:
    """Adam on some parameters of `module` for `steps` steps.

    groups: (parameters, factor of the learning rate) pairs. rate: step -> learning rate.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        groups: list[tuple[list[Tensor], float]],
        rate: Callable[[int], float],
        steps: int,
        weight_decay: float,
        machine: Machine,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.name, self.rate, self.steps, self.machine = name, rate, steps, machine
        self.inner, self.module = module, machine.parallel(module)
        self.checkpoint = checkpoint
        self.factors = [factor for _, factor in groups]
        self.optimiser = torch.optim.Adam(
            [{"params": values} for values, _ in groups],
            weight_decay=weight_decay,
            fused=machine.device.type in ("cpu", "cuda"),
        )
        half = machine.dtype is torch.float16
        self.scaler = torch.amp.GradScaler(machine.device.type, enabled=half)
        self.history: History = {}

    def run(
        self, batches: Iterable[np.ndarray], terms: Terms, progress: Progress | None = None
    ) -> History:
        """Take every step that is still to do.

        terms: gives the weighted terms of a batch; their sum is minimised. StudyError on a loss
        that is not finite.
        """
        done = self._resume()
        for step, rows in enumerate(batches):
            if step < done:  # its batch is drawn all the same, so that later ones are as ever
                continue
            self._step(step, terms, rows)
            if progress:
                progress(self.name, step + 1, self.steps)
            self._save(step + 1)
        self.machine.agree(self.inner.buffers())
        return self.history

    def _step(self, step: int, terms: Terms, rows: np.ndarray) -> None:
        rate = self.rate(step)
        for group, factor in zip(self.optimiser.param_groups, self.factors, strict=True):
            group["lr"] = rate * factor
        with self.machine.autocast():
            parts = terms(self.module, step, rows)
        loss = sum(parts.values())
        values = torch.stack([loss, *parts.values()]).detach().tolist()
        if not math.isfinite(values[0]):
            raise StudyError(
                f"The loss of {self.name} is {values[0]} at step {step}: "
                f"lower reid.{self.name}.learning_rate."
            )
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        for name, value in zip(("rate", "loss", *parts), (rate, *values), strict=True):
            self.history.setdefault(name, []).append(value)

    def _changing(self) -> dict[str, Tensor]:
        """Everything that a step changes in the module."""
        learned = {
            f"module.{name}": value
            for name, value in self.inner.named_parameters()
            if value.requires_grad
        }
        return learned | {f"module.{name}": value for name, value in self.inner.named_buffers()}

    def _save(self, done: int) -> None:
        """Write the state after `done` steps, where it is time."""
        if not (self.checkpoint and self.checkpoint.every and self.machine.main):
            return
        if done % self.checkpoint.every and done != self.steps:
            return
        adam = {
            f"adam.{index}.{name}": value
            for index, values in self.optimiser.state_dict()["state"].items()
            for name, value in values.items()
        }
        about = {
            "key": self.checkpoint.key,
            "done": done,
            "history": self.history,
            "scaler": self.scaler.state_dict(),
        }
        save_checkpoint(self.checkpoint.file, self._changing() | adam, about)

    def _resume(self) -> int:
        """The number of steps done before, after putting their state back."""
        if not (self.checkpoint and self.checkpoint.file.is_file()):
            return 0
        tensors, about = load_checkpoint(self.checkpoint.file, self.checkpoint.key)
        with torch.no_grad():
            for name, value in self._changing().items():
                value.copy_(tensors[name])
        adam = self.optimiser.state_dict()
        learned = [value for group in self.optimiser.param_groups for value in group["params"]]
        for name, value in tensors.items():
            if name.startswith("adam."):
                _, index, kind = name.split(".")
                if value.ndim:  # the fused update relies on the memory layout of the parameter
                    value = torch.empty_like(learned[int(index)], requires_grad=False).copy_(value)
                adam["state"].setdefault(int(index), {})[kind] = value
        self.optimiser.load_state_dict(adam)
        if about["scaler"]:
            self.scaler.load_state_dict(about["scaler"])
        self.history = about["history"]
        return about["done"]
