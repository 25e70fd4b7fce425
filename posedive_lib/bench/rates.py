"""How long one unit of each kind of work takes on this machine, measured in a few seconds each.

Where a model is not here or cannot be run, its rate is assumed (`ASSUMED`).
"""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler
from PIL import Image

from posedive_lib.augment.confidence import PoseEstimator
from posedive_lib.augment.targets import rendering_of
from posedive_lib.datasets.images import read as read_images
from posedive_lib.devices import processes
from posedive_lib.errors import StudyError
from posedive_lib.generator.arrays import TrainingArrays, TrainingImages, encode
from posedive_lib.generator.noise_schedule import load_scheduler
from posedive_lib.generator.sampling import load
from posedive_lib.generator.trainer import Trainer
from posedive_lib.reid.image_set import ImageSet
from posedive_lib.reid.models import create_model
from posedive_lib.weights import local_folder
from posedive_lib.writing import replacing

if TYPE_CHECKING:
    from posedive_lib.params import Params

CACHE = Path("runs/plan.json")
# Seconds of networks of the paper's size on one GPU of 48 GB (decode and render: on a CPU core).
# Reckoned from the networks' arithmetic; nobody has run them.
ASSUMED = {
    "decode": 0.004,
    "render": 0.03,
    "score": 0.006,
    "encode": 0.03,
    "train": 0.25,
    "sample": 0.2,
    "prompt": 0.02,
    "reid": 0.12,
    "extract": 0.002,
}
UNITS = {
    "decode": "photo",
    "render": "body",
    "score": "image, by the pose estimator",
    "encode": "photo, by VAE and CLIP",
    "train": "step of the generator",
    "sample": "generated image",
    "prompt": "step of Re-ID stage 1",
    "reid": "step of Re-ID stage 2",
    "extract": "image, Re-ID features",
}
LONG = 1.5  # seconds that a rate is measured for, after one call to warm up
FULL = "The GPU's memory is full"  # begins the reason where a rate could not be measured for that


@dataclass(frozen=True)
class Rate:
    """Seconds per unit; measured here, or else why it had to be assumed.

    gpu: gigabytes of the GPU at most, of all rates that were measured together; 0 without one.
    """

    seconds: float
    assumed: str = ""
    gpu: float = 0.0


@dataclass(frozen=True)
class Measured:
    """Rates by the names of UNITS, gigabytes of the generator's weights in float32, and those of
    this process when it had used every model."""

    rates: dict[str, Rate]
    weights: float
    memory: float


