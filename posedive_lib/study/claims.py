"""What the paper says, what this study measured, and the verdict, for every claim (§A, D–G, I).

    python -m posedive_lib.study.claims

The claims are listed in `claims.yaml` and judged by the rules in `claim_rules.py` and
`claim_images.py`. The command reads the reports' tables and the data of two figures. It writes
tables/claims.csv, tables/choices.csv and claims.md there, which shows both. A missing table is an
error. A claim is "not tested" where the parameters leave out the arm or the level that it needs,
and the table names it. No claim is left blank.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from posedive_lib import params
from posedive_lib.bench import reports
from posedive_lib.bench.runs import write_text
from posedive_lib.bench.statistics import ALPHA
from posedive_lib.bench.tables import rendered, to_csv, to_markdown
from posedive_lib.errors import command
from posedive_lib.study import claim_images, claim_rules  # noqa: F401 (claim_images fills RULES)
from posedive_lib.study.choices import choices
from posedive_lib.study.claim_registry import RULES
from posedive_lib.study.evidence import Evidence, NotCovered
from posedive_lib.study.verdicts import HERE, VERDICTS

if TYPE_CHECKING:
    from posedive_lib.study.verdicts import Finding

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, the rule that judges it, and the tables that the rule reads.

    published: a result on a real data set. A rendered one can neither confirm nor contradict it, so
    that the verdict says whether it is the same here.
    """

    section: str
    paper: str
    sources: tuple[str, ...]
    rule: str
    arguments: dict[str, Any]
    published: bool

    def judge(self, evidence: Evidence) -> Finding:
        """What was measured, in words, and the verdict."""
        try:
            measured, verdict = RULES[self.rule](evidence, **self.arguments)
        except NotCovered as reason:
            measured, verdict = str(reason), "not tested"
        if self.published and rendered(evidence.reports):
            verdict = HERE.get(verdict, verdict)
        assert verdict in VERDICTS and measured.strip()
        return measured, verdict


def _listed() -> tuple[Claim, ...]:
    text = (FOLDER / "claims.yaml").read_text(encoding="utf-8")
    return tuple(
        Claim(
            c["section"],
            c["paper"],
            tuple(c["sources"]),
            c["rule"],
            c.get("with", {}),
            c.get("published", False),
        )
        for c in yaml.safe_load(text)
    )


CLAIMS = _listed()
FIRST = ("main paper", "§A")  # sections of the first short table
# What the page says of the data: of other ones than the mini world's, and of the mini world's.
ABOUT = (
    "These are results on the data sets of this run.",
    "These are results in the mini world, in the one world of the default study. They say how the "
    "method behaves where everything is known, not what it does on MSMT17. The "
    "[README](../README.md#what-came-out) says what came out in new worlds, which no choice had "
    "seen.",
)
OURS = (
    "It is compared with ours on the set of that name.",
    "It is compared with ours on the mini world's set of that name: a rendered set cannot "
    "contradict a real one.",
)


def claims(where: Path, *, seed: int) -> pd.DataFrame:
    """Columns section, paper says, we measured, verdict, sources; one row per claim."""
    evidence, rows = Evidence(where, seed), []
    for claim in CLAIMS:
        measured, verdict = claim.judge(evidence)
        rows.append(
            {
                "section": claim.section,
                "paper says": claim.paper,
                "we measured": measured,
                "verdict": verdict,
                "sources": " ".join(f"{source}.csv" for source in claim.sources),
            }
        )
    return pd.DataFrame(rows)


def correction(evidence: Evidence) -> str:
    """What the corrections over the comparisons with real images leave, in three sentences."""
    table = evidence.rows("tables/comparison", metric="mAP")
    passed, after = table[table["p_joint"] <= ALPHA], table["smallest_p_holm"].min()
    counts = f"gains {(passed['difference'] > 0).sum()}, losses {(passed['difference'] < 0).sum()}"
    holm = "none can pass" if after > ALPHA else f"{(table['p_holm'] <= ALPHA).sum()} pass"
    return (
        f"Of the {len(table)} comparisons with real images in mAP these are significant after it "
        f"at {ALPHA:g}: {counts}. They are not independent: all arms of a data set are compared "
        "with the same runs on real images. By Holm's correction, which is blind to that, "
        f"{holm}: with {table['seeds'].max()} seeds its p is {after:.3f} at best."
    )


def page(table: pd.DataFrame, open_choices: pd.DataFrame, evidence: Evidence) -> str:
    """Both tables as Markdown with what the verdicts mean."""
    mini_world = rendered(evidence.reports)
    short = table[["section", "verdict", "paper says"]]
    first = short["section"].isin(FIRST)  # no table of more than 12 rows in the reading flow
    parts = [to_markdown(short[rows]) for rows in (first, ~first)]
    return (
        (FOLDER / "claims_page.md")
        .read_text(encoding="utf-8")
        .format(
            about=fill(ABOUT[mini_world], 100, break_on_hyphens=False),
            ours=fill(OURS[mini_world], 98, subsequent_indent="  "),
            same=claim_rules.SAME,
            correction=fill(correction(evidence), 100, break_on_hyphens=False),
            verdicts="\n\n".join(parts),
            count=len(table),
            chosen=len(open_choices),
            claims=to_markdown(table),
            choices=to_markdown(open_choices),
        )
    )


@command()
def main(params_file: str = "params.yaml") -> int:
    """Write the three files. Returns the exit status."""
    P = params.load(params_file)
    where = reports.folder(params_file)
    table, open_choices, evidence = claims(where, seed=P.seed), choices(P), Evidence(where, P.seed)
    write_text(where / "tables/claims.csv", to_csv(table))
    write_text(where / "tables/choices.csv", to_csv(open_choices))
    write_text(where / "claims.md", page(table, open_choices, evidence))
    return 0


if __name__ == "__main__":
    sys.exit(main())
