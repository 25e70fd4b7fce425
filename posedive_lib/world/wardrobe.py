"""Identities of the mini world: body shape and clothes, painted on any SMPL template in T pose.

Most factors can be seen from every side; the front print, the back print, the open jacket and the bags cannot,
which is why the viewpoint matters here as it does in real data.
"""

import numpy as np
import pandas as pd
from smplx import SMPL

from posedive_lib.seeds import rng_for

COLOURS = {
    "black": (0.08, 0.08, 0.09), "grey": (0.48, 0.48, 0.50), "white": (0.92, 0.92, 0.90), "red": (0.75, 0.12, 0.12),
    "orange": (0.92, 0.50, 0.12), "yellow": (0.92, 0.82, 0.20), "green": (0.16, 0.50, 0.22), "teal": (0.12, 0.55, 0.58),
    "blue": (0.15, 0.25, 0.68), "sky": (0.45, 0.68, 0.90), "purple": (0.45, 0.20, 0.55), "pink": (0.92, 0.55, 0.68),
    "brown": (0.40, 0.25, 0.15), "beige": (0.80, 0.72, 0.56),
}
SKIN = {"pale": (0.93, 0.78, 0.68), "tan": (0.80, 0.60, 0.46), "olive": (0.68, 0.52, 0.38), "dark": (0.40, 0.27, 0.20)}
HAIR = {"black": (0.07, 0.06, 0.06), "brown": (0.30, 0.18, 0.10), "blond": (0.80, 0.66, 0.36), "ginger": (0.62, 0.28, 0.10), "grey": (0.62, 0.62, 0.62)}
CLOTH = list(COLOURS)
QUIET = ["black", "grey", "blue", "brown", "beige", "green"]

FACTORS = {
    "skin": list(SKIN), "hair": list(HAIR), "hair_style": ["short", "long", "bald", "cap"], "cap": CLOTH,
    "top": CLOTH, "top_pattern": ["plain", "plain", "striped", "checked", "blocked"], "top_second": CLOTH,
    "sleeves": ["long", "short"], "front_print": ["none", "none", *CLOTH], "back_print": ["none", "none", "none", *CLOTH],
    "jacket": ["none", "none", "none", *QUIET], "bottom": QUIET + ["white", "red", "sky"], "bottom_kind": ["trousers", "trousers", "shorts"],
    "shoes": ["black", "white", "brown", "red", "sky"], "bag": ["none", "none", "none", "backpack", "shoulder bag"], "bag_colour": CLOTH,
}


def sample_identities(role: str, count: int, seed: int = 0) -> pd.DataFrame:
    """`count` people of a role, one row each: `person`, `role`, betas `beta0..9` and the clothing factors.

    Every fourth person is a look-alike of the one before, who differs in what one side shows only.
    """
    rows = []
    for i in range(count):
        rng = rng_for("identity", role, seed, i)
        row = {"person": f"{role}-{i:04d}", "role": role}
        row |= {f"beta{k}": float(np.clip(rng.normal(), -2.2, 2.2).round(3)) for k in range(10)}
        row |= {name: str(rng.choice(values)) for name, values in FACTORS.items()}
        if row["top_second"] == row["top"]:
            row["top_second"] = "white" if row["top"] != "white" else "black"
        if i % 4 == 3:
            row = {**rows[-1], "person": row["person"], **{k: row[k] for k in ("front_print", "back_print", "bag", "bag_colour")},
                   **{f"beta{k}": row[f"beta{k}"] for k in range(10)}}
        rows.append(row)
    return pd.DataFrame(rows)


def betas(identity) -> np.ndarray:
    """(10,) shape coefficients of an identity row."""
    return np.array([identity[f"beta{k}"] for k in range(10)], float)


