"""Tables of notebook 05 in sentences, and arms against data sets in one small table.

Every sentence is worked out from the rows that it gets, and no row is expected: a study with other
arms or data sets has other sentences, or says that something was not run.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from posedive_lib.bench import tables
from posedive_lib.bench.statistics import NO_EFFECT, contains_zero
from posedive_lib.study.names import NAMES, WORDS

# arms without new poses and views
OLD_VIEWS = ("repeat", "same-distribution", "oracle-same")
NOT_RUN = "not run in this study"


def dagger(row: pd.Series) -> str:
    """A dagger where the interval excludes 0 and still no effect is shown."""
    zero = contains_zero(row["ci_low"], row["ci_high"])
    return "†" if row.get("verdict") == NO_EFFECT and not zero else ""


def span(row: pd.Series) -> str:
    """ "+2.4 [+1.8, +3.0]", perhaps with a dagger."""
    return tables.span(row) + dagger(row)


def told(row: pd.Series, *, verdict: bool = False) -> str:
    """ "MSMT17 +2.4 [+1.8, +3.0]", with its verdict in brackets if wanted."""
    name = NAMES.get(row["dataset"], row["dataset"])
    return f"{name} {span(row)}" + (f" ({row['verdict']})" if verdict else "")


def matrix(table: pd.DataFrame, metric: str, arms: Iterable[str]) -> pd.DataFrame:
    """Arms (rows) against data sets (columns): difference to the baseline, dagger, gain or loss.

    The first row is the baseline's mean.
    """
    rows = table[table["metric"] == metric]
    sets = [name for name in (*NAMES, *rows["dataset"]) if name in set(rows["dataset"])]
    cells: dict[str, dict[str, str]] = {}
    for _, row in rows.iterrows():
        word = "" if row["verdict"] == NO_EFFECT else f" {row['verdict']}"
        own = cells.setdefault(row["dataset"], {})
        own[row["baseline"]] = f"{row['baseline_mean']:.1f} %"
        own[row["arm"]] = f"{row['difference']:+.1f}{dagger(row)}{word}"
    wide = pd.DataFrame(cells, columns=list(dict.fromkeys(sets)))
    order = [arm for arm in dict.fromkeys([*rows["baseline"].unique(), *arms]) if arm in wide.index]
    wide = wide.loc[order].fillna("–").rename(columns=NAMES)
    return wide.rename_axis("arm").reset_index()


def pick(table: pd.DataFrame, arm: str, baseline: str, metric: str = "mAP") -> pd.DataFrame:
    """The rows of one pair of arms and one metric."""
    wanted = (table["arm"] == arm) & (table["baseline"] == baseline) & (table["metric"] == metric)
    return table[wanted]


def pair(table: pd.DataFrame, arm: str, baseline: str, metric: str = "mAP") -> str:
    """One pair of arms on every data set that has both, by verdict."""
    return grouped(pick(table, arm, baseline, metric))


def grouped(rows: pd.DataFrame, *, brief: bool = False) -> str:
    """Where there is a gain, a loss, and where no effect is shown.

    brief: of the last ones only those with a dagger have their numbers.
    """
    words = {"gain": "a gain on", "loss": "a loss on", "no effect": "no effect shown on"}
    said = []
    for start, word in words.items():
        found = [row for _, row in rows.iterrows() if row["verdict"].startswith(start)]
        names = [
            NAMES.get(row["dataset"], row["dataset"])
            if brief and start == "no effect" and not dagger(row)
            else told(row)
            for row in found
        ]
        if names:
            said.append(f"{word} {', '.join(names)}")
    return "; ".join(said) or NOT_RUN


def counted(rows: pd.DataFrame) -> str:
    """On how many sets there is a gain, and on how many a loss: "3 of 6 sets (1 loss)"."""
    gains, losses = ((rows["verdict"] == word).sum() for word in ("gain", "loss"))
    word = "loss" if losses == 1 else "losses"
    lost = f" ({losses} {word})" if losses else ""
    return f"{gains} of {len(rows)} sets{lost}"


def uncontrolled(table: pd.DataFrame, control: str = "same-distribution") -> str:
    """Data sets where `pose-dive` gains and no arm adds as many images without diversity."""
    gains = table[(table["arm"] == "pose-dive") & (table["verdict"] == "gain")]["dataset"]
    there = set(table.loc[table["arm"] == control, "dataset"])
    missing = [NAMES.get(name, name) for name in gains.unique() if name not in there]
    if not missing:
        return ""
    return f"On {' and '.join(missing)} no such control ran: there the gain's cause is unknown."


def no_ceiling(table: pd.DataFrame) -> str:
    """Where generated images have a higher mean rank-1 than true photos in the same poses.

    Only a gain says that true photos are no ceiling: a higher mean may be chance.
    """
    rows = pick(table, "pose-dive", "oracle", "rank1")
    above = rows[rows["difference"] > 0]
    if above.empty:
        return ""
    said = ", ".join(told(row, verdict=True) for _, row in above.iterrows())
    text = f"In rank-1 `pose-dive` has a higher mean than `oracle`: {said}. "
    gains = [NAMES.get(name, name) for name in above.loc[above["verdict"] == "gain", "dataset"]]
    if gains:
        return text + f"So `oracle` is no ceiling on {' and '.join(gains)}."
    return text + "Nothing shows that `oracle` is a ceiling in rank-1."


def captured(shares: pd.DataFrame) -> str:
    """Shares of what true photos bring, with intervals; where they are not defined."""
    words = {"gain": "of the whole gain", "diversity": "of what new poses and views alone bring"}
    undefined = {
        "gain": "Not defined on {}, where no gain of true photos is shown.",
        "diversity": "For new poses and views alone not defined on {}, where true photos show no "
        "gain by them.",
    }
    said, shares = [], shares.replace(NAMES)
    for of, word in words.items():
        for _, row in shares[(shares["of"] == of) & shares["share"].notna()].iterrows():
            ends = f"[{row['ci_low']:.0f}, {row['ci_high']:.0f}]"
            said.append(f"{row['dataset']} {row['share']:.0f} % {ends} {word}")
    lost = shares[shares["share"].isna()]
    told = [f"{'; '.join(said) or 'nowhere defined'}."]
    for of, sentence in undefined.items():
        if without := lost.loc[lost["of"] == of, "dataset"].tolist():
            told.append(sentence.format(" and ".join(without)))
    return " ".join(told)


def second_model(second: pd.DataFrame, first: pd.DataFrame) -> str:
    """Levels of the second model beside the first's, and its gains by `pose-dive`."""
    both = pick(second, "pose-dive", "real").merge(
        pick(first, "pose-dive", "real"), on="dataset", suffixes=("", "_first")
    )
    if both.empty:
        return f"It was {NOT_RUN}."
    levels = ", ".join(
        f"{row['dataset']} {row['baseline_mean']:.1f} % ({row['baseline_mean_first']:.1f} %)"
        for _, row in both.replace(NAMES).iterrows()
    )
    stronger = both["baseline_mean"] > both["baseline_mean_first"]
    word = "not stronger everywhere"
    if stronger.all() or not stronger.any():
        word = "the stronger model" if stronger.all() else "the weaker model"
    less = int((both["difference"] < both["difference_first"]).sum())
    return (
        f"It is {word}. mAP with real images alone, the first model's in brackets: {levels}. "
        f"`pose-dive` has {pair(second, 'pose-dive', 'real')}. "
        f"That is less than with the first model on {less} of {len(both)} sets."
    )


