"""The mini world's motions (ours), written in the AMASS format: everyday ones (in-domain) and unusual ones (out-of-domain).

Every motion is a track of anatomical angles in degrees; `posedive_lib.world.anatomy` holds their limits and turns them into SMPL's axis-angle.
"""

from pathlib import Path

import numpy as np
from scipy.interpolate import PchipInterpolator

from posedive_lib.seeds import rng_for
from posedive_lib.world.anatomy import FPS, LIMITS, Track, amass


def _time(frames: int) -> np.ndarray:
    return np.arange(frames) / FPS


def _wobble(rng: np.random.Generator, frames: int, size: float) -> np.ndarray:
    """Slow drift (frames,) of about `size` degrees: nobody repeats a movement exactly."""
    t, wave = _time(frames), np.zeros(frames)
    for frequency in (0.17, 0.41, 0.83):
        wave += np.sin(2 * np.pi * (frequency * t * rng.uniform(0.8, 1.2) + rng.uniform()))
    return size * wave / 2


def _relaxed(rng: np.random.Generator, frames: int) -> Track:
    """Standing with a little sway; the basis of every motion."""
    track = {name: np.zeros(frames) for name in LIMITS}
    for side in "lr":
        track[f"arm_raise_{side}"] += 11 + _wobble(rng, frames, 2)
        track[f"elbow_{side}"] += 14 + _wobble(rng, frames, 5)
        track[f"arm_swing_{side}"] += _wobble(rng, frames, 4)
        track[f"hip_abduct_{side}"] += rng.uniform(2, 7)
        track[f"hip_turn_{side}"] += rng.uniform(2, 12)
        track[f"knee_{side}"] += 3
    for name, size in {"spine_twist": 3, "spine_side": 2, "spine_flex": 3, "neck_turn": 14, "neck_flex": 5}.items():
        track[name] += _wobble(rng, frames, size)
    return track


def _stride(track: Track, frames: int, rate: float, leg: float, knee: float, arm: float, elbow: float = 14, lean: float = 3) -> None:
    """Adds a gait: `rate` cycles per second; amplitudes in degrees. Arms swing against the legs, the knee bends in the swing phase."""
    pace = 1 + 0.12 * np.sin(2 * np.pi * 0.23 * _time(frames))  # speeds up and slows down
    phase = 2 * np.pi * rate * np.cumsum(pace) / FPS
    for side, shift in (("l", 0.0), ("r", np.pi)):
        wave = np.sin(phase + shift)
        track[f"hip_flex_{side}"] += 0.2 * leg + leg * wave
        track[f"knee_{side}"] += 4 + knee * (0.5 + 0.5 * np.cos(phase + shift - 0.25)) ** 2
        track[f"ankle_{side}"] += -6 * np.sin(phase + shift - 0.6)
        track[f"arm_swing_{side}"] -= arm * wave
        track[f"elbow_{side}"] += elbow - 0.35 * arm * wave
        track[f"hip_abduct_{side}"] *= 0.4
    track["spine_twist"] += 0.25 * arm * np.sin(phase)
    track["spine_flex"] += lean


def _keyframes(track: Track, frames: int, keys: list[dict[str, float]]) -> None:
    """Adds smooth interpolation through key poses, evenly spread over the motion; never overshoots a key."""
    knots = np.linspace(0, frames - 1, len(keys))
    for name in {name for key in keys for name in key}:
        values = [key.get(name, 0.0) for key in keys]
        track[name] = track[name] + PchipInterpolator(knots, values)(np.arange(frames))


# --- in-domain: what pedestrians do -----------------------------------------------------------------------------------------------


def stand(rng, frames):
    track = _relaxed(rng, frames)
    shift = _wobble(rng, frames, 1.0)  # weight moves from one leg to the other
    track["knee_l"] += 7 * np.maximum(shift, 0)
    track["knee_r"] += 7 * np.maximum(-shift, 0)
    track["hip_flex_l"] += 5 * np.maximum(shift, 0)
    track["hip_flex_r"] += 5 * np.maximum(-shift, 0)
    return track


def walk(rng, frames, rate=0.9, leg=24, knee=42, arm=20, lean=3):
    track = _relaxed(rng, frames)
    _stride(track, frames, rate, leg, knee, arm, lean=lean)
    return track


def carry(rng, frames):
    """Walking with something held before the body in one arm; the other arm swings little."""
    track = walk(rng, frames, rate=0.85, leg=21, arm=9)
    track["elbow_r"] += 75
    track["arm_swing_r"] += 12
    track["arm_twist_r"] += 20
    return track


