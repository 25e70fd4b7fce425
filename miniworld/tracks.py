"""Parts of motions (ours): posture, gait, key poses.

A motion is a `Track` of anatomical angles in degrees. `miniworld.anatomy` holds their limits and
turns them into SMPL's axis-angle.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.interpolate import PchipInterpolator

from miniworld.anatomy import FPS, LIMITS, Track

Rng = np.random.Generator
Key = dict[str, float]  # a key pose: angles that are not named are 0


def times(frames: int) -> np.ndarray:
    """Seconds (frames,) of a track's frames."""
    return np.arange(frames) / FPS


def wobble(rng: Rng, frames: int, size: float) -> np.ndarray:
    """Slow drift (frames,) of about `size` degrees: nobody repeats a movement exactly."""
    t, wave = times(frames), np.zeros(frames)
    for frequency in (0.17, 0.41, 0.83):
        wave += np.sin(2 * np.pi * (frequency * t * rng.uniform(0.8, 1.2) + rng.uniform()))
    return size * wave / 2


def relaxed(rng: Rng, frames: int) -> Track:
    """Standing in a performer's own posture with a little sway; the basis of every motion."""
    track = {name: np.zeros(frames) for name in LIMITS}
    toes, stance = rng.uniform(2, 14), rng.uniform(1, 7)
    for side in "lr":
        track[f"arm_raise_{side}"] += rng.uniform(8, 16) + wobble(rng, frames, 2)
        track[f"arm_twist_{side}"] += rng.uniform(-5, 25)
        track[f"elbow_{side}"] += rng.uniform(8, 24) + wobble(rng, frames, 5)
        track[f"arm_swing_{side}"] += rng.uniform(-6, 6) + wobble(rng, frames, 4)
        track[f"hip_abduct_{side}"] += stance
        track[f"hip_turn_{side}"] += toes
        track[f"knee_{side}"] += 4
        track[f"hip_flex_{side}"] += 2
    track["spine_flex"] += rng.uniform(-3, 9)
    track["neck_flex"] += rng.uniform(-4, 10)
    sway = {"spine_twist": 3, "spine_side": 2, "spine_flex": 3, "neck_turn": 14, "neck_flex": 5}
    for name, size in sway.items():
        track[name] += wobble(rng, frames, size)
    return track


def stride(
    rng: Rng,
    track: Track,
    frames: int,
    rate: float,
    leg: float,
    knee: float,
    arm: float,
    elbow: float = 8,
    lean: float = 3,
) -> None:
    """Add a gait of about `rate` cycles per second; amplitudes in degrees.

    Arms swing against the legs, and the knee bends in the swing phase.
    """
    rate, leg, knee, arm = np.array([rate, leg, knee, arm]) * rng.uniform(0.88, 1.12, 4)
    # people speed up and slow down
    pace = 1 + 0.12 * np.sin(2 * np.pi * (0.23 * times(frames) + rng.uniform()))
    phase = 2 * np.pi * (rate * np.cumsum(pace) / FPS + rng.uniform())
    for side, shift in (("l", 0.0), ("r", np.pi)):
        wave = np.sin(phase + shift)
        push = (0.5 - 0.5 * np.sin(phase + shift)) ** 3  # the toes push off
        track[f"hip_flex_{side}"] += 0.2 * leg + leg * wave
        track[f"knee_{side}"] += 2 + 1.25 * knee * (0.5 + 0.5 * np.cos(phase + shift - 0.1)) ** 3
        track[f"ankle_{side}"] -= 1.6 * leg * push
        track[f"arm_swing_{side}"] -= arm * wave
        track[f"elbow_{side}"] += elbow - 0.35 * arm * wave
        track[f"hip_abduct_{side}"] *= 0.4
    track["root_roll"] += 2.5 * np.cos(phase)  # the hip sinks on the side of the free leg
    track["spine_side"] -= 2.5 * np.cos(phase)
    track["spine_twist"] += 0.25 * arm * np.sin(phase)
    track["spine_flex"] += lean


def keyframes(rng: Rng, track: Track, frames: int, keys: Sequence[Mapping[str, float]]) -> None:
    """Add a smooth way through key poses, which never overshoots a key.

    Every performer has a timing and a reach of their own.
    """
    gaps = rng.uniform(0.75, 1.25, len(keys) - 1)
    knots = np.concatenate([[0], np.cumsum(gaps)]) * (frames - 1) / gaps.sum()
    reach = rng.uniform(0.82, 1.06, len(keys))
    for name in sorted({name for key in keys for name in key}):
        values = [
            key.get(name, 0.0) * size * rng.uniform(0.95, 1.05)
            for key, size in zip(keys, reach, strict=True)
        ]
        track[name] = track[name] + PchipInterpolator(knots, values)(np.arange(frames))


def both(**angles: float) -> Key:
    """The same angles on the left and on the right."""
    return {f"{name}_{side}": value for side in "lr" for name, value in angles.items()}


def hold(track: Track, sides: str, **angles: float) -> Track:
    """Let the arms of the given sides hold angles, with a rest of their own movement."""
    for side in sides:
        for name in ("arm_swing", "arm_twist", "elbow", "arm_raise"):
            own = track[f"{name}_{side}"]
            track[f"{name}_{side}"] = angles.get(name, 10.0) + 0.25 * (own - own.mean())
    return track


def plant_feet(track: Track) -> Track:
    """Turn the ankles so that the soles stay level as far as the joint allows."""
    for side in "lr":
        bent = track[f"ankle_{side}"] + track[f"knee_{side}"] - track[f"hip_flex_{side}"]
        track[f"ankle_{side}"] = bent + track["root_pitch"]
    return track


def mirrored(track: Track) -> Track:
    """The same motion by somebody who does it with the other side."""
    turned = ("spine_side", "spine_twist", "neck_turn", "root_roll", "heading")
    other = {"_l": "_r", "_r": "_l"}
    out = {}
    for name, values in track.items():
        if name[-2:] in other:
            out[name[:-2] + other[name[-2:]]] = values
        else:
            out[name] = -values if name in turned else values
    return out
