"""What a reviewer asks first, answered in a line each from the tables: docs/answers.md.

`python -m posedive_lib.study.summary` writes the answers between the page's markers. Every word of
judgement comes from a verdict of the one rule (docs/primary_analysis.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from posedive_lib.bench.statistics import NO_EFFECT, contains_zero
from posedive_lib.bench.tables import span
from posedive_lib.study.names import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from posedive_lib.study.sentences import Tables

GENERATORS_LOSS = "cuhk03-labeled", "cuhk03-detected"  # where earlier designs lost
NOT_RUN = "Not run in this study."


def answers(tables: Tables) -> list[str]:
    """Questions with their answers as items of a Markdown list."""
    asked = {
        "Does diversity beat volume in worlds that nobody tuned on?": fresh_worlds(tables),
        "Do generated images harm on CUHK03, and is it the generator's doing?": loss(tables),
        "Does the filter matter?": filtering(tables),
        "Does a second Re-ID model agree?": second_model(tables),
    }
    return [f"* **{question}** {answer}" for question, answer in asked.items()]


def told(row: pd.Series, where: bool = True) -> str:
    """ "+2.5 [+1.7, +3.4] on MSMT17-S (Cam) (gain)"."""
    place = f" on {NAMES[row['dataset']]}" if where else ""
    return f"{span(row)}{place} ({row['verdict']})"


def verdict(words: Iterable[str], yes: str = "gain", no: str = "loss") -> str:
    """What verdicts say together; a yes needs as much as a no (docs/primary_analysis.md)."""
    found = list(words)
    if not found:
        return NOT_RUN
    if {yes, no} <= set(found):
        return "Mixed."
    for word, all_of_them, some in ((yes, "Yes.", "In part."), (no, "No.", "In part against it.")):
        if word in found:
            return all_of_them if set(found) == {word} else some
    return "Not shown."


def rows(tables: Tables, table: str, **wanted: str) -> pd.DataFrame:
    """Rows in mAP; none where the table is missing."""
    if not tables.has(table):
        return pd.DataFrame()
    return tables.rows(table, metric="mAP", **wanted)


def fresh_worlds(tables: Tables) -> str:
    """The primary comparisons of the replication."""
    found = rows(tables, "replication_gains", family="primary")
    if found.empty:
        return "Not known yet: `make replication` has not been run to its end."
    parts = ", ".join(told(row) for _, row in found.iterrows())
    said = verdict(found["verdict"])
    if said == "Yes.":
        said = "Yes, on the two splits that were made for this question."
    text = f"{said} `pose-dive` against `same-distribution` in mAP, over new worlds: {parts}."
    pair = {"arm": "pose-dive", "baseline": "same-distribution"}
    others = rows(tables, "replication_gains", family="secondary", **pair)
    if elsewhere := _on_named_sets(others):
        text += f" Elsewhere: {elsewhere}."
    plain = rows(tables, "replication_gains", arm="same-distribution", baseline="real")
    if gains := _on_named_sets(plain[plain["verdict"] == "gain"]):
        text += f" Images in the old poses and views gain over real ones too: {gains}."
    return f"{text} {_by_other_rules(tables)}".strip()


def _on_named_sets(found: pd.DataFrame) -> str:
    """`told` of each row; (Cam) beyond 45° is no set of its own, and is left out."""
    return ", ".join(told(row) for _, row in found.iterrows() if row["dataset"] in NAMES)


def _by_other_rules(tables: Tables) -> str:
    """Where other rules than the frozen one show nothing."""
    if not tables.has("replication_checks"):
        return ""
    table = tables.rows("replication_checks", verdict=NO_EFFECT)
    said = [
        f"on {NAMES[str(dataset)]} by these rules: "
        + ", ".join(f"*{row['rule']}* (p {row['p']:.3f})" for _, row in own.iterrows())
        for dataset, own in table[table["dataset"].isin(NAMES)].groupby("dataset", sort=False)
    ]
    return f"No effect is shown {'; '.join(said)}." if said else ""


def loss(tables: Tables) -> str:
    """Generated against true photos in the same poses and views, where earlier designs lost."""
    said = _loss_in_new_worlds(tables)
    for dataset in GENERATORS_LOSS:
        own = rows(tables, "comparison", dataset=dataset, arm="pose-dive", baseline="real")
        true = rows(tables, "comparison", dataset=dataset, arm="oracle", baseline="real")
        pair = rows(tables, "diversity_volume", dataset=dataset, arm="pose-dive", baseline="oracle")
        if own.empty or true.empty:
            continue
        first, second = own.iloc[0], true.iloc[0]
        ranks = tables.rows("comparison", dataset=dataset, arm="pose-dive", metric="rank1")
        text = f"On {NAMES[dataset]}, `pose-dive` brings {told(first, where=False)}"
        if len(ranks):
            text += f", and in rank-1 {told(ranks.iloc[0], where=False)}"
        text += f". True photos in its poses and views bring {told(second, where=False)}."
        if len(pair):
            text += f" The first against the second: {told(pair.iloc[0], where=False)}"
            text += f"{_over_people(tables, pair.iloc[0])}."
        said.append(f"{text} {_blame(first, second, pair)}")
    return " ".join(said) or NOT_RUN


def _loss_in_new_worlds(tables: Tables) -> list[str]:
    said = []
    for dataset in GENERATORS_LOSS:
        wanted = {"dataset": dataset, "arm": "pose-dive"}
        real = rows(tables, "replication_gains", **wanted, baseline="real")
        true = rows(tables, "replication_gains", **wanted, baseline="oracle")
        if len(real) and len(true):
            brings, lacks = (told(found.iloc[0], where=False) for found in (real, true))
            said.append(
                f"In new worlds, on {NAMES[dataset]}, `pose-dive` brings {brings} "
                f"against real images, and {lacks} against true photos in its "
                "poses and views. What follows is of the default study's world."
            )
    return said


def _over_people(tables: Tables, pair: pd.Series) -> str:
    """That a gain or loss may belong to the queried people, where their interval contains 0."""
    if pair["verdict"] not in ("gain", "loss") or not tables.has("comparison_identities"):
        return ""
    wanted = {name: pair[name] for name in ("dataset", "arm", "baseline")}
    people = tables.rows("comparison_identities", **wanted)
    if people.empty or not contains_zero(people["ci_low"].iloc[0], people["ci_high"].iloc[0]):
        return ""
    low, high = people["ci_low"].iloc[0], people["ci_high"].iloc[0]
    return f"; over the queried people the interval is [{low:+.1f}, {high:+.1f}], with 0 in it"


def _blame(own: pd.Series, true: pd.Series, pair: pd.DataFrame) -> str:
    worse = len(pair) and pair.iloc[0]["verdict"] == "loss"
    if own["verdict"] == "loss":
        if true["verdict"] == "loss":
            return "True photos lose as well, so the loss is not the generator's alone."
        return "The loss is the generator's." if worse else "Whose the loss is, is not shown."
    if worse:
        return "No loss against real images is shown; against true photos generated ones lose."
    return "No loss is shown."


def filtering(tables: Tables) -> str:
    """Filtered against as many unfiltered images."""
    found = rows(tables, "diversity_volume", arm="pose-dive", baseline="unfiltered")
    if found.empty:
        return NOT_RUN
    parts = ", ".join(told(row) for _, row in found.iterrows())
    return (
        f"{verdict(found['verdict'])} `pose-dive` against as many images without Eq. 4 to 6: "
        f"{parts}. Their references passed Eq. 3 too. This is a weak test: "
        f"{kept(tables, list(found['dataset']))}, so the two arms share most images. "
        "[Notebook 05](../notebooks/05_reid_comparison.ipynb) counts the images that both add."
    )


def kept(tables: Tables, datasets: list[str]) -> str:
    """How many candidates the filter keeps there."""
    found = tables.rows("filtering")
    shares = found[found["dataset"].isin(datasets)]["kept_percent"]
    return f"the filter keeps {' and '.join(f'{share:.0f} %' for share in shares)} of candidates"


def second_model(tables: Tables) -> str:
    """`pose-dive` against real images, by both models on the same sets.

    They agree where both show a gain, or both a loss; they disagree where one shows each.
    """
    found = rows(tables, "resnet", arm="pose-dive", baseline="real")
    said, both = [], []
    for _, row in found.iterrows():
        first = rows(tables, "comparison", dataset=row["dataset"], arm="pose-dive", baseline="real")
        if len(first):
            both.append({first.iloc[0]["verdict"], row["verdict"]})
            name = NAMES[row["dataset"]]
            said.append(
                f"{told(row, where=False)} on {name}, where CLIP-ReID has "
                f"{told(first.iloc[0], where=False)}"
            )
    if not said:
        return NOT_RUN
    agreed = sum(pair in ({"gain"}, {"loss"}) for pair in both)
    against = sum({"gain", "loss"} <= pair for pair in both)
    if agreed and against:
        word = "Mixed."
    elif agreed:
        word = "Yes." if agreed == len(both) else "In part."
    elif against:
        word = "No." if against == len(both) else "In part against it."
    else:
        word = "Not shown."
    counts = f"Both models gain, or both lose, on {agreed} of {len(both)} sets"
    if against:
        counts += f"; one gains and one loses on {against}"
    neither = sum(not {"gain", "loss"} & pair for pair in both)
    if neither:
        counts += f"; neither shows an effect on {neither}"
    return f"{word} {counts}. The ResNet: {'; '.join(said)}."
