"""Identities of the mini world: body shape, clothes, and a description of what each side shows.

Trousers, shoes, hair and scarf can be seen from everywhere. Prints, an open jacket, a back in
another colour, bags, a ponytail and side stripes cannot. Nearly everyone has a back in another
colour and a front print, and trousers come in every colour, more than in real data. So what the
front shows misleads from behind, and what helps there has to be learned from views of all sides.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from posedive_lib.seeds import rng_for

Identity = Mapping[Any, Any]  # one row of the table of identities
Colour = tuple[float, float, float]  # in [0, 1]

COLOURS: dict[str, Colour] = {
    "black": (0.08, 0.08, 0.09),
    "grey": (0.46, 0.46, 0.48),
    "white": (0.91, 0.91, 0.89),
    "red": (0.74, 0.12, 0.12),
    "orange": (0.92, 0.50, 0.12),
    "yellow": (0.92, 0.82, 0.20),
    "green": (0.16, 0.50, 0.22),
    "teal": (0.12, 0.55, 0.58),
    "blue": (0.15, 0.25, 0.68),
    "sky": (0.45, 0.68, 0.90),
    "purple": (0.45, 0.20, 0.55),
    "pink": (0.92, 0.55, 0.68),
    "brown": (0.40, 0.25, 0.15),
    "beige": (0.80, 0.72, 0.56),
}
SKIN: dict[str, Colour] = {
    "pale": (0.93, 0.78, 0.68),
    "tan": (0.80, 0.60, 0.46),
    "olive": (0.68, 0.52, 0.38),
    "dark": (0.40, 0.27, 0.20),
}
HAIR: dict[str, Colour] = {
    "black": (0.07, 0.06, 0.06),
    "brown": (0.30, 0.18, 0.10),
    "blond": (0.80, 0.66, 0.36),
    "ginger": (0.62, 0.28, 0.10),
    "grey": (0.62, 0.62, 0.62),
}
CLOTH = list(COLOURS)
QUIET = ["black", "grey", "blue", "brown", "beige", "green"]

# Every factor and its values. A value that stands there more than once is that much more common.
FACTORS = {
    "skin": list(SKIN),
    "hair": list(HAIR),
    "hair_style": ["short", "short", "long", "ponytail", "bald", "cap"],
    "cap": CLOTH,
    "beard": ["no", "no", "no", "yes"],
    "scarf": ["none"] * 5 + CLOTH[3:8],
    "top": CLOTH,
    "top_pattern": ["plain", "plain", "striped", "checked", "blocked", "raglan"],
    "top_second": CLOTH,
    "top_back": ["same"] + CLOTH,
    "sleeves": ["long", "short"],
    "front_print": ["none"] + CLOTH,
    "front_shape": ["square", "disc", "band", "sash"],
    "back_print": ["none"] * 10 + CLOTH,
    "back_shape": ["square", "disc", "band", "sash"],
    "jacket": ["none"] * 30 + QUIET,
    "bottom": CLOTH,
    "bottom_kind": ["trousers", "trousers", "trousers", "shorts", "skirt"],
    "side_stripe": ["none", "none", "none", "white", "red", "yellow"],
    "socks": ["white", "black", "red"],
    "shoes": ["black", "white", "brown", "red", "sky", "yellow", "green", "orange"],
    "bag": ["none", "none", "none", "backpack", "shoulder bag"],
    "bag_colour": CLOTH,
}
# What one side alone shows: look-alikes differ in one of these groups and in nothing else.
ONE_SIDE = (
    ("front_print", "front_shape"),
    ("back_print", "back_shape"),
    ("top_back",),
    ("bag", "bag_colour"),
)
# Every so many people one is a look-alike. Seen from the side that does not tell them apart, two
# look-alikes are one image with two labels, which training on views of all sides cannot mend.
LOOK_ALIKE_EVERY = 12
# A factor that must differ from another one to be seen.
CONTRAST = {
    "top_second": "top",
    "top_back": "top",
    "front_print": "top",
    "back_print": "top",
}


def _sample(rng: np.random.Generator, name: str, row: Identity) -> str:
    """A value of a factor for a person whose other factors `row` holds."""
    taken = row[CONTRAST[name]] if name in CONTRAST else None
    return str(rng.choice([value for value in FACTORS[name] if value != taken]))


def _shown(row: Identity) -> list[tuple[str, ...]]:
    """The groups of ONE_SIDE that nothing else covers.

    An open jacket hides the shirt's back and most of a print, a backpack a back print.
    """
    hidden = {"top_back", "front_print"} if row["jacket"] != "none" else set()
    hidden |= {"back_print"} if row["bag"] == "backpack" else set()
    return [group for group in ONE_SIDE if group[0] not in hidden]


def _look_alike(row: Identity, rng: np.random.Generator) -> dict[str, Any]:
    """The same person but for one thing that one side shows."""
    groups = _shown(row)
    group = groups[rng.integers(len(groups))]
    changed = dict(row)
    while changed[group[0]] == row[group[0]]:
        changed |= {name: _sample(rng, name, row) for name in group}
    return changed


def sample_identities(role: str, count: int, seed: int = 0) -> pd.DataFrame:
    """`count` people of a role, one row each.

    Columns: `person`, `role`, betas `beta0..9`, `shade` (seed of the exact shades) and the factors.
    Every `LOOK_ALIKE_EVERY`-th person is a look-alike of the one before and differs only in what
    one side shows.
    """
    rows: list[dict[str, Any]] = []
    for i in range(count):
        rng = rng_for("identity", role, seed, i)
        row: dict[str, Any] = {
            f"beta{k}": float(np.clip(rng.normal(), -2.2, 2.2).round(3)) for k in range(10)
        }
        row["shade"] = int(rng.integers(1 << 30))
        for name in FACTORS:
            row[name] = _sample(rng, name, row)
        if i % LOOK_ALIKE_EVERY == LOOK_ALIKE_EVERY - 1:
            before = {k: v for k, v in rows[-1].items() if k not in ("person", "role")}
            row = _look_alike(before, rng)
        rows.append({"person": f"{role}-{i:04d}", "role": role, **row})
    return pd.DataFrame(rows)


def look_alikes(people: pd.DataFrame) -> np.ndarray:
    """(N,) bool: whether somebody differs from the person only in what one side shows."""
    found = np.zeros(len(people), bool)
    for group in ONE_SIDE:
        free = (*group, "person", "role", "description")
        same = [name for name in people if name not in free]
        found |= people.duplicated(same, keep=False).to_numpy()
    return found


def betas(identity: Identity) -> np.ndarray:
    """(10,) shape coefficients of an identity row."""
    return np.array([identity[f"beta{k}"] for k in range(10)], float)


def shade(identity: Identity, factor: str, palette: dict[str, Colour]) -> np.ndarray:
    """(3,) the person's own shade of a factor's named colour, in [0, 1].

    A name covers many shades, as in real clothes.
    """
    rng = rng_for("shade", int(identity["shade"]), factor)
    brighter = np.array(palette[identity[factor]]) * np.exp(rng.normal(0, 0.12))
    return np.clip(brighter + rng.normal(0, 0.03, 3), 0.03, 0.97)


def _upper(who: Identity, side: str) -> str:
    """Shirt and jacket as this side shows them."""
    top, second = who["top"], who["top_second"]
    shirt = {
        "plain": f"{top} shirt",
        "striped": f"{top} and {second} striped shirt",
        "checked": f"{top} and {second} checked shirt",
        "blocked": f"{top} shirt with {second} shoulders",
        "raglan": f"{top} shirt with {second} sleeves",
    }[who["top_pattern"]]
    if who["jacket"] != "none":
        under = f" over a {shirt}" if side == "front" else ""
        return f"a {who['jacket']} jacket{under}"
    if side == "back" and who["top_back"] != "same":
        shirt = f"{who['top_back']} shirt"
    return f"a {'long' if who['sleeves'] == 'long' else 'short'} {shirt}"


def _lower(who: Identity, side: str) -> str:
    text = f"{who['bottom']} {who['bottom_kind']}"
    if who["bottom_kind"] != "trousers":
        text += f" and {who['socks']} socks"
    elif side == "side" and who["side_stripe"] != "none":
        text += f" with {who['side_stripe']} stripe"
    return text


def _hair(who: Identity, side: str) -> str:
    style = who["hair_style"]
    if style == "bald":
        return "no hair"
    if style == "cap":
        return f"a {who['cap']} cap"
    if style == "ponytail" and side == "front":
        style = "short"
    return f"{style} {who['hair']} hair"


def _side(azimuth: float) -> str:
    """The side of a person that an azimuth in degrees shows: front, side or back."""
    turned = abs((azimuth + 180) % 360 - 180)
    if turned < 60:
        return "front"
    return "back" if turned > 120 else "side"


def _print(who: Identity, side: str) -> str | None:
    """The print that a side shows; None where there is none, or something covers it."""
    if side == "side" or who[f"{side}_print"] == "none":
        return None
    if (side == "front" and who["jacket"] != "none") or (
        side == "back" and who["bag"] == "backpack"
    ):
        return None
    return f"a {who[f'{side}_print']} {who[f'{side}_shape']} on the {side}"


def caption(who: Identity, azimuth: float) -> str:
    """What can be seen of an identity from an azimuth in degrees, as one sentence.

    It never says left or right, because photos are mirrored in training.
    """
    side = _side(azimuth)
    parts = [f"{who['skin']} skin", _hair(who, side)]
    if who["beard"] == "yes" and side != "back":
        parts.append("a beard")
    if who["scarf"] != "none":
        parts.append(f"a {who['scarf']} scarf")
    parts.append(_upper(who, side))
    printed = _print(who, side)
    if printed:
        parts.append(printed)
    parts += [_lower(who, side), f"{who['shoes']} shoes"]
    if who["bag"] == "shoulder bag" or (who["bag"] == "backpack" and side != "front"):
        parts.append(f"a {who['bag_colour']} {who['bag']}")
    sentence = f"a photo of a person from the {side} with {', '.join(parts)}."
    return sentence.replace("a orange", "an orange")
