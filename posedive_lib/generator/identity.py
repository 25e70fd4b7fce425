"""What all images of one person share (§B, "Injecting identity"), computed once per person."""

import hashlib
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from posedive_lib.generator.encoders import Encoders
from posedive_lib.generator.model import PoseDiveModel
from posedive_lib.generator.reference import Features, keys_and_values

# Memory for latents and CLIP tokens that are kept between calls. A token of every patch of ViT-L/14
# makes 0.8 MB a photo; the mini world's photos take some kilobytes each.
ROOM = 256 * 2**20  # bytes

# CLIP tokens (T, D) as `clip_tokens`, and by the name of a self-attention the keys and values
# (n, c) of the reference features.
Person = dict[str, list[Tensor]]


@dataclass
class Identities:
    """People by their reference photos. clip_tokens: see `ClipImageEncoder.tokens`."""

    model: PoseDiveModel
    encoders: Encoders
    clip_tokens: str
    device: torch.device
    _encoded: dict[bytes, tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False
    )

    def of(
        self, references: np.ndarray, people: np.ndarray, known: dict[int, Person]
    ) -> dict[int, Person]:
        """The people (B,) of a batch, as rows of references (R, H, W, 3); those known are kept."""
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
            images = torch.from_numpy(photos[list(new.values())]).to(self.device)
            new_latents = self.encoders.latents(images)
            new_tokens = self.encoders.clip.tokens(images, self.clip_tokens)
            for key, pair in zip(new, zip(new_latents, new_tokens, strict=True), strict=True):
                self._encoded[key] = pair
        latents = torch.stack([self._encoded[key][0] for key in keys])
        tokens = torch.stack([self._encoded[key][1] for key in keys])
        most = ROOM // (latents[0].nbytes + tokens[0].nbytes)
        while len(self._encoded) > most:  # the oldest go first
            del self._encoded[next(iter(self._encoded))]
        return latents, tokens


def stack(people: list[Person]) -> tuple[Tensor, Features | None]:
    """CLIP tokens (B, T, D), and keys and values (B, n, c) by name.

    None in place of the latter without reference attention.
    """
    stacked = {
        name: [torch.stack(rows) for rows in zip(*(p[name] for p in people), strict=True)]
        for name in people[0]
    }
    (tokens,) = stacked.pop("clip_tokens")
    features: Features = {name: (keys, values) for name, (keys, values) in stacked.items()}
    return tokens, features or None
