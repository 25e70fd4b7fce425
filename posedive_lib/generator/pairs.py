"""Training pairs: reference and target show one person in different images, in different cameras where possible."""

from dataclasses import dataclass

import numpy as np

from posedive_lib.errors import StudyError
from posedive_lib.generator.arrays import TrainingArrays


@dataclass
class Pairs:
    """targets (M,) image indices; partners[m]: the images that may serve as reference of targets[m].

    No image is flipped: the skeleton's colours tell left from right, and a flip would contradict them.
    """

    targets: np.ndarray
    partners: list[np.ndarray]

    @classmethod
    def of(cls, data: TrainingArrays) -> "Pairs":
        """All images with a partner; StudyError if there are none. Eq. 3 and 4 enter by `reference_ok` and `target_ok`."""
        targets, partners = [], []
        for index in np.flatnonzero(data.target_ok):
            same = np.flatnonzero((data.pid == data.pid[index]) & data.reference_ok)
            same = same[same != index]
            other_camera = same[data.camid[same] != data.camid[index]]
            if len(same):
                targets.append(index)
                partners.append(other_camera if len(other_camera) else same)
        if not targets:
            raise StudyError(
                "No identity has two usable images: training the generator needs pairs; check pid, tau_ref and tau_tar."
            )
        return cls(np.array(targets), partners)

    def draw(
        self, rng: np.random.Generator, size: int, same_photo: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Image indices of `size` targets (uniform over images) and of their references: partners (uniform), or with probability
        `same_photo` the target itself."""
        chosen = rng.integers(len(self.targets), size=size)
        references = np.array(
            [self.partners[m][rng.integers(len(self.partners[m]))] for m in chosen]
        )
        return self.targets[chosen], np.where(
            rng.random(size) < same_photo, self.targets[chosen], references
        ) if same_photo else references
