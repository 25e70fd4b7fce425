"""The optimisation loop of every Re-ID model: one process or several, any precision, the same weights after a kill as without one."""

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from posedive_lib.errors import StudyError
from posedive_lib.precision import checked_device, computes_bfloat16
from posedive_lib.writing import replacing

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Machine:
    """Where to compute: the given device, else the GPU or CPU that `accelerate` finds; under `accelerate launch` one of its processes.

    precision: fp32, bf16, fp16 (a GPU only), or auto: bf16 where the device computes it natively, else fp32.
    """

    def __init__(self, device: str | None, precision: str):
        if precision not in (*PRECISIONS, "auto"):
            raise StudyError(
                f"reid.precision is {precision!r}: choose one of auto, {', '.join(PRECISIONS)}."
            )
        chosen = checked_device(device) if device else None
        state = PartialState(cpu=True) if device == "cpu" else PartialState()
        self.processes, self.index = state.num_processes, state.process_index
        self.device = chosen if chosen and self.processes == 1 else state.device
        self.precision = (
            ("bf16" if computes_bfloat16(self.device) else "fp32")
            if precision == "auto"
            else precision
        )
        self.dtype = PRECISIONS[self.precision]
        if precision == "fp16" and self.device.type == "cpu":
            raise StudyError("reid.precision fp16 needs a GPU: write auto to train on the CPU.")

    @property
    def main(self) -> bool:
        """Whether this process writes files."""
        return self.index == 0

    def autocast(self):
        return torch.autocast(
            self.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None
        )

    def parallel(self, module: nn.Module) -> nn.Module:
        """`module` on the device; with several processes their gradients are averaged."""
        module.to(self.device)
        return (
            module
            if self.processes == 1
            else Accelerator(mixed_precision="no", cpu=self.device.type == "cpu").prepare_model(
                module
            )
        )

    def agree(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the first one's values: running statistics are each process's own after the last step."""
        if self.processes > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, 0)

    def share(self, rows: np.ndarray, group: int = 1) -> np.ndarray:
        """This process's part of a batch, in whole groups of `group` rows."""
        parts = np.array_split(rows.reshape(-1, group), self.processes)
        if not len(parts[-1]):
            raise StudyError(
                f"A batch of {len(rows)} images cannot be shared by {self.processes} processes: raise reid.batch_size or start fewer."
            )
        return parts[self.index].ravel()


class Stage:
    """Adam on some parameters of `module` for `steps` steps.

    groups: (parameters, factor of the learning rate) pairs. rate: step -> learning rate. With `checkpoint` (a file) the state is
    written every `every` steps, whole or not at all; `key` says which run it belongs to.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        groups: list[tuple[list, float]],
        rate: Callable[[int], float],
        steps: int,
        weight_decay: float,
        machine: Machine,
        *,
        checkpoint: Path | None = None,
        every: int = 0,
        key: str = "",
    ):
        self.name, self.module, self.rate, self.steps, self.machine = (
            name,
            machine.parallel(module),
            rate,
            steps,
            machine,
        )
        self.inner = module
        self.checkpoint, self.every, self.key = checkpoint, every, key
        self.factors = [factor for _, factor in groups]
        self.optimiser = torch.optim.Adam(
            [{"params": values} for values, _ in groups],
            weight_decay=weight_decay,
            fused=machine.device.type in ("cpu", "cuda"),
        )
        self.scaler = torch.amp.GradScaler(
            machine.device.type, enabled=machine.dtype is torch.float16
        )
        self.history: dict[str, list[float]] = {}

    def run(
        self,
        batches: Iterable[np.ndarray],
        terms: Callable[[nn.Module, int, np.ndarray], dict[str, Tensor]],
        progress=None,
    ) -> dict[str, list[float]]:
        """Take every step that is still to do; the history has the learning rate, the loss and each weighted term of it, per step.

        terms(module, step, rows) gives the weighted terms; their sum is minimised. StudyError on a loss that is not finite.
        """
        done = self._resume()
        for step, rows in enumerate(batches):
            if step < done:
                continue
            self._step(step, terms, rows)
            if progress:
                progress(self.name, step + 1, self.steps)
            if (
                self.checkpoint
                and self.every
                and ((step + 1) % self.every == 0 or step + 1 == self.steps)
            ):
                self._save(step + 1)
        self.machine.agree(self.inner.buffers())
        return self.history

    def _step(self, step: int, terms, rows: np.ndarray) -> None:
        rate = self.rate(step)
        for group, factor in zip(self.optimiser.param_groups, self.factors, strict=True):
            group["lr"] = rate * factor
        with self.machine.autocast():
            parts = terms(self.module, step, rows)
        loss = sum(parts.values())
        values = torch.stack([loss, *parts.values()]).detach().tolist()
        if not math.isfinite(values[0]):
            raise StudyError(
                f"The loss of {self.name} is {values[0]} at step {step}: lower reid.{self.name}.learning_rate."
            )
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        for name, value in zip(("rate", "loss", *parts), (rate, *values), strict=True):
            self.history.setdefault(name, []).append(value)

    def _tensors(self) -> dict[str, Tensor]:
        """Everything that a step changes in the module."""
        learned = {
            f"module.{name}": value
            for name, value in self.inner.named_parameters()
            if value.requires_grad
        }
        return learned | {f"module.{name}": value for name, value in self.inner.named_buffers()}

    def _save(self, done: int) -> None:
        if not self.machine.main:
            return
        state = {
            f"adam.{index}.{name}": value
            for index, values in self.optimiser.state_dict()["state"].items()
            for name, value in values.items()
        }
        about = {
            "key": self.key,
            "stage": self.name,
            "done": done,
            "history": self.history,
            "scaler": self.scaler.state_dict(),
        }
        save_tensors(self._tensors() | state, self.checkpoint, about)

    def _resume(self) -> int:
        """The number of steps done before, after putting their state back."""
        if not (self.checkpoint and self.checkpoint.is_file()):
            return 0
        tensors, about = load_tensors(self.checkpoint)
        if (about.get("key"), about.get("stage")) != (self.key, self.name):
            raise StudyError(
                f"{self.checkpoint} belongs to a run with other images, parameters or seed: remove it or choose another folder."
            )
        with torch.no_grad():
            for name, value in self._tensors().items():
                value.copy_(tensors[name])
        adam, learned = (
            self.optimiser.state_dict(),
            [value for group in self.optimiser.param_groups for value in group["params"]],
        )
        for name, value in tensors.items():
            if name.startswith("adam."):
                _, index, kind = name.split(".")
                if (
                    value.ndim
                ):  # in the memory layout of its parameter, on which the fused update relies
                    value = torch.empty_like(learned[int(index)], requires_grad=False).copy_(value)
                adam["state"].setdefault(int(index), {})[kind] = value
        self.optimiser.load_state_dict(adam)
        if about["scaler"]:
            self.scaler.load_state_dict(about["scaler"])
        self.history = about["history"]
        return about["done"]


def save_tensors(tensors: dict[str, Tensor], path: Path, about: dict) -> None:
    """One safetensors file with `about` as JSON in its header, whole or not at all: a kill leaves the last good file in place."""
    with replacing(path) as draft:
        save_file(
            {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()},
            draft,
            metadata={"about": json.dumps(about)},
        )


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """What `save_tensors` wrote; StudyError if the file is missing, damaged or another's."""
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(
                (file.metadata() or {})["about"]
            )
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise StudyError(
            f"{path} is missing, damaged or no file of a Re-ID model ({error}): remove it and train again."
        ) from None
