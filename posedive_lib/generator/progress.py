"""What a training run leaves behind while it runs: the loss log and the checkpoint that resumes it exactly."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from posedive_lib.errors import StudyError
from posedive_lib.generator import folders
from posedive_lib.writing import replacing, writing

HEADER = "step,loss,loss_t1,loss_t2,loss_t3,loss_t4\n"


class Losses:
    """CSV with one row per `every` steps: the mean weighted loss, and the mean squared error per quarter of the timesteps
    (t1: least noise, t4: most)."""

    def __init__(self, path: Path, every: int, num_timesteps: int, writes: bool = True):
        self.path, self.every, self.num_timesteps, self.writes = (
            path,
            every,
            num_timesteps,
            writes,
        )  # one process of several writes
        self.window: list[
            list[float]
        ] = []  # [quarter, squared error] of every sample since the last row
        self.totals: list[float] = []
        self.latest = float("nan")

    def restart(self) -> int:
        """Empty log; returns step 0."""
        self._keep([])
        return 0

    def resume(self, step: int, window: list, totals: list) -> None:
        """Forget rows after `step`: the steps behind them will run again."""
        rows = self.path.read_text().splitlines(keepends=True)[1:] if self.path.is_file() else []
        whole = [
            row for row in rows if row.endswith("\n") and row.count(",") == HEADER.count(",")
        ]  # a full disk cuts the last one
        self._keep([row for row in whole if int(row.split(",")[0]) <= step])
        self.window, self.totals = window, totals

    def add(self, step: int, t: np.ndarray, errors: np.ndarray, total: float) -> None:
        """Record one step; t and errors (B,)."""
        self.window += [[int(4 * a // self.num_timesteps), float(b)] for a, b in zip(t, errors)]
        self.totals.append(total)
        self.latest = float(np.mean(self.totals))
        if step % self.every == 0:
            quarters = [
                [error for quarter, error in self.window if quarter == wanted]
                for wanted in range(4)
            ]
            means = [self.latest] + [
                float(np.mean(errors)) if errors else float("nan") for errors in quarters
            ]
            if self.writes:
                with writing(self.path), self.path.open("a") as log:
                    log.write(f"{step}," + ",".join(f"{mean:.6g}" for mean in means) + "\n")
            self.window, self.totals = [], []

    def _keep(self, rows: list[str]) -> None:
        if self.writes:
            with replacing(self.path) as draft:
                draft.write_text(HEADER + "".join(rows))


def save_checkpoint(path: Path, trainer, losses: Losses, key: str, step: int) -> None:
    """Weights, optimiser and EMA in one safetensors file, the step as JSON in its header: one `os.replace` makes it all current."""
    tensors = {}
    for (name, parameter), shadow in zip(trainer.trainable.items(), trainer.ema.shadow_params):
        tensors[f"model.{name}"], tensors[f"ema.{name}"] = parameter, shadow
        for part, value in trainer.optimizer.state[parameter].items():
            tensors[f"optimizer.{part}.{name}"] = value
    state = {
        "step": step,
        "key": key,
        "ema_step": trainer.ema.optimization_step,
        "window": losses.window,
        "totals": losses.totals,
    }
    folders.save_tensors(tensors, path, {"state": json.dumps(state)})


def load_checkpoint(path: Path, trainer, losses: Losses, key: str) -> int:
    """Put a trainer back to where `save_checkpoint` left it and return the step; StudyError if the file belongs to another run."""
    tensors = folders.load_tensors(path)
    with safe_open(path, "pt") as file:
        state = json.loads((file.metadata() or {}).get("state", "{}"))
    if state.get("key") != key:
        raise StudyError(
            f"{path} belongs to a run with other data, parameters or starting weights: delete it or choose another folder."
        )
    with torch.no_grad():
        for (name, parameter), shadow in zip(trainer.trainable.items(), trainer.ema.shadow_params):
            parameter.copy_(tensors[f"model.{name}"])
            shadow.copy_(tensors[f"ema.{name}"])
            trainer.optimizer.state[parameter] = {
                part: tensors[f"optimizer.{part}.{name}"].to(parameter.device)
                for part in ("step", "exp_avg", "exp_avg_sq")
            }
    trainer.ema.optimization_step = state["ema_step"]
    losses.resume(state["step"], state["window"], state["totals"])
    return state["step"]
