"""The mini world's motions (ours), written in the AMASS format: everyday ones (in-domain) and unusual ones (out-of-domain).

Every motion is a track of anatomical angles in degrees; `miniworld.anatomy` holds their limits and turns them into SMPL's axis-angle.
"""

from pathlib import Path

import numpy as np
from scipy.interpolate import PchipInterpolator

from miniworld.anatomy import FPS, LIMITS, Track, amass
from posedive_lib.seeds import rng_for


def _time(frames: int) -> np.ndarray:
    return np.arange(frames) / FPS


def _wobble(rng: np.random.Generator, frames: int, size: float) -> np.ndarray:
    """Slow drift (frames,) of about `size` degrees: nobody repeats a movement exactly."""
    t, wave = _time(frames), np.zeros(frames)
    for frequency in (0.17, 0.41, 0.83):
        wave += np.sin(2 * np.pi * (frequency * t * rng.uniform(0.8, 1.2) + rng.uniform()))
    return size * wave / 2


def _relaxed(rng: np.random.Generator, frames: int) -> Track:
    """Standing in a performer's own posture with a little sway; the basis of every motion."""
    track = {name: np.zeros(frames) for name in LIMITS}
    toes, stance = rng.uniform(2, 14), rng.uniform(1, 7)
    for side in "lr":
        track[f"arm_raise_{side}"] += rng.uniform(8, 16) + _wobble(rng, frames, 2)
        track[f"arm_twist_{side}"] += rng.uniform(-5, 25)
        track[f"elbow_{side}"] += rng.uniform(8, 24) + _wobble(rng, frames, 5)
        track[f"arm_swing_{side}"] += rng.uniform(-6, 6) + _wobble(rng, frames, 4)
        track[f"hip_abduct_{side}"] += stance
        track[f"hip_turn_{side}"] += toes
        track[f"knee_{side}"] += 4
        track[f"hip_flex_{side}"] += 2
    track["spine_flex"] += rng.uniform(-3, 9)
    track["neck_flex"] += rng.uniform(-4, 10)
    for name, size in {
        "spine_twist": 3,
        "spine_side": 2,
        "spine_flex": 3,
        "neck_turn": 14,
        "neck_flex": 5,
    }.items():
        track[name] += _wobble(rng, frames, size)
    return track


def _stride(
    rng,
    track: Track,
    frames: int,
    rate: float,
    leg: float,
    knee: float,
    arm: float,
    elbow: float = 8,
    lean: float = 3,
) -> None:
    """Adds a gait: about `rate` cycles per second; amplitudes in degrees. Arms swing against the legs, the knee bends in the swing phase."""
    rate, leg, knee, arm = np.array([rate, leg, knee, arm]) * rng.uniform(0.88, 1.12, 4)
    pace = 1 + 0.12 * np.sin(
        2 * np.pi * (0.23 * _time(frames) + rng.uniform())
    )  # speeds up and slows down
    phase = 2 * np.pi * (rate * np.cumsum(pace) / FPS + rng.uniform())
    for side, shift in (("l", 0.0), ("r", np.pi)):
        wave = np.sin(phase + shift)
        track[f"hip_flex_{side}"] += 0.2 * leg + leg * wave
        track[f"knee_{side}"] += 2 + 1.25 * knee * (0.5 + 0.5 * np.cos(phase + shift - 0.1)) ** 3
        track[f"ankle_{side}"] -= (
            1.6 * leg * (0.5 - 0.5 * np.sin(phase + shift)) ** 3
        )  # the toes push off
        track[f"arm_swing_{side}"] -= arm * wave
        track[f"elbow_{side}"] += elbow - 0.35 * arm * wave
        track[f"hip_abduct_{side}"] *= 0.4
    track["root_roll"] += 2.5 * np.cos(phase)  # the hip sinks on the side of the free leg
    track["spine_side"] -= 2.5 * np.cos(phase)
    track["spine_twist"] += 0.25 * arm * np.sin(phase)
    track["spine_flex"] += lean


