"""Rates and peak memory of networks of the paper's size, and what `make plan` assumes of them.

    python -m benchmarks.true_size           # on a GPU, in less than ten minutes
    python -m benchmarks.true_size --tiny    # small networks on a CPU, to try the command

Weights are random: Stable Diffusion 1.5 with two U-Nets and the guiders, CLIP ViT-L/14, ViTPose-H
and a CLIP-ReID on ViT-B/16. They are written to a temporary folder (9 GB) and loaded from there.
The planner itself measures them, so its rates and these are the same code. Retrieval at MSMT17's
size comes last.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import pandas as pd
import torch

from benchmarks import random_weights
from benchmarks.measure import RESULTS, features, report, table
from posedive_lib import params
from posedive_lib.bench import plan, rates
from posedive_lib.bench.sizes import size_of
from posedive_lib.reid.retrieval import evaluate

ROOT = Path(__file__).resolve().parent.parent
CPU_WORK = ("decode", "render")  # no network
MSMT17 = {"n_query": 11_659, "n_gallery": 82_161, "people": 3060, "cameras": 15}
RATES = ["work", "batch", "seconds", "per_second", "peak_gpu_gigabytes", "assumed_seconds"]


def study(folder: Path, given: argparse.Namespace, device: str) -> params.Params:
    """The paper's parameters with random weights, which are written to `folder`."""
    tokenizer = ROOT / "data/pretrained/clip"
    made = {
        "stable_diffusion": random_weights.stable_diffusion(folder / "sd", device, given.tiny),
        "clip": random_weights.clip_vit_b(folder / "clip", tokenizer, device, given.tiny),
        "pose_estimator": random_weights.vitpose_h(folder / "vitpose", device, given.tiny),
    }
    changed = {f"paths.{name}": str(path) for name, path in made.items()}
    changed |= {f"generator.{name}": None for name in ("vae", "image_encoder", "revision")}
    changed |= {
        "generator.batch_size": given.train_batch,
        "generator.sampling.batch_size": given.sample_batch,
        "generator.gradient_checkpointing": given.gradient_checkpointing,
        "reid.batch_size": given.reid_batch,
    }
    if given.tiny:
        widths = {"depth": 8, "normals": 12, "skeleton": 12}
        changed |= {"image.height": 128, "image.width": 64, "generator.guider_widths": widths}
        changed |= {"reid.precision": "auto"}
    return params.load(ROOT / "params/paper.yaml", overrides=changed)


def rows_of(P: params.Params, measured: rates.Measured) -> list[list]:
    """A row (RATES) for each kind of work."""
    batches = dict.fromkeys(("score", "encode", "sample"), P.generator.sampling.batch_size)
    batches |= {"train": P.generator.batch_size}
    return [
        [
            rates.UNITS[name],
            batches.get(name, P.reid.batch_size),
            rate.seconds,
            1 / rate.seconds if rate.seconds else float("nan"),
            rate.gpu,
            rates.ASSUMED[name],
        ]
        for name, rate in measured.rates.items()
        if not rate.assumed
    ]


def retrieval(device: str, tiny: bool) -> list:
    """The row of MSMT17's queries against its gallery, with CLIP-ReID's features."""
    sizes = {name: count // 20 if tiny else count for name, count in MSMT17.items()}
    sizes["cameras"] = MSMT17["cameras"]
    data = features(**sizes, dim=plan.FEATURES, noise=3.0)
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    start = perf_counter()
    evaluate(*data, device=None if device == "cpu" else device)
    wall = perf_counter() - start
    peak = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else 0.0
    return ["retrieval at MSMT17's size", sizes["n_query"], wall, 1 / wall, peak, float("nan")]


def projected(P: params.Params, measured: rates.Measured) -> pd.DataFrame:
    """Hours of each stage of the paper's study on one GPU and eight, measured and assumed."""
    sizes = {name: size_of(P, name) for name in P.study.datasets}
    rows, each = [], rates.ASSUMED | {n: rate.seconds for n, rate in measured.rates.items()}
    for stage, its in plan.stages_of(P, sizes, measured).items():
        one = sum(units * each[name] for name, units in its.work.items()) / 3600
        assumed = sum(units * rates.ASSUMED[name] for name, units in its.work.items()) / 3600
        eight = one * (1 - plan.PARALLEL + plan.PARALLEL / 8)
        rows.append({"stage": stage, "1 GPU": one, "8 GPUs": eight, "1 GPU, assumed": assumed})
    return pd.DataFrame(rows)


def text_of(rows: list[list], hours: pd.DataFrame, measured: rates.Measured) -> str:
    """The report: rates, what was not measured, and the planner's figures beside."""
    lines = [
        [row[0], row[1], *(f"{v:.3g}" for v in row[2:]), f"{row[2] / row[5]:.2f}"] for row in rows
    ]
    header = ["work", "batch", "seconds", "per second", "peak GPU memory, GB"]
    parts = [table([*header, "planner assumes, seconds", "ratio"], lines)]
    failed = [rate.assumed for rate in measured.rates.values() if rate.assumed]
    parts += [f"Not measured: {reason}." for reason in dict.fromkeys(failed)]
    cells = [[row[0], *(f"{value:.1f}" for value in row[1:])] for row in hours.values.tolist()]
    total = ["all", *(f"{value:.1f}" for value in hours.iloc[:, 1:].sum())]
    parts.append("Hours of the paper's study; eight GPUs share nine tenths of it (assumed).")
    return "\n\n".join([*parts, table(list(hours), [*cells, total])])


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="small networks; writes no result")
    for name, usual in (("train", 4), ("sample", 16), ("reid", 64)):
        parser.add_argument(f"--{name}-batch", type=int, default=usual, help="default: %(default)s")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    return parser.parse_args()


def main() -> None:
    given = options()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not given.tiny:
        raise SystemExit("Networks of this size need a GPU; --tiny tries the command without one.")
    with TemporaryDirectory() as folder:
        P = study(Path(folder), given, device)
        measured = rates.measure(P, but=CPU_WORK)
    rows = [*rows_of(P, measured), retrieval(device, given.tiny)]
    text = f"{rates.machine()}\n\n{text_of(rows, projected(P, measured), measured)}"
    if given.tiny:
        print(f"Tiny networks: what they take says nothing of the planner's figures.\n\n{text}")
        return
    report("true_size", text)
    frame = pd.DataFrame(rows, columns=RATES)
    frame.to_csv(RESULTS / "true_size.csv", index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
