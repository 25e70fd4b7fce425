"""Captions as photos on the web have them: who, doing what, seen from where, in front of what.

Most of it is left out. CLIP learned from such captions. So its features tell places, actions and
viewpoints apart as readily as people, and a Re-ID model has something to unlearn.
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
VIEWS = (
    "front",
    "front and a little from the side",
    "side",
    "back and a little from the side",
    "back",
)
WALLS = ("a brick wall", "a panel wall", "a hedge", "a plain wall")


@dataclass(frozen=True)
class Scene:
    """The parts of one photo's caption.

    circumstances: view, action, place, height. looks: what is visible of the person.
    """

    circumstances: tuple[str, ...]
    looks: tuple[str, ...]

    def caption(
        self, rng: np.random.Generator | None = None, circumstance: float = 1.0, look: float = 1.0
    ) -> str:
        """One sentence; with `rng` every part appears with the given probability only."""

        def kept(parts: tuple[str, ...], share: float) -> list[str]:
            return [part for part in parts if rng is None or rng.random() < share]

        around, person = kept(self.circumstances, circumstance), kept(self.looks, look)
        words = " ".join(["a photo of a person", *around])
        if person:
            words += " with " + ", ".join(person)
        return f"{words}."


def _word(value: float, low: float, high: float, words: tuple[str, str, str]) -> str:
    """The first word below `low`, the last above `high`, the middle one between."""
    if value < low:
        return words[0]
    return words[2] if value > high else words[1]


def place(camera: Camera) -> str:
    """What stands behind the people of a camera, and the light there."""
    red, green, blue = np.array(camera.gain) * np.array(camera.light_colour)
    tone = "neutral"
    if red > 1.12 * blue:
        tone = "warm"
    elif red < 0.89 * blue:
        tone = "cold"
    brightness = np.mean([red, green, blue])
    light = _word(brightness, 0.94, 1.06, ("dim", "even", "bright"))
    return f"before {WALLS[wall(camera.scene)]} in {light} {tone} light"


def view(azimuth: float) -> str:
    """Words for an azimuth in degrees, the same for left and right: training mirrors photos."""
    azimuth = abs((azimuth + 180) % 360 - 180)
    return f"from the {VIEWS[np.searchsorted((25, 65, 115, 155), azimuth)]}"


def chosen(known: dict[str, str], names: list[str]) -> tuple[str, ...]:
    """The circumstances that captions may name, in that order; StudyError for an unknown one."""
    if unknown := [name for name in names if name not in known]:
        raise StudyError(
            "clip_reid.circumstances in miniworld/pretrain/params.yaml names "
            f"{', '.join(unknown)}: choose from {', '.join(known)}."
        )
    return tuple(known[name] for name in names)


def scenes(captions: list[str]) -> list[Scene]:
    """One per rendered photo.

    From the plan that `miniworld.pretrain.render` followed, and its captions of what is visible.
    """
    everything = settings()
    poses = load_poses(load().paths.motions)
    found = []
    shots = plan(everything["people"], poses, everything["seed"])
    for shot, caption in zip(shots, captions, strict=True):
        action = ACTIONS[re.sub(r"_\d+$", "", str(poses.name[shot.pose]))]
        looks = tuple(caption.rstrip(".").split(" with ", 1)[1].split(", "))
        known = {
            "view": view(shot.azimuth),
            "action": action,
            "place": place(shot.camera),
            "height": f"at {_word(shot.elevation, 8, 20, ('low', 'level', 'high'))} height",
        }
        found.append(Scene(chosen(known, everything["clip_reid"]["circumstances"]), looks))
    return found
