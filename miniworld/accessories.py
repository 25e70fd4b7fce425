"""Bags, ponytails, brims and skirts: meshes that hang on a body's joints."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from miniworld.smoothstep import smoothstep
from miniworld.template import HEAD, L_HIP, L_KNEE, PELVIS, R_HIP, SPINE3
from miniworld.wardrobe import COLOURS, HAIR, shade

if TYPE_CHECKING:
    from miniworld.template import Template
    from miniworld.wardrobe import Identity


class Mesh(NamedTuple):
    """points (E, 3) metres in the template's frame, faces (F, 3), colour (3,), weights (E, 24)."""

    points: np.ndarray
    faces: np.ndarray
    colour: np.ndarray
    weights: np.ndarray


def ball(
    centre: np.ndarray,
    radii: np.ndarray,
    squareness: float = 1.0,
    rings: int = 9,
    sectors: int = 14,
) -> tuple[np.ndarray, np.ndarray]:
    """Points and outward faces of an ellipsoid; `squareness` below 1 makes it a rounded box."""
    up = np.linspace(-np.pi / 2, np.pi / 2, rings)
    around = np.linspace(0, 2 * np.pi, sectors, endpoint=False)
    v, u = np.meshgrid(up, around, indexing="ij")

    def power(x: np.ndarray) -> np.ndarray:
        return np.sign(x) * np.abs(x) ** squareness

    x = power(np.cos(v)) * power(np.cos(u))
    z = power(np.cos(v)) * power(np.sin(u))
    points = np.stack([x, power(np.sin(v)), z], -1)
    return points.reshape(-1, 3) * radii + centre, grid_faces(rings, sectors)


def grid_faces(rings: int, sectors: int) -> np.ndarray:
    """Faces (F, 3) of a closed band of `rings` x `sectors` points.

    They look outside when `around` turns from +x to +z and the rings go up.
    """
    r, s = np.meshgrid(np.arange(rings - 1), np.arange(sectors), indexing="ij")
    a, b = r * sectors + s, r * sectors + (s + 1) % sectors
    c, d = a + sectors, b + sectors
    lower = np.stack([a, c, b], -1).reshape(-1, 3)
    upper = np.stack([b, c, d], -1).reshape(-1, 3)
    return np.concatenate([lower, upper])


def _rigid(
    centre: list[float],
    radii: list[float],
    colour: np.ndarray,
    joint: int,
    squareness: float = 1.0,
) -> Mesh:
    """A ball or a box that one joint carries."""
    points, faces = ball(np.array(centre), np.array(radii), squareness)
    return Mesh(points, faces, colour, np.tile(np.eye(24)[joint], (len(points), 1)))


def accessories(body: Template, who: Identity) -> list[Mesh]:
    """Every mesh that a person wears."""
    parts, joints = [], body.joints
    head = body.template[body.owner == HEAD]
    if who["bag"] == "backpack":
        height = joints[SPINE3, 1] - 0.06
        half = [0.145, 0.20, 0.085]
        centre = [0, height, body.surface_z(height, -1) - half[2] * 0.8]
        parts.append(_rigid(centre, half, shade(who, "bag_colour", COLOURS), SPINE3, 0.45))
    elif who["bag"] == "shoulder bag":
        centre = [abs(joints[L_HIP, 0]) + 0.13, joints[PELVIS, 1] - 0.06, joints[PELVIS, 2]]
        half = [0.055, 0.115, 0.145]
        parts.append(_rigid(centre, half, shade(who, "bag_colour", COLOURS), PELVIS, 0.45))
    if who["hair_style"] == "ponytail":
        centre = [0, joints[HEAD, 1] - 0.01, head[:, 2].min() - 0.012]
        parts.append(_rigid(centre, [0.034, 0.11, 0.036], shade(who, "hair", HAIR), HEAD))
    if who["hair_style"] == "cap":  # its brim
        line = joints[HEAD, 1] + 0.60 * (head[:, 1].max() - joints[HEAD, 1])
        near = head[abs(head[:, 1] - line) < 0.02]
        centre = [0, line, near[:, 2].max() + 0.02]
        parts.append(_rigid(centre, [0.075, 0.012, 0.075], shade(who, "cap", COLOURS), HEAD))
    if who["bottom_kind"] == "skirt":
        parts.append(_skirt(body, who))
    return parts


def _skirt(body: Template, who: Identity) -> Mesh:
    """A cone from the waist to above the knee that the thighs carry along."""
    joints, rings, sectors = body.joints, 6, 28
    hip = joints[L_HIP, 1]
    top, hem = joints[PELVIS, 1] + 0.05, hip - 0.62 * (hip - joints[L_KNEE, 1])
    t = np.linspace(1, 0, rings)[:, None]  # 1 at the hem: points are listed upwards
    angle = np.linspace(0, 2 * np.pi, sectors, endpoint=False)[None]
    waist = body.template[(abs(body.template[:, 1] - hip) < 0.05) & ~body.is_arm]
    front, back = waist[:, 2].max(), waist[:, 2].min()
    wide, deep = abs(waist[:, 0]).max() + 0.02, (front - back) / 2 + 0.03
    centre = (front + back) / 2
    flare = 0.86 + 0.14 * np.minimum(t / 0.35, 1) + 0.16 * t
    x, z = wide * flare * np.cos(angle), centre + deep * flare * np.sin(angle)
    y = top + (hem - top) * t
    points = np.stack(np.broadcast_arrays(x, y, z), -1).reshape(-1, 3)
    share = (0.85 * smoothstep(t, 0.1, 1.0) * np.ones_like(angle)).ravel()  # of the thighs
    left = smoothstep(points[:, 0], -0.10, 0.10)
    weights = np.zeros((len(points), 24))
    weights[:, PELVIS] = 1 - share
    weights[:, L_HIP] = share * left
    weights[:, R_HIP] = share * (1 - left)
    return Mesh(points, grid_faces(rings, sectors), shade(who, "bottom", COLOURS), weights)