def phone(rng, frames):
    """Walking slowly and looking at a telephone."""
    track = walk(rng, frames, rate=0.7, leg=17, knee=34, arm=5)
    track["elbow_l"] += 88
    track["arm_swing_l"] += 22
    track["arm_twist_l"] -= 12
    track["neck_flex"] += 24
    return track


def turn(rng, frames):
    """Walking in a bend, looking into it."""
    track = walk(rng, frames, rate=0.85, leg=20)
    track["heading"] += np.linspace(0, 200, frames)
    track["root_roll"] -= 4
    track["neck_turn"] += 18
    return track


# --- out-of-domain: what pedestrians rarely do ------------------------------------------------------------------------------------


def dance(rng, frames, every=13):
    """Smooth way through random, anatomically limited key poses; one leg carries, the other is free."""
    track = _relaxed(rng, frames)
    _keyframes(track, frames, [_dance_key(rng, index) for index in range(max(2, frames // every))])
    return track


def _dance_key(rng, index: int) -> dict[str, float]:
    key = {
        "spine_flex": rng.uniform(-12, 35), "spine_side": rng.uniform(-24, 24), "spine_twist": rng.uniform(-35, 35),
        "neck_flex": rng.uniform(-15, 20), "neck_turn": rng.uniform(-30, 30),
        "root_pitch": rng.uniform(-10, 18), "root_roll": rng.uniform(-10, 10), "heading": 40 * np.sin(index) + rng.uniform(-25, 25),
    }  # fmt: skip
    for side in "lr":
        key |= {f"arm_raise_{side}": rng.uniform(0, 155), f"arm_swing_{side}": rng.uniform(-25, 90)}
        key |= {f"arm_across_{side}": rng.uniform(-15, 80), f"arm_twist_{side}": rng.uniform(-70, 40)}
        key |= {f"elbow_{side}": rng.uniform(0, 115)}
    free, carrying = ("l", "r") if rng.uniform() < 0.5 else ("r", "l")
    bend = rng.uniform(0, 45)  # a carrying leg bends so that its foot stays below the hip
    key |= {f"hip_flex_{carrying}": bend, f"knee_{carrying}": 2 * bend, f"hip_abduct_{carrying}": rng.uniform(0, 18)}
    key |= {f"hip_flex_{free}": rng.uniform(-20, 85), f"knee_{free}": rng.uniform(5, 105), f"hip_abduct_{free}": rng.uniform(0, 38)}
    key |= {f"hip_turn_{free}": rng.uniform(-10, 25), f"ankle_{free}": rng.uniform(-25, 10)}
    return key


def run(rng, frames):
    track = _relaxed(rng, frames)
    _stride(track, frames, rate=1.45, leg=42, knee=95, arm=42, elbow=70, lean=8)
    track["root_pitch"] += 7
    return track


def sit(rng, frames):
    """Sits down on an unseen chair, stays and stirs, gets up."""
    track = _relaxed(rng, frames)
    seat = {f"{name}_{side}": value for side in "lr" for name, value in {"hip_flex": 84, "knee": 82, "elbow": 55, "arm_swing": 28}.items()}
    down = seat | {"root_pitch": 10, "spine_flex": 32}
    still = seat | {"spine_flex": 4, "hip_abduct_l": 10, "hip_abduct_r": 10}
    crossed = still | {"hip_flex_l": 98, "hip_abduct_l": -10, "spine_twist": 20, "neck_turn": 30}
    _keyframes(track, frames, [{}, down, still, crossed, still | {"neck_turn": -30}, still, down, {}])
    return track


def crouch(rng, frames):
    track = _relaxed(rng, frames)
    low = {f"{name}_{side}": value for side in "lr" for name, value in {"hip_flex": 96, "knee": 122, "ankle": 12, "arm_swing": 55}.items()}
    low |= {"root_pitch": 22, "spine_flex": 32, "elbow_l": 30, "elbow_r": 20}
    pick = low | {"arm_swing_r": 95, "arm_swing_l": 20, "neck_flex": 20, "spine_twist": 18}
    _keyframes(track, frames, [{}, low, pick, low | {"neck_turn": 40}, pick, {}])
    return track


def raised_arms(rng, frames):
    track = _relaxed(rng, frames)
    up = {"arm_raise_l": 150, "arm_raise_r": 150, "neck_flex": -10}
    wide = {"arm_raise_l": 90, "arm_raise_r": 90}
    bent = {"arm_raise_l": 95, "arm_raise_r": 95, "elbow_l": 95, "elbow_r": 95, "arm_twist_l": -75, "arm_twist_r": -75}
    _keyframes(track, frames, [wide, up, bent, up | {"spine_side": 18}, up | {"spine_side": -18}, wide, bent | {"arm_raise_l": 160}, up])
    return track


def reach(rng, frames):
    """Reaches up with one hand, forward with both, down to the ground."""
    track = _relaxed(rng, frames)
    high_r = {"arm_swing_r": 155, "spine_side": -12, "neck_flex": -20, "ankle_l": -25, "ankle_r": -25}
    high_l = {"arm_swing_l": 155, "spine_side": 12, "neck_flex": -20}
    front = {"arm_swing_l": 85, "arm_swing_r": 85, "spine_flex": 15}
    down = {"spine_flex": 58, "root_pitch": 42, "hip_flex_l": 45, "hip_flex_r": 45, "knee_l": 15, "knee_r": 15}
    down |= {"arm_swing_l": 62, "arm_swing_r": 75}
    _keyframes(track, frames, [{}, high_r, front, down, front, high_l, {}])
    return track


def kick(rng, frames):
    track = _relaxed(rng, frames)
    keys = []
    for side, other in ("lr", "rl", "lr"):
        back = {f"hip_flex_{side}": -26, f"knee_{side}": 85, f"arm_swing_{side}": 40, f"arm_swing_{other}": -25, "spine_flex": 8}
        front = {f"hip_flex_{side}": 88, f"knee_{side}": 12, f"arm_swing_{other}": 65, f"arm_raise_{side}": 45}
        keys += [{}, back, front | {"root_pitch": -12, f"hip_flex_{other}": -10}]
    _keyframes(track, frames, [*keys, {}])
    return track


def lunge(rng, frames):
    track = _relaxed(rng, frames)
    keys = []
    for side, other in ("lr", "rl"):
        low = {f"hip_flex_{side}": 80, f"knee_{side}": 85, f"hip_flex_{other}": -22, f"knee_{other}": 35, f"ankle_{other}": 20}
        keys += [{}, low | {"arm_raise_l": 70, "arm_raise_r": 70}, low | {f"arm_swing_{other}": 100, "spine_twist": 20}]
    _keyframes(track, frames, [*keys, {}])
    return track


def jumping_jack(rng, frames):
    track = _relaxed(rng, frames)
    wave = 0.5 - 0.5 * np.cos(2 * np.pi * 0.8 * _time(frames))
    for side in "lr":
        track[f"arm_raise_{side}"] += 148 * wave
        track[f"hip_abduct_{side}"] += 26 * wave
        bend = 16 * np.sin(np.pi * wave) ** 2
        track[f"knee_{side}"] += 2 * bend
        track[f"hip_flex_{side}"] += bend
    return track


IN_DOMAIN = {
    "stand": (stand, 120, {}),
    "walk_slow": (walk, 150, {"rate": 0.65, "leg": 17, "knee": 32, "arm": 11}),
    "walk_normal": (walk, 180, {}),
    "walk_fast": (walk, 150, {"rate": 1.1, "leg": 30, "knee": 50, "arm": 30, "lean": 6}),
    "walk_stiff": (walk, 120, {"rate": 0.8, "leg": 19, "knee": 28, "arm": 4, "lean": 10}),
    "carry": (carry, 150, {}),
    "phone": (phone, 150, {}),
    "turn": (turn, 150, {}),
}
OUT_OF_DOMAIN = {
    **{f"dance_{index}": (dance, 210, {}) for index in range(4)},
    "run": (run, 120, {}),
    "sit": (sit, 150, {}),
    "crouch": (crouch, 120, {}),
    "raised_arms": (raised_arms, 150, {}),
    "reach": (reach, 150, {}),
    "kick": (kick, 150, {}),
    "lunge": (lunge, 120, {}),
    "jumping_jack": (jumping_jack, 90, {}),
}


def write_motions(folder: str | Path, seed: int = 0) -> list[Path]:
    """Writes `in-domain/*.npz` and `out-of-domain/*.npz` under folder; the same seed writes the same bytes. Returns the paths."""
    paths = []
    for domain, motions in {"in-domain": IN_DOMAIN, "out-of-domain": OUT_OF_DOMAIN}.items():
        target = Path(folder) / domain
        target.mkdir(parents=True, exist_ok=True)
        for name, (motion, frames, options) in motions.items():
            rng = rng_for("motions", seed, name)
            track = motion(rng, frames, **options)
            arrays = amass(track, heading=rng.uniform(-180, 180), betas=rng.normal(0, 0.8, 16))
            np.savez_compressed(target / f"{name}.npz", **arrays)
            paths.append(target / f"{name}.npz")
    return paths
