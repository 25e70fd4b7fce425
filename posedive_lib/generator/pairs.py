"""Training pairs: one person in two images, from different cameras where possible."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posedive_lib.errors import StudyError
from posedive_lib.generator.arrays import TrainingArrays


@dataclass
class Pairs:
    """targets (M,) image indices; partners[m]: images that may be the reference of targets[m].

    No image is flipped: the skeleton's colours tell left from right.
    """

    targets: np.ndarray
    partners: list[np.ndarray]

    @classmethod
    def of(cls, data: TrainingArrays) -> Pairs:
        """All images with a partner; StudyError if there are none.

        Eq. 3 and 4 enter by `reference_ok` and `target_ok`.
        """
        targets, partners = [], []
        for index in np.flatnonzero(np.asarray(data.target_ok)):
            same = np.flatnonzero((data.pid == data.pid[index]) & data.reference_ok)
            same = same[same != index]
            other_camera = same[data.camid[same] != data.camid[index]]
            if len(same):
                targets.append(index)
                partners.append(other_camera if len(other_camera) else same)
        if not targets:
            raise StudyError(
                "No identity has two usable images: training the generator needs pairs; "
                "check pid, tau_ref and tau_tar."
            )
        return cls(np.array(targets), partners)

    def draw(
        self, rng: np.random.Generator, size: int, same_photo: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Image indices of `size` targets (uniform over images) and of their references.

        A reference is a partner (uniform), or with probability `same_photo` the target itself.
        """
        chosen = rng.integers(len(self.targets), size=size)
        partners = [self.partners[m] for m in chosen]
        references = np.array([images[rng.integers(len(images))] for images in partners])
        targets = self.targets[chosen]
        if same_photo:
            references = np.where(rng.random(size) < same_photo, targets, references)
        return targets, references
