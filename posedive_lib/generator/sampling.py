"""Sampling: one person (reference image) like that (skeleton, depth, normals)."""

import hashlib
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from accelerate.utils import gather_object
from diffusers import SchedulerMixin
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from posedive_lib.body.conditions import ConditionRenderer
from posedive_lib.body.poses import PoseSource
from posedive_lib.errors import StudyError
from posedive_lib.generator import reference as reference_attention
from posedive_lib.generator import saved
from posedive_lib.generator.arrays import Encoders, check_images, check_size
from posedive_lib.generator.denoising import denoise
from posedive_lib.generator.guiders import maps_to_float
from posedive_lib.generator.model import PoseDiveModel
from posedive_lib.generator.noise_schedule import load_scheduler
from posedive_lib.generator.precision import autocast
from posedive_lib.generator.processes import processes
from posedive_lib.precision import checked_device

ENCODED = 4096  # photos whose latents and CLIP tokens are kept between calls: some kilobytes each


@dataclass
class Generator:
    """A model with its frozen encoders; `params`: the `generator` section it was trained with."""

    model: PoseDiveModel
    encoders: Encoders
    params: SimpleNamespace
    stable_diffusion: Path
    device: torch.device
    mixed_precision: str = "no"
    _encoded: dict[bytes, tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False
    )

    @classmethod
    def load(
        cls,
        path_or_hub_id: str | Path,
        stable_diffusion: str | Path | None = None,
        *,
        params=None,
        device: str | torch.device | None = None,
        mixed_precision: str | None = None,
        revision: str | None = None,
    ) -> "Generator":
        """Our saved generator, or a Stable Diffusion layout (a fresh model that knows no conditions yet; `params` for its guiders).

        stable_diffusion: where VAE, CLIP and scheduler are, if they moved since saving. device: by default this process's GPU, else
        the CPU. mixed_precision: no, bf16 or auto (bf16 where the device computes it natively), by default as it was trained.

        A photo, a pose and a camera give an image:

            generator = load("data/pretrained/phase1")
            photo = Image.open("person.png")
            pose = load_poses("data/motions").select([100])
            image = generator.draw(photo, pose, azimuth=90, elevation=10, body="data/body/SMPL_NEUTRAL.npz")
            image.save("like_that.png")
        """
        device = checked_device(device or processes().device)
        model, params, frozen = saved.load_model(path_or_hub_id, stable_diffusion, params, revision)
        encoders = Encoders.load(frozen, device, vae=params.vae, image_encoder=params.image_encoder)
        if encoders.clip.dimension != model.denoising_unet.config.cross_attention_dim:
            raise StudyError(
                f"{frozen}: CLIP embeddings have length {encoders.clip.dimension}, but the U-Net's cross-attention takes "
                f"{model.denoising_unet.config.cross_attention_dim}: use the image encoder that belongs to this Stable Diffusion."
            )
        for module in (model, encoders.vae):
            module.to(device, memory_format=torch.channels_last)  # a fifth faster on a CPU
        return cls(
            model.eval(),
            encoders,
            params,
            frozen,
            device,
            mixed_precision or params.mixed_precision,
        )

    def save(self, folder: str | Path) -> Path:
        """Write the trained parts; see `store`."""
        return saved.save_model(self.model, folder, self.params, self.stable_diffusion)

    @torch.inference_mode()
    def generate(
        self,
        references,
        reference_index,
        skeleton,
        depth,
        normals,
        seeds,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        batch_size: int | None = None,
        progress: bool = True,
        scheduler: type[SchedulerMixin] | str | None = None,
    ) -> np.ndarray:
        """uint8 references (R, H, W, 3), reference_index (N,) into them, maps (N, H, W, 3 / 1 / 3), seeds (N,) -> uint8 (N, H, W, 3).

        Each image depends on its own seed only, not on the batch it is in. The reference U-Net runs once per person, however many
        poses, steps and guidance branches use its features. Defaults of steps, guidance, batch_size and scheduler (a diffusers class or
        its name): `params.sampling`. Under `accelerate launch` every process draws its part, and all of them get all images.
        """
        chosen = lambda name, value: getattr(self.params.sampling, name) if value is None else value
        steps, guidance, batch_size = (
            chosen("steps", steps),
            chosen("guidance", guidance),
            chosen("batch_size", batch_size),
        )
        fresh_noise = lambda: load_scheduler(
            self.stable_diffusion, self.params, chosen("scheduler", scheduler)
        )
        references, reference_index = np.asarray(references), np.asarray(reference_index)
        self._check(references, reference_index, skeleton, depth, normals, seeds)
        check_sampling(
            steps, guidance, batch_size, fresh_noise().config.get("num_train_timesteps", np.inf)
        )
        images = np.empty((len(seeds), *references.shape[1:]), dtype=np.uint8)
        order = np.argsort(
            reference_index, kind="stable"
        )  # images of one person side by side, so that features are made once
        team = processes()
        own = np.array_split(order, team.num_processes)[team.process_index]
        known: dict[int, dict] = {}
        with (
            tqdm(total=len(own), desc="generate", unit="image", disable=not progress) as bar,
            self._autocast(),
        ):
            for start in range(0, len(own), batch_size):
                rows = own[start : start + batch_size]
                known = self._remember(references, reference_index[rows], known)
                tokens, features = _stack([known[person] for person in reference_index[rows]])
                guide = self.model.guiders(
                    *(
                        maps_to_float(self._tensor(array, rows))
                        for array in (depth, normals, skeleton)
                    )
                )
                latents = denoise(
                    self.model,
                    fresh_noise(),
                    tokens,
                    features,
                    guide,
                    np.asarray(seeds)[rows],
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
        betas=None,
        near: float = 2.5,
        far: float = 10.5,
        focal: float = 2.5,
        **options,
    ) -> Image.Image:
        """The person of `photo` (RGB, its size a multiple of what the networks need) in the first pose of `pose`, seen from the camera at
        azimuth and elevation (degrees from the front and from the horizontal). body: SMPL file; betas (10,): shape, by default the mean.

        near, far (metres) and focal (image heights) are those of training (`conditions` of the parameters); options: as in `generate`.
        """
        if not isinstance(photo, Image.Image) or photo.mode != "RGB":
            kind = f"mode {photo.mode}" if isinstance(photo, Image.Image) else type(photo).__name__
            raise StudyError(
                f"The photo must be an RGB image of PIL, not {kind}: open it with Image.open(path).convert('RGB')."
            )
        if not len(pose):
            raise StudyError("The pose source is empty: select one pose.")
        reference = np.asarray(photo)[None]
        check_size(*reference.shape[1:3], self.encoders.factor, self.model.denoising_unet)
        betas = np.zeros(10) if betas is None else np.asarray(betas, float)
        if betas.shape != (10,) or not np.isfinite(betas).all():
            raise StudyError(
                f"betas are {betas.tolist()}: give 10 finite numbers, or None for the mean shape."
            )
        if not np.isfinite([azimuth, elevation]).all():
            raise StudyError(f"azimuth and elevation are {azimuth} and {elevation}: give degrees.")
        renderer = ConditionRenderer(
            str(body), *reference.shape[1:3], near=near, far=far, focal=focal
        )
        drawn = renderer.draw(
            *renderer.place(pose.root_tilt[:1], pose.body_pose[0], betas, azimuth, elevation)[2:]
        )
        options = {"progress": False, **options}
        return Image.fromarray(
            self.generate(
                reference,
                [0],
                drawn.skeleton[None],
                drawn.depth[None],
                drawn.normals[None],
                [seed],
                **options,
            )[0]
        )

    def _remember(self, references: np.ndarray, people: np.ndarray, known: dict) -> dict[int, dict]:
        """What all images of one person share, for the people in this batch: CLIP tokens (T, D) as `clip_tokens`, and the keys and values
        (n, c) of the reference features by name."""
        wanted = np.unique(people)
        missing = [person for person in wanted if person not in known]
        kept = {person: known[person] for person in wanted if person in known}
        if missing:
            latents, tokens = self._encode(np.ascontiguousarray(references[missing]))
            features = self.model.reference_features(latents, tokens) or {}
            shared = {
                "clip_tokens": (tokens,),
                **reference_attention.keys_and_values(self.model.denoising_unet, features),
            }
            kept |= {
                person: {name: [rows[i] for rows in parts] for name, parts in shared.items()}
                for i, person in enumerate(missing)
            }
        return kept

    def _encode(self, photos: np.ndarray) -> tuple[Tensor, Tensor]:
        """Latents (P, C, h, w) and CLIP tokens (P, T, D) of photos (P, H, W, 3). VAE and CLIP see a photo once, however many calls
        show it: a plan's candidates take turns with their references."""
        keys = [
            hashlib.sha256(repr(photo.shape).encode() + photo.tobytes()).digest()
            for photo in photos
        ]
        new = {key: row for row, key in enumerate(keys) if key not in self._encoded}
        if new:
            images = self._tensor(photos, list(new.values()))
            self._encoded |= zip(
                new,
                zip(
                    self.encoders.latents(images),
                    self.encoders.clip.tokens(images, self.params.clip_tokens),
                ),
            )
        latents, tokens = (
            torch.stack(parts) for parts in zip(*(self._encoded[key] for key in keys))
        )
        while len(self._encoded) > ENCODED:
            del self._encoded[next(iter(self._encoded))]
        return latents, tokens

    def _check(self, references, reference_index, skeleton, depth, normals, seeds) -> None:
        check_images(references, "reference image", 3)
        size = references.shape[1:3]
        check_size(*size, self.encoders.factor, self.model.denoising_unet)
        for name, maps, channels in (
            ("skeleton", skeleton, 3),
            ("depth map", depth, 1),
            ("normal map", normals, 3),
        ):
            check_images(np.asarray(maps), name, channels, size)
        counts = {len(reference_index), len(skeleton), len(depth), len(normals), len(seeds)}
        if len(counts) != 1:
            raise StudyError(
                "reference_index, skeleton, depth, normals and seeds must have one entry per image to generate."
            )
        if len(reference_index) and not 0 <= reference_index.min() <= reference_index.max() < len(
            references
        ):
            raise StudyError(
                f"reference_index must lie in 0..{len(references) - 1}, the number of references less one."
            )

    def _autocast(self):
        return autocast(self.device, self.mixed_precision)

    def _tensor(self, array, rows) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(np.asarray(array)[rows])).to(self.device)


def check_sampling(steps, guidance, batch_size, most: int) -> None:
    """StudyError unless steps (to `most`, the schedule's own) and batch_size are whole numbers from 1, and guidance is a number from 1."""
    for name, value, limit in (("steps", steps, most), ("batch_size", batch_size, np.inf)):
        if not (isinstance(value, Integral) and 1 <= value <= limit):
            raise StudyError(
                f"{name} is {value}: give a whole number from 1"
                + (f" to {limit}." if limit < np.inf else ".")
            )
    if not (isinstance(guidance, Real) and 1 <= guidance < np.inf):
        raise StudyError(f"guidance is {guidance}: give a number from 1, where 1 is none.")


def _stack(people: list[dict]) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]] | None]:
    """CLIP tokens (B, T, D), and keys and values (B, n, c) by name; None without reference attention."""
    stacked = {
        name: tuple(torch.stack(rows) for rows in zip(*(person[name] for person in people)))
        for name in people[0]
    }
    (tokens,) = stacked.pop("clip_tokens")
    return tokens, stacked or None
