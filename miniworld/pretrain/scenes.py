"""Captions as photos on the web have them: who is seen, what they do, from where and in front of what, and most of it left out.

CLIP learned from such captions, which is why its features tell places, actions and viewpoints apart as readily as people, and why a
Re-ID model has something to unlearn.
"""

import re
from dataclasses import dataclass

import numpy as np

from miniworld.cameras import Camera, wall
from miniworld.pretrain.common import settings
from miniworld.pretrain.render import plan
from posedive_lib.body.poses import load_poses
from posedive_lib.errors import StudyError
from posedive_lib.params import load

ACTIONS = {
    "call": "calling",
    "carry": "carrying a box",
    "carry_bag": "carrying a bag",
    "carry_two": "carrying two bags",
    "clasped": "with clasped hands",
    "look_around": "looking around",
    "phone": "walking with a phone",
    "phone_standing": "reading a phone",
    "pockets": "with hands in the pockets",
    "stand": "standing",
    "turn": "turning",
    "walk_fast": "walking fast",
    "walk_normal": "walking",
    "walk_slow": "walking slowly",
    "walk_stiff": "walking stiffly",
    "bend": "bending",
    "crouch": "crouching",
    "dance": "dancing",
    "dance_fast": "dancing fast",
    "jump": "jumping",
    "jumping_jack": "doing jumping jacks",
    "kick": "kicking",
    "lunge": "lunging",
    "raised_arms": "raising both arms",
    "reach": "reaching up",
    "run": "running",
    "sit": "sitting",
    "throw": "throwing",
}
WALLS = ("a brick wall", "a panel wall", "a hedge", "a plain wall")


@dataclass(frozen=True)
class Scene:
    """The parts of one photo's caption: `circumstances` (view, action, place, height) and `looks` (what is visible of the person)."""

    circumstances: tuple[str, ...]
    looks: tuple[str, ...]

    def caption(
        self, rng: np.random.Generator | None = None, circumstance: float = 1.0, look: float = 1.0
    ) -> str:
        """One sentence; with `rng` every part appears with the given probability only."""
        kept = lambda parts, share: [part for part in parts if rng is None or rng.random() < share]
        around, person = kept(self.circumstances, circumstance), kept(self.looks, look)
        return (
            " ".join(["a photo of a person", *around])
            + (" with " + ", ".join(person) if person else "")
            + "."
        )


def place(camera: Camera) -> str:
    """What stands behind the people of a camera, and the light there."""
    colour = np.array(camera.gain) * np.array(camera.light_colour)
    tone = (
        "warm"
        if colour[0] > 1.12 * colour[2]
        else "cold"
        if colour[0] < 0.89 * colour[2]
        else "neutral"
    )
    light = "bright" if colour.mean() > 1.06 else "dim" if colour.mean() < 0.94 else "even"
    return f"before {WALLS[wall(camera.scene)]} in {light} {tone} light"


def view(azimuth: float) -> str:
    """Words for an azimuth in degrees, the same for left and right: photos are mirrored in training."""
    azimuth = abs((azimuth + 180) % 360 - 180)
    names = (
        "front",
        "front and a little from the side",
        "side",
        "back and a little from the side",
        "back",
    )
    return f"from the {names[np.searchsorted((25, 65, 115, 155), azimuth)]}"


def chosen(known: dict[str, str], names: list[str]) -> tuple[str, ...]:
    """The circumstances that captions may name, in that order; StudyError for one that is not known."""
    if unknown := [name for name in names if name not in known]:
        raise StudyError(
            f"clip_reid.circumstances in miniworld/pretrain/params.yaml names {', '.join(unknown)}: choose from {', '.join(known)}."
        )
    return tuple(known[name] for name in names)


def scenes(captions: list[str]) -> list[Scene]:
    """One per rendered photo, from the plan that `miniworld.pretrain.render` followed and the captions of what is visible that it wrote."""
    everything = settings()
    poses = load_poses(load().paths.motions)
    found = []
    for shot, caption in zip(
        plan(everything["people"], poses, everything["seed"]), captions, strict=True
    ):
        action = ACTIONS[re.sub(r"_\d+$", "", str(poses.name[shot.pose]))]
        height = "high" if shot.elevation > 20 else "low" if shot.elevation < 8 else "level"
        looks = tuple(caption.rstrip(".").split(" with ", 1)[1].split(", "))
        known = {
            "view": view(shot.azimuth),
            "action": action,
            "place": place(shot.camera),
            "height": f"at {height} height",
        }
        found.append(Scene(chosen(known, everything["clip_reid"]["circumstances"]), looks))
    return found
