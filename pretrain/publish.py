"""Copy the finished models to data/pretrained, and their loss curves beside this file.

Run: python -m pretrain.publish
"""

import csv
import json
import shutil
from pathlib import Path

from pretrain.common import HERE, settings

TARGET = Path("data/pretrained")
MODELS = ("stable-diffusion", "clip", "vitpose", "phase1")


def copy_models(source: Path, target: Path) -> int:
    """Replace each finished model's folder in `target`; returns the bytes of all of them."""
    size = 0
    for name in MODELS:
        if not (source / name).is_dir():
            print(f"{name}: not trained yet")
            continue
        fresh = target / f"{name}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(source / name, fresh)
        forget_places(fresh)
        shutil.rmtree(target / name, ignore_errors=True)
        fresh.rename(target / name)
        here = sum(f.stat().st_size for f in (target / name).rglob("*") if f.is_file())
        print(f"{name}: {here / 1e6:.1f} MB")
        size += here
    return size


def forget_places(folder: Path) -> None:
    """Drop the folders that diffusers notes in its configurations: where a model was trained is nobody's business."""
    for path in folder.rglob("config.json"):
        config = json.loads(path.read_text())
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2) + "\n")


def copy_curves(runs: Path, target: Path, points: int = 60) -> None:
    """Loss logs, thinned to about `points` rows, and one picture of all of them."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    logs = sorted(p for name in ("log.csv", "losses.csv") for p in runs.glob(f"*/{name}"))
    target.mkdir(exist_ok=True)
    figure, axes = plt.subplots(1, max(1, len(logs)), figsize=(3 * max(1, len(logs)), 2.6), constrained_layout=True, squeeze=False)
    for axis, path in zip(axes[0], logs):
        with path.open() as file:
            header, *rows = list(csv.reader(file))
        step, value = header.index("step"), header.index("loss")
        group = max(1, len(rows) // points)
        means = [[rows[i + group - 1][step], *(f"{sum(float(r[k]) for r in rows[i:i + group]) / group:.5g}"
                                               for k in range(len(header)) if k != step)]
                 for i in range(0, len(rows) - group + 1, group)]
        columns = ["step", *(h for h in header if h != "step")]
        with (target / f"{path.parent.name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([columns, *means])
        axis.plot([int(float(m[0])) for m in means], [float(m[columns.index("loss")]) for m in means], color="#0072B2")
        axis.set(title=path.parent.name, xlabel="step", ylabel="loss", yscale="log")
    figure.savefig(target / "curves.png", dpi=80, metadata={"Software": None})


def main() -> None:
    size = copy_models(Path(settings()["output"]), TARGET)
    copy_curves(HERE / "runs", HERE / "curves")
    print(f"together {size / 1e6:.1f} MB of the 30 MB the bundle has room for")


if __name__ == "__main__":
    main()
