"""Everyday motions, what pedestrians do (in-domain, ours)."""

import numpy as np

from miniworld.anatomy import Track
from miniworld.tracks import Rng, hold, keyframes, relaxed, stride, wobble


def stand(rng: Rng, frames: int) -> Track:
    """Standing; the weight moves from one leg to the other."""
    track = relaxed(rng, frames)
    shift = wobble(rng, frames, rng.uniform(0.7, 1.6))
    track["root_roll"] += 2.5 * shift
    track["spine_side"] -= 2.5 * shift
    track["knee_l"] += 7 * np.maximum(shift, 0)
    track["knee_r"] += 7 * np.maximum(-shift, 0)
    track["hip_flex_l"] += 5 * np.maximum(shift, 0)
    track["hip_flex_r"] += 5 * np.maximum(-shift, 0)
    return track


def walk(
    rng: Rng,
    frames: int,
    rate: float = 0.9,
    leg: float = 24,
    knee: float = 42,
    arm: float = 20,
    lean: float = 3,
) -> Track:
    """Walking; arguments as in `tracks.stride`."""
    track = relaxed(rng, frames)
    stride(rng, track, frames, rate, leg, knee, arm, lean=lean)
    return track


def carry(rng: Rng, frames: int) -> Track:
    """Walking with something held before the body in one arm; the other arm swings little."""
    track = walk(rng, frames, rate=0.85, leg=21, arm=12)
    return hold(track, "r", arm_swing=12, arm_twist=35, elbow=rng.uniform(75, 95))


def carry_two(rng: Rng, frames: int) -> Track:
    """Walking with a box in both hands, leaning back a little."""
    track = walk(rng, frames, rate=0.8, leg=19, arm=8, lean=-6)
    return hold(track, "lr", arm_swing=22, arm_twist=22, elbow=rng.uniform(65, 85))


def carry_bag(rng: Rng, frames: int) -> Track:
    """Walking with a heavy bag: that arm hangs still, the trunk leans to the other side."""
    track = walk(rng, frames, rate=0.82, leg=20, arm=16)
    track["spine_side"] -= 8
    return hold(track, "r", arm_swing=2, arm_twist=10, elbow=6, arm_raise=14)


def pockets(rng: Rng, frames: int) -> Track:
    """Walking with the hands in the pockets of a jacket."""
    track = walk(rng, frames, rate=0.8, leg=20, arm=4)
    return hold(track, "lr", arm_swing=-8, arm_twist=25, elbow=58, arm_raise=20)


def phone(rng: Rng, frames: int, moving: bool = True) -> Track:
    """Looking at a telephone, walking slowly or standing."""
    if moving:
        track = walk(rng, frames, rate=0.7, leg=17, knee=34, arm=8)
    else:
        track = stand(rng, frames)
    track["neck_flex"] += 22
    return hold(track, "l", arm_swing=25, arm_twist=30, elbow=rng.uniform(85, 105))


def call(rng: Rng, frames: int) -> Track:
    """Telephoning with a hand at the ear, walking."""
    track = walk(rng, frames, rate=0.75, leg=18, arm=14)
    track["spine_side"] += 3
    return hold(track, "r", arm_swing=38, arm_twist=-5, elbow=143, arm_raise=38)


def turn(rng: Rng, frames: int) -> Track:
    """Walking in a bend, looking into it."""
    track = walk(rng, frames, rate=0.85, leg=20)
    track["heading"] += np.linspace(0, rng.uniform(120, 220), frames)
    track["root_roll"] -= 4
    track["neck_turn"] += 18
    return track


LOOKS = ((0, 0), (50, 0), (45, -12), (-10, 5), (-52, 0), (-30, 15), (20, -18), (0, 0))


def look_around(rng: Rng, frames: int) -> Track:
    """Standing and looking to all sides (LOOKS: turn and tilt); the trunk follows the head."""
    track = stand(rng, frames)
    keys = [
        {"neck_turn": turn, "spine_twist": 0.4 * turn, "neck_flex": tilt, "heading": 0.3 * turn}
        for turn, tilt in LOOKS
    ]
    keyframes(rng, track, frames, keys)
    return track


def clasped(rng: Rng, frames: int) -> Track:
    """Standing with the hands together before the body."""
    return hold(stand(rng, frames), "lr", arm_swing=14, arm_twist=48, elbow=52, arm_raise=12)
