"""Sampling: one person (reference image) like that (skeleton, depth, normals)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
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
from posedive_lib.generator.model import PoseDiveModel
from posedive_lib.generator.noise_schedule import load_scheduler
from posedive_lib.generator.reference import keys_and_values
from posedive_lib.generator.saved import load_model, save_model
from posedive_lib.weights import plain

if TYPE_CHECKING:
    from posedive_lib.params import GeneratorParams, Sampling

ENCODED = 4096  # photos whose latents and CLIP tokens are kept between calls: some kilobytes each

# What all images of one person share: their CLIP tokens (T, D) as `clip_tokens`, and by the name of
# a self-attention the keys and values (n, c) of the reference features.
_Person = dict[str, list[Tensor]]


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
    _encoded: dict[bytes, tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False
    )

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
        chosen = self.sampling
        steps = chosen.steps if steps is None else steps
        guidance = chosen.guidance if guidance is None else guidance
        batch_size = chosen.batch_size if batch_size is None else batch_size
        scheduler = chosen.scheduler if scheduler is None else scheduler
        references, index = np.asarray(references), np.asarray(reference_index)
        maps, seeds = [np.asarray(x) for x in (depth, normals, skeleton)], np.asarray(seeds)
        self._check(references, index, maps, seeds)
        config = load_scheduler(self.stable_diffusion, self.params, scheduler).config
        check_sampling(steps, guidance, batch_size, config.get("num_train_timesteps", np.inf))
        images = np.empty((len(seeds), *references.shape[1:]), dtype=np.uint8)
        # Images of one person lie side by side, so that the reference U-Net runs once per person.
        order = np.argsort(index, kind="stable")
        team = processes()
        own = np.array_split(order, team.num_processes)[team.process_index]
        known: dict[int, _Person] = {}
        with (
            tqdm(total=len(own), desc="generate", unit="image", disable=not progress) as bar,
            autocast(self.device, self.precision),
        ):
            for start in range(0, len(own), batch_size):
                rows = own[start : start + batch_size]
                known = self._remember(references, index[rows], known)
                tokens, features = _stack([known[person] for person in index[rows]])
                conditions = [maps_to_float(self._tensor(array, rows)) for array in maps]
                latents = denoise(
                    self.model,
                    load_scheduler(self.stable_diffusion, self.params, scheduler),
                    tokens,
                    features,
                    self.model.guiders(*conditions),
                    seeds[rows],
                    steps=steps,
                    guidance=guidance,
                )
                images[rows] = self.encoders.images(latents).cpu().numpy()
                bar.update(len(rows))
        if team.num_processes > 1:
            for rows, drawn in gather_object([(own, images[own])]):
                images[rows] = drawn
        return images

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

        photo: RGB, its size a multiple of what the networks need. azimuth and elevation: degrees
        from the front and from the horizontal. body: SMPL file. betas (10,): shape, by default the
        mean. near, far (metres) and focal (image heights): those of training (`conditions` of the
        parameters). options: as in `generate`.
        """
        if not isinstance(photo, Image.Image) or photo.mode != "RGB":
            kind = f"mode {photo.mode}" if isinstance(photo, Image.Image) else type(photo).__name__
            raise StudyError(
                f"The photo must be an RGB image of PIL, not {kind}: "
                "open it with Image.open(path).convert('RGB')."
            )
        if not len(pose):
            raise StudyError("The pose source is empty: select one pose.")
        reference = np.asarray(photo)[None]
        height, width = reference.shape[1:3]
        check_size(height, width, self.encoders.factor, self.model.denoising_unet)
        betas = np.zeros(10) if betas is None else np.asarray(betas, float)
        if betas.shape != (10,) or not np.isfinite(betas).all():
            raise StudyError(
                f"betas are {betas.tolist()}: give 10 finite numbers, or None for the mean shape."
            )
        if not np.isfinite([azimuth, elevation]).all():
            raise StudyError(f"azimuth and elevation are {azimuth} and {elevation}: give degrees.")
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

    def _remember(
        self, references: np.ndarray, people: np.ndarray, known: dict[int, _Person]
    ) -> dict[int, _Person]:
        """What all images of one person share, for the people (B,) in this batch."""
        wanted = np.unique(people)
        missing = [person for person in wanted if person not in known]
        kept = {person: known[person] for person in wanted if person in known}
        if not missing:
            return kept
        latents, tokens = self._encode(np.ascontiguousarray(references[missing]))
        features = self.model.reference_features(latents, tokens) or {}
        shared: dict[str, tuple[Tensor, ...]] = {
            "clip_tokens": (tokens,),
            **keys_and_values(self.model.denoising_unet, features),
        }
        for row, person in enumerate(missing):
            kept[person] = {name: [part[row] for part in parts] for name, parts in shared.items()}
        return kept

    def _encode(self, photos: np.ndarray) -> tuple[Tensor, Tensor]:
        """Latents (P, C, h, w) and CLIP tokens (P, T, D) of photos (P, H, W, 3).

        VAE and CLIP see a photo once, however many calls show it: a plan's candidates take turns
        with their references.
        """
        keys = [
            hashlib.sha256(repr(photo.shape).encode() + photo.tobytes()).digest()
            for photo in photos
        ]
        new = {key: row for row, key in enumerate(keys) if key not in self._encoded}
        if new:
            images = self._tensor(photos, list(new.values()))
            new_latents = self.encoders.latents(images)
            new_tokens = self.encoders.clip.tokens(images, self.params.clip_tokens)
            for key, pair in zip(new, zip(new_latents, new_tokens, strict=True), strict=True):
                self._encoded[key] = pair
        latents = torch.stack([self._encoded[key][0] for key in keys])
        tokens = torch.stack([self._encoded[key][1] for key in keys])
        while len(self._encoded) > ENCODED:  # the oldest go first
            del self._encoded[next(iter(self._encoded))]
        return latents, tokens

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

    def _tensor(self, array: np.ndarray, rows: np.ndarray | list[int]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array[rows])).to(self.device)


def check_sampling(steps: int, guidance: float, batch_size: int, most: float) -> None:
    """StudyError unless steps (to `most`, the schedule's own) and batch_size are whole numbers
    from 1, and guidance is a number from 1."""
    for name, value, limit in (("steps", steps, most), ("batch_size", batch_size, np.inf)):
        if not (isinstance(value, Integral) and 1 <= value <= limit):
            upto = f" to {limit}" if limit < np.inf else ""
            raise StudyError(f"{name} is {value}: give a whole number from 1{upto}.")
    if not (isinstance(guidance, Real) and 1 <= guidance < np.inf):
        raise StudyError(f"guidance is {guidance}: give a number from 1, where 1 is none.")


def _stack(people: list[_Person]) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]] | None]:
    """CLIP tokens (B, T, D), and keys and values (B, n, c) by name.

    None in place of the latter without reference attention.
    """
    stacked = {
        name: [torch.stack(rows) for rows in zip(*(p[name] for p in people), strict=True)]
        for name in people[0]
    }
    (tokens,) = stacked.pop("clip_tokens")
    features = {name: (keys, values) for name, (keys, values) in stacked.items()}
    return tokens, features or None
