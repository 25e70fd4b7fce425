"""The frozen study in one fresh world: from its people to its Re-ID runs.

    python -m posedive_lib.study.replication_world

Runs in a folder of its own that holds the parameters of its world, `params.yaml`. Everything that
it makes lies there, so a stopped world goes on where it was.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from posedive_lib import params
from posedive_lib.bench.runs import write_text
from posedive_lib.bench.tables import to_csv
from posedive_lib.datasets.splits import write_msmt17_s
from posedive_lib.errors import command
from posedive_lib.study import design, generation, mini_world, phase2, reid_jobs
from posedive_lib.workers import worker_pool

if TYPE_CHECKING:
    from posedive_lib.params import Params

RESULT = Path("result.csv")
MARGIN = 45.0  # degrees from the front: where the test of (Cam) begins with params/paper.yaml
COLUMNS = ["dataset", "arm", "mAP", "rank1", "n_real", "n_generated", "n_valid"]


def results(P: Params) -> pd.DataFrame:
    """One row per data set and arm (COLUMNS, mAP and rank1 in percent), of one Re-ID run each.

    The models of MSMT17-S (Cam) are also tested beyond MARGIN: the data set `msmt17-s-cam-45`.

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
    table, records = reid_jobs.many(P, design.jobs(P))
    return pd.DataFrame([*table.to_dict("records"), *beyond_margin(records)])[COLUMNS]


def beyond_margin(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of COLUMNS: what the same models find among photos beyond MARGIN."""
    rows = []
    for record in records:
        for border, (mean, first, queries) in (record["borders"] or {}).items():
            if float(border) == MARGIN:
                name = f"{record['dataset']}-{border}"
                found = {"dataset": name, "mAP": mean, "rank1": first, "n_valid": queries}
                rows.append(record | found)
    return rows


@command()
def main() -> int:
    """Write `result.csv`. Returns the exit status."""
    write_text(RESULT, to_csv(results(params.load("params.yaml"))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
