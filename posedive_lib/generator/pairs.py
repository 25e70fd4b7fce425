"""Training pairs: one person in two images (§B)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from posedive_lib.errors import StudyError
from posedive_lib.generator.arrays import TrainingArrays

if TYPE_CHECKING:
    from posedive_lib.params import PairParams


@dataclass
class Pairs:
    """Who may be drawn from whom; images are rows of the training arrays.

    targets (M,); partners[m]: images that may be the reference of targets[m].
    No image is flipped: the skeleton's colours tell left from right.
    """

    targets: np.ndarray
    partners: list[np.ndarray]
    params: PairParams

    @classmethod
    def of(cls, data: TrainingArrays, params: PairParams) -> Pairs:
        """All images with a partner; StudyError if there are none.

        Eq. 3 and 4 enter by `reference_ok` and `target_ok`.
        """
        if params.largest_turn < 180.0 and not np.isfinite(np.asarray(data.azimuth)).all():
            raise StudyError(
                "generator.pairs.largest_turn needs the azimuth of every image: set it to 180."
            )
        targets, partners = [], []
        rows = np.argsort(data.pid, kind="stable")
        starts = np.flatnonzero(np.diff(data.pid[rows])) + 1
        for same in np.split(rows, starts):  # images of one person, ascending
            usable = same[np.asarray(data.reference_ok)[same]]
            for index in same[np.asarray(data.target_ok)[same]]:
                found = _preferred(data, index, usable[usable != index], params)
                if len(found):
                    targets.append(index)
                    partners.append(found)
        if not targets:
            raise StudyError(
                "No identity has two usable images: training the generator needs pairs; "
                "check pid, tau_ref, tau_tar and generator.pairs."
            )
        order = np.argsort(targets)
        return cls(np.array(targets)[order], [partners[m] for m in order], params)

    def draw(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Image indices (size,) of targets and of their references.

        Targets are uniform over images, references over a target's partners. With
        `targets_per_reference` K, of which size is a multiple, each K pairs in a row share one
        reference, and their targets are uniform over the images that it is a partner of. With
        probability `same_photo` a pair shows one photo twice.
        """
        count = self.params.targets_per_reference
        chosen = rng.integers(len(self.targets), size=size // count)
        partners = [self.partners[m] for m in chosen]
        references = np.array([images[rng.integers(len(images))] for images in partners])
        targets = self.targets[chosen]
        if count > 1:
            others = [self._targets_of[image] for image in references]
            more = [images[rng.integers(len(images), size=count - 1)] for images in others]
            targets = np.concatenate([targets[:, None], np.array(more)], axis=1).ravel()
            references = references.repeat(count)
        if self.params.same_photo:
            same = rng.random(size) < self.params.same_photo
            targets, references = _same_photo(targets, references, same, count)
        return targets, references

    @cached_property
    def _targets_of(self) -> dict[int, np.ndarray]:
        """Reference -> the images that it is a partner of."""
        counts = [len(images) for images in self.partners]
        references, targets = np.concatenate(self.partners), np.repeat(self.targets, counts)
        order = np.argsort(references, kind="stable")
        found, starts = np.unique(references[order], return_index=True)
        return dict(zip(found, np.split(targets[order], starts[1:]), strict=True))


def _preferred(
    data: TrainingArrays, index: int, images: np.ndarray, params: PairParams
) -> np.ndarray:
    """Those of a person's other images that may be the reference of image `index`.

    Within `largest_turn` where azimuths are known; of the preferred camera, if there are any.
    """
    if params.largest_turn < 180.0:
        azimuth = np.asarray(data.azimuth)
        apart = np.abs((azimuth[images] - azimuth[index] + 180.0) % 360.0 - 180.0)
        images = images[apart <= params.largest_turn]
    same_camera = data.camid[images] == data.camid[index]
    wanted = images[same_camera if params.camera == "same" else ~same_camera]
    return wanted if len(wanted) else images


def _same_photo(
    targets: np.ndarray, references: np.ndarray, same: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs with one photo twice where `same` (size,): a reference that several share stays."""
    if count > 1:
        return np.where(same, references, targets), references
    return targets, np.where(same, targets, references)
