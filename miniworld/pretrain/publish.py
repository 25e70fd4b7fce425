"""Copy the finished models to data/pretrained, and their loss curves beside this file.

Run: python -m miniworld.pretrain.publish
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from miniworld.pretrain.common import HERE, settings

matplotlib.use("Agg")
TARGET = Path("data/pretrained")
COLUMNS = 4  # panels of the loss curves side by side
MODELS = ("stable-diffusion", "clip", "resnet", "vitpose", "phase1")


def set_aside(folder: Path, aside: Path) -> None:
    """Move a folder below `aside`, under a name that is free: it may be the user's own model."""
    number = 1
    while (aside / f"{folder.name}-{number}").exists():
        number += 1
    aside.mkdir(parents=True, exist_ok=True)
    shutil.move(folder, aside / f"{folder.name}-{number}")
    print(f"{folder} is now {aside / f'{folder.name}-{number}'}")


def copy_models(source: Path, target: Path, aside: Path) -> int:
    """Put each finished model into `target`; returns the bytes of all of them.

    What lay there before is moved below `aside`, not deleted.
    """
    size = 0
    for name in MODELS:
        if not (source / name).is_dir():
            print(f"{name}: not trained yet")
            continue
        fresh = target / f".{name}.new"
        shutil.rmtree(fresh, ignore_errors=True)  # of an earlier call that was stopped
        shutil.copytree(source / name, fresh)
        forget_places(fresh)
        if (target / name).exists():
            set_aside(target / name, aside)
        fresh.rename(target / name)
        here = sum(f.stat().st_size for f in (target / name).rglob("*") if f.is_file())
        print(f"{name}: {here / 1e6:.1f} MB")
        size += here
    return size


def forget_places(folder: Path) -> None:
    """Drop the folder names that diffusers notes: where a model was trained is private."""
    for path in folder.rglob("config.json"):
        config = json.loads(path.read_text())
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2) + "\n")


def copy_curves(runs: Path, target: Path, points: int = 60) -> None:
    """Loss logs, thinned to about `points` rows, and one picture of all that `target` holds.

    A model that was not trained anew keeps its curve.
    """
    logs = sorted(p for name in ("log.csv", "losses.csv") for p in runs.glob(f"*/{name}"))
    target.mkdir(exist_ok=True)
    for path in logs:
        log = pd.read_csv(path)
        group = max(1, len(log) // points)
        log = log.iloc[: len(log) // group * group]
        parts = log.groupby(np.arange(len(log)) // group)
        thin = parts.mean().assign(step=parts["step"].last())[["step", *log.columns.drop("step")]]
        thin.to_csv(
            target / f"{path.parent.name}.csv",
            index=False,
            float_format="%.5g",
            lineterminator="\n",
        )
    curves = {path.stem: pd.read_csv(path) for path in sorted(target.glob("*.csv"))}
    rows = max(1, -(-len(curves) // COLUMNS))
    figure, axes = plt.subplots(
        rows, COLUMNS, figsize=(3 * COLUMNS, 2.4 * rows), constrained_layout=True, squeeze=False
    )
    for axis in axes.flat[len(curves) :]:
        axis.axis("off")
    for axis, (name, curve) in zip(axes.flat, curves.items(), strict=False):
        axis.plot(curve["step"], curve["loss"], color="#0072B2")
        axis.set(title=name, xlabel="step", ylabel="loss", yscale="log")
    figure.savefig(target / "curves.png", dpi=80, metadata={"Software": None})


def main() -> None:
    """Publish the models and their curves."""
    size = copy_models(Path(settings()["output"]), TARGET, HERE / "runs/replaced")
    copy_curves(HERE / "runs", HERE / "curves")
    print(f"together {size / 1e6:.1f} MB of the 40 MB that the whole bundle may have")


if __name__ == "__main__":
    main()