class Dresser:
    """Paints identities on the template of an SMPL body (any file: positions are measured against its joints)."""

    def __init__(self, model: SMPL):
        v = model.v_template.numpy().astype(float)
        joints = model.J_regressor.numpy() @ v
        self.faces = np.asarray(model.faces).astype(int)
        weights = model.lbs_weights.numpy()
        owner = weights.argmax(1)
        pelvis, neck, head = joints[0], joints[12], joints[15]
        self.front = v[:, 2] - joints[9, 2]
        self.side = v[:, 0] / abs(joints[16, 0])                                     # ±1 at the shoulders
        self.up = (v[:, 1] - pelvis[1]) / (neck[1] - pelvis[1])                       # 0 pelvis, 1 neck
        self.leg = (v[:, 1] - joints[7, 1]) / (joints[1, 1] - joints[7, 1])           # 0 ankle, 1 hip
        self.arm = (abs(v[:, 0]) - joints[16, 0]) / (joints[20, 0] - joints[16, 0])   # 0 shoulder, 1 wrist
        self.height = v[:, 1]
        top = v[:, 1].max()
        self.face = (v[:, 1] - head[1]) / (top - head[1])                             # 0 head joint, 1 crown
        self.is_arm = np.isin(owner, [16, 17, 18, 19, 20, 21, 22, 23]) & (self.arm > 0.02)
        self.is_hand = np.isin(owner, [20, 21, 22, 23]) & (self.arm > 1.0)
        self.is_head = np.isin(owner, [12, 15]) & (self.up > 1.02)
        self.is_foot = np.isin(owner, [7, 8, 10, 11]) & (self.leg < 0.03)
        self.is_leg = (self.up < -0.02) & ~self.is_foot & ~self.is_arm
        self.is_torso = ~(self.is_arm | self.is_head | self.is_foot | self.is_leg)
        edge = np.array([model.v_template.numpy()[self.faces[:, k]] for k in range(3)])
        cross = np.cross(edge[1] - edge[0], edge[2] - edge[0])
        normals = np.zeros_like(v)
        for k in range(3):
            np.add.at(normals, self.faces[:, k], cross)
        self.normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        self.facing = self.normals[:, 2]

    def _top(self, who) -> np.ndarray:
        """(V, 3) the colour of the shirt everywhere, pattern and prints included."""
        first, second = np.array(COLOURS[who["top"]]), np.array(COLOURS[who["top_second"]])
        across = np.where(self.is_arm, self.arm * 3, self.up * 5)
        around = np.where(self.is_arm, self.height * 16, self.side * 2.2)
        pattern = who["top_pattern"]
        if pattern == "striped":
            use = np.floor(across * 1.2) % 2 == 0
        elif pattern == "checked":
            use = (np.floor(across * 1.2) + np.floor(around)) % 2 == 0
        elif pattern == "blocked":
            use = self.up > 0.55
        else:
            use = np.zeros(len(self.up), bool)
        colour = np.where(use[:, None], second, first)
        panel = self.is_torso & (abs(self.side) < 0.62) & (self.up > 0.28) & (self.up < 0.78)
        for name, visible in (("front_print", self.facing > 0.2), ("back_print", self.facing < -0.2)):
            if who[name] != "none":
                colour[panel & visible] = COLOURS[who[name]]
        return colour

    def dress(self, who) -> tuple[np.ndarray, np.ndarray, tuple | None]:
        """Clothes of one identity row.

        Returns:
            albedo (V, 3) in [0, 1]; offsets (V, 3) metres from the naked template; bag as (box corners (E, 3)
            relative to joint spine3, faces (F, 3) from 0, colour (3,)) or None.
        """
        skin = np.array(SKIN[who["skin"]])
        albedo = np.tile(skin, (len(self.up), 1))
        offset = np.zeros(len(self.up))
        shirt = self.is_torso | (self.is_arm & (self.arm < (0.97 if who["sleeves"] == "long" else 0.42)))
        albedo[shirt], offset[shirt] = self._top(who)[shirt], 0.008
        if who["jacket"] != "none":
            jacket = self.is_torso & ~((self.facing > 0.15) & (abs(self.side) < 0.40)) | (self.is_arm & (self.arm < 0.97))
            albedo[jacket], offset[jacket] = COLOURS[who["jacket"]], 0.018
        legs = self.is_leg & (self.leg > (0.02 if who["bottom_kind"] == "trousers" else 0.45))
        albedo[legs], offset[legs] = COLOURS[who["bottom"]], 0.010
        albedo[self.is_foot], offset[self.is_foot] = COLOURS[who["shoes"]], 0.008
        self._head(who, albedo, offset)
        return albedo, self.normals * offset[:, None], self._bag(who)

    def _head(self, who, albedo, offset) -> None:
        """Hair or cap, eyes and mouth, in place."""
        style = who["hair_style"]
        face = self.is_head & (self.facing > 0.35) & (self.face < 0.62)
        if style != "bald":
            hair = self.is_head & ~face & (self.face > (-0.9 if style == "long" else 0.12)) & (self.front < 0.075)
            hair |= self.is_head & (self.face > 0.66)
            if style == "long":  # falls over the back of the neck and shoulders
                hair |= (self.facing < -0.1) & (self.up > 0.72) & (abs(self.side) < 0.5) & ~self.is_arm
            albedo[hair], offset[hair] = HAIR[who["hair"]], 0.018 if style == "long" else 0.012
        if style == "cap":
            cap = self.is_head & (self.face > 0.55)
            brim = self.is_head & (self.face > 0.45) & (self.facing > 0.6)
            albedo[cap | brim], offset[cap] = COLOURS[who["cap"]], 0.014
            offset[brim] = 0.03
        eyes = self.is_head & (self.facing > 0.5) & (abs(self.face - 0.42) < 0.07) & (abs(abs(self.side) - 0.19) < 0.06)
        albedo[eyes] = (0.10, 0.08, 0.08)

    def _bag(self, who):
        if who["bag"] == "none":
            return None
        if who["bag"] == "backpack":
            centre, half = np.array([0, 0.0, -0.19]), np.array([0.135, 0.19, 0.075])
        else:
            centre, half = np.array([0.20, -0.30, 0.02]), np.array([0.05, 0.12, 0.13])
        corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half + centre
        faces = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
                          [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]])
        return corners, faces, np.array(COLOURS[who["bag_colour"]])


