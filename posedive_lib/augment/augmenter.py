"""The one way from a data set to its candidates (§B, §E): references, plan, images, scores."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from posedive_lib.augment import candidates, diversify
from posedive_lib.augment.confidence import PoseEstimator
from posedive_lib.augment.scoring import confidence_of
from posedive_lib.augment.selection import usable_references
from posedive_lib.augment.shards import Maker, Painter
from posedive_lib.augment.targets import rendering_of
from posedive_lib.augment.training_set import Training
from posedive_lib.body.poses import PoseSource, load_poses
from posedive_lib.cluster import elsewhere, spread
from posedive_lib.digests import code_digest, file_digest, folder_digest
from posedive_lib.model_digests import model_digest
from posedive_lib.weights import local_folder

if TYPE_CHECKING:
    from posedive_lib.datasets import ReIDDataset
    from posedive_lib.params import Params

# What renders, scores and writes a candidate; its painter has a key of its own.
WORK = "posedive_lib.augment.shards", "posedive_lib.augment.confidence"


@dataclass(frozen=True)
class Augmenter:
    """A data set with all that its candidates are made of, by the parameters.

    sigma: what `confidence` gives, where it is known.
    """

    params: Params
    dataset: ReIDDataset
    training: Training
    source: PoseSource
    estimator: PoseEstimator
    sigma: np.ndarray | None = None

    @classmethod
    def of(cls, P: Params, dataset: ReIDDataset) -> Augmenter:
        """Load bodies, poses and pose estimator; StudyError where one is missing."""
        estimator = PoseEstimator(local_folder(P.paths.pose_estimator))
        return cls(P, dataset, Training.of(dataset), load_poses(P.paths.motions), estimator)

    def confidence(self, progress: str | None = None) -> np.ndarray:
        """σ (N, 17) of the training images (Eq. 2). progress: a bar's label."""
        size = self.params.image.height, self.params.image.width
        files, scheduler = self.dataset.train["path"].tolist(), self.params.scale.scheduler
        return confidence_of(self.estimator, files, *size, scheduler=scheduler, progress=progress)

    def references(self, progress: str | None = None) -> pd.DataFrame:
        """Eq. 3: the training images that may serve as references (`usable_references`)."""
        a, train = self.params.augment, self.dataset.train
        sigma = self.confidence(progress) if self.sigma is None else self.sigma
        return usable_references(train, sigma, tau_ref=a.tau_ref, keypoints=a.keypoints)

    def plan(self, arm: str, per_pid: int, progress: str | None = None) -> pd.DataFrame:
        """`per_pid` candidates per identity of an arm; arms share references and noise by row."""
        a = self.params.augment
        return diversify.plan(
            self.dataset.name,
            self.references(progress),
            self.training,
            self.source,
            n_per_pid=per_pid,
            azimuth=a.azimuth,
            elevation=a.elevation,
            seed=self.params.seed,
            **diversify.policies_of(arm, a.policy),
        )

    def make(
        self,
        plan: pd.DataFrame,
        painter: Painter,
        out: str | Path,
        *,
        images_per_pid: int | pd.Series | None = None,
        progress: bool = True,
    ) -> pd.DataFrame:
        """Make what `out` lacks of the plan's candidates; see `candidates.generate`."""
        scheduler = self.params.scale.scheduler
        maker = Maker(
            self.dataset.train,
            self.training,
            self.source,
            self.estimator,
            painter,
            rendering_of(self.params),
        )
        return candidates.generate(
            plan,
            maker,
            self.params.augment,
            out,
            inputs=self._inputs(),
            images_per_pid=images_per_pid,
            spread=partial(spread, scheduler) if elsewhere(scheduler) else None,
            progress=progress,
        )

    def _inputs(self) -> str:
        """Digests of all files and code that decide a candidate, but for its painter's."""
        paths = self.params.paths
        return json.dumps(
            {
                "photos": [file_digest(path) for path in self.dataset.train["path"]],
                "bodies": file_digest(self.dataset.bodies),
                "body": file_digest(paths.body),
                "motions": folder_digest(paths.motions),
                "pose estimator": model_digest(paths.pose_estimator),
                "code": code_digest(*WORK),
            }
        )
