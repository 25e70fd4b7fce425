"""How far the answer of the fresh worlds depends on choices of the analysis.

Written after the results were known. No verdict goes by it: that of a primary comparison is the one
of `replication_gains`, which was frozen before.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd

from posedive_lib.bench.statistics import verdict
from posedive_lib.study.comparison import against, between, oracle_shares
from posedive_lib.study.replication_gains import PAIRS, PRIMARY, PRIMARY_DATASETS

FROZEN = "as frozen"
FEWER = 6  # worlds: with fewer no sign-flip test reaches 0.05
COLUMNS = ["dataset", "rule", "worlds", "difference", "ci_low", "ci_high", "p", "verdict"]


def checks(table: pd.DataFrame) -> pd.DataFrame:
    """The primary differences in mAP by the frozen rule, and by others: COLUMNS.

    table: a row per world, data set and arm. Rules: Holm's correction instead of the joint one;
    means that are not divided by their root mean square; the first `FEWER` worlds alone; a family
    of all pairs of arms instead of the two. The last one also has (Cam) tested beyond 45°.
    """
    runs = table.rename(columns={"world": "seed"})
    few = runs[runs["seed"].isin(sorted(set(runs["seed"]))[:FEWER])]
    own = _primary(runs)
    holm = own.assign(p=own["p_holm"], smallest_p=own["smallest_p_holm"])
    parts = {
        FROZEN: own.assign(p=own["p_joint"]),
        "Holm's correction": holm,
        "plain means": own.assign(p=plain_p(_differences(runs, own))),
        f"first {FEWER} worlds": _primary(few).assign(p=lambda rows: rows["p_joint"]),
        "family of all pairs": _among_all(runs),
        f"first {FEWER} worlds, family of all pairs": _among_all(few),
    }
    rows = []
    for rule, part in parts.items():
        for row in part.to_dict("records"):
            said = verdict(row["ci_low"], row["ci_high"], row["p"], row["smallest_p"])
            rows.append({**row, "rule": rule, "worlds": row["seeds"], "verdict": said})
    return pd.DataFrame(rows, columns=COLUMNS)


def plain_p(differences: np.ndarray) -> np.ndarray:
    """(m,) sign-flip p of m comparisons, corrected for all, of means that are not divided.

    differences: (n, m) by world and comparison. All 2^n patterns of signs are tried.
    """
    signs = np.array(list(product((1.0, -1.0), repeat=len(differences))))  # (2^n, n)
    largest = np.abs(signs @ differences).max(axis=1, initial=0.0)
    reached = largest[:, None] >= np.abs(differences.sum(axis=0)) - 1e-9
    share: np.ndarray = reached.mean(axis=0)
    return share


def shown(table: pd.DataFrame, *, divided: bool) -> dict[str, int]:
    """How many differences in mAP are a gain or a loss: of arms from `real`, and of PAIRS.

    divided: by the frozen statistic, else by plain means. All pairs are one family.
    """
    runs, counts = table.rename(columns={"world": "seed"}), {}
    families = {
        "against real": against(runs, "real", seed=0, metrics=["mAP"]),
        "pairs": between(runs, PAIRS, seed=0, metrics=["mAP"]),
    }
    for name, found in families.items():
        p = found["p_joint"] if divided else plain_p(_differences(runs, found))
        columns = found[["ci_low", "ci_high"]].assign(p=p, least=found["smallest_p"])
        words = [verdict(*row) for row in columns.itertuples(index=False)]
        counts[name] = sum(word in ("gain", "loss") for word in words)
    return counts


def shares(table: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """`oracle_shares` over worlds: what of the true photos' effect generated images have.

    found: rows of `replication_gains.gains`.
    """
    runs = table.rename(columns={"world": "seed"})
    return oracle_shares(runs, found).rename(columns={"seeds": "worlds"})


def _primary(runs: pd.DataFrame) -> pd.DataFrame:
    first = runs[runs["dataset"].isin(PRIMARY_DATASETS)]
    return between(first, [PRIMARY], seed=0, metrics=["mAP"])


def _among_all(runs: pd.DataFrame) -> pd.DataFrame:
    """The primary pair on each split of MSMT17, corrected for PAIRS on all sets."""
    found = between(runs, PAIRS, seed=0, metrics=["mAP"])
    pair = (found["arm"] == PRIMARY[0]) & (found["baseline"] == PRIMARY[1])
    found = found[pair & found["dataset"].str.startswith("msmt17-s-")]
    return found.assign(p=found["p_joint"])


def _differences(runs: pd.DataFrame, found: pd.DataFrame) -> np.ndarray:
    """(n, m) differences in mAP by world, for the m rows of `found`; m may be 0."""
    mAP = runs.pivot(index="seed", columns=["dataset", "arm"], values="mAP")
    differences = np.empty((len(mAP), len(found)))
    columns = zip(found["dataset"], found["arm"], found["baseline"], strict=True)
    for number, (name, arm, baseline) in enumerate(columns):
        differences[:, number] = mAP[name, arm] - mAP[name, baseline]
    return differences
