"""The log of a training's loss, `losses.csv`."""

from pathlib import Path

import numpy as np

from posedive_lib.writing import replacing, writing

HEADER = "step,loss,loss_t1,loss_t2,loss_t3,loss_t4\n"


class LossLog:
    """CSV with one row per `every` steps.

    loss: the mean weighted loss. loss_t1 to loss_t4: the mean squared error per quarter of the
    timesteps, from least noise to most. writes: False in all processes but one.
    """

    def __init__(self, path: Path, every: int, num_timesteps: int, writes: bool = True):
        self.path, self.every, self.num_timesteps = path, every, num_timesteps
        self.writes = writes
        # Since the last row: [quarter, squared error] of every sample, and the loss of every step.
        self.window: list[list[float]] = []
        self.totals: list[float] = []
        self.latest = float("nan")

    def restart(self) -> None:
        """Empty the log."""
        self._keep([])

    def resume(self, step: int, window: list[list[float]], totals: list[float]) -> None:
        """Forget rows after `step`: the steps behind them will run again."""
        rows = self.path.read_text().splitlines(keepends=True)[1:] if self.path.is_file() else []
        commas = HEADER.count(",")
        # A full disk cuts the last row.
        whole = [row for row in rows if row.endswith("\n") and row.count(",") == commas]
        self._keep([row for row in whole if int(row.split(",")[0]) <= step])
        self.window, self.totals = window, totals

    def add(self, step: int, t: np.ndarray, errors: np.ndarray, total: float) -> None:
        """Record one step: timesteps and errors (B,), and the loss."""
        for timestep, error in zip(t, errors, strict=True):
            self.window.append([int(4 * timestep // self.num_timesteps), float(error)])
        self.totals.append(total)
        self.latest = float(np.mean(self.totals))
        if step % self.every == 0:
            means = [self.latest] + [self._mean_of_quarter(quarter) for quarter in range(4)]
            if self.writes:
                with writing(self.path), self.path.open("a") as log:
                    log.write(f"{step}," + ",".join(f"{mean:.6g}" for mean in means) + "\n")
            self.window, self.totals = [], []

    def _mean_of_quarter(self, wanted: int) -> float:
        errors = [error for quarter, error in self.window if quarter == wanted]
        return float(np.mean(errors)) if errors else float("nan")

    def _keep(self, rows: list[str]) -> None:
        if self.writes:
            with replacing(self.path) as draft:
                draft.write_text(HEADER + "".join(rows))
