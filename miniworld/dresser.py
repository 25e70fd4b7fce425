"""Dresses identities: paints clothes on the T-pose template of any SMPL body and adds hair, skirts, brims and bags as meshes.

All positions are measured against the body's own joints and surface, so a user's SMPL file is dressed by the same code.
"""

from dataclasses import dataclass

import numpy as np
from smplx import SMPL

from miniworld.wardrobe import COLOURS, HAIR, SKIN, shade

PELVIS, L_HIP, R_HIP, SPINE3, NECK, HEAD, SHOULDER, WRIST = 0, 1, 2, 9, 12, 15, 16, 20


@dataclass(frozen=True)
class Outfit:
    """What a dressed person adds to the naked template of V vertices.

    albedo (V + E, 3) in [0, 1]; offsets (V, 3) metres; faces (F, 3) over all V + E vertices; and E vertices of accessories: points (E, 3)
    in the template's frame, weights (E, 24) of the joints that carry them.
    """

    albedo: np.ndarray
    offsets: np.ndarray
    faces: np.ndarray
    points: np.ndarray
    weights: np.ndarray


def smooth(x, low, high):
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def ball(
    centre, radii, squareness: float = 1.0, rings: int = 9, sectors: int = 14
) -> tuple[np.ndarray, np.ndarray]:
    """Points and outward faces of an ellipsoid; `squareness` below 1 makes it a rounded box."""
    up = np.linspace(-np.pi / 2, np.pi / 2, rings)
    around = np.linspace(0, 2 * np.pi, sectors, endpoint=False)
    v, u = np.meshgrid(up, around, indexing="ij")
    power = lambda x: np.sign(x) * np.abs(x) ** squareness
    points = np.stack(
        [
            power(np.cos(v)) * power(np.cos(u)),
            power(np.sin(v)),
            power(np.cos(v)) * power(np.sin(u)),
        ],
        -1,
    )
    return points.reshape(-1, 3) * radii + centre, _grid_faces(rings, sectors)


def _grid_faces(rings: int, sectors: int) -> np.ndarray:
    """Faces (F, 3) of a closed band of `rings` × `sectors` points, outside when `around` turns from +x to +z and `up` grows."""
    r, s = np.meshgrid(np.arange(rings - 1), np.arange(sectors), indexing="ij")
    a, b = r * sectors + s, r * sectors + (s + 1) % sectors
    c, d = a + sectors, b + sectors
    return np.concatenate(
        [np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)]
    )


