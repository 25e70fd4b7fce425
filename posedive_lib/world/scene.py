"""Cameras, light, backgrounds and sensors of the mini world: from a dressed person to a photo."""

from dataclasses import asdict, dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from posedive_lib.body import camera as geometry
from posedive_lib.body.conditions import joint_tolerances, visibility
from posedive_lib.body.render import Rasteriser
from posedive_lib.body.smpl import COCO_FROM_SMPL, cached_smpl, pose
from posedive_lib.seeds import rng_for
from posedive_lib.world.wardrobe import Dresser, betas


@dataclass(frozen=True)
class Camera:
    """One installed camera. Angles in degrees, light (3,) with OpenGL axes, gain (3,) per colour channel."""

    name: str
    azimuth: float
    azimuth_spread: float
    elevation: float
    light: tuple[float, float, float]
    ambient: float
    gain: tuple[float, float, float]
    gamma: float
    blur: float
    noise: float
    occluded: float
    scene: int


def sample_camera(name: str, azimuth: float, seed: int = 0) -> Camera:
    """A camera with a viewing bias around `azimuth` and light, colour and sensor of its own."""
    rng = rng_for("camera", name, seed)
    direction = np.array([rng.uniform(-0.8, 0.8), rng.uniform(0.3, 1.0), rng.uniform(0.3, 1.0)])
    direction /= np.linalg.norm(direction)
    tint = rng.normal(0, 0.07, 3)
    gain = np.exp(tint - tint.mean()) * rng.uniform(0.85, 1.12)
    return Camera(name, float(azimuth), float(rng.uniform(14, 26)), float(rng.uniform(3, 22)), tuple(direction.round(3).tolist()),
                  float(rng.uniform(0.42, 0.62)), tuple(gain.round(3).tolist()), float(rng.uniform(0.85, 1.2)),
                  float(rng.uniform(0.0, 0.7)), float(rng.uniform(0.004, 0.02)), 0.12, int(rng.integers(1 << 30)))


def camera_record(camera: Camera) -> dict:
    """A camera as plain values for JSON."""
    return asdict(camera)