def longer_training(lengths: pd.DataFrame, usual: pd.DataFrame) -> str:
    """What more steps bring to real images alone, and what `pose-dive` adds then."""
    said = []
    for dataset, rows in pick(lengths, "pose-dive", "real").groupby("dataset", sort=False):
        rows = rows.sort_values("length")
        short, long = rows.iloc[0], rows.iloc[-1]
        rise = long["baseline_mean"] - short["baseline_mean"]
        best = usual[(usual["dataset"] == dataset) & (usual["metric"] == "mAP")]["difference"].max()
        more = "more" if rise > best else "less"
        text = (
            f"On {NAMES.get(str(dataset), dataset)}, training {long['length']:.0f} times as long "
            f"changes real images alone by {rise:+.1f} mAP "
            f"({short['baseline_mean']:.1f} to {long['baseline_mean']:.1f}), "
            f"{more} than the best arm brings there ({best:+.1f}). "
            f"`pose-dive` against it: {span(short)} at the usual length, {span(long)} then, "
            f"over {long['seeds']:.0f} seeds."
        )
        if long["smallest_p"] > 0.05:
            text += f" With {long['seeds']:.0f} seeds no p can be small enough to test this."
        said.append(text)
    return " ".join(said) or f"It was {NOT_RUN}."


def look_alikes(table: pd.DataFrame) -> str:
    """Where look-alikes are found worse or better than without the added images, by interval."""
    rows = table[table["people"] == "look-alikes"]
    if rows.empty:
        return ""
    said = [f"Of {len(rows)} intervals of look-alikes"]
    for side, part in (("below", rows[rows["ci_high"] < 0]), ("above", rows[rows["ci_low"] > 0])):
        arms = [
            f"`{row['arm']}` {told(row)} {WORDS.get(row['metric'], row['metric'])}"
            for _, row in part.iterrows()
        ]
        said.append(f"{len(part)} lie {side} 0" + (f" ({'; '.join(arms)})" if arms else ""))
    text = f"{said[0]}, {said[1]}, and {said[2]}."
    worse = rows.loc[rows["ci_high"] < 0, "arm"].unique()
    new = [f"`{arm}`" for arm in worse if arm not in OLD_VIEWS]
    if new:
        text += f" With new views there lose {' and '.join(new)}."
    elif len(worse):
        text += " The arms below 0 add no new views, so new views are not shown to be the cause."
    return f"{text} Nothing is corrected: some intervals exclude 0 by chance."