class Dresser:
    """Dresses identities on one SMPL body."""

    def __init__(self, model: SMPL):
        v = self.template = model.v_template.numpy().astype(float)
        joints = self.joints = model.J_regressor.numpy().astype(float) @ v
        self.faces = np.asarray(model.faces).astype(int)
        self.owner = owner = model.lbs_weights.numpy().argmax(1)
        self.side = v[:, 0] / abs(joints[SHOULDER, 0])  # ±1 at the shoulders
        self.up = (v[:, 1] - joints[PELVIS, 1]) / (
            joints[NECK, 1] - joints[PELVIS, 1]
        )  # 0 pelvis, 1 neck
        self.leg = (v[:, 1] - joints[7, 1]) / (joints[L_HIP, 1] - joints[7, 1])  # 0 ankle, 1 hip
        self.arm = (abs(v[:, 0]) - joints[SHOULDER, 0]) / (
            joints[WRIST, 0] - joints[SHOULDER, 0]
        )  # 0 shoulder, 1 wrist
        crown = v[owner == HEAD, 1].max()
        self.face = (v[:, 1] - joints[HEAD, 1]) / (crown - joints[HEAD, 1])  # 0 head joint, 1 crown
        self.is_arm = np.isin(owner, [16, 17, 18, 19, 20, 21, 22, 23]) & (self.arm > 0.02)
        self.is_head = np.isin(owner, [NECK, HEAD]) & (self.up > 1.02)
        self.is_foot = np.isin(owner, [7, 8, 10, 11]) & (self.leg < 0.03)
        self.is_leg = (self.up < -0.02) & ~self.is_foot & ~self.is_arm
        self.is_torso = ~(self.is_arm | self.is_head | self.is_foot | self.is_leg)
        self.normals = self._normals()
        self.facing = self.normals[:, 2]
        self.behind = self._is_behind()

    def _normals(self) -> np.ndarray:
        corner = self.template[self.faces]
        cross = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        normals = np.zeros_like(self.template)
        for k in range(3):
            np.add.at(normals, self.faces[:, k], cross)
        return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)

    def _is_behind(self) -> np.ndarray:
        """(V,) bool: the rear half of trunk and arms, cut where the surface turns away."""
        seam = np.where(
            self.is_arm,
            self.joints[SHOULDER, 2],
            0.5 * (self.joints[SPINE3, 2] + self.joints[SHOULDER, 2]),
        )
        return self.template[:, 2] < seam

    def _surface_z(self, height: float, sign: int, half_width: float = 0.06) -> float:
        """Frontmost (sign 1) or rearmost (−1) z of the trunk at a height, metres."""
        near = (
            (abs(self.template[:, 1] - height) < 0.05)
            & (abs(self.template[:, 0]) < half_width)
            & ~self.is_arm
        )
        return float((sign * self.template[near, 2]).max() * sign)

    # -- paint -----------------------------------------------------------------------------------------------------------------------

    def _pattern(self, who) -> np.ndarray:
        """(V,) bool: where the shirt's second colour is."""
        along = np.where(self.is_arm, abs(self.arm) * 3.4, self.up * 6)
        across = np.where(self.is_arm, self.template[:, 1] * 18, self.side * 2.4)
        return {
            "plain": lambda: np.zeros(len(self.up), bool),
            "striped": lambda: np.floor(along) % 2 == 0,
            "checked": lambda: (np.floor(along) + np.floor(across)) % 2 == 0,
            "blocked": lambda: (self.up > 0.62) | self.is_arm & (self.arm < 0.15),
            "raglan": lambda: self.is_arm | (self.is_torso & (abs(self.side) > 0.82)),
        }[who["top_pattern"]]()

    def _print(self, shape: str) -> np.ndarray:
        """(V,) bool: the panel of a print, on whichever side faces it."""
        x, y = self.side, (self.up - 0.55) * 1.6
        inside = {
            "square": (abs(x) < 0.55) & (abs(y) < 0.42),
            "disc": x**2 / 0.36 + y**2 / 0.26 < 1,
            "band": (abs(y) < 0.20) & (abs(x) < 1.0),
            "sash": (abs(x * 0.8 + y) < 0.22) & (abs(x) < 0.95),
        }[shape]
        return inside & self.is_torso & (self.up > 0.08)

    def _shirt(self, who) -> np.ndarray:
        """(V, 3) the colour of the shirt everywhere."""
        colour = np.where(
            self._pattern(who)[:, None],
            shade(who, "top_second", COLOURS),
            shade(who, "top", COLOURS),
        )
        if who["top_back"] != "same":
            colour[self.behind] = shade(who, "top_back", COLOURS)
        if who["front_print"] != "none":
            colour[self._print(who["front_shape"]) & ~self.behind] = shade(
                who, "front_print", COLOURS
            )
        return colour

    def _trunk(self, who, albedo, offset) -> None:
        long = 0.97 if who["sleeves"] == "long" else 0.42
        shirt = self.is_torso | (self.is_arm & (self.arm < long))
        albedo[shirt], offset[shirt] = self._shirt(who)[shirt], 0.008
        if who["jacket"] != "none":
            gap = (
                ~self.behind
                & (abs(self.side) < 0.34 + 0.10 * smooth(self.up, 0.4, 1.0))
                & self.is_torso
            )
            jacket = (self.is_torso & ~gap) | (self.is_arm & (self.arm < 0.97))
            albedo[jacket], offset[jacket] = shade(who, "jacket", COLOURS), 0.018
        if who["back_print"] != "none":  # on whatever the back wears
            panel = self._print(who["back_shape"]) & self.behind
            albedo[panel] = shade(who, "back_print", COLOURS)
        if who["scarf"] != "none":
            scarf = (
                (self.up > 0.90) & (self.up < 1.16) & ~self.is_arm & (abs(self.side) < 0.62)
            ) & (self.owner != HEAD)
            albedo[scarf], offset[scarf] = shade(who, "scarf", COLOURS), 0.022
        if who["bag"] == "shoulder bag":
            strap = self.is_torso & (abs(self.side * 0.75 - (0.62 - self.up)) < 0.10)
            albedo[strap] = shade(who, "bag_colour", COLOURS)
        elif who["bag"] == "backpack":
            strap = self.is_torso & (abs(abs(self.side) - 0.62) < 0.10) & (self.up > 0.42)
            albedo[strap] = shade(who, "bag_colour", COLOURS)

    def _legs(self, who, albedo, offset) -> None:
        if who["bottom_kind"] != "trousers":
            socks = self.is_leg & (self.leg < 0.22)
            albedo[socks], offset[socks] = COLOURS[who["socks"]], 0.004
        lowest = {"trousers": 0.02, "shorts": 0.48, "skirt": 0.80}[who["bottom_kind"]]
        cloth = self.is_leg & (self.leg > lowest)
        albedo[cloth], offset[cloth] = shade(who, "bottom", COLOURS), 0.012
        if who["bottom_kind"] == "trousers" and who["side_stripe"] != "none":
            outward = self.normals[:, 0] * np.sign(self.template[:, 0])
            albedo[cloth & (outward > 0.86)] = COLOURS[who["side_stripe"]]
        albedo[self.is_foot], offset[self.is_foot] = shade(who, "shoes", COLOURS), 0.008
        sole = self.is_foot & (self.normals[:, 1] < -0.5)
        albedo[sole] *= 0.5

    def _head(self, who, albedo, offset) -> None:
        head = self.owner == HEAD
        face = head & (self.facing > 0.15) & (self.face < 0.70)
        hair_colour = shade(who, "hair", HAIR)
        if who["hair_style"] != "bald":
            low = {"long": -0.9, "ponytail": 0.05}.get(who["hair_style"], 0.12)
            hair = (
                self.is_head
                & ~face
                & (self.face > low)
                & ~((self.facing > 0.35) & (self.face < 0.62))
            )
            ears = (
                (abs(self.template[:, 0]) > 0.92 * abs(self.template[head, 0]).max())
                & (self.face < 0.5)
                & (who["hair_style"] != "long")
            )
            hair &= ~ears
            albedo[hair], offset[hair] = (
                hair_colour,
                0.020 if who["hair_style"] == "long" else 0.012,
            )
            if who["hair_style"] == "long":  # falls over the neck and shoulders
                fall = self.behind & (self.up > 0.70) & (abs(self.side) < 0.52) & ~self.is_arm
                albedo[fall], offset[fall] = hair_colour, 0.022
        if who["hair_style"] == "cap":
            cap = head & (self.face > 0.58 - 0.1 * smooth(-self.facing, 0, 1))
            albedo[cap], offset[cap] = shade(who, "cap", COLOURS), 0.016
        if who["beard"] == "yes":
            albedo[head & (self.facing > -0.1) & (self.face < 0.20) & ~self.behind] = hair_colour
        self._features(who, albedo, head)

    def _features(self, who, albedo, head) -> None:
        """Eyes, brows and mouth, placed by the width and height of this body's own face."""
        v = self.template
        width = np.abs(v[head, 0]).max()
        across, front = v[:, 0] / width, head & (self.facing > 0.3)
        eye = front & (abs(self.face - 0.42) < 0.045) & (abs(abs(across) - 0.37) < 0.11)
        albedo[eye] = (0.14, 0.11, 0.10)
        brow = front & (abs(self.face - 0.56) < 0.045) & (abs(abs(across) - 0.36) < 0.2)
        albedo[brow] = 0.5 * albedo[brow] + 0.5 * np.array(HAIR[who["hair"]])
        mouth = front & (abs(self.face - 0.12) < 0.05) & (abs(across) < 0.28)
        albedo[mouth] = 0.55 * albedo[mouth] + 0.45 * np.array((0.55, 0.15, 0.15))

    # -- meshes ----------------------------------------------------------------------------------------------------------------------

    def _accessories(self, who) -> list[tuple]:
        """(points, faces, colour, joint or weights) of every mesh that the person wears."""
        parts, J = [], self.joints
        if who["bag"] == "backpack":
            height = J[SPINE3, 1] - 0.06
            half = np.array([0.145, 0.20, 0.085])
            parts.append(
                (
                    *ball(
                        np.array([0, height, self._surface_z(height, -1) - half[2] * 0.8]),
                        half,
                        0.45,
                    ),
                    shade(who, "bag_colour", COLOURS),
                    SPINE3,
                )
            )
        elif who["bag"] == "shoulder bag":
            centre = np.array([abs(J[L_HIP, 0]) + 0.13, J[PELVIS, 1] - 0.06, J[PELVIS, 2]])
            parts.append(
                (
                    *ball(centre, np.array([0.055, 0.115, 0.145]), 0.45),
                    shade(who, "bag_colour", COLOURS),
                    PELVIS,
                )
            )
        if who["hair_style"] == "ponytail":
            back = self.template[self.owner == HEAD][:, 2].min()
            parts.append(
                (
                    *ball(
                        np.array([0, J[HEAD, 1] - 0.01, back - 0.012]),
                        np.array([0.034, 0.11, 0.036]),
                    ),
                    shade(who, "hair", HAIR),
                    HEAD,
                )
            )
        if who["hair_style"] == "cap":
            head = self.template[self.owner == HEAD]
            line = J[HEAD, 1] + 0.60 * (head[:, 1].max() - J[HEAD, 1])
            near = head[abs(head[:, 1] - line) < 0.02]
            parts.append(
                (
                    *ball(
                        np.array([0, line, near[:, 2].max() + 0.02]),
                        np.array([0.075, 0.012, 0.075]),
                    ),
                    shade(who, "cap", COLOURS),
                    HEAD,
                )
            )
        if who["bottom_kind"] == "skirt":
            parts.append(self._skirt(who))
        return parts

    def _skirt(self, who) -> tuple:
        """A cone from the waist to above the knee that the thighs carry along."""
        J, rings, sectors = self.joints, 6, 28
        top, hem = J[PELVIS, 1] + 0.05, J[L_HIP, 1] - 0.62 * (J[L_HIP, 1] - J[4, 1])
        t = np.linspace(1, 0, rings)[:, None]  # 1 at the hem: points are listed upwards
        angle = np.linspace(0, 2 * np.pi, sectors, endpoint=False)[None]
        waist = self.template[(abs(self.template[:, 1] - J[L_HIP, 1]) < 0.05) & ~self.is_arm]
        wide, deep = (
            abs(waist[:, 0]).max() + 0.02,
            (waist[:, 2].max() - waist[:, 2].min()) / 2 + 0.03,
        )
        centre = (waist[:, 2].max() + waist[:, 2].min()) / 2
        flare = 0.86 + 0.14 * np.minimum(t / 0.35, 1) + 0.16 * t
        points = np.stack(
            np.broadcast_arrays(
                wide * flare * np.cos(angle),
                top + (hem - top) * t,
                centre + deep * flare * np.sin(angle),
            ),
            -1,
        ).reshape(-1, 3)
        share = (0.85 * smooth(t, 0.1, 1.0) * np.ones_like(angle)).ravel()
        left = smooth(points[:, 0], -0.10, 0.10)
        weights = np.zeros((len(points), 24))
        weights[:, PELVIS], weights[:, L_HIP], weights[:, R_HIP] = (
            1 - share,
            share * left,
            share * (1 - left),
        )
        return points, _grid_faces(rings, sectors), shade(who, "bottom", COLOURS), weights

    def dress(self, who) -> Outfit:
        """Clothes and accessories of one identity row."""
        albedo = np.tile(shade(who, "skin", SKIN), (len(self.up), 1))
        offset = np.zeros(len(self.up))
        self._trunk(who, albedo, offset)
        self._legs(who, albedo, offset)
        self._head(who, albedo, offset)
        faces, points, weights, colours = (
            [self.faces],
            [np.zeros((0, 3))],
            [np.zeros((0, 24))],
            [albedo],
        )
        for part, triangles, colour, carrier in self._accessories(who):
            faces.append(triangles + sum(map(len, colours)))
            points.append(part)
            weights.append(
                carrier
                if isinstance(carrier, np.ndarray)
                else np.tile(np.eye(24)[carrier], (len(part), 1))
            )
            colours.append(np.tile(colour, (len(part), 1)))
        return Outfit(
            np.vstack(colours),
            self.normals * offset[:, None],
            np.vstack(faces),
            np.vstack(points),
            np.vstack(weights),
        )
