"""The mini world's motions (ours), written in the AMASS format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from miniworld import everyday, unusual
from miniworld.anatomy import Track, amass
from miniworld.tracks import mirrored, plant_feet
from posedive_lib.seeds import rng_for

# name -> motion, frames, its options
Motions = dict[str, tuple[Callable[..., Track], int, dict[str, Any]]]
IN_DOMAIN: Motions = {
    "stand": (everyday.stand, 100, {}),
    "clasped": (everyday.clasped, 70, {}),
    "look_around": (everyday.look_around, 110, {}),
    "walk_slow": (everyday.walk, 110, {"rate": 0.65, "leg": 17, "knee": 32, "arm": 11}),
    "walk_normal": (everyday.walk, 120, {}),
    "walk_fast": (everyday.walk, 100, {"rate": 1.1, "leg": 30, "knee": 50, "arm": 30, "lean": 6}),
    "walk_stiff": (everyday.walk, 90, {"rate": 0.8, "leg": 19, "knee": 28, "arm": 4, "lean": 10}),
    "pockets": (everyday.pockets, 90, {}),
    "carry": (everyday.carry, 100, {}),
    "carry_two": (everyday.carry_two, 90, {}),
    "carry_bag": (everyday.carry_bag, 90, {}),
    "phone": (everyday.phone, 90, {}),
    "phone_standing": (everyday.phone, 70, {"moving": False}),
    "call": (everyday.call, 80, {}),
    "turn": (everyday.turn, 110, {}),
}
OUT_OF_DOMAIN: Motions = {
    "dance": (unusual.dance, 210, {}),
    "dance_fast": (unusual.dance, 160, {"every": 9}),
    "run": (unusual.run, 100, {}),
    "sit": (unusual.sit, 150, {}),
    "crouch": (unusual.crouch, 120, {}),
    "raised_arms": (unusual.raised_arms, 130, {}),
    "reach": (unusual.reach, 130, {}),
    "bend": (unusual.bend, 150, {}),
    "kick": (unusual.kick, 130, {}),
    "lunge": (unusual.lunge, 110, {}),
    "throw": (unusual.throw, 100, {}),
    "jump": (unusual.jump, 120, {}),
    "jumping_jack": (unusual.jumping_jack, 70, {}),
}
PERFORMERS = 2  # of every motion; the second one is the other-handed


def write_motions(folder: str | Path, seed: int = 0) -> list[Path]:
    """Write `in-domain/NAME_P.npz` and `out-of-domain/NAME_P.npz` below a folder.

    P is the performer. Returns the paths. The same seed writes the same bytes. Other files in these
    folders stay.
    """
    paths = []
    for domain, motions in {"in-domain": IN_DOMAIN, "out-of-domain": OUT_OF_DOMAIN}.items():
        target = Path(folder) / domain
        target.mkdir(parents=True, exist_ok=True)
        for name, (motion, frames, options) in motions.items():
            for performer in range(PERFORMERS):
                rng = rng_for("motions", seed, name, performer)
                track = plant_feet(motion(rng, frames, **options))
                if performer % 2:
                    track = mirrored(track)
                heading, betas = rng.uniform(-180, 180), rng.normal(0, 0.8, 16)
                arrays: dict[str, Any] = amass(track, heading, betas)
                paths.append(target / f"{name}_{performer}.npz")
                np.savez_compressed(paths[-1], **arrays)
    return paths