def look_alike_answer(table: pd.DataFrame) -> str:
    """Do arms with new views lose on look-alikes, as the notebook predicts? In mAP, by interval."""
    rows = table[(table["metric"] == "mAP") & ~table["arm"].isin(OLD_VIEWS)]
    people = {kind: rows[rows["people"] == kind] for kind in ("look-alikes", "others")}
    alike = people["look-alikes"]
    if alike.empty:
        return ""
    lost = int((alike["ci_high"] < 0).sum())
    said = [
        f"Of {len(alike)} arms with new views, {lost} lose mAP on look-alikes, by an interval "
        f"below 0. So the prediction is {'borne out in part' if lost else 'not borne out'}."
    ]
    for dataset in alike["dataset"].unique():
        ends = [
            " to ".join(f"{end:+.1f}" for end in (own.min(), own.max()))
            for part in people.values()
            for own in [part.loc[part["dataset"] == dataset, "difference"]]
        ]
        said.append(
            f"On {NAMES.get(dataset, dataset)} these arms change mAP of look-alikes by {ends[0]}, "
            f"and of all others by {ends[1]}."
        )
    return " ".join(said)


def frontal(sums: dict[str, pd.DataFrame]) -> str:
    """Which pairs of views gain most, by how many of the two photos are frontal."""
    said, side, grows = [], True, True
    for arm, table in sums.items():
        gains = table.set_index("frontal")["difference"].reindex(["both", "one", "none"]).dropna()
        if len(gains) == 3:
            both, one, none = gains
            side, grows = side and both < min(one, none), grows and both < one < none
            said.append(
                f"`{arm}` adds {both:+.1f} mAP where both photos are frontal, {one:+.1f} where one "
                f"is and {none:+.1f} where none is"
            )
    if not said:
        return f"It was {NOT_RUN}."
    text = "Frontal pairs gain least" if side else "Frontal pairs do not always gain least"
    far = "those far from the front gain" if grows else "those far from the front do not gain"
    return f"{text}, {'and' if grows == side else 'but'} {far} most: {'; '.join(said)}."


