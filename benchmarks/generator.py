"""Speed of the generator, side by side in one run with the naive way (ratios of medians).

    python -m benchmarks.generator               the mini study's networks, on 2 CPU cores
    python -m benchmarks.generator --paper-size  Stable Diffusion 1.5's architecture with random
                                                 weights, 384 x 192, on a GPU
        --half   all widths halved: all networks keep their proportions and fit 2 CPU cores
        --tiny   a tenth of the widths and few layers, to try the command

Naive sampling runs the reference U-Net again at every step and for both guidance branches. Its
self-attention computes all queries of the concatenation and keeps the first half. It draws one
image at a time.

Naive training reads its photos from their files and encodes them with VAE and CLIP in every step.
Measured once more, it also renders the conditions of its targets there. The caches hold all three.
"""

import argparse
import platform
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from benchmarks.measure import peak_memory
from posedive_lib import params as parameters
from posedive_lib.body.conditions import ConditionRenderer
from posedive_lib.body.poses import load_poses
from posedive_lib.datasets.images import read
from posedive_lib.devices import autocast, chosen_precision
from posedive_lib.generator.arrays import TrainingArrays
from posedive_lib.generator.clip import OPENAI_MEAN, OPENAI_STD, ClipImageEncoder
from posedive_lib.generator.encoders import Encoders
from posedive_lib.generator.guiders import maps_to_float
from posedive_lib.generator.model import PoseDiveModel, build_guiders
from posedive_lib.generator.noise_schedule import load_scheduler
from posedive_lib.generator.reference import ReferenceAttention, ReferenceCall, install
from posedive_lib.generator.sampling import Generator, load
from posedive_lib.generator.trainer import Trainer

RESULTS = Path("benchmarks/results")


class FullQueries(ReferenceAttention):
    """The paper's words taken literally: concatenate, attend with all queries, keep the half."""

    def __call__(
        self,
        attn,
        hidden_states,
        encoder_hidden_states=None,
        attention_mask=None,
        temb=None,
        reference=None,
    ):
        if reference is None or reference.mode == "write":
            return super().__call__(attn, hidden_states, reference=reference)
        both = torch.cat([hidden_states, reference.features[self.name]], dim=1)
        return super().__call__(attn, both)[:, : hidden_states.shape[1]]


@torch.inference_mode()
def naive_sampling(
    generator: Generator, inputs: dict, rows, steps: int, guidance: float
) -> np.ndarray:
    """One image at a time; nothing is kept between steps or branches."""
    model, encoders = generator.model, generator.encoders
    processors = dict(model.denoising_unet.attn_processors)
    model.denoising_unet.set_attn_processor(
        {n: FullQueries(n) if n.endswith("attn1.processor") else p for n, p in processors.items()}
    )
    made = []
    with autocast(generator.device, generator.precision):
        for row in rows:
            one = slice(row, row + 1)
            maps = [
                maps_to_float(torch.from_numpy(inputs[name][one]).to(generator.device))
                for name in ("depth", "normals", "skeleton")
            ]
            photo = torch.from_numpy(inputs["references"][inputs["reference_index"][row]][None]).to(
                generator.device
            )
            tokens, clean = (
                encoders.clip.tokens(photo, generator.params.clip_tokens),
                encoders.latents(photo),
            )
            scheduler = load_scheduler(generator.stable_diffusion, generator.params)
            scheduler.set_timesteps(steps, device=generator.device)
            noise = torch.Generator().manual_seed(int(inputs["seeds"][row]))
            latents = (
                torch.randn(clean.shape[1:], generator=noise)[None].to(generator.device)
                * scheduler.init_noise_sigma
            )
            for t in scheduler.timesteps:
                branches = []
                for branch in ("identity", "null"):
                    guide = model.guiders(*maps)
                    features = model.reference_features(clean, tokens)
                    null = model.null_tokens.to(tokens.dtype).expand_as(tokens)
                    call = (
                        (tokens, ReferenceCall("read", features))
                        if branch == "identity"
                        else (null, None)
                    )
                    branches.append(model._denoise(latents, t[None], *call, guide).float())
                latents = scheduler.step(
                    branches[1] + guidance * (branches[0] - branches[1]), t, latents
                ).prev_sample
            made.append(encoders.images(latents).cpu().numpy())
    model.denoising_unet.set_attn_processor(processors)
    return np.concatenate(made)