def backdrop(scene: int, height: int = 192, width: int = 192) -> np.ndarray:
    """(height, width, 3) floats in [0, 1]: wall, floor, a few boards and grain, the same for the same scene number."""
    rng = rng_for("backdrop", scene)
    wall, floor = rng.uniform(0.25, 0.85, 3), rng.uniform(0.2, 0.7, 3)
    wall, floor = (0.4 * c + 0.6 * c.mean() for c in (wall, floor))  # rooms and streets are mostly greyish
    horizon = int(height * rng.uniform(0.5, 0.72))
    image = np.empty((height, width, 3))
    image[:horizon] = wall * np.linspace(1.08, 0.9, horizon)[:, None, None]
    image[horizon:] = floor * np.linspace(0.85, 1.1, height - horizon)[:, None, None]
    for _ in range(rng.integers(3, 7)):  # windows, doors, posters
        w, h = rng.integers(14, 50), rng.integers(20, 70)
        x, y = rng.integers(0, width - w), rng.integers(0, max(1, horizon - h // 2))
        colour = rng.uniform(0.15, 0.9, 3)
        image[y : y + h, x : x + w] = 0.5 * colour + 0.5 * colour.mean()
    tiles = rng.integers(10, 30)
    image[horizon:, ::tiles] *= 0.85
    image += gaussian_filter(rng.normal(0, 1, image.shape), (3, 3, 0)) * 0.18 + rng.normal(0, 0.012, image.shape)
    return np.clip(gaussian_filter(image, (0.8, 0.8, 0)), 0, 1)


class Photographer:
    """Photographs identities: keeps the body, the painted templates and one OpenGL context."""

    def __init__(self, body: str, height: int, width: int, focal: float):
        self.model = cached_smpl(str(body))
        self.dresser = Dresser(self.model)
        self.height, self.width, self.focal = height, width, focal * height
        self.rasterise = Rasteriser(height, width, self.focal)
        self.tolerance = joint_tolerances(self.model)
        self._clothes: dict[str, tuple] = {}
        self._backdrops: dict[int, np.ndarray] = {}

    def _dressed(self, identity):
        key = identity["person"]
        if key not in self._clothes:
            if len(self._clothes) > 64:
                self._clothes.clear()
            albedo, offsets, bag = self.dresser.dress(identity)
            faces = self.dresser.faces
            extra = None
            if bag is not None:
                corners, box, colour = bag
                faces = np.vstack([faces, box + len(albedo)])
                albedo = np.vstack([albedo, np.tile(colour, (len(corners), 1))])
                extra = (corners, 9)
            self._clothes[key] = albedo, offsets, faces, extra
        return self._clothes[key]

    def place(self, identity, root_tilt, body_pose, azimuth, elevation, fill=0.86, shift=(0.0, 0.0)):
        """Orientation (3,) and translation (3,) that show the person from a viewpoint, filling the crop."""
        global_orient = geometry.orient(root_tilt, azimuth, elevation)[0]
        vertices, _ = pose(self.model, global_orient, body_pose, betas(identity))
        return global_orient, geometry.fit_to_crop(vertices, self.focal, self.height, self.width, fill, shift)

    def backdrop_crop(self, scene: int, rng) -> np.ndarray:
        """A window of the camera's scene, (H, W, 3)."""
        if scene not in self._backdrops:
            if len(self._backdrops) > 64:
                self._backdrops.clear()
            self._backdrops[scene] = backdrop(scene, int(self.height * 1.2), int(self.width * 3))
        canvas = self._backdrops[scene]
        y = rng.integers(0, canvas.shape[0] - self.height + 1)
        x = rng.integers(0, canvas.shape[1] - self.width + 1)
        return canvas[y : y + self.height, x : x + self.width]

    def shoot(self, identity, body_pose, global_orient, cam_t, camera: Camera, rng, *, low_quality: bool = False) -> dict:
        """One photo with its truth.

        Returns:
            dict with image (H, W, 3) uint8, keypoints (17, 2), visible (17,), mask (H, W) bool, occluder bool.
        """
        albedo, offsets, faces, extra = self._dressed(identity)
        vertices, joints = pose(self.model, global_orient, body_pose, betas(identity), offsets, extra)
        raster = self.rasterise(vertices + cam_t, faces, albedo)
        points = joints[COCO_FROM_SMPL] + cam_t
        keypoints = geometry.project(points, self.focal, self.height, self.width)
        visible = visibility(points, keypoints, raster.depth, self.tolerance)
        light = camera.ambient + (1.15 - camera.ambient) * np.clip(raster.normals @ np.array(camera.light), 0, 1)[..., None]
        cover = raster.cover[..., None]
        image = self.backdrop_crop(camera.scene, rng) * (1 - cover) + cover * raster.albedo * light
        occluded = rng.random() < camera.occluded
        if occluded:
            hidden = self._occlude(image, rng)
            row, column = np.clip(np.floor(keypoints[:, ::-1]).astype(int), 0, [self.height - 1, self.width - 1]).T
            visible = np.where((visible > 0) & hidden[row, column], 0, visible)
        image = self._sensor(image, camera, rng, low_quality)
        return {"image": image, "keypoints": keypoints.astype(np.float32), "visible": visible.astype(np.int8),
                "mask": raster.depth > 0, "occluded": occluded}

    def _occlude(self, image, rng) -> np.ndarray:
        """Put a board, bin or pole in front, in place; returns the hidden pixels (H, W)."""
        hidden = np.zeros(image.shape[:2], bool)
        h, w = hidden.shape
        if rng.random() < 0.6:  # something low that hides the legs
            hidden[int(h * rng.uniform(0.62, 0.85)) :, int(w * rng.uniform(-0.2, 0.3)) % w : int(w * rng.uniform(0.6, 1.0))] = True
        else:  # a pole or another person's edge
            x = int(w * rng.choice([rng.uniform(0.0, 0.3), rng.uniform(0.65, 0.9)]))
            hidden[int(h * rng.uniform(0, 0.4)) :, x : x + int(w * rng.uniform(0.12, 0.25))] = True
        colour = rng.uniform(0.1, 0.75, 3)
        image[hidden] = 0.4 * colour + 0.6 * colour.mean()
        return hidden

    def _sensor(self, image, camera: Camera, rng, low_quality: bool) -> np.ndarray:
        blur = camera.blur + (1.8 if low_quality else 0)
        image = gaussian_filter(image, (blur * self.height / 128, blur * self.height / 128, 0)) if blur > 0.15 else image
        image = np.clip(image * np.array(camera.gain) * rng.uniform(0.92, 1.08), 0, 1) ** camera.gamma
        image = image + rng.normal(0, camera.noise + (0.05 if low_quality else 0), image.shape)
        return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
