"""Cameras of the mini world: where they hang, what light they see, what their sensors do, and what stands behind the people."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from posedive_lib.errors import StudyError
from posedive_lib.seeds import rng_for


@dataclass(frozen=True)
class Camera:
    """One installed camera. Angles in degrees, lengths in metres.

    azimuth and azimuth_spread: from where it sees people, mean and deviation. elevation follows from lens_height and distance. light (3,)
    direction with OpenGL axes, light_colour (3,), ambient share of it; gain (3,) per colour channel, gamma, contrast; blur, motion_blur in
    pixels of a 128-pixel image; resolution: share of the image's lines that the sensor resolves; jpeg quality; occluded: share of photos
    with something in front; scene: number of its background.
    """

    name: str
    azimuth: float
    azimuth_spread: float
    lens_height: float
    distance: float
    elevation: float
    light: tuple[float, float, float]
    light_colour: tuple[float, float, float]
    ambient: float
    gain: tuple[float, float, float]
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
    """A camera with a viewing bias around `azimuth` and a place, light and sensor of its own. `variety` is how far its colours (of light
    and sensor, brightness, gamma, contrast) go from neutral: 1 as the pre-training people's, 0 neutral."""
    rng = rng_for("camera", name, seed)
    uniform = lambda low, high: round(rng.uniform(low, high), 3)
    direction = np.array([rng.uniform(-0.8, 0.8), rng.uniform(0.3, 1.0), rng.uniform(0.3, 1.0)])
    direction /= np.linalg.norm(direction)
    cast = lambda spread: np.exp((tint := rng.normal(0, spread, 3)) - tint.mean())
    mild = lambda values: tuple((np.asarray(values) ** variety).round(3).tolist())
    lens, distance = uniform(1.8, 4.2), uniform(5.0, 14.0)
    elevation = round(
        float(np.degrees(np.arctan2(lens - 0.95, distance))), 2
    )  # towards the middle of a standing person
    return Camera(
        name,
        float(azimuth),
        uniform(12, 22),
        lens,
        distance,
        elevation,
        tuple(direction.round(3).tolist()),
        mild(cast(0.06)),
        uniform(0.40, 0.62),
        mild(cast(0.07) * rng.uniform(0.82, 1.12)),
        *mild([rng.uniform(0.8, 1.25), rng.uniform(0.8, 1.1)]),
        uniform(0.0, 0.6),
        uniform(0.0, 2.5) if rng.random() < 0.4 else 0.0,
        round(min(1.0, max(0.55, 9.0 / distance)), 3),
        uniform(0.004, 0.022),
        int(rng.integers(45, 93)),
        0.12,
        int(rng.integers(1 << 30)),
    )


def write_cameras(path: Path, cameras: dict[str, list[Camera]]) -> None:
    """cameras.json: the list of cameras of each data set."""
    path.write_text(
        json.dumps(
            {name: [asdict(camera) for camera in row] for name, row in cameras.items()}, indent=1
        )
        + "\n"
    )


def read_cameras(folder: str | Path) -> dict[str, list[Camera]]:
    """Cameras of every data set from the world's folder; StudyError when they are missing or of another version."""
    path = Path(folder) / "cameras.json"
    if not path.is_file():
        raise StudyError(f"{path} is missing: run `dvc pull` to fetch the tracked data.")
    try:
        return {
            name: [
                Camera(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()})
                for row in rows
            ]
            for name, rows in json.loads(path.read_text()).items()
        }
    except (TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StudyError(
            f"{path} does not describe cameras ({error}): run `dvc pull` or `python -m miniworld.specify data`."
        ) from None


def _muted(rng, low: float, high: float, share: float = 0.22) -> np.ndarray:
    """(3,) a random colour, mostly grey, as walls and streets are."""
    colour = rng.uniform(low, high, 3)
    return share * colour + (1 - share) * colour.mean()


def _texture(shape: tuple[int, int], kind: int, rng) -> np.ndarray:
    """(h, w) relief of a wall around 1: bricks, panels, foliage or plaster."""
    h, w = shape
    rows, columns = np.mgrid[:h, :w]
    unit = max(3, int(h * rng.uniform(0.04, 0.09)))
    if kind == 0:
        shifted = columns + (rows // unit % 2) * unit
        return 1 - 0.22 * ((rows % unit == 0) | (shifted % (2 * unit) == 0))
    if kind == 1:
        return (
            1
            - 0.25 * (columns % (3 * unit) < max(1, unit // 5))
            + 0.06 * ((columns // (3 * unit)) % 2)
        )
    if kind == 2:
        leaves = gaussian_filter(rng.normal(0, 1, shape), max(1.0, unit / 4))
        return 1 + 0.30 * leaves / leaves.std()
    stains = gaussian_filter(rng.normal(0, 1, shape), 2.0 * unit)
    return 1 + 0.08 * stains / stains.std()


def wall(scene: int) -> int:
    """What stands in a scene's background: 0 bricks, 1 panels, 2 green, 3 plaster."""
    return int(rng_for("backdrop", scene).integers(4))


def backdrop(scene: int, height: int, width: int) -> np.ndarray:
    """(height, width, 3) floats in [0, 1]: textured wall or green, floor in perspective, doors, posters; the same for the same scene."""
    rng, kind = rng_for("backdrop", scene), wall(scene)
    rng.integers(4)  # what `wall` has drawn
    back, floor = _muted(rng, 0.25, 0.85), _muted(rng, 0.2, 0.7)
    if kind == 2:
        back = np.array([0.25, 0.40, 0.18]) * rng.uniform(0.7, 1.4)
    horizon = int(height * rng.uniform(0.48, 0.70))
    image = np.empty((height, width, 3))
    image[:horizon] = (
        back
        * (np.linspace(1.08, 0.9, horizon)[:, None] * _texture((horizon, width), kind, rng))[
            ..., None
        ]
    )
    depth = np.linspace(0.15, 1, height - horizon)[:, None]  # floor lines run to a vanishing point
    lines = ((np.arange(width)[None] - width / 2) / depth / (height * 0.12)) % 1 < 0.10
    image[horizon:] = (
        floor * (np.linspace(0.85, 1.1, height - horizon)[:, None] - 0.15 * lines)[..., None]
    )
    for _ in range(rng.integers(2, 6)):  # windows, doors, posters: with a frame
        w, h = int(height * rng.uniform(0.12, 0.4)), int(height * rng.uniform(0.2, 0.55))
        x, y = rng.integers(0, max(1, width - w)), rng.integers(0, max(1, horizon - h // 2))
        image[y : y + h, x : x + w] = _muted(rng, 0.1, 0.9, 0.3) * 0.6
        image[y + 2 : y + h - 2, x + 2 : x + w - 2] = (
            _muted(rng, 0.15, 0.9, 0.4)
            * np.linspace(1.1, 0.85, max(0, min(h, height - y) - 4))[:, None, None]
        )
    image += gaussian_filter(rng.normal(0, 1, image.shape), (3, 3, 0)) * 0.12 + rng.normal(
        0, 0.012, image.shape
    )
    return np.clip(gaussian_filter(image, (0.7, 0.7, 0)), 0, 1)
