"""Cameras of the mini world: their places, their light, their sensors, and the backgrounds."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from posedive_lib.errors import StudyError
from posedive_lib.seeds import rng_for

Vector = tuple[float, float, float]
OCCLUDED = 0.12  # share of photos with something in front
CHEST = 0.95  # metres above the ground: the middle of a standing person


@dataclass(frozen=True)
class Camera:
    """One installed camera. Angles in degrees, lengths in metres.

    azimuth, azimuth_spread: from where it sees people, mean and deviation.
    elevation: follows from lens_height and distance.
    light: direction with OpenGL axes; light_colour; ambient: the share of light without direction.
    gain: per colour channel. blur, motion_blur: pixels of a 128-pixel image.
    resolution: share of the image's lines that the sensor resolves.
    occluded: share of photos with something in front. scene: number of its background.
    """

    name: str
    azimuth: float
    azimuth_spread: float
    lens_height: float
    distance: float
    elevation: float
    light: Vector
    light_colour: Vector
    ambient: float
    gain: Vector
    gamma: float
    contrast: float
    blur: float
    motion_blur: float
    resolution: float
    noise: float
    jpeg: int
    occluded: float
    scene: int


def sample_camera(name: str, azimuth: float, seed: int = 0, *, variety: float = 1.0) -> Camera:
    """A camera that sees people from around `azimuth`, with a place, light and sensor of its own.

    variety: how far its colours (light, sensor, brightness, gamma, contrast) go from neutral; 0 is
    neutral, 1 as the people of the pre-training are seen.
    """
    rng = rng_for("camera", name, seed)

    def uniform(low: float, high: float) -> float:
        return round(rng.uniform(low, high), 3)

    def cast(spread: float) -> np.ndarray:
        """(3,) factors of a colour cast that leaves the brightness as it is."""
        tint = rng.normal(0, spread, 3)
        return np.exp(tint - tint.mean())

    def mild(values: np.ndarray | list[float]) -> Any:
        """Factors drawn towards 1 by `variety`."""
        return tuple((np.asarray(values) ** variety).round(3).tolist())

    # the order of the draws decides every camera: do not change it
    direction = np.array([rng.uniform(-0.8, 0.8), rng.uniform(0.3, 1.0), rng.uniform(0.3, 1.0)])
    direction /= np.linalg.norm(direction)
    lens, distance = uniform(1.8, 4.2), uniform(5.0, 14.0)
    spread = uniform(12, 22)
    light_colour = mild(cast(0.06))
    ambient = uniform(0.40, 0.62)
    gain = mild(cast(0.07) * rng.uniform(0.82, 1.12))
    gamma, contrast = mild([rng.uniform(0.8, 1.25), rng.uniform(0.8, 1.1)])
    blur = uniform(0.0, 0.6)
    return Camera(
        name,
        float(azimuth),
        azimuth_spread=spread,
        lens_height=lens,
        distance=distance,
        elevation=round(float(np.degrees(np.arctan2(lens - CHEST, distance))), 2),
        light=tuple(direction.round(3).tolist()),
        light_colour=light_colour,
        ambient=ambient,
        gain=gain,
        gamma=gamma,
        contrast=contrast,
        blur=blur,
        motion_blur=uniform(0.0, 2.5) if rng.random() < 0.4 else 0.0,
        resolution=round(min(1.0, max(0.55, 9.0 / distance)), 3),
        noise=uniform(0.004, 0.022),
        jpeg=int(rng.integers(45, 93)),
        occluded=OCCLUDED,
        scene=int(rng.integers(1 << 30)),
    )


def write_cameras(path: Path, cameras: dict[str, list[Camera]]) -> None:
    """cameras.json: the list of cameras of each data set."""
    rows = {name: [asdict(camera) for camera in own] for name, own in cameras.items()}
    path.write_text(json.dumps(rows, indent=1) + "\n")


def _camera(row: dict[str, Any]) -> Camera:
    """A camera from JSON, which has lists for tuples."""
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
    return Camera(**values)


def read_cameras(folder: str | Path) -> dict[str, list[Camera]]:
    """Cameras of every data set from the world's folder; StudyError when they cannot be read."""
    path = Path(folder) / "cameras.json"
    if not path.is_file():
        raise StudyError(f"{path} is missing: run `dvc pull` to fetch the tracked data.")
    try:
        found = json.loads(path.read_text())
        return {name: [_camera(row) for row in rows] for name, rows in found.items()}
    except (TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StudyError(
            f"{path} does not describe cameras ({error}): "
            "remove it, and run `dvc pull` or `python -m miniworld.specify data`."
        ) from None


def _muted(rng: np.random.Generator, low: float, high: float, share: float = 0.22) -> np.ndarray:
    """(3,) a random colour, mostly grey, as walls and streets are."""
    colour = rng.uniform(low, high, 3)
    return share * colour + (1 - share) * colour.mean()


def _texture(shape: tuple[int, int], kind: int, rng: np.random.Generator) -> np.ndarray:
    """(h, w) relief of a wall around 1; `kind` as `wall` has it."""
    height, width = shape
    rows, columns = np.mgrid[:height, :width]
    unit = max(3, int(height * rng.uniform(0.04, 0.09)))
    if kind == 0:  # every second row of bricks is shifted
        shifted = columns + (rows // unit % 2) * unit
        return 1 - 0.22 * ((rows % unit == 0) | (shifted % (2 * unit) == 0))
    if kind == 1:
        seams = columns % (3 * unit) < max(1, unit // 5)
        return 1 - 0.25 * seams + 0.06 * ((columns // (3 * unit)) % 2)
    if kind == 2:
        leaves = gaussian_filter(rng.normal(0, 1, shape), max(1.0, unit / 4))
        return 1 + 0.30 * leaves / leaves.std()
    stains = gaussian_filter(rng.normal(0, 1, shape), 2.0 * unit)
    return 1 + 0.08 * stains / stains.std()


def wall(scene: int) -> int:
    """What stands in a scene's background: 0 bricks, 1 panels, 2 green, 3 plaster."""
    return int(rng_for("backdrop", scene).integers(4))


def backdrop(scene: int, height: int, width: int) -> np.ndarray:
    """(height, width, 3) in [0, 1]: a wall, a floor in perspective, doors and posters.

    The same for the same scene.
    """
    rng, kind = rng_for("backdrop", scene), wall(scene)
    rng.integers(4)  # what `wall` has drawn
    back, floor = _muted(rng, 0.25, 0.85), _muted(rng, 0.2, 0.7)
    if kind == 2:
        back = np.array([0.25, 0.40, 0.18]) * rng.uniform(0.7, 1.4)
    horizon = int(height * rng.uniform(0.48, 0.70))
    image = np.empty((height, width, 3))
    shade = np.linspace(1.08, 0.9, horizon)[:, None] * _texture((horizon, width), kind, rng)
    image[:horizon] = back * shade[..., None]
    depth = np.linspace(0.15, 1, height - horizon)[:, None]  # floor lines run to a vanishing point
    lines = ((np.arange(width)[None] - width / 2) / depth / (height * 0.12)) % 1 < 0.10
    shade = np.linspace(0.85, 1.1, height - horizon)[:, None] - 0.15 * lines
    image[horizon:] = floor * shade[..., None]
    for _ in range(int(rng.integers(2, 6))):
        _add_panel(image, horizon, rng)
    clouds = gaussian_filter(rng.normal(0, 1, image.shape), (3, 3, 0)) * 0.12
    image += clouds + rng.normal(0, 0.012, image.shape)
    return np.clip(gaussian_filter(image, (0.7, 0.7, 0)), 0, 1)


def _add_panel(image: np.ndarray, horizon: int, rng: np.random.Generator) -> None:
    """Draw a window, a door or a poster with a frame of 2 pixels onto (H, W, 3), in place."""
    height, width = image.shape[:2]
    w, h = int(height * rng.uniform(0.12, 0.4)), int(height * rng.uniform(0.2, 0.55))
    x, y = rng.integers(0, max(1, width - w)), rng.integers(0, max(1, horizon - h // 2))
    image[y : y + h, x : x + w] = _muted(rng, 0.1, 0.9, 0.3) * 0.6
    rows = max(0, min(h, height - y) - 4)
    fade = np.linspace(1.1, 0.85, rows)[:, None, None]
    image[y + 2 : y + h - 2, x + 2 : x + w - 2] = _muted(rng, 0.15, 0.9, 0.4) * fade
