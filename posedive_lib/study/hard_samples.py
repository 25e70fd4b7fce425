"""Hard samples (§G): do images in which a bag appeared teach the Re-ID model more than others?

Two arms with equally many images of each identity: one takes all images in which a bag appeared
that the filter kept, the other takes none of them. Both fill up with other kept images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from posedive_lib import datasets
from posedive_lib.augment.candidates import load_bodies
from posedive_lib.augment.selection import select
from posedive_lib.bench.processes import in_processes
from posedive_lib.bench.runs import RunStore
from posedive_lib.digests import code_digest, file_digest
from posedive_lib.errors import StudyError
from posedive_lib.study import mini_world
from posedive_lib.study.candidate_files import candidate_images, load_manifest, store_of

if TYPE_CHECKING:
    from posedive_lib.params import Params

STORE = RunStore("runs/bags")
BLOCK = 128  # images judged in one piece of work


def arms(P: Params, name: str, base: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of `with-bags` and `without-bags`; base: those of `pose-dive`."""
    kept = select(load_manifest(name), P.augment)
    return matched(kept, bag_appeared(P, name, kept), base["pid"].value_counts())


def matched(kept: pd.DataFrame, bag: np.ndarray, counts: pd.Series) -> dict[str, pd.DataFrame]:
    """Rows of both arms, equally many of each identity: at most `counts` (by pid).

    kept: rows that the filter keeps; bag (N,): where a bag appeared. An identity with fewer images
    without a bag than its count gets as many as it has of them, in both arms.
    """
    rows = kept.assign(bag=np.asarray(bag, bool))
    plain = rows[~rows["bag"]]["pid"].value_counts()
    limit = rows["pid"].map(counts).fillna(0).clip(upper=rows["pid"].map(plain).fillna(0))
    rows = rows.assign(limit=limit)

    def first(order: pd.DataFrame) -> pd.DataFrame:
        chosen = order[order.groupby("pid").cumcount() < order["limit"]]
        found = chosen.sort_values(["pid", "index"], ignore_index=True)
        return found.drop(columns=["bag", "limit"])

    hard = rows.sort_values(["pid", "bag", "index"], ascending=[True, False, True])
    easy = rows[~rows["bag"]].sort_values(["pid", "index"])
    return {"with-bags": first(hard), "without-bags": first(easy)}


def bag_appeared(P: Params, name: str, rows: pd.DataFrame) -> np.ndarray:
    """(N,) bool: whether each of a data set's candidates shows a bag that its person does not have.

    By `failures.appeared`; False for people with a bag, and where none could be seen. StudyError
    without the truth.
    """
    train = datasets.of_study(name, P.paths).train
    if not mini_world.has_people(train):
        raise StudyError(
            f"{name} has no truth.csv, so nobody knows who has a bag: leave with-bags and "
            "without-bags out of study.arms."
        )
    parts = [rows.iloc[first : first + BLOCK] for first in range(0, len(rows), BLOCK)]
    waiting = [(P.alone(), name, part) for part in parts if STORE.get(_spec(P, name, part)) is None]
    if waiting:
        in_processes(judge, waiting, P.study.workers, scheduler=P.scale.scheduler)
    found = [judge(P, name, part) for part in parts]
    return np.concatenate([np.zeros(0, bool), *(np.array(part, bool) for part in found)])


def judge(P: Params, name: str, rows: pd.DataFrame) -> list[bool]:
    """`bag_appeared` of a block of rows, once."""
    return STORE.get_or_run(_spec(P, name, rows), lambda: _judged(P, name, rows))


def _judged(P: Params, name: str, rows: pd.DataFrame) -> list[bool]:
    from posedive_lib.study import failure_samples, failures

    train = datasets.of_study(name, P.paths).train.set_index("rel")
    table = rows.assign(dataset=name, person=train["person"].loc[rows["reference"]].to_numpy())
    bagless = mini_world.people(P, table["person"].tolist())["bag"].to_numpy() == "none"
    found = np.zeros(len(rows), bool)
    if bagless.any():
        table = table[bagless].reset_index(drop=True)
        studio = failure_samples.Studio(P, table, load_bodies(table, store_of(name))[0])
        scores = failures.bag_scores(studio, candidate_images(name, table, P.image))
        found[bagless] = scores["bag appeared"] > 0
    return found.tolist()


def _spec(P: Params, name: str, rows: pd.DataFrame) -> dict:
    """All that decides the judgement; a candidate's path holds a digest of its pixels."""
    folder = datasets.of_study(name, P.paths).folder
    return {
        "name": name,
        "images": rows["path"].tolist(),
        "truth": [file_digest(folder / "truth.csv"), file_digest(folder / "people.csv")],
        "code": code_digest(__name__),
        **P.pick("image", "conditions"),
    }