def requests(count: int, per_person: int, height: int, width: int) -> dict:
    """Random photos and maps: speed does not depend on what they show."""
    rng = np.random.default_rng(0)

    def picture(n: int, channels: int) -> np.ndarray:
        return rng.integers(0, 256, (n, height, width, channels), dtype=np.uint8)

    return dict(
        references=picture(count // per_person, 3),
        reference_index=np.arange(count) // per_person,
        skeleton=picture(count, 3),
        depth=picture(count, 1),
        normals=picture(count, 3),
        seeds=np.arange(count),
    )


def timed(work, device: torch.device) -> float:
    """Seconds of one call."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


def sampling(
    generator: Generator,
    height: int,
    width: int,
    *,
    count: int,
    naive_count: int,
    steps: int,
    guidance: float,
    repeats: int,
) -> list[dict]:
    """Images per second of both ways, alternating; and how far their images are apart."""
    inputs = requests(count, min(8, count), height, width)
    rows, batch_size = range(naive_count), min(count, 64)

    def ours() -> np.ndarray:
        return generator.generate(
            **inputs, steps=steps, guidance=guidance, batch_size=batch_size, progress=False
        )

    def naive() -> np.ndarray:
        return naive_sampling(generator, inputs, rows, steps, guidance)

    difference = np.abs(ours()[:naive_count].astype(int) - naive()).max() / 255
    times = [
        (timed(ours, generator.device) / count, timed(naive, generator.device) / naive_count)
        for _ in range(repeats)
    ]
    fast, slow = np.median(times, axis=0)
    name = f"sampling, {steps} steps, guidance {guidance:g}, precision {generator.precision}"
    return [
        dict(
            what=name,
            unit="images/s",
            ours=1 / fast,
            naive=1 / slow,
            note=f"largest difference of a pixel {difference:.1e} of its range",
        )
    ]


def latent_difference(
    generator: Generator, height: int, width: int, steps: int, guidance: float
) -> float:
    """Largest difference of the two ways' images before rounding, as a part of the pixel range."""
    inputs = requests(2, 2, height, width)
    kept: list[torch.Tensor] = []
    original = generator.encoders.images

    def keep(latents):
        kept.append(
            generator.encoders.vae.decode(latents / generator.encoders.vae.config.scaling_factor)
            .sample.float()
            .cpu()
            / 2
        )
        return original(latents)

    generator.encoders.images = keep
    generator.generate(**inputs, steps=steps, guidance=guidance, batch_size=2, progress=False)
    naive_sampling(generator, inputs, range(2), steps, guidance)
    del generator.encoders.images
    return float((kept[0] - torch.cat(kept[1:])).abs().max())


def write_photos(folder: Path, count: int, height: int, width: int) -> list[Path]:
    """JPEG files of smooth random pictures: as many bytes as photos of that size take."""
    rng = np.random.default_rng(2)
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for path in paths:
        coarse = Image.fromarray(
            rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
        )
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(path, quality=92)
    return paths


def training(
    generator: Generator,
    params,
    height: int,
    width: int,
    photos: list[Path],
    repeats: int,
    renderer: ConditionRenderer | None = None,
) -> list[dict]:
    """Samples per second with everything from the cache, and with photos encoded in every step.

    Given a renderer, also with the conditions rendered there.
    """
    images = requests(64, 4, height, width)
    encoders, device = generator.encoders, generator.device
    config = generator.model.denoising_unet.config
    rng = np.random.default_rng(1)
    tokens = (
        1
        if params.clip_tokens == "pooled"
        else encoders.clip.tokens(
            torch.from_numpy(images["references"][:1]).to(device), "patch"
        ).shape[1]
    )
    latents = rng.standard_normal(
        (64, config.in_channels, height // encoders.factor, width // encoders.factor),
        dtype=np.float32,
    )
    data = TrainingArrays(
        latents,
        rng.standard_normal((64, tokens, config.cross_attention_dim), dtype=np.float32),
        np.arange(64) // 4,
        np.arange(64) % 4,
        images["depth"],
        images["normals"],
        images["skeleton"],
    )
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no")
    trainer = Trainer(
        generator.model.float().train(),
        data,
        params,
        load_scheduler(generator.stable_diffusion, params, DDPMScheduler),
        0,
        accelerator,
    )

    poses = load_poses("data/motions") if renderer else None

    def without_caches(step: int, rendered: bool = False) -> None:
        targets, references = (
            read(
                [photos[row] for row in rng.integers(len(photos), size=params.batch_size)],
                height,
                width,
            )
            for _ in range(2)
        )
        with autocast(device, trainer.precision):
            encoders.latents(torch.from_numpy(targets).to(device))
            encoders.latents(torch.from_numpy(references).to(device))
            encoders.clip.tokens(torch.from_numpy(references).to(device), params.clip_tokens)
        if rendered:
            for row in rng.integers(len(poses), size=params.batch_size):
                renderer.draw(
                    *renderer.place(
                        poses.root_tilt[row : row + 1],
                        poses.body_pose[row],
                        np.zeros(10),
                        0.0,
                        10.0,
                    )[2:]
                )
        trainer.step(step)

    ways = [trainer.step, without_caches] + (
        [lambda step: without_caches(step, rendered=True)] if renderer else []
    )
    for way in ways:
        way(0)
    times = [[timed(partial(way, step), device) for way in ways] for step in range(1, 1 + repeats)]
    fast, *slow = np.median(times, axis=0)
    generator.model.eval()
    name = f"training, batch {params.batch_size}, precision {trainer.precision}"
    notes = (
        "naive: photos read and encoded in every step",
        "naive: photos read and encoded, conditions rendered in every step",
    )
    return [
        dict(
            what=name,
            unit="samples/s",
            ours=params.batch_size / fast,
            naive=params.batch_size / time,
            note=note,
        )
        for time, note in zip(slow, notes, strict=False)
    ]


def report(rows: list[dict], machine: str, path: Path | None, extra: list[str] = ()) -> None:
    """One table on the screen and in `path`, with the command as it was given."""
    command = " ".join(["python -m benchmarks.generator", *sys.argv[1:]])
    lines = ["| | unit | ours | naive | ratio | |", "|---|---|---:|---:|---:|---|"]
    for r in rows:
        speeds = f"{r['ours']:.3g} | {r['naive']:.3g} | {r['ours'] / r['naive']:.1f}"
        lines.append(f"| {r['what']} | {r['unit']} | {speeds} | {r['note']} |")
    text = "\n".join(
        [
            "# Speed of the generator",
            "",
            f"`{command}` on {machine}; medians, both ways in one run, alternating.",
            "",
            *lines,
            "",
            *extra,
        ]
    )
    print(text)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.rstrip() + "\n")


def mini(repeats: int) -> None:
    """The networks of the default study, from its parameters."""
    P = parameters.load("params/mini.yaml")
    height, width, s = P.image.height, P.image.width, P.generator.sampling
    generator = load(P.paths.phase1, P.paths.stable_diffusion, device="cpu", precision="fp32")
    generator.model.float()
    apart = latent_difference(generator, height, width, s.steps, s.guidance)
    size = {"count": 16, "naive_count": 2, "repeats": repeats}
    size |= {"steps": s.steps, "guidance": s.guidance}
    rows = sampling(generator, height, width, **size)
    rows[0]["note"] = f"largest difference of a pixel {apart:.1e} of its range"
    generator.precision = chosen_precision(
        generator.device, P.generator.precision, "generator.precision"
    )
    rows += sampling(generator, height, width, **size)
    c = P.conditions
    renderer = ConditionRenderer(
        P.paths.body, height, width, near=c.depth_near, far=c.depth_far, focal=c.focal
    )
    with TemporaryDirectory() as folder:
        photos = write_photos(Path(folder), 64, height, width)
        for precision in (P.generator.precision, "fp32"):
            settings = P.generator.model_copy(update={"precision": precision})
            rows += training(generator, settings, height, width, photos, repeats, renderer)
    report(rows, processors(), RESULTS / "generator.md")


def processors() -> str:
    return f"the CPU ({torch.get_num_threads()} threads, {platform.machine()})"


def paper_size_generator(
    size: str, device: torch.device, folder: Path
) -> tuple[Generator, SimpleNamespace]:
    """Stable Diffusion 1.5's networks with random weights; "half" halves every width."""
    from tests.published import CLIP_VIT_L, SD15_UNET, SD_VAE  # the published configurations

    unet_config, vae_config, clip_config = dict(SD15_UNET), dict(SD_VAE), dict(CLIP_VIT_L)
    if size == "half":
        unet_config |= dict(block_out_channels=(160, 320, 640, 640), cross_attention_dim=384)
        vae_config |= dict(block_out_channels=(64, 128, 256, 256))
        clip_config |= dict(hidden_size=512, intermediate_size=2048, projection_dim=384)
    if size == "tiny":
        unet_config |= dict(
            block_out_channels=(32, 64, 128, 128), attention_head_dim=8, cross_attention_dim=48
        )
        vae_config |= dict(block_out_channels=(32, 32, 32, 32))
        clip_config |= dict(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            projection_dim=48,
        )
    with torch.device(device):
        unet, reference = UNet2DConditionModel(**unet_config), UNet2DConditionModel(**unet_config)
        vae, clip = (
            AutoencoderKL(**vae_config),
            CLIPVisionModelWithProjection(CLIPVisionConfig(**clip_config)),
        )
        first = unet_config["block_out_channels"][0]
        P = parameters.load("params/paper.yaml")
        widths = {"depth": first // 4, "normals": first * 3 // 8, "skeleton": first * 3 // 8}
        params = SimpleNamespace(
            **P.generator.model_copy(
                update={"guider_widths": widths, "sampling": P.generator.sampling}
            ).model_dump(exclude={"guider_widths", "sampling"}),
            guider_widths=widths,
            sampling=SimpleNamespace(**P.generator.sampling.model_dump()),
        )
        model = PoseDiveModel(unet, reference, build_guiders(params, unet, 8))
    install(model.denoising_unet)
    DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012
    ).save_pretrained(folder / "scheduler")
    side = clip_config["image_size"]
    encoders = Encoders(
        vae.requires_grad_(False).eval(),
        ClipImageEncoder(clip.requires_grad_(False).eval(), (side, side), OPENAI_MEAN, OPENAI_STD),
    )
    model = model.to(device).eval()
    sampling = params.sampling
    return Generator(model, encoders, params, folder, device, "bf16", sampling), params


def paper_size(size: str, repeats: int, count: int, batch: int) -> None:
    """DDIM 20 steps with guidance in bf16 at 384 x 192, and training with caches.

    Also their peak memory, and where a sampling step's time goes.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    height, width, steps = (128, 64, 2) if size == "tiny" else (384, 192, 20)
    with TemporaryDirectory() as folder:
        generator, params = paper_size_generator(size, device, Path(folder))

        def peak() -> float:
            if device.type == "cuda":
                return torch.cuda.max_memory_allocated() / 2**30
            return peak_memory() * 1e9 / 2**30

        rows = sampling(
            generator,
            height,
            width,
            count=count,
            naive_count=min(2, count),
            steps=steps,
            guidance=3.5,
            repeats=repeats,
        )
        extra = [f"Peak memory of sampling {peak():.1f} GiB."]
        activities = [torch.profiler.ProfilerActivity.CPU] + [
            torch.profiler.ProfilerActivity.CUDA
        ] * (device.type == "cuda")
        inputs = requests(count, min(8, count), height, width)
        with torch.profiler.profile(activities=activities) as profile:
            generator.generate(**inputs, steps=1, guidance=3.5, batch_size=count, progress=False)
        params.batch_size, params.precision = batch, "bf16"
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        rows += training(
            generator, params, height, width, write_photos(Path(folder), 64, height, width), repeats
        )
        extra.append(f"Peak memory of training {peak():.1f} GiB.")
    column = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    extra += [
        "",
        "Where one sampling step's time goes:",
        "",
        "```",
        profile.key_averages().table(sort_by=column, row_limit=15, max_name_column_width=50),
        "```",
    ]
    machine = torch.cuda.get_device_name() if device.type == "cuda" else processors()
    report(rows, machine, None if size == "tiny" else RESULTS / f"generator_paper_{size}.md", extra)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.generator", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--paper-size", action="store_true")
    narrower = parser.add_mutually_exclusive_group()
    for size in ("half", "tiny"):
        narrower.add_argument(
            f"--{size}", dest="size", action="store_const", const=size, default="full"
        )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--repeats", type=int, help="rounds (9; at the paper's size 3)")
    parser.add_argument(
        "--count", type=int, help="images per call at the paper's size (64; half: 4; tiny: 4)"
    )
    parser.add_argument(
        "--batch", type=int, help="training batch at the paper's size (32; half: 4; tiny: 2)"
    )
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    if options.paper_size:
        count, batch = {"full": (64, 32), "half": (4, 4), "tiny": (4, 2)}[options.size]
        paper_size(
            options.size, options.repeats or 3, options.count or count, options.batch or batch
        )
    else:
        mini(options.repeats or 9)


if __name__ == "__main__":
    main()
