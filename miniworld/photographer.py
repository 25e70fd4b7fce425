"""From a dressed person to a photo of one camera.

In this order: place, light, shadow, occluder, optics, sensor and compression.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, uniform_filter1d

from miniworld.cameras import backdrop
from miniworld.dresser import Dresser
from miniworld.wardrobe import betas
from posedive_lib.body import camera as geometry
from posedive_lib.body.conditions import joint_tolerances, place, visibility
from posedive_lib.body.opengl_raster import Rasteriser
from posedive_lib.body.smpl import COCO_FROM_SMPL, cached_smpl, pose

if TYPE_CHECKING:
    from miniworld.cameras import Camera
    from miniworld.dresser import Outfit
    from miniworld.wardrobe import Identity
    from posedive_lib.body.raster import Raster

ANKLES = [15, 16]  # COCO


class Photographer:
    """Photographs identities. Keeps the body, the outfits, the backgrounds and an OpenGL context.

    height, width: pixels; focal: focal length in image heights.
    """

    def __init__(self, body: str, height: int, width: int, focal: float):
        self.model = cached_smpl(str(body))
        self.dresser = Dresser(self.model)
        self.height, self.width, self.focal = height, width, focal * height
        self.rasterise = Rasteriser(height, width, self.focal)
        self.tolerance = joint_tolerances(self.model)
        self.scale = height / 128  # blur and such are given in pixels of a 128-pixel image
        self._outfit = lru_cache(64)(self._dress)
        self._backdrop = lru_cache(64)(self._paint_backdrop)

    def _dress(self, items: tuple[tuple[str, Any], ...]) -> Outfit:
        return self.dresser.dress(dict(items))

    def _paint_backdrop(self, scene: int) -> np.ndarray:
        return backdrop(scene, int(self.height * 1.2), int(self.width * 3))

    def outfit(self, identity: Identity) -> Outfit:
        """Clothes of an identity row, painted once."""
        return self._outfit(tuple(identity.items()))

    def place(
        self,
        identity: Identity,
        root_tilt: np.ndarray,
        body_pose: np.ndarray,
        azimuth: float,
        elevation: float,
        fill: float = 0.86,
        shift: tuple[float, float] = (0.0, 0.0),
    ) -> tuple[np.ndarray, np.ndarray]:
        """Orientation (3,) and translation (3,) that show a person from a viewpoint, in the crop.

        Arguments as in `posedive_lib.body.conditions.place`.
        """
        lens = geometry.Lens(self.focal, self.height, self.width)
        shape = betas(identity)
        orientation, cam_t, *_ = place(
            self.model, lens, root_tilt, body_pose, shape, azimuth, elevation, fill, shift
        )
        return orientation, cam_t

    def backdrop_crop(
        self,
        scene: int,
        rng: np.random.Generator,
        window: tuple[float, float] | None = None,
    ) -> np.ndarray:
        """A window of the camera's scene, (H, W, 3); `window` as in `Shot`."""
        canvas = self._backdrop(scene)
        down, right = canvas.shape[0] - self.height, canvas.shape[1] - self.width
        if window is None:
            y, x = rng.integers(0, down + 1), rng.integers(0, right + 1)
        else:
            x, y = round(window[0] * right), round(window[1] * down)
        return canvas[y : y + self.height, x : x + self.width].copy()

    def shoot(
        self,
        identity: Identity,
        body_pose: np.ndarray,
        global_orient: np.ndarray,
        cam_t: np.ndarray,
        camera: Camera,
        rng: np.random.Generator,
        *,
        low_quality: bool = False,
        window: tuple[float, float] | None = None,
        maps: bool = False,
    ) -> dict[str, Any]:
        """One photo with its truth. Arguments as in `Shot`.

        Returns a dict:
            image: (H, W, 3) uint8.
            keypoints: (17, 2) pixels.
            visible: (17,) 2 visible; 1 behind the own body or what it wears; 0 behind an occluder
                or outside.
            mask: (H, W) bool, the person's pixels in view.
            occluded: whether something stands in front.
            hidden: share of the person's pixels behind it.
            clothed_depth: with `maps`, (H, W) metres, 0 without a body.
            clothed_normals: with `maps`, (H, W, 3) with OpenGL axes.
        """
        outfit = self.outfit(identity)
        accessories = (outfit.points, outfit.weights)
        vertices, joints = pose(
            self.model, global_orient, body_pose, betas(identity), outfit.offsets, accessories
        )
        raster = self.rasterise(vertices + cam_t, outfit.faces, outfit.albedo)
        points = joints[COCO_FROM_SMPL] + cam_t
        keypoints = geometry.project(points, self.focal, self.height, self.width)
        visible = visibility(points, keypoints, raster.depth, self.tolerance)
        image = self._lit(raster, camera, keypoints, rng, window)
        body = raster.depth > 0
        mask = body
        occluded = rng.random() < camera.occluded
        if occluded:
            hidden = self._occlude(image, rng)
            last = [self.height - 1, self.width - 1]
            row, column = np.clip(np.floor(keypoints[:, ::-1]).astype(int), 0, last).T
            visible = np.where((visible > 0) & hidden[row, column], 0, visible)
            mask = body & ~hidden
        photo = {
            "image": self._sensor(image, camera, rng, low_quality),
            "keypoints": keypoints.astype(np.float32),
            "visible": visible.astype(np.int8),
            "mask": mask,
            "occluded": occluded,
            "hidden": 1 - mask.sum() / max(1, body.sum()),
        }
        if maps:
            photo |= {"clothed_depth": raster.depth, "clothed_normals": raster.normals}
        return photo

    def _lit(
        self,
        raster: Raster,
        camera: Camera,
        keypoints: np.ndarray,
        rng: np.random.Generator,
        window: tuple[float, float] | None,
    ) -> np.ndarray:
        """(H, W, 3) the person in the scene's light, before its background, with a shadow."""
        image = self.backdrop_crop(camera.scene, rng, window)
        image *= 1 - 0.45 * self._shadow(keypoints[ANKLES])[..., None]
        direct = np.clip(raster.normals @ np.array(camera.light), 0, 1)[..., None]
        strength = camera.ambient + (1.15 - camera.ambient) * direct * rng.uniform(0.85, 1.1)
        light = strength * np.array(camera.light_colour)
        cover = raster.cover[..., None]
        return image * (1 - cover) + cover * raster.albedo * light

    def _shadow(self, ankles: np.ndarray) -> np.ndarray:
        """(H, W) in [0, 1]: a soft ellipse under the feet (2, 2)."""
        x, y = ankles.mean(0)
        wide = abs(np.diff(ankles[:, 0]))[0] * 0.6 + 0.07 * self.height
        low = ankles[:, 1].max() + 0.025 * self.height
        rows, columns = np.arange(self.height)[:, None] + 0.5, np.arange(self.width)[None] + 0.5
        across = ((columns - x) / wide) ** 2
        along = ((rows - 0.5 * (low + y)) / (0.035 * self.height)) ** 2
        return np.exp(-(across + along))

    def _occlude(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Put something in front of the person, in place; returns the hidden pixels (H, W)."""
        hidden = _occluder(self.height, self.width, rng)
        colour = rng.uniform(0.1, 0.75, 3)
        grain = gaussian_filter(rng.normal(0, 1, hidden.shape), 2 * self.scale)
        grain = 1 + 0.05 * grain / grain.std()
        muted = 0.4 * colour + 0.6 * colour.mean()
        image[hidden] = (muted * grain[..., None])[hidden]
        return hidden

    def _sensor(
        self, image: np.ndarray, camera: Camera, rng: np.random.Generator, low_quality: bool
    ) -> np.ndarray:
        """Optics, sensor and compression: (H, W, 3) uint8."""
        blur = (camera.blur + (1.6 if low_quality else 0)) * self.scale
        if blur > 0.15:
            image = gaussian_filter(image, (blur, blur, 0))
        smear = round(camera.motion_blur * rng.uniform(0, 1.6) * self.scale)
        if smear > 1:
            image = uniform_filter1d(image, smear, axis=1, mode="nearest")
        image = np.clip((image - 0.5) * camera.contrast + 0.5, 0, 1)
        image = np.clip(image * np.array(camera.gain) * rng.uniform(0.9, 1.1), 0, 1) ** camera.gamma
        image = image + rng.normal(0, camera.noise + (0.05 if low_quality else 0), image.shape)
        photo = Image.fromarray(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8))
        lines = camera.resolution * (0.5 if low_quality else 1.0)
        if lines < 0.98:  # the sensor has fewer lines than the image
            size = (max(8, round(self.width * lines)), max(16, round(self.height * lines)))
            small = photo.resize(size, Image.Resampling.BOX)
            photo = small.resize((self.width, self.height), Image.Resampling.BILINEAR)
        stream = io.BytesIO()
        photo.save(stream, "JPEG", quality=max(20, camera.jpeg - (25 if low_quality else 0)))
        return np.asarray(Image.open(stream).convert("RGB"))


def _occluder(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W) bool: the pixels of a low wall, a bin, a pole or a passer-by."""
    rows, columns = np.arange(height)[:, None] / height, np.arange(width)[None] / width
    kind = rng.random()
    if kind < 0.35:  # a low wall or a car
        top = rng.uniform(0.62, 0.85)
        left, right = rng.uniform(-0.3, 0.3), rng.uniform(0.6, 1.3)
        return (rows > top) & (columns > left) & (columns < right)
    if kind < 0.55:  # a bin or a bag on the floor
        left, wide = rng.uniform(0.05, 0.75), rng.uniform(0.25, 0.45)
        return (rows > rng.uniform(0.55, 0.75)) & (columns > left) & (columns < left + wide)
    if kind < 0.80:  # a pole
        left = rng.choice([rng.uniform(0.0, 0.3), rng.uniform(0.65, 0.9)])
        right = left + rng.uniform(0.10, 0.22)
        return (columns > left) & (columns < right) & (rows > rng.uniform(-0.5, 0.3))
    # someone's shoulder and arm
    x = rng.choice([rng.uniform(-0.1, 0.1), rng.uniform(0.9, 1.1)])
    top = rng.uniform(0.1, 0.4)
    across = ((columns - x) / rng.uniform(0.22, 0.34)) ** 2
    return across + ((rows - top - 0.5) / 0.5) ** 4 < 1
