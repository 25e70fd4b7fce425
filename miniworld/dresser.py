"""Dresses identities: clothes painted on the T-pose template of any SMPL body.

Ponytails, skirts, brims and bags are meshes (`miniworld.accessories`). All positions are measured
against the body's own joints and surface, so a user's SMPL file is dressed by the same code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from miniworld.accessories import accessories
from miniworld.smoothstep import smoothstep
from miniworld.template import HEAD, Template
from miniworld.wardrobe import COLOURS, HAIR, SKIN, shade

if TYPE_CHECKING:
    from miniworld.wardrobe import Identity


@dataclass(frozen=True)
class Outfit:
    """What a dressed person adds to the naked template of V vertices.

    albedo: (V + E, 3) in [0, 1]; the E vertices are those of accessories.
    offsets: (V, 3) metres, the thickness of cloth.
    faces: (F, 3) over all V + E vertices.
    points: (E, 3) of the accessories, in the template's frame.
    weights: (E, 24) of the joints that carry them.
    """

    albedo: np.ndarray
    offsets: np.ndarray
    faces: np.ndarray
    points: np.ndarray
    weights: np.ndarray


class Dresser(Template):
    """Dresses identities on one SMPL body."""

    def dress(self, who: Identity) -> Outfit:
        """Clothes and accessories of one identity row."""
        albedo = np.tile(shade(who, "skin", SKIN), (len(self.up), 1))
        offset = np.zeros(len(self.up))
        self._trunk(who, albedo, offset)
        self._legs(who, albedo, offset)
        self._head(who, albedo, offset)
        faces, colours = [self.faces], [albedo]
        points, weights = [np.zeros((0, 3))], [np.zeros((0, 24))]
        for part in accessories(self, who):
            faces.append(part.faces + sum(map(len, colours)))
            points.append(part.points)
            weights.append(part.weights)
            colours.append(np.tile(part.colour, (len(part.points), 1)))
        return Outfit(
            np.vstack(colours),
            self.normals * offset[:, None],
            np.vstack(faces),
            np.vstack(points),
            np.vstack(weights),
        )

    def _pattern(self, who: Identity) -> np.ndarray:
        """(V,) bool: where the shirt's second colour is."""
        pattern = who["top_pattern"]
        along = np.where(self.is_arm, abs(self.arm) * 3.4, self.up * 6)
        across = np.where(self.is_arm, self.template[:, 1] * 18, self.side * 2.4)
        if pattern == "striped":
            return np.floor(along) % 2 == 0
        if pattern == "checked":
            return (np.floor(along) + np.floor(across)) % 2 == 0
        if pattern == "blocked":
            return (self.up > 0.62) | self.is_arm & (self.arm < 0.15)
        if pattern == "raglan":
            return self.is_arm | (self.is_torso & (abs(self.side) > 0.82))
        return np.zeros(len(self.up), bool)

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

    def _shirt(self, who: Identity) -> np.ndarray:
        """(V, 3) the colour of the shirt everywhere."""
        first, second = shade(who, "top", COLOURS), shade(who, "top_second", COLOURS)
        colour = np.where(self._pattern(who)[:, None], second, first)
        if who["top_back"] != "same":
            colour[self.behind] = shade(who, "top_back", COLOURS)
        if who["front_print"] != "none":
            panel = self._print(who["front_shape"]) & ~self.behind
            colour[panel] = shade(who, "front_print", COLOURS)
        return colour

    # The next methods change albedo (V, 3) and the thickness of cloth, offset (V,), in place.

    def _trunk(self, who: Identity, albedo: np.ndarray, offset: np.ndarray) -> None:
        sleeve = 0.97 if who["sleeves"] == "long" else 0.42
        shirt = self.is_torso | (self.is_arm & (self.arm < sleeve))
        albedo[shirt], offset[shirt] = self._shirt(who)[shirt], 0.008
        if who["jacket"] != "none":
            half_gap = 0.34 + 0.10 * smoothstep(self.up, 0.4, 1.0)  # it stands open in front
            gap = ~self.behind & (abs(self.side) < half_gap) & self.is_torso
            jacket = (self.is_torso & ~gap) | (self.is_arm & (self.arm < 0.97))
            albedo[jacket], offset[jacket] = shade(who, "jacket", COLOURS), 0.018
        if who["back_print"] != "none":  # on whatever the back wears
            panel = self._print(who["back_shape"]) & self.behind
            albedo[panel] = shade(who, "back_print", COLOURS)
        if who["scarf"] != "none":
            round_neck = (self.up > 0.90) & (self.up < 1.16) & (abs(self.side) < 0.62)
            scarf = round_neck & ~self.is_arm & (self.owner != HEAD)
            albedo[scarf], offset[scarf] = shade(who, "scarf", COLOURS), 0.022
        if who["bag"] == "shoulder bag":
            strap = self.is_torso & (abs(self.side * 0.75 - (0.62 - self.up)) < 0.10)
            albedo[strap] = shade(who, "bag_colour", COLOURS)
        elif who["bag"] == "backpack":
            strap = self.is_torso & (abs(abs(self.side) - 0.62) < 0.10) & (self.up > 0.42)
            albedo[strap] = shade(who, "bag_colour", COLOURS)

    def _legs(self, who: Identity, albedo: np.ndarray, offset: np.ndarray) -> None:
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

    def _head(self, who: Identity, albedo: np.ndarray, offset: np.ndarray) -> None:
        head = self.owner == HEAD
        colour, style = shade(who, "hair", HAIR), who["hair_style"]
        if style != "bald":
            hair = self._hairline(style, head)
            albedo[hair], offset[hair] = colour, 0.020 if style == "long" else 0.012
        if style == "long":  # falls over the neck and shoulders
            fall = self.behind & (self.up > 0.70) & (abs(self.side) < 0.52) & ~self.is_arm
            albedo[fall], offset[fall] = colour, 0.022
        if style == "cap":
            cap = head & (self.face > 0.58 - 0.1 * smoothstep(-self.facing, 0, 1))
            albedo[cap], offset[cap] = shade(who, "cap", COLOURS), 0.016
        if who["beard"] == "yes":
            albedo[head & (self.facing > -0.1) & (self.face < 0.20) & ~self.behind] = colour
        self._features(who, albedo, head)

    def _hairline(self, style: str, head: np.ndarray) -> np.ndarray:
        """(V,) bool: where the hair of a style grows; `head` (V,) bool."""
        lowest = {"long": -0.9, "ponytail": 0.05}.get(style, 0.12)
        front = head & (self.facing > 0.15) & (self.face < 0.70)
        forehead = (self.facing > 0.35) & (self.face < 0.62)
        hair = self.is_head & ~front & (self.face > lowest) & ~forehead
        if style == "long":
            return hair
        width = abs(self.template[:, 0])
        ears = (width > 0.92 * width[head].max()) & (self.face < 0.5)
        return hair & ~ears

    def _features(self, who: Identity, albedo: np.ndarray, head: np.ndarray) -> None:
        """Eyes, brows and mouth, placed by the width and height of this body's own face."""
        width = np.abs(self.template[head, 0]).max()
        across, front = self.template[:, 0] / width, head & (self.facing > 0.3)
        eye = front & (abs(self.face - 0.42) < 0.045) & (abs(abs(across) - 0.37) < 0.11)
        albedo[eye] = (0.14, 0.11, 0.10)
        brow = front & (abs(self.face - 0.56) < 0.045) & (abs(abs(across) - 0.36) < 0.2)
        albedo[brow] = 0.5 * albedo[brow] + 0.5 * np.array(HAIR[who["hair"]])
        mouth = front & (abs(self.face - 0.12) < 0.05) & (abs(across) < 0.28)
        albedo[mouth] = 0.55 * albedo[mouth] + 0.45 * np.array((0.55, 0.15, 0.15))