def _keyframes(rng, track: Track, frames: int, keys: list[dict[str, float]]) -> None:
    """Adds smooth interpolation through key poses; never overshoots a key. Every performer has an own timing and an own reach."""
    gaps = rng.uniform(0.75, 1.25, len(keys) - 1)
    knots = np.concatenate([[0], np.cumsum(gaps)]) * (frames - 1) / gaps.sum()
    reach = rng.uniform(0.82, 1.06, len(keys))
    for name in sorted({name for key in keys for name in key}):
        values = [
            key.get(name, 0.0) * size * rng.uniform(0.95, 1.05)
            for key, size in zip(keys, reach, strict=True)
        ]
        track[name] = track[name] + PchipInterpolator(knots, values)(np.arange(frames))


def _plant_feet(track: Track) -> Track:
    """Turns the ankles so that the soles stay level as far as the joint allows."""
    for side in "lr":
        track[f"ankle_{side}"] = (
            track[f"ankle_{side}"]
            + track[f"knee_{side}"]
            - track[f"hip_flex_{side}"]
            + track["root_pitch"]
        )
    return track


def _mirrored(track: Track) -> Track:
    """The same motion by somebody who does it with the other side."""
    turned = ("spine_side", "spine_twist", "neck_turn", "root_roll", "heading")
    other = {"_l": "_r", "_r": "_l"}
    return {
        name[:-2] + other[name[-2:]] if name[-2:] in other else name: -v if name in turned else v
        for name, v in track.items()
    }


# --- in-domain: what pedestrians do -----------------------------------------------------------------------------------------------


def stand(rng, frames):
    track = _relaxed(rng, frames)
    shift = _wobble(rng, frames, rng.uniform(0.7, 1.6))  # weight moves from one leg to the other
    track["root_roll"] += 2.5 * shift
    track["spine_side"] -= 2.5 * shift
    track["knee_l"] += 7 * np.maximum(shift, 0)
    track["knee_r"] += 7 * np.maximum(-shift, 0)
    track["hip_flex_l"] += 5 * np.maximum(shift, 0)
    track["hip_flex_r"] += 5 * np.maximum(-shift, 0)
    return track


def walk(rng, frames, rate=0.9, leg=24, knee=42, arm=20, lean=3):
    track = _relaxed(rng, frames)
    _stride(rng, track, frames, rate, leg, knee, arm, lean=lean)
    return track


def _hold(track: Track, sides: str, **angles: float) -> Track:
    """The arms of the given sides leave their swing and hold the given angles, with a rest of their own movement."""
    for side in sides:
        for name in ("arm_swing", "arm_twist", "elbow", "arm_raise"):
            held = angles.get(name, 10.0)
            track[f"{name}_{side}"] = held + 0.25 * (
                track[f"{name}_{side}"] - track[f"{name}_{side}"].mean()
            )
    return track


def carry(rng, frames):
    """Walking with something held before the body in one arm; the other arm swings little."""
    track = walk(rng, frames, rate=0.85, leg=21, arm=12)
    return _hold(track, "r", arm_swing=12, arm_twist=35, elbow=rng.uniform(75, 95))


def carry_two(rng, frames):
    """Walking with a box in both hands, leaning back a little."""
    track = walk(rng, frames, rate=0.8, leg=19, arm=8, lean=-6)
    return _hold(track, "lr", arm_swing=22, arm_twist=22, elbow=rng.uniform(65, 85))


def carry_bag(rng, frames):
    """Walking with a heavy bag in one hand: that arm hangs still, the trunk leans to the other side."""
    track = walk(rng, frames, rate=0.82, leg=20, arm=16)
    track["spine_side"] -= 8
    return _hold(track, "r", arm_swing=2, arm_twist=10, elbow=6, arm_raise=14)


def pockets(rng, frames):
    """Walking with the hands in the pockets of a jacket."""
    track = walk(rng, frames, rate=0.8, leg=20, arm=4)
    return _hold(track, "lr", arm_swing=-8, arm_twist=25, elbow=58, arm_raise=20)


def phone(rng, frames, moving=True):
    """Looking at a telephone, walking slowly or standing."""
    track = walk(rng, frames, rate=0.7, leg=17, knee=34, arm=8) if moving else stand(rng, frames)
    track["neck_flex"] += 22
    return _hold(track, "l", arm_swing=25, arm_twist=30, elbow=rng.uniform(85, 105))


