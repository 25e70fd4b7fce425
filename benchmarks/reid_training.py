"""Time of one Re-ID run at the default study's size, by its parts.

`python -m benchmarks.reid_training [--repeats 3] [--models clip-reid resnet]`. 160 identities with
10 photos and 15 generated images each train; 160 identities with 24 images each are queried and
searched. The pixels are noise: they change no time. Parameters are those of params.yaml.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from posedive_lib import params
from posedive_lib.reid import clip_reid_training, models
from posedive_lib.reid.image_set import ImageSet
from posedive_lib.reid.retrieval import evaluate

PARTS = [
    "weights",
    "stage-1 features",
    "stage 1",
    "stage 2",
    "test features",
    "evaluation",
    "whole run",
]


def noise(
    pids: int, each: int, height: int, width: int, first: int = 0, generated: int = 0
) -> ImageSet:
    rng = np.random.default_rng(first)
    labels = np.repeat(np.arange(first, first + pids), each + generated)
    images = rng.integers(0, 256, (len(labels), height, width, 3), dtype=np.uint8)
    return ImageSet(
        images,
        labels,
        np.tile(np.arange(each + generated) % 15, pids),
        np.tile(np.arange(each + generated) >= each, pids),
    )


def timed(times: dict, part: str, function):
    def call(*args, **kwargs):
        started = time.perf_counter()
        result = function(*args, **kwargs)
        times[part] = times.get(part, 0.0) + time.perf_counter() - started
        return result

    return call


def one_run(name: str, P, train: ImageSet, query: ImageSet, gallery: ImageSet) -> dict[str, float]:
    times: dict[str, float] = {}
    clip_reid_training.SEEN.clear()  # as in the first run of a process
    started = time.perf_counter()
    pretrained = P.paths.clip if name == "clip-reid" else P.paths.resnet
    size = P.reid.image
    model = models.create_model(name, P.reid, pretrained, size.height, size.width, "cpu")
    if name == "clip-reid":
        for part, method in (
            ("weights", "start"),
            ("stage-1 features", "in_batches"),
            ("stage 1", "_learn_prompts"),
            ("stage 2", "_train_encoder"),
        ):
            setattr(model, method, timed(times, part, getattr(model, method)))
    timed(times, "stage 2" if name == "resnet" else "fit", model.fit)(train, seed=0)
    if name == "clip-reid":
        times["stage 1"] -= times["stage-1 features"]
        del times["fit"], model.in_batches
    extract = timed(times, "test features", model.extract)
    features = extract(query.images, query.camids), extract(gallery.images, gallery.camids)
    timed(times, "evaluation", evaluate)(
        features[0], query.pids, query.camids, features[1], gallery.pids, gallery.camids
    )
    return times | {"whole run": time.perf_counter() - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=list(models.MODELS))
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], help="parameters, as reid.stage2.steps=120")
    parser.add_argument(
        "--write", action="store_true", help="write benchmarks/results/reid_training.md"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    overrides = {key: int(value) for key, value in (item.split("=") for item in options.set)}
    first = params.load("params.yaml", overrides=overrides)
    height, width = first.reid.image.height, first.reid.image.width
    train = noise(160, 10, height, width, generated=15)
    test = noise(160, 24, height, width, first=1000)
    query, gallery = test.take(test.camids < 4), test.take(test.camids >= 4)
    columns = {}
    for name in options.models:
        for precision in options.precision:
            P = params.load("params.yaml", overrides=overrides | {"reid.precision": precision})
            runs = [one_run(name, P, train, query, gallery) for _ in range(options.repeats)]
            columns[f"{name}, {precision}"] = {
                part: statistics.median(run.get(part, 0.0) for run in runs) for part in PARTS
            }
    lines = ["| seconds | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    lines += [
        f"| {part} | " + " | ".join(f"{column[part]:.2f}" for column in columns.values()) + " |"
        for part in PARTS
    ]
    p = first.reid
    note = (
        f"{len(train)} training and {len(test)} test images of {height} x {width}; "
        f"stage 1 {p.stage1.steps} steps, stage 2 {p.stage2.steps} steps, "
        f"ResNet {p.resnet.steps} steps of {p.batch_size} images; {options.threads} threads; "
        f"medians of {options.repeats} runs."
    )
    text = "\n".join([note, "", *lines])
    print(text)
    if options.write:
        heading = "# One Re-ID run, by its parts\n\n`python -m benchmarks.reid_training --write`"
        load = f"2 CPU cores. Load while it ran: {os.getloadavg()[0]:.1f}."
        file = Path("benchmarks/results/reid_training.md")
        file.write_text(f"{heading}, {load}\n\n{text}\n")


if __name__ == "__main__":
    main()
