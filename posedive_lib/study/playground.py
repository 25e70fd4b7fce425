"""The playground: one person in one pose and view, at once, with the filter's verdict (§B, §E).

It needs no more than data/: the generator after phase 1, the pose estimator, the bodies and
motions, and the mini world's people, none of whom that generator has seen.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import ImageOps

from posedive_lib.augment import filtering
from posedive_lib.augment.confidence import PoseEstimator, keypoint_subset
from posedive_lib.augment.targets import rendering_of
from posedive_lib.body.poses import load_poses
from posedive_lib.errors import StudyError, unreadable
from posedive_lib.generator.sampling import load
from posedive_lib.intake.images import BROKEN, decode, to_rgb
from posedive_lib.params import Params
from posedive_lib.seeds import rng_for
from posedive_lib.study import mini_world
from posedive_lib.workers import one_thread

POSE = "stand"  # begins the name of the motion of reference photos
SHOWN = 8  # people of each test set to choose from
THRESHOLDS = ("tau_ref", "tau_tar", "epsilon_gen", "tau_gen")


@dataclass(frozen=True)
class Wish:
    """What shall be drawn.

    person: of the mini world (see `Playground.people`), or a photo (H, W, 3) uint8. motion, frame:
    the pose. azimuth, elevation: degrees from the front and from the horizontal. steps, guidance:
    of sampling.
    """

    person: str | np.ndarray
    motion: str
    frame: int = 0
    azimuth: float = 0.0
    elevation: float = 10.0
    steps: int = 4
    guidance: float = 2.0


@dataclass(frozen=True)
class Drawn:
    """What came out; pictures are uint8 (H, W, 3).

    truth: None for a photo. sigma_ref, sigma_tar, sigma_gen: (K,) confidence of the filter's key
    points (Eq. 2). rejected_by: the first of `filtering.RULES` that rejects, "" if kept.
    """

    reference: np.ndarray
    skeleton: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    generated: np.ndarray
    truth: np.ndarray | None
    sigma_ref: np.ndarray
    sigma_tar: np.ndarray
    sigma_gen: np.ndarray
    rejected_by: str
    seconds: float


class Playground:
    """Keeps the models, an OpenGL context and the photos of people that were asked for.

    generator: a saved one, by default that of `paths.phase1`.
    """

    def __init__(self, P: Params, generator: str | None = None):
        folder = generator or P.paths.phase1
        if folder is None:
            raise StudyError("paths.phase1 is null: name a saved generator, or its folder there.")
        self.limits, self.size = P.augment, (P.image.width, P.image.height)
        self.generator = load(folder, sampling=P.generator.sampling)
        self.estimator = PoseEstimator(P.paths.pose_estimator)
        self.renderer = rendering_of(P).renderer()
        self.photographer = mini_world.photographer(P)
        self.cameras = mini_world.cameras(P, "market1501")
        self.poses = load_poses(P.paths.motions)
        self.table = mini_world.some_people(P, SHOWN).set_index("person", drop=False)
        self._reference = lru_cache(256)(self._photograph_reference)
        self._sigma = lru_cache(256)(self._estimate_reference)

    @property
    def people(self) -> dict[str, str]:
        """What each person looks like, in words -> name."""
        texts = self.table["description"].str.removeprefix("a photo of a person from the front ")
        return dict(zip(texts.str.rstrip("."), self.table["person"], strict=True))

    @property
    def motions(self) -> dict[str, int]:
        """Motion -> its number of frames."""
        return dict(Counter(self.poses.name.tolist()))

    def photo(self, content: bytes) -> np.ndarray:
        """A photo of one's own, from the bytes of an image file, cut to the study's shape."""
        try:
            image = to_rgb(decode(content))
        except BROKEN as error:
            raise unreadable(
                "The photo", error, "is not a readable image", "take another"
            ) from None
        return np.asarray(ImageOps.fit(image, self.size))

    def draw(self, wish: Wish) -> Drawn:
        """Render the conditions, draw the person in them, and judge the image (Eq. 2-6)."""
        start = time.perf_counter()
        row = self._row(wish.motion, wish.frame)
        tilt, body_pose = self.poses.root_tilt[row], self.poses.body_pose[row]
        view = wish.azimuth, wish.elevation
        betas, reference = self._who(wish.person)
        maps = self.renderer.draw(*self.renderer.place(tilt, body_pose, betas, *view)[2:])
        # Two threads save little on one image, and wait long for each other on a busy machine.
        with one_thread():
            generated = self.generator.generate(
                reference[None],
                [0],
                maps.skeleton[None],
                maps.depth[None],
                maps.normals[None],
                [0],
                steps=wish.steps,
                guidance=wish.guidance,
                progress=False,
            )[0]
            sigma = self._estimate(np.stack([maps.neutral, generated]))
            sigma_ref = self._sigma(reference.tobytes(), reference.shape)
        rule = filtering.first_rule(
            sigma[1:],
            sigma[:1],
            sigma_ref[None],
            **{name: getattr(self.limits, name) for name in THRESHOLDS},
        )
        truth = None
        if isinstance(wish.person, str):
            truth = self._photograph(wish.person, tilt, body_pose, view)
        return Drawn(
            reference,
            maps.skeleton,
            np.repeat(maps.depth, 3, axis=2),
            maps.normals,
            generated,
            truth,
            sigma_ref,
            sigma[0],
            sigma[1],
            str(rule[0]),
            time.perf_counter() - start,
        )

    def _row(self, motion: str, frame: int) -> int:
        rows = np.flatnonzero(self.poses.name == motion)
        if not len(rows) or not 0 <= frame < len(rows):
            raise StudyError(
                f"There is no frame {frame} of a motion {motion!r}: choose from "
                f"{', '.join(f'{name} (0-{count - 1})' for name, count in self.motions.items())}."
            )
        return int(rows[frame])

    def _who(self, person: str | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shape (10,) and reference photo (H, W, 3); a photo tells no shape, so it is the mean."""
        if not isinstance(person, str):
            return np.zeros(10), person
        if person not in self.table.index:
            raise StudyError(f"There is no person {person!r}: choose one of `people`.")
        return mini_world.shape(self._row_of(person)), self._reference(person)

    def _row_of(self, person: str) -> dict[str, Any]:
        return {str(column): cell for column, cell in self.table.loc[person].items()}

    def _photograph_reference(self, person: str) -> np.ndarray:
        """The person standing, from the front."""
        names = [name for name in self.motions if name.startswith(POSE)]
        row = self._row(names[0] if names else next(iter(self.motions)), 0)
        return self._photograph(
            person, self.poses.root_tilt[row], self.poses.body_pose[row], (0.0, 5.0)
        )

    def _photograph(
        self, person: str, tilt: np.ndarray, body_pose: np.ndarray, view: tuple[float, float]
    ) -> np.ndarray:
        """A true photo, with the background that this person always has."""
        who = self._row_of(person)
        rng = rng_for("playground", person)
        camera = self.cameras[int(rng.integers(len(self.cameras)))]
        placed = self.photographer.place(who, tilt, body_pose, *view)
        image: np.ndarray = self.photographer.shoot(who, body_pose, *placed, camera, rng)["image"]
        return image

    def _estimate(self, images: np.ndarray) -> np.ndarray:
        """Confidence (N, K) of the filter's key points (Eq. 2)."""
        return self.estimator.estimate(images)[1][:, keypoint_subset(self.limits.keypoints)]

    def _estimate_reference(self, content: bytes, shape: tuple[int, ...]) -> np.ndarray:
        return self._estimate(np.frombuffer(content, np.uint8).reshape(1, *shape).copy())[0]