def call(rng, frames):
    """Telephoning with a hand at the ear, walking."""
    track = walk(rng, frames, rate=0.75, leg=18, arm=14)
    track["spine_side"] += 3
    return _hold(track, "r", arm_swing=38, arm_twist=-5, elbow=143, arm_raise=38)


def turn(rng, frames):
    """Walking in a bend, looking into it."""
    track = walk(rng, frames, rate=0.85, leg=20)
    track["heading"] += np.linspace(0, rng.uniform(120, 220), frames)
    track["root_roll"] -= 4
    track["neck_turn"] += 18
    return track


def look_around(rng, frames):
    """Standing and looking to all sides, the trunk follows the head."""
    track = stand(rng, frames)
    keys = [
        {"neck_turn": turn, "spine_twist": 0.4 * turn, "neck_flex": tilt, "heading": 0.3 * turn}
        for turn, tilt in (
            (0, 0),
            (50, 0),
            (45, -12),
            (-10, 5),
            (-52, 0),
            (-30, 15),
            (20, -18),
            (0, 0),
        )
    ]
    _keyframes(rng, track, frames, keys)
    return track


def clasped(rng, frames):
    """Standing with the hands together before the body."""
    return _hold(stand(rng, frames), "lr", arm_swing=14, arm_twist=48, elbow=52, arm_raise=12)


# --- out-of-domain: what pedestrians rarely do ------------------------------------------------------------------------------------


