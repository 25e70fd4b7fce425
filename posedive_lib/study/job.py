"""What is asked of one Re-ID run of the study."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd


@dataclass(frozen=True, eq=False)
class Job:
    """One Re-ID run that is wanted.

    rows: generated images to add to the real ones. The arm `repeat` takes only their counts.
    images_per_pid, threshold: what the table of runs says of the rows; they change no result.
    model: None means `reid.model`.
    by_azimuth: also measure mAP for every pair of query and gallery azimuth sectors.
    longer: how many times as long as `reid` says the run trains.
    borders: degrees; also test on the photos alone whose azimuth is beyond each of them.
    drawn: .npy file with the images (N, H, W, 3) of the rows; None means the candidates' archives.
    """

    experiment: str
    dataset: str
    arm: str
    seed: int
    rows: pd.DataFrame | None = None
    images_per_pid: int | None = None
    threshold: float | None = None
    model: str | None = None
    by_azimuth: bool = False
    longer: int = 1
    borders: tuple[float, ...] = ()
    drawn: Path | None = None

    @property
    def n_generated(self) -> int:
        """How many generated images the run adds."""
        return 0 if self.rows is None or self.arm == "repeat" else len(self.rows)