def caption(who, azimuth: float) -> str:
    """What can be seen of an identity from an azimuth in degrees, as one sentence without left and right."""
    azimuth = abs((azimuth + 180) % 360 - 180)
    side = "front" if azimuth < 60 else "back" if azimuth > 120 else "side"
    hair = {"bald": "no hair", "cap": f"a {who['cap']} cap", "long": f"long {who['hair']} hair"}.get(who["hair_style"], f"short {who['hair']} hair")
    parts = [f"{who['skin']} skin", hair]
    shirt = {"plain": who["top"], "striped": f"{who['top']} and {who['top_second']} striped",
             "checked": f"{who['top']} and {who['top_second']} checked", "blocked": f"{who['top']} shirt with {who['top_second']} shoulders"}[who["top_pattern"]]
    shirt = shirt if "shirt" in shirt else f"{shirt} shirt"
    if who["jacket"] != "none":
        parts.append(f"a {who['jacket']} jacket" + (f" over a {shirt}" if side == "front" else ""))
    else:
        parts.append(f"a {who['sleeves']} {shirt}")
    if side == "front" and who["front_print"] != "none":
        parts.append(f"a {who['front_print']} front print")
    if side == "back" and who["back_print"] != "none" and who["jacket"] == "none" and who["bag"] != "backpack":
        parts.append(f"a {who['back_print']} back print")
    parts += [f"{who['bottom']} {who['bottom_kind']}", f"{who['shoes']} shoes"]
    if who["bag"] == "shoulder bag" or (who["bag"] == "backpack" and side != "front"):
        parts.append(f"a {who['bag_colour']} {who['bag']}")
    sentence = f"a photo of a person from the {side} with " + ", ".join(parts) + "."
    return sentence.replace("a orange", "an orange").replace("a olive", "an olive")
