"""The frozen study in one fresh world: from its people to its Re-ID runs.

    python -m posedive_lib.study.replication_world

Runs in a folder of its own that holds the parameters of its world, `params.yaml`. Everything that
it makes lies there, so a stopped world goes on where it was.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from posedive_lib import params
from posedive_lib.bench.runs import write_text
from posedive_lib.bench.tables import to_csv
from posedive_lib.datasets.splits import write_msmt17_s
from posedive_lib.errors import command
from posedive_lib.study import design, generation, mini_world, phase2, reid_jobs
from posedive_lib.workers import worker_pool

if TYPE_CHECKING:
    import pandas as pd

    from posedive_lib.params import Params

RESULT = Path("result.csv")
COLUMNS = ["dataset", "arm", "mAP", "rank1", "n_real", "n_generated", "n_valid"]


def results(P: Params) -> pd.DataFrame:
    """One row per data set and arm (COLUMNS, mAP and rank1 in percent), of one Re-ID run each.

    Makes the world, its splits, the generator and the candidates on the way.
    """
    mini_world.make_world(P)
    if any(name.startswith("msmt17-s-") for name in P.study.datasets):
        write_msmt17_s(
            P.paths.datasets, P.splits, P.paths.body, P.paths.splits, bodies=P.paths.bodies
        )
    phase2.train_generator(P, phase2.training_images(P))
    with worker_pool(P.world.workers):
        for name in P.study.datasets:
            if design.arms(P, name):
                # What is kept first of an identity does not depend on what would come later.
                generation.make_candidates(P, name, enough=P.augment.images_per_pid)
            for arm in design.generated_arms(P, name):
                generation.make_candidates(P, name, arm)
    return reid_jobs.many(P, design.jobs(P))[0][COLUMNS]


@command()
def main() -> int:
    """Write `result.csv`. Returns the exit status."""
    write_text(RESULT, to_csv(results(params.load("params.yaml"))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