def dance(rng, frames, every=13):
    """Smooth way through random, anatomically limited key poses; one leg carries, the other is free."""
    track = _relaxed(rng, frames)
    _keyframes(
        rng, track, frames, [_dance_key(rng, index) for index in range(max(2, frames // every))]
    )
    return track


def _dance_key(rng, index: int) -> dict[str, float]:
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
        key |= {f"arm_raise_{side}": raised, f"arm_swing_{side}": free * rng.uniform(-25, 85)}
        key |= {
            f"arm_across_{side}": free * rng.uniform(-15, 75),
            f"arm_twist_{side}": free * rng.uniform(-70, 40),
        }
        key |= {f"elbow_{side}": rng.uniform(0, 115)}
    free, carrying = ("l", "r") if rng.uniform() < 0.5 else ("r", "l")
    bend = rng.uniform(0, 45)  # a carrying leg bends so that its foot stays below the hip
    key |= {
        f"hip_flex_{carrying}": bend,
        f"knee_{carrying}": 2 * bend,
        f"hip_abduct_{carrying}": rng.uniform(0, 18),
    }
    key |= {
        f"hip_flex_{free}": rng.uniform(-20, 85),
        f"knee_{free}": rng.uniform(5, 105),
        f"hip_abduct_{free}": rng.uniform(0, 38),
    }
    key |= {f"hip_turn_{free}": rng.uniform(-10, 25)}
    return key


def run(rng, frames):
    track = _relaxed(rng, frames)
    _stride(rng, track, frames, rate=1.3, leg=38, knee=80, arm=42, elbow=70, lean=8)
    track["root_pitch"] += 7
    return track


def sit(rng, frames):
    """Sits down on an unseen chair, stays and stirs, gets up."""
    track = _relaxed(rng, frames)
    seat = {
        f"{name}_{side}": value
        for side in "lr"
        for name, value in {"hip_flex": 84, "knee": 82, "elbow": 55, "arm_swing": 28}.items()
    }
    down = seat | {"root_pitch": 10, "spine_flex": 32}
    still = seat | {"spine_flex": 4, "hip_abduct_l": 10, "hip_abduct_r": 10}
    crossed = still | {"hip_flex_l": 98, "hip_abduct_l": -10, "spine_twist": 20, "neck_turn": 30}
    _keyframes(
        rng, track, frames, [{}, down, still, crossed, still | {"neck_turn": -30}, still, down, {}]
    )
    return track


def crouch(rng, frames):
    track = _relaxed(rng, frames)
    low = {
        f"{name}_{side}": value
        for side in "lr"
        for name, value in {"hip_flex": 98, "knee": 124, "arm_swing": 55}.items()
    }
    low |= {"root_pitch": 22, "spine_flex": 32, "elbow_l": 30, "elbow_r": 20}
    pick = low | {"arm_swing_r": 95, "arm_swing_l": 20, "neck_flex": 20, "spine_twist": 18}
    _keyframes(rng, track, frames, [{}, low, pick, low | {"neck_turn": 40}, pick, {}])
    return track


def raised_arms(rng, frames):
    track = _relaxed(rng, frames)
    up = {"arm_raise_l": 150, "arm_raise_r": 150, "neck_flex": -10}
    wide = {"arm_raise_l": 90, "arm_raise_r": 90}
    bent = {
        "arm_raise_l": 95,
        "arm_raise_r": 95,
        "elbow_l": 95,
        "elbow_r": 95,
        "arm_twist_l": -75,
        "arm_twist_r": -75,
    }
    _keyframes(
        rng,
        track,
        frames,
        [
            wide,
            up,
            bent,
            up | {"spine_side": 18},
            up | {"spine_side": -18},
            wide,
            bent | {"arm_raise_l": 160},
            up,
        ],
    )
    return track


def reach(rng, frames):
    """Reaches up with one hand, forward with both, down to the ground."""
    track = _relaxed(rng, frames)
    high_r = {"arm_raise_r": 158, "arm_across_r": 20, "spine_side": -12, "neck_flex": -20}
    high_l = {"arm_raise_l": 158, "arm_across_l": 20, "spine_side": 12, "neck_flex": -20}
    front = {"arm_swing_l": 85, "arm_swing_r": 85, "spine_flex": 15}
    down = {
        "spine_flex": 42,
        "root_pitch": 48,
        "hip_flex_l": 45,
        "hip_flex_r": 45,
        "knee_l": 15,
        "knee_r": 15,
    }
    down |= {"arm_swing_l": 62, "arm_swing_r": 75}
    _keyframes(rng, track, frames, [{}, high_r, front, down, front, high_l, {}])
    return track


def kick(rng, frames):
    track = _relaxed(rng, frames)
    keys = []
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
        }
        keys += [{}, back, front | {"root_pitch": -12, f"hip_flex_{other}": -10}]
    _keyframes(rng, track, frames, [*keys, {}])
    return track


def lunge(rng, frames):
    track = _relaxed(rng, frames)
    keys = []
    for side, other in ("lr", "rl"):
        low = {
            f"hip_flex_{side}": 80,
            f"knee_{side}": 85,
            f"hip_flex_{other}": -22,
            f"knee_{other}": 35,
        }
        keys += [
            {},
            low | {"arm_raise_l": 70, "arm_raise_r": 70},
            low | {f"arm_swing_{other}": 100, "spine_twist": 20},
        ]
    _keyframes(rng, track, frames, [*keys, {}])
    return track


def jumping_jack(rng, frames):
    track = _relaxed(rng, frames)
    wave = 0.5 - 0.5 * np.cos(2 * np.pi * rng.uniform(0.65, 0.9) * _time(frames))
    for side in "lr":
        track[f"arm_raise_{side}"] += 145 * wave
        track[f"hip_abduct_{side}"] += 24 * wave**2 * (3 - 2 * wave)
        bend = 16 * np.sin(np.pi * wave) ** 2
        track[f"knee_{side}"] += 2 * bend
        track[f"hip_flex_{side}"] += bend
    track["lift"] += 9 * np.sin(np.pi * wave)
    return track


def jump(rng, frames):
    """Crouches, springs up with the arms, lands."""
    track = _relaxed(rng, frames)
    both = lambda **angles: {
        f"{name}_{side}": value for name, value in angles.items() for side in "lr"
    }
    low = both(hip_flex=72, knee=88, arm_swing=-40) | {"spine_flex": 28, "root_pitch": 12}
    flight = both(hip_flex=8, knee=12, arm_raise=140) | {"lift": 34, "neck_flex": -8}
    tucked = both(hip_flex=70, knee=95, arm_raise=75) | {"lift": 30, "spine_flex": 15}
    land = both(hip_flex=50, knee=64, arm_swing=35) | {"spine_flex": 20, "root_pitch": 8}
    _keyframes(rng, track, frames, [{}, low, flight, land, {}, low, tucked, land, {}])
    return track


def bend(rng, frames):
    """Bends from the hips: ties a shoe on one knee's height, lifts something, stretches the back."""
    track = _relaxed(rng, frames)
    over = {
        "spine_flex": 36,
        "root_pitch": 52,
        "hip_flex_l": 50,
        "hip_flex_r": 50,
        "knee_l": 14,
        "knee_r": 14,
        "arm_swing_l": 55,
        "arm_swing_r": 55,
    }
    shoe = {
        "spine_flex": 44,
        "root_pitch": 42,
        "hip_flex_l": 84,
        "knee_l": 62,
        "hip_flex_r": 28,
        "knee_r": 48,
        "arm_swing_l": 70,
        "arm_swing_r": 70,
        "neck_flex": 15,
    }
    aside = {"spine_side": 30, "arm_raise_l": 158, "hip_abduct_l": 12, "hip_abduct_r": 12}
    back = {
        "spine_flex": -18,
        "root_pitch": -8,
        "elbow_l": 70,
        "elbow_r": 70,
        "arm_raise_l": 35,
        "arm_raise_r": 35,
        "arm_swing_l": -30,
        "arm_swing_r": -30,
    }
    _keyframes(
        rng, track, frames, [{}, over, over | {"spine_twist": 30}, {}, shoe, shoe, back, aside, {}]
    )
    return track


def throw(rng, frames):
    """Swings back and throws with the right arm, stepping into it."""
    track = _relaxed(rng, frames)
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
    _keyframes(
        rng, track, frames, [{}, back, out, {"spine_flex": 20, "spine_twist": 20}, back, out, {}]
    )
    return track


IN_DOMAIN = {
    "stand": (stand, 100, {}),
    "clasped": (clasped, 70, {}),
    "look_around": (look_around, 110, {}),
    "walk_slow": (walk, 110, {"rate": 0.65, "leg": 17, "knee": 32, "arm": 11}),
    "walk_normal": (walk, 120, {}),
    "walk_fast": (walk, 100, {"rate": 1.1, "leg": 30, "knee": 50, "arm": 30, "lean": 6}),
    "walk_stiff": (walk, 90, {"rate": 0.8, "leg": 19, "knee": 28, "arm": 4, "lean": 10}),
    "pockets": (pockets, 90, {}),
    "carry": (carry, 100, {}),
    "carry_two": (carry_two, 90, {}),
    "carry_bag": (carry_bag, 90, {}),
    "phone": (phone, 90, {}),
    "phone_standing": (phone, 70, {"moving": False}),
    "call": (call, 80, {}),
    "turn": (turn, 110, {}),
}
OUT_OF_DOMAIN = {
    "dance": (dance, 210, {}),
    "dance_fast": (dance, 160, {"every": 9}),
    "run": (run, 100, {}),
    "sit": (sit, 150, {}),
    "crouch": (crouch, 120, {}),
    "raised_arms": (raised_arms, 130, {}),
    "reach": (reach, 130, {}),
    "bend": (bend, 150, {}),
    "kick": (kick, 130, {}),
    "lunge": (lunge, 110, {}),
    "throw": (throw, 100, {}),
    "jump": (jump, 120, {}),
    "jumping_jack": (jumping_jack, 70, {}),
}
PERFORMERS = 2  # of every motion; the second one is the other-handed


def write_motions(folder: str | Path, seed: int = 0) -> list[Path]:
    """Writes `in-domain/NAME_P.npz` and `out-of-domain/NAME_P.npz` under folder, P the performer; the same seed writes the same bytes.

    Returns the paths; other files in these folders stay.
    """
    paths = []
    for domain, motions in {"in-domain": IN_DOMAIN, "out-of-domain": OUT_OF_DOMAIN}.items():
        target = Path(folder) / domain
        target.mkdir(parents=True, exist_ok=True)
        for name, (motion, frames, options) in motions.items():
            for performer in range(PERFORMERS):
                rng = rng_for("motions", seed, name, performer)
                track = _plant_feet(motion(rng, frames, **options))
                arrays = amass(
                    _mirrored(track) if performer % 2 else track,
                    heading=rng.uniform(-180, 180),
                    betas=rng.normal(0, 0.8, 16),
                )
                paths.append(target / f"{name}_{performer}.npz")
                np.savez_compressed(paths[-1], **arrays)
    return paths
