"""From a dressed person to a photo: place, light, shadow, occluders, optics, sensor and compression of one camera."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, uniform_filter1d

from miniworld.cameras import Camera, backdrop
from miniworld.dresser import Dresser, Outfit
from miniworld.wardrobe import betas
from posedive_lib.body import camera as geometry
from posedive_lib.body.conditions import joint_tolerances, place, visibility
from posedive_lib.body.opengl_raster import Rasteriser
from posedive_lib.body.smpl import COCO_FROM_SMPL, cached_smpl, pose

ANKLES = [15, 16]  # COCO


class Photographer:
    """Photographs identities: keeps the body, the dressed templates, the backgrounds and one OpenGL context."""

    def __init__(self, body: str, height: int, width: int, focal: float):
        self.model = cached_smpl(str(body))
        self.dresser = Dresser(self.model)
        self.height, self.width, self.focal = height, width, focal * height
        self.rasterise = Rasteriser(height, width, self.focal)
        self.tolerance = joint_tolerances(self.model)
        self.scale = height / 128  # blur and such are given in pixels of a 128-pixel image
        self._outfit = lru_cache(64)(lambda key: self.dresser.dress(dict(key)))
        self._backdrop = lru_cache(64)(
            lambda scene: backdrop(scene, int(self.height * 1.2), int(self.width * 3))
        )

    def outfit(self, identity) -> Outfit:
        """Clothes of an identity row, painted once."""
        return self._outfit(tuple(identity.items()))

    def place(
        self, identity, root_tilt, body_pose, azimuth, elevation, fill=0.86, shift=(0.0, 0.0)
    ):
        """Orientation (3,) and translation (3,) that show the person from a viewpoint, filling the crop."""
        return place(
            self.model,
            geometry.Lens(self.focal, self.height, self.width),
            root_tilt,
            body_pose,
            betas(identity),
            azimuth,
            elevation,
            fill,
            shift,
        )[:2]

    def backdrop_crop(self, scene: int, rng) -> np.ndarray:
        """A window of the camera's scene, (H, W, 3)."""
        canvas = self._backdrop(scene)
        y = rng.integers(0, canvas.shape[0] - self.height + 1)
        x = rng.integers(0, canvas.shape[1] - self.width + 1)
        return canvas[y : y + self.height, x : x + self.width].copy()

    def shoot(
        self,
        identity,
        body_pose,
        global_orient,
        cam_t,
        camera: Camera,
        rng,
        *,
        low_quality: bool = False,
        maps: bool = False,
    ) -> dict:
        """One photo with its truth.

        Returns:
            dict with image (H, W, 3) uint8; keypoints (17, 2) pixels; visible (17,): 2 visible, 1 behind the own body or what it wears,
            0 behind an occluder or outside; mask (H, W) bool of the person's pixels in view; occluded bool; hidden: share of the person's
            pixels behind the occluder; and with `maps` clothed_depth (H, W) metres, 0 without a body, clothed_normals (H, W, 3) with
            OpenGL axes.
        """
        outfit = self.outfit(identity)
        vertices, joints = pose(
            self.model,
            global_orient,
            body_pose,
            betas(identity),
            outfit.offsets,
            (outfit.points, outfit.weights),
        )
        raster = self.rasterise(vertices + cam_t, outfit.faces, outfit.albedo)
        points = joints[COCO_FROM_SMPL] + cam_t
        keypoints = geometry.project(points, self.focal, self.height, self.width)
        visible = visibility(points, keypoints, raster.depth, self.tolerance)
        image = self._lit(raster, camera, keypoints, rng)
        body = raster.depth > 0
        mask, occluded = body, rng.random() < camera.occluded
        if occluded:
            hidden = self._occlude(image, rng)
            row, column = np.clip(
                np.floor(keypoints[:, ::-1]).astype(int), 0, [self.height - 1, self.width - 1]
            ).T
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
        return (
            photo | {"clothed_depth": raster.depth, "clothed_normals": raster.normals}
            if maps
            else photo
        )

    def _lit(self, raster, camera: Camera, keypoints, rng) -> np.ndarray:
        """(H, W, 3) the person in the light of the scene, before its background, with a shadow at the feet."""
        image = self.backdrop_crop(camera.scene, rng)
        image *= 1 - 0.45 * self._shadow(keypoints[ANKLES])[..., None]
        direct = np.clip(raster.normals @ np.array(camera.light), 0, 1)[..., None]
        light = (
            camera.ambient + (1.15 - camera.ambient) * direct * rng.uniform(0.85, 1.1)
        ) * np.array(camera.light_colour)
        cover = raster.cover[..., None]
        return image * (1 - cover) + cover * raster.albedo * light

    def _shadow(self, ankles: np.ndarray) -> np.ndarray:
        """(H, W) in [0, 1]: a soft ellipse under the feet (2, 2)."""
        x, y = ankles.mean(0)
        wide = abs(np.diff(ankles[:, 0]))[0] * 0.6 + 0.07 * self.height
        low = ankles[:, 1].max() + 0.025 * self.height
        rows, columns = np.arange(self.height)[:, None] + 0.5, np.arange(self.width)[None] + 0.5
        return np.exp(
            -(((columns - x) / wide) ** 2 + ((rows - 0.5 * (low + y)) / (0.035 * self.height)) ** 2)
        )

    def _occlude(self, image, rng) -> np.ndarray:
        """Put a low wall, a bin, a pole or a passer-by in front, in place; returns the hidden pixels (H, W)."""
        h, w = image.shape[:2]
        rows, columns = np.arange(h)[:, None] / h, np.arange(w)[None] / w
        kind = rng.random()
        if kind < 0.35:  # a low wall or a car
            hidden = (
                (rows > rng.uniform(0.62, 0.85))
                & (columns > rng.uniform(-0.3, 0.3))
                & (columns < rng.uniform(0.6, 1.3))
            )
        elif kind < 0.55:  # a bin or a bag on the floor
            x, wide = rng.uniform(0.05, 0.75), rng.uniform(0.25, 0.45)
            hidden = (rows > rng.uniform(0.55, 0.75)) & (columns > x) & (columns < x + wide)
        elif kind < 0.80:  # a pole
            x = rng.choice([rng.uniform(0.0, 0.3), rng.uniform(0.65, 0.9)])
            hidden = (
                (columns > x)
                & (columns < x + rng.uniform(0.10, 0.22))
                & (rows > rng.uniform(-0.5, 0.3))
            )
        else:  # someone's shoulder and arm
            x, top = (
                rng.choice([rng.uniform(-0.1, 0.1), rng.uniform(0.9, 1.1)]),
                rng.uniform(0.1, 0.4),
            )
            hidden = ((columns - x) / rng.uniform(0.22, 0.34)) ** 2 + (
                (rows - top - 0.5) / 0.5
            ) ** 4 < 1
        colour = rng.uniform(0.1, 0.75, 3)
        grain = gaussian_filter(rng.normal(0, 1, (h, w)), 2 * self.scale)
        grain = 1 + 0.05 * grain / grain.std()
        image[hidden] = ((0.4 * colour + 0.6 * colour.mean()) * grain[..., None])[hidden]
        return hidden

    def _sensor(self, image, camera: Camera, rng, low_quality: bool) -> np.ndarray:
        """Optics, sensor and compression: (H, W, 3) uint8."""
        blur = (camera.blur + (1.6 if low_quality else 0)) * self.scale
        image = gaussian_filter(image, (blur, blur, 0)) if blur > 0.15 else image
        smear = round(camera.motion_blur * rng.uniform(0, 1.6) * self.scale)
        image = uniform_filter1d(image, smear, axis=1, mode="nearest") if smear > 1 else image
        image = np.clip((image - 0.5) * camera.contrast + 0.5, 0, 1)
        image = np.clip(image * np.array(camera.gain) * rng.uniform(0.9, 1.1), 0, 1) ** camera.gamma
        image = image + rng.normal(0, camera.noise + (0.05 if low_quality else 0), image.shape)
        photo = Image.fromarray(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8))
        lines = camera.resolution * (0.5 if low_quality else 1.0)
        if lines < 0.98:
            small = photo.resize(
                (max(8, round(self.width * lines)), max(16, round(self.height * lines))),
                Image.Resampling.BOX,
            )
            photo = small.resize((self.width, self.height), Image.Resampling.BILINEAR)
        stream = io.BytesIO()
        photo.save(stream, "JPEG", quality=max(20, camera.jpeg - (25 if low_quality else 0)))
        return np.asarray(Image.open(stream).convert("RGB"))
