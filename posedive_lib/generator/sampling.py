"""Sampling: one person (reference image) like that (skeleton, depth, normals)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import gather_object
from diffusers import SchedulerMixin
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from posedive_lib.body.conditions import ConditionRenderer
from posedive_lib.body.poses import PoseSource
from posedive_lib.devices import autocast, checked_device, chosen_precision, processes
from posedive_lib.errors import StudyError
from posedive_lib.generator.denoising import denoise
from posedive_lib.generator.encoders import Encoders, check_images, check_maps, check_size
from posedive_lib.generator.guiders import maps_to_float
from posedive_lib.generator.identity import Identities, Person, stack
from posedive_lib.generator.model import PoseDiveModel
from posedive_lib.generator.noise_schedule import load_scheduler
from posedive_lib.generator.saved import load_model, save_model
from posedive_lib.intake.images import rgb_of
from posedive_lib.weights import plain

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from posedive_lib.params import GeneratorParams, Sampling


def load(
    path_or_hub_id: str | Path,
    stable_diffusion: str | Path | None = None,
    *,
    sampling: Sampling | None = None,
    params: GeneratorParams | None = None,
    device: str | torch.device | None = None,
    precision: str | None = None,
    revision: str | None = None,
) -> Generator:
    """Our saved generator, or a Stable Diffusion layout (a model that knows no conditions yet).

    stable_diffusion: where VAE, CLIP and scheduler are, if they moved since saving.
    sampling: scheduler, steps, guidance and batch_size, in place of those it was saved with.
    params: the section `generator`, for the fresh guiders of a Stable Diffusion layout.
    device: by default this process's GPU, else the CPU.
    precision: fp32, bf16, fp16 (a GPU only) or auto (bf16 where the device computes it natively,
    else fp32), by default as it was trained.

    A photo, a pose and a camera give an image:

        generator = load("data/pretrained/phase1")
        photo, body = Image.open("person.png"), "data/body/SMPL_NEUTRAL.npz"
        pose = load_poses("data/motions").select([100])
        image = generator.draw(photo, pose, azimuth=90, elevation=10, body=body)
        image.save("like_that.png")
    """
    device = checked_device(device or processes().device)
    model, params, frozen = load_model(path_or_hub_id, stable_diffusion, params, revision)
    encoders = Encoders.from_stable_diffusion(
        frozen, device, vae=params.vae, image_encoder=params.image_encoder
    )
    width = model.denoising_unet.config.cross_attention_dim
    if encoders.clip.dimension != width:
        raise StudyError(
            f"{frozen}: CLIP embeddings have length {encoders.clip.dimension}, but the U-Net's "
            f"cross-attention takes {width}: use the image encoder that belongs to this "
            "Stable Diffusion."
        )
    for module in (model, encoders.vae):
        module.to(device, memory_format=torch.channels_last)  # a fifth faster on a CPU
    chosen = chosen_precision(device, precision or params.precision, "generator.precision")
    sampling = sampling or params.sampling
    return Generator(model.eval(), encoders, params, frozen, device, chosen, sampling)


@dataclass
class Generator:
    """A model with its frozen encoders.

    params: the section `generator` it was trained with; precision: see `chosen_precision`;
    sampling: what `generate` uses unless told otherwise.
    """

    model: PoseDiveModel
    encoders: Encoders
    params: GeneratorParams
    stable_diffusion: Path
    device: torch.device
    precision: str
    sampling: Sampling
    _identities: Identities = field(init=False, repr=False)

    def __post_init__(self) -> None:
        kind = self.params.clip_tokens
        self._identities = Identities(self.model, self.encoders, kind, self.device)

    def save(self, folder: str | Path) -> Path:
        """Write the trained parts; see `saved`."""
        params: Any = {**plain(self.params), "sampling": plain(self.sampling)}
        return save_model(self.model, folder, params, self.stable_diffusion)

    @torch.inference_mode()
    def generate(
        self,
        references: np.ndarray,
        reference_index: Sequence[int] | np.ndarray,
        skeleton: np.ndarray,
        depth: np.ndarray,
        normals: np.ndarray,
        seeds: Sequence[int] | np.ndarray,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        batch_size: int | None = None,
        scheduler: type[SchedulerMixin] | str | None = None,
        progress: bool = True,
    ) -> np.ndarray:
        """N images, uint8 (N, H, W, 3); each depends on its own seed only, not on its batch.

        references (R, H, W, 3) and maps (N, H, W, 3 / 1 / 3) uint8; reference_index (N,) into the
        references; seeds (N,). steps, guidance, batch_size and scheduler (a diffusers class or its
        name) are those of `sampling` by default. Under `accelerate launch` every process draws its
        part, and all of them get all images.
        """
        asked = dict(steps=steps, guidance=guidance, batch_size=batch_size, scheduler=scheduler)
        chosen = self._chosen_sampling(asked)
        references, index = np.asarray(references), np.asarray(reference_index)
        maps, seeds = [np.asarray(x) for x in (depth, normals, skeleton)], np.asarray(seeds)
        self._check(references, index, maps, seeds)
        images = np.empty((len(seeds), *references.shape[1:]), dtype=np.uint8)
        # Images of one person lie side by side, so that the reference U-Net runs once per person.
        order = np.argsort(index, kind="stable")
        team = processes()
        own = np.array_split(order, team.num_processes)[team.process_index]
        known: dict[int, Person] = {}
        with (
            tqdm(total=len(own), desc="generate", unit="image", disable=not progress) as bar,
            autocast(self.device, self.precision),
        ):
            for start in range(0, len(own), chosen.batch_size):
                rows = own[start : start + chosen.batch_size]
                known = self._identities.of(references, index[rows], known)
                people = [known[person] for person in index[rows]]
                images[rows] = self._batch(people, [x[rows] for x in maps], seeds[rows], chosen)
                bar.update(len(rows))
        if team.num_processes > 1:
            for rows, drawn in gather_object([(own, images[own])]):
                images[rows] = drawn
        return images

    def _chosen_sampling(self, asked: dict[str, Any]) -> SimpleNamespace:
        """`sampling` with what is asked for (not None) in its place; StudyError if it cannot be."""
        own = {name: getattr(self.sampling, name) for name in asked}
        given = {name: value for name, value in asked.items() if value is not None}
        chosen = SimpleNamespace(**{**own, **given})
        config = load_scheduler(self.stable_diffusion, self.params, chosen.scheduler).config
        most = config.get("num_train_timesteps", np.inf)
        check_sampling(chosen.steps, chosen.guidance, chosen.batch_size, most)
        return chosen

    def _batch(
        self,
        people: list[Person],
        maps: list[np.ndarray],
        seeds: np.ndarray,
        chosen: SimpleNamespace,
    ) -> np.ndarray:
        """Images (B, H, W, 3) of one batch; maps: depth, normals, skeleton."""
        tokens, features = stack(people)
        guide = self.model.guiders(*(maps_to_float(self._tensor(array)) for array in maps))
        # Fresh for every batch: some schedulers keep a history between steps.
        scheduler = load_scheduler(self.stable_diffusion, self.params, chosen.scheduler)
        latents = denoise(
            self.model,
            scheduler,
            tokens,
            features,
            guide,
            seeds,
            steps=chosen.steps,
            guidance=chosen.guidance,
        )
        return self.encoders.images(latents).cpu().numpy()

    def draw(
        self,
        photo: Image.Image,
        pose: PoseSource,
        azimuth: float,
        elevation: float,
        *,
        body: str | Path,
        seed: int = 0,
        betas: np.ndarray | None = None,
        near: float = 2.5,
        far: float = 10.5,
        focal: float = 2.5,
        **options: Any,
    ) -> Image.Image:
        """The person of `photo` in the first pose of `pose`, from a camera at azimuth, elevation.

        photo: of any mode with 8 bits per channel, its size a multiple of what the networks need;
        turned by its EXIF orientation, transparent pixels over white, as photo viewers do. azimuth
        and elevation: degrees from the front and from the horizontal. body: SMPL file. betas (10,):
        shape, by default the mean. near, far (metres) and focal (image heights): those of training
        (`conditions` of the parameters). options: as in `generate`.
        """
        reference = np.asarray(upright(photo))[None]
        height, width = reference.shape[1:3]
        check_size(
            height, width, self.encoders.factor, self.model.denoising_unet, "photo.resize({})"
        )
        betas = check_view(pose, betas, azimuth, elevation, focal, seed)
        renderer = ConditionRenderer(str(body), height, width, near=near, far=far, focal=focal)
        placed = renderer.place(pose.root_tilt[:1], pose.body_pose[0], betas, azimuth, elevation)
        maps = renderer.draw(*placed[2:])
        drawn = self.generate(
            reference,
            [0],
            maps.skeleton[None],
            maps.depth[None],
            maps.normals[None],
            [seed],
            **{"progress": False, **options},
        )
        return Image.fromarray(drawn[0])

    def _check(
        self,
        references: np.ndarray,
        index: np.ndarray,
        maps: list[np.ndarray],
        seeds: np.ndarray,
    ) -> None:
        check_images(references, "reference image", 3)
        height, width = references.shape[1:3]
        check_size(height, width, self.encoders.factor, self.model.denoising_unet)
        check_maps(maps, (height, width))
        if len({len(index), len(seeds), *map(len, maps)}) != 1:
            raise StudyError(
                "reference_index, skeleton, depth, normals and seeds must have one entry "
                "per image to generate."
            )
        if len(index) and not 0 <= index.min() <= index.max() < len(references):
            raise StudyError(
                f"reference_index must lie in 0..{len(references) - 1}, "
                "the number of references less one."
            )

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def check_sampling(steps: int, guidance: float, batch_size: int, most: float) -> None:
    """StudyError unless steps (to `most`, the schedule's own) and batch_size are whole numbers
    from 1, and guidance is a number from 1."""
    for name, value, limit in (("steps", steps, most), ("batch_size", batch_size, np.inf)):
        if not (isinstance(value, Integral) and 1 <= value <= limit):
            upto = f" to {limit}" if limit < np.inf else ""
            raise StudyError(f"{name} is {value}: give a whole number from 1{upto}.")
    if not (isinstance(guidance, Real) and 1 <= guidance < np.inf):
        raise StudyError(f"guidance is {guidance}: give a number from 1, where 1 is none.")


def upright(photo: Image.Image) -> Image.Image:
    """The photo in RGB, turned by its EXIF orientation; StudyError as `rgb_of`, or no image."""
    if not isinstance(photo, Image.Image):
        raise StudyError(
            f"The photo must be an image of PIL, not {type(photo).__name__}: "
            "open it with Image.open(path)."
        )
    name = getattr(photo, "filename", "") or "The photo"
    return rgb_of(photo, str(name), "give a whole copy of it")


def check_view(
    pose: PoseSource,
    betas: ArrayLike | None,
    azimuth: float,
    elevation: float,
    focal: float,
    seed: int,
) -> np.ndarray:
    """The shape (10,), 0 by default.

    StudyError unless there is a pose, a shape of 10 numbers, two angles, a focal length and a seed.
    """
    if not isinstance(pose, PoseSource) or not len(pose):
        raise StudyError("There is no pose: give one, such as load_poses(FOLDER).select([0]).")
    try:
        shape = np.zeros(10) if betas is None else np.asarray(betas, np.float32).astype(float)
    except (ValueError, TypeError):
        shape = np.empty(0)
    if shape.shape != (10,) or not np.isfinite(shape).all():
        raise StudyError(
            f"betas are {betas!r}: give 10 finite numbers, or None for the mean shape."
        )
    for name, value in (("azimuth", azimuth), ("elevation", elevation), ("focal", focal)):
        if not isinstance(value, Real) or isinstance(value, bool) or not np.isfinite(value):
            what = "image heights" if name == "focal" else "degrees"
            raise StudyError(f"{name} is {value!r}: give {what}, a number.")
    if not isinstance(seed, Integral) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise StudyError(f"seed is {seed!r}: give a whole number from 0 to 2^63 - 1.")
    return shape