def by_border(borders: pd.DataFrame, arm: str = "pose-dive") -> str:
    """The gain beyond each border with its corrected p."""
    rows = pick(borders, arm, "real").sort_values("border")
    said = [
        f"{row['difference']:+.1f} beyond {row['border']:g}° (p {row['p_joint']:.2f})"
        for _, row in rows.iterrows()
    ]
    return f"`{arm}`: {', '.join(said)}." if said else f"`{arm}` was {NOT_RUN}."


def at_the_last_border(pairs: pd.DataFrame) -> str:
    """Whether new views do the same for generated images and true photos beyond the last border.

    pairs: as of `reid_analysis.border_pairs`. Empty where one of the two was not run.
    """
    last = pairs[pairs["border"] == pairs["border"].max()].set_index("arm")
    if not {"pose-dive", "oracle"} <= set(last.index):
        return ""
    made, true = (last.loc[arm] for arm in ("pose-dive", "oracle"))
    text = (
        f"Beyond {made['border']:g}°, new views are worth {span(made)} to generated images and "
        f"{span(true)} to true photos, each against as many in the old views."
    )
    if made["difference"] > 0 > true["difference"]:
        text += (
            " The signs differ. So what generated images gain there is not what true new views "
            "bring. We do not know what it is."
        )
    return text


def same_sets(sizes: pd.DataFrame) -> list[float]:
    """Thresholds that use exactly the images of the one before.

    sizes: threshold, used and shared (with the threshold before), from loose to strict.
    """
    equal = (sizes["used"] > 0) & (sizes["shared"] == sizes["used"])
    return sizes.loc[equal, "threshold"].tolist()


def yardstick(sizes: pd.DataFrame, means: pd.Series) -> str:
    """Two thresholds with nearly the same images: what their means differ by is chance; or "".

    sizes: as in `same_sets`; means: mAP by threshold.
    """
    said = []
    for before, row in zip(sizes["threshold"], sizes[1:].to_dict("records"), strict=False):
        differ = row["used"] - row["shared"]
        if 0 < differ <= 0.01 * row["used"]:
            gap = abs(means[row["threshold"]] - means[before])
            said.append(
                f"{before:g} and {row['threshold']:g} differ in {differ} of {row['used']} images, "
                f"and their means by {gap:.2f} mAP. So much is chance."
            )
    return " ".join(said)


def kept_right(table: pd.DataFrame) -> str:
    """Right images, by person and pose, among all candidates and among those that the rules keep.

    table: as in `filters`.
    """
    rows = table[(table["truth"] == "both") & (table["score"] == "all rules")]
    if rows.empty or rows["precision"].isna().all():
        return "Right images were not counted in this study."
    row = rows.iloc[0]
    return (
        f"The right person in the right pose is in {row['good_percent']:.0f} % of all candidates, "
        f"and in {100 * row['precision']:.0f} % of those that the rules keep."
    )


def filters(table: pd.DataFrame) -> str:
    """Share of right images without and with the rules, and the best score without key points."""
    said = []
    for truth, rows in table.groupby("truth", sort=False):
        own = rows[~rows["score"].str.startswith("key points")].dropna(subset="precision")
        rules = rows[rows["score"] == "all rules"].iloc[0]
        text = f"{truth}: {rules['good_percent']:.0f} % unfiltered, "
        text += f"{100 * rules['precision']:.0f} % with the rules"
        best = own.iloc[int(own["precision"].to_numpy().argmax())] if len(own) else rules
        if best["precision"] - rules["precision"] >= 0.01:
            text += f", {100 * best['precision']:.0f} % with {best['score']}"
        else:
            text += " (no other score beats that by a point)"
        said.append(text)
    return "; ".join(said) + "."
