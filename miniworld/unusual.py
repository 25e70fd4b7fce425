"""Unusual motions, what pedestrians rarely do (out-of-domain, ours)."""

from collections.abc import Mapping

import numpy as np

from miniworld.anatomy import Track
from miniworld.tracks import Key, Rng, both, keyframes, relaxed, stride, times


def dance(rng: Rng, frames: int, every: int = 13) -> Track:
    """Smooth way through random key poses; one leg carries, the other is free."""
    track = relaxed(rng, frames)
    keys = [_dance_key(rng, index) for index in range(max(2, frames // every))]
    keyframes(rng, track, frames, keys)
    return track


def _dance_key(rng: Rng, index: int) -> Key:
    key = {
        "spine_flex": rng.uniform(-12, 35),
        "spine_side": rng.uniform(-24, 24),
        "spine_twist": rng.uniform(-35, 35),
        "neck_flex": rng.uniform(-15, 20),
        "neck_turn": rng.uniform(-30, 30),
        "root_pitch": rng.uniform(-10, 18),
        "root_roll": rng.uniform(-10, 10),
        "heading": 40 * np.sin(index) + rng.uniform(-25, 25),
    }
    for side in "lr":
        raised = rng.uniform(0, 150)
        free = 1 - raised / 200  # a raised arm swings and turns less
        key[f"arm_raise_{side}"] = raised
        key[f"arm_swing_{side}"] = free * rng.uniform(-25, 85)
        key[f"arm_across_{side}"] = free * rng.uniform(-15, 75)
        key[f"arm_twist_{side}"] = free * rng.uniform(-70, 40)
        key[f"elbow_{side}"] = rng.uniform(0, 115)
    loose, carrying = ("l", "r") if rng.uniform() < 0.5 else ("r", "l")
    bend = rng.uniform(0, 45)  # a carrying leg bends so that its foot stays below the hip
    key[f"hip_flex_{carrying}"] = bend
    key[f"knee_{carrying}"] = 2 * bend
    key[f"hip_abduct_{carrying}"] = rng.uniform(0, 18)
    key[f"hip_flex_{loose}"] = rng.uniform(-20, 85)
    key[f"knee_{loose}"] = rng.uniform(5, 105)
    key[f"hip_abduct_{loose}"] = rng.uniform(0, 38)
    key[f"hip_turn_{loose}"] = rng.uniform(-10, 25)
    return key


def run(rng: Rng, frames: int) -> Track:
    """Running, leaning forward."""
    track = relaxed(rng, frames)
    stride(rng, track, frames, rate=1.3, leg=38, knee=80, arm=42, elbow=70, lean=8)
    track["root_pitch"] += 7
    return track


def sit(rng: Rng, frames: int) -> Track:
    """Sits down on an unseen chair, stays and stirs, gets up."""
    track = relaxed(rng, frames)
    seat = both(hip_flex=84, knee=82, elbow=55, arm_swing=28)
    down = seat | {"root_pitch": 10, "spine_flex": 32}
    still = seat | {"spine_flex": 4} | both(hip_abduct=10)
    crossed = still | {"hip_flex_l": 98, "hip_abduct_l": -10, "spine_twist": 20, "neck_turn": 30}
    aside = still | {"neck_turn": -30}
    keyframes(rng, track, frames, [{}, down, still, crossed, aside, still, down, {}])
    return track


def crouch(rng: Rng, frames: int) -> Track:
    """Crouches and picks something up."""
    track = relaxed(rng, frames)
    low = both(hip_flex=98, knee=124, arm_swing=55)
    low |= {"root_pitch": 22, "spine_flex": 32, "elbow_l": 30, "elbow_r": 20}
    pick = low | {"arm_swing_r": 95, "arm_swing_l": 20, "neck_flex": 20, "spine_twist": 18}
    keyframes(rng, track, frames, [{}, low, pick, low | {"neck_turn": 40}, pick, {}])
    return track


def raised_arms(rng: Rng, frames: int) -> Track:
    """Stretches with the arms up, wide and bent."""
    track = relaxed(rng, frames)
    up, wide = both(arm_raise=150) | {"neck_flex": -10}, both(arm_raise=90)
    bent = both(arm_raise=95, elbow=95, arm_twist=-75)
    right, left = up | {"spine_side": 18}, up | {"spine_side": -18}
    keys = [wide, up, bent, right, left, wide, bent | {"arm_raise_l": 160}, up]
    keyframes(rng, track, frames, keys)
    return track


def reach(rng: Rng, frames: int) -> Track:
    """Reaches up with one hand, forward with both, down to the ground."""
    track = relaxed(rng, frames)
    high_r = {"arm_raise_r": 158, "arm_across_r": 20, "spine_side": -12, "neck_flex": -20}
    high_l = {"arm_raise_l": 158, "arm_across_l": 20, "spine_side": 12, "neck_flex": -20}
    front = both(arm_swing=85) | {"spine_flex": 15}
    down = both(hip_flex=45, knee=15) | {"spine_flex": 42, "root_pitch": 48}
    down |= {"arm_swing_l": 62, "arm_swing_r": 75}
    keyframes(rng, track, frames, [{}, high_r, front, down, front, high_l, {}])
    return track


def kick(rng: Rng, frames: int) -> Track:
    """Swings a leg back and kicks, three times."""
    track = relaxed(rng, frames)
    keys: list[Mapping[str, float]] = []
    for side, other in ("lr", "rl", "lr"):
        back = {
            f"hip_flex_{side}": -26,
            f"knee_{side}": 85,
            f"arm_swing_{side}": 40,
            f"arm_swing_{other}": -25,
            "spine_flex": 8,
        }
        front = {
            f"hip_flex_{side}": 88,
            f"knee_{side}": 12,
            f"arm_swing_{other}": 65,
            f"arm_raise_{side}": 45,
            f"hip_flex_{other}": -10,
            "root_pitch": -12,
        }
        keys += [{}, back, front]
    keyframes(rng, track, frames, [*keys, {}])
    return track


def lunge(rng: Rng, frames: int) -> Track:
    """Steps far forward and bends the knee, with either leg."""
    track = relaxed(rng, frames)
    keys: list[Mapping[str, float]] = []
    for side, other in ("lr", "rl"):
        low = {
            f"hip_flex_{side}": 80,
            f"knee_{side}": 85,
            f"hip_flex_{other}": -22,
            f"knee_{other}": 35,
        }
        forward = low | {f"arm_swing_{other}": 100, "spine_twist": 20}
        keys += [{}, low | both(arm_raise=70), forward]
    keyframes(rng, track, frames, [*keys, {}])
    return track


def jumping_jack(rng: Rng, frames: int) -> Track:
    """Jumps with arms and legs going out and in together."""
    track = relaxed(rng, frames)
    wave = 0.5 - 0.5 * np.cos(2 * np.pi * rng.uniform(0.65, 0.9) * times(frames))
    for side in "lr":
        track[f"arm_raise_{side}"] += 145 * wave
        track[f"hip_abduct_{side}"] += 24 * wave**2 * (3 - 2 * wave)
        bend = 16 * np.sin(np.pi * wave) ** 2
        track[f"knee_{side}"] += 2 * bend
        track[f"hip_flex_{side}"] += bend
    track["lift"] += 9 * np.sin(np.pi * wave)
    return track


def jump(rng: Rng, frames: int) -> Track:
    """Crouches, springs up with the arms, lands."""
    track = relaxed(rng, frames)
    low = both(hip_flex=72, knee=88, arm_swing=-40) | {"spine_flex": 28, "root_pitch": 12}
    flight = both(hip_flex=8, knee=12, arm_raise=140) | {"lift": 34, "neck_flex": -8}
    tucked = both(hip_flex=70, knee=95, arm_raise=75) | {"lift": 30, "spine_flex": 15}
    land = both(hip_flex=50, knee=64, arm_swing=35) | {"spine_flex": 20, "root_pitch": 8}
    keyframes(rng, track, frames, [{}, low, flight, land, {}, low, tucked, land, {}])
    return track


def bend(rng: Rng, frames: int) -> Track:
    """Bends from the hips: ties a shoe, lifts something, stretches the back."""
    track = relaxed(rng, frames)
    over = both(hip_flex=50, knee=14, arm_swing=55) | {"spine_flex": 36, "root_pitch": 52}
    shoe = both(arm_swing=70) | {
        "spine_flex": 44,
        "root_pitch": 42,
        "hip_flex_l": 84,
        "knee_l": 62,
        "hip_flex_r": 28,
        "knee_r": 48,
        "neck_flex": 15,
    }
    aside = both(hip_abduct=12) | {"spine_side": 30, "arm_raise_l": 158}
    back = both(elbow=70, arm_raise=35, arm_swing=-30) | {"spine_flex": -18, "root_pitch": -8}
    twisted = over | {"spine_twist": 30}
    keyframes(rng, track, frames, [{}, over, twisted, {}, shoe, shoe, back, aside, {}])
    return track


def throw(rng: Rng, frames: int) -> Track:
    """Swings back and throws with the right arm, stepping into it."""
    track = relaxed(rng, frames)
    back = {
        "arm_raise_r": 95,
        "arm_across_r": -28,
        "elbow_r": 95,
        "arm_twist_r": -70,
        "spine_twist": -40,
        "arm_raise_l": 70,
        "hip_flex_l": 35,
        "knee_l": 40,
    }
    out = {
        "arm_raise_r": 100,
        "arm_across_r": 75,
        "elbow_r": 15,
        "spine_twist": 38,
        "spine_flex": 32,
        "hip_flex_l": 42,
        "knee_l": 38,
        "hip_flex_r": -22,
        "knee_r": 18,
    }
    follow = {"spine_flex": 20, "spine_twist": 20}
    keyframes(rng, track, frames, [{}, back, out, follow, back, out, {}])
    return track