def known(P: Params) -> Measured:
    """Measured once for a machine and its models, then read from runs/plan.json."""
    key = json.dumps([machine(), P.pick("paths", "image", "generator"), P.reid.model_dump()])
    try:
        kept = json.loads(CACHE.read_text(encoding="utf-8"))
        if kept["key"] == key:
            found = {name: Rate(**rate) for name, rate in kept["rates"].items()}
            return Measured(found, kept["weights"], kept["memory"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    print("Measuring this machine's rates …", file=sys.stderr)
    measured = measure(P)
    with replacing(CACHE) as draft:
        text = json.dumps({"key": key, **asdict(measured)}, indent=1)
        draft.write_text(text, encoding="utf-8")
    return measured


def machine() -> str:
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return f"{platform.node()}, {len(os.sched_getaffinity(0))} CPU cores, {name}"


def measure(P: Params, but: Collection[str] = ()) -> Measured:
    """All rates; those of `but` stay out, with the others that are measured together with them.

    A processor is measured with one thread: its time per unit is then free of other programs.
    """
    rates: dict[str, Rate] = {}
    weights = 7.0  # of two U-Nets of Stable Diffusion
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if processes().device.type == "cpu" else threads)
    for names, work in (
        (("decode",), _decode),
        (("render",), _render),
        (("score",), _score),
        (("encode", "train", "sample", "weights"), _generator),
        (("prompt", "reid", "extract"), _reid),
    ):
        if {*names} & {*but}:
            continue
        gpu = torch.cuda.is_available()
        if gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            found = dict(zip(names, work(P), strict=True))
        except (StudyError, MemoryError, torch.OutOfMemoryError) as error:
            reason = str(error).split("\n")[0] or type(error).__name__
            if isinstance(error, torch.OutOfMemoryError):
                reason = f"{FULL} ({reason.rstrip('.')})"
            rates |= {name: Rate(ASSUMED[name], reason) for name in names if name in ASSUMED}
            continue
        weights = found.pop("weights", weights)
        peak = torch.cuda.max_memory_allocated() / 1e9 if gpu else 0.0
        rates |= {name: Rate(value, gpu=peak) for name, value in found.items()}
    torch.set_num_threads(threads)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return Measured(rates, weights, memory)


def clock() -> float:
    """Seconds of this process's processors, or of the wall clock where a GPU computes."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def seconds(work: Callable[[], Any]) -> float:
    """Median time of one call."""
    work()
    times: list[float] = []
    while not times or sum(times) < LONG:
        start = clock()
        work()
        times.append(clock() - start)
    return float(np.median(times))


def _pictures(count: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    shape = count, height, width, channels
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def _count(P: Params) -> int:
    """Images at a time: few where a processor takes seconds for each."""
    if processes().device.type == "cuda":
        return P.generator.sampling.batch_size
    return max(1, min(16, 16 * 128 * 64 // (P.image.height * P.image.width)))


def _decode(P: Params) -> list[float]:
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.jpg" for i in range(32)]
        for path, picture in zip(paths, _pictures(32, 128, 64), strict=True):
            Image.fromarray(picture).save(path)
        return [seconds(lambda: read_images(paths, P.image.height, P.image.width)) / len(paths)]


def _render(P: Params) -> list[float]:
    renderer = rendering_of(P).renderer()
    pose = np.array([np.pi, 0.0, 0.0]), np.zeros(69), np.zeros(10), np.array([0.0, 0.0, 4.0])
    return [seconds(lambda: renderer.render(*pose))]


def _score(P: Params) -> list[float]:
    estimator = PoseEstimator(local_folder(P.paths.pose_estimator), device=str(processes().device))
    images = _pictures(_count(P), P.image.height, P.image.width)
    return [seconds(lambda: estimator.estimate(images)) / len(images)]


def _generator(P: Params) -> list[float]:
    frozen = local_folder(P.paths.stable_diffusion, P.generator.revision)
    start = P.paths.phase1 or frozen
    generator = load(start, frozen, sampling=P.generator.sampling, params=P.generator)
    count, size = _count(P), (P.image.height, P.image.width)
    photos, depth = _pictures(count, *size), _pictures(count, *size, 1)
    labels = np.zeros(count, int)
    images = TrainingImages(photos, depth, photos, photos, labels, labels)
    arrays: list[TrainingArrays] = []

    def encoding() -> None:
        kind = P.generator.clip_tokens
        arrays[:] = [encode(images, generator.encoders, clip_tokens=kind, progress=False)]

    def sampling(steps: int) -> float:
        def draw() -> None:
            generator.generate(
                photos, labels, photos, depth, photos, labels, steps=steps, progress=False
            )

        return seconds(draw) / count

    one, two = sampling(1), sampling(2)
    drawn = one + (P.generator.sampling.steps - 1) * max(two - one, 0.0)
    encoded = seconds(encoding) / count
    rows = np.zeros(2, int)  # one person in two photos is a pair
    data = TrainingArrays(**{name: array[rows] for name, array in vars(arrays[0]).items()})
    model = generator.model.float().train()
    if P.generator.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    accelerator = Accelerator(cpu=processes().device.type == "cpu", mixed_precision="no")
    scheduler = load_scheduler(frozen, P.generator, DDPMScheduler)
    trainer = Trainer(model, data, P.generator, scheduler, 0, accelerator)
    weights = sum(4 * parameter.numel() for parameter in model.parameters()) / 1e9
    return [encoded, seconds(lambda: trainer.step(0)), drawn, weights]


def _reid(P: Params) -> list[float]:
    height, width = P.reid.image.height, P.reid.image.width
    pictures = _pictures(P.reid.batch_size, height, width)
    pids = np.arange(len(pictures)) // P.reid.instances
    train = ImageSet(pictures, pids, pids % 2, np.zeros(len(pids), bool))
    trained: list[Any] = []

    def fit(first: int, second: int) -> float:
        stages = {
            "stage1": P.reid.stage1.model_copy(update={"steps": first}),
            "stage2": P.reid.stage2.model_copy(update={"steps": second}),
        }
        reid = P.reid.model_copy(update=stages)
        model = create_model("clip-reid", reid, P.paths.clip, height, width)
        start = clock()
        model.fit(train, seed=0)
        trained.append(model)
        return clock() - start

    fit(1, 1)
    base, prompts, steps = fit(1, 1), fit(21, 1), fit(1, 5)
    extract = seconds(lambda: trained[0].extract(pictures)) / len(pictures)
    return [max(prompts - base, 0.0) / 20, max(steps - base, 0.0) / 4, extract]
