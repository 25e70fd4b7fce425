"""What a training set shows: the bodies of its people and the viewpoints of its cameras (§B)."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from posedive_lib.body.camera import viewpoint
from posedive_lib.body.table import BodyTable
from posedive_lib.datasets.loading import source_of
from posedive_lib.errors import StudyError

if TYPE_CHECKING:
    from posedive_lib.datasets import ReIDDataset


@dataclass(frozen=True)
class Training:
    """Bodies and viewpoints of images, row by row. azimuth and elevation (N,) in degrees."""

    bodies: BodyTable
    azimuth: np.ndarray
    elevation: np.ndarray

    def __post_init__(self) -> None:
        if not len(self.bodies) == len(self.azimuth) == len(self.elevation) > 0:
            raise StudyError(
                "A training set needs a body, an azimuth and an elevation for every image, "
                "and at least one image"
            )

    @classmethod
    def seen(cls, bodies: BodyTable) -> Training:
        """The bodies with the viewpoints from which their own cameras see them."""
        return cls(bodies, *viewpoint(bodies.global_orient, bodies.cam_t))

    @classmethod
    def of(cls, dataset: ReIDDataset) -> Training:
        """The training images of a data set, by its bodies; StudyError without."""
        path = dataset.bodies
        if not path.is_file():
            words = [source_of(dataset.name), str(dataset.root)]
            if path.parent != dataset.folder:
                words += ["--bodies", str(path.parent)]
            raise StudyError(
                f"{path} is missing: fit SMPL to the images first, "
                f"with `python -m posedive_lib.own_data.fit {shlex.join(words)}`."
            )
        return cls.seen(BodyTable.load(path).select(dataset.train["rel"].tolist()))
