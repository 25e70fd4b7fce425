"""Sentences and small tables of notebook 05 are worked out from their rows."""

import pandas as pd

from posedive_lib.study import reid_findings
from posedive_lib.study.comparison import steps_sentence

NONE = "no effect shown"


def comparison(*rows: tuple) -> pd.DataFrame:
    """(dataset, arm, baseline, metric, difference, low, high, verdict)."""
    columns = ["dataset", "arm", "baseline", "metric", "difference", "ci_low", "ci_high", "verdict"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(baseline_mean=50.0, seeds=6, smallest_p=2 / 2**6, p_joint=0.03)


AGAINST = comparison(
    ("market1501", "pose-dive", "real", "mAP", 1.5, 0.3, 2.6, NONE),
    ("msmt17", "pose-dive", "real", "mAP", 2.4, 1.8, 3.0, "gain"),
    ("msmt17", "repeat", "real", "mAP", -0.1, -0.4, 0.2, NONE),
    ("msmt17", "pose-dive", "real", "rank1", -3.0, -4.0, -2.0, "loss"),
)


def test_arms_stand_against_data_sets():
    table = reid_findings.matrix(AGAINST, "mAP", ["real", "repeat", "oracle", "pose-dive"])
    assert table.columns.tolist() == ["arm", "Market-1501", "MSMT17"]
    assert table.to_numpy().tolist() == [
        ["real", "50.0 %", "50.0 %"],
        ["repeat", "–", "-0.1"],
        ["pose-dive", "+1.5†", "+2.4 gain"],
    ]


def test_a_dagger_is_no_verdict():
    said = reid_findings.grouped(reid_findings.pick(AGAINST, "pose-dive", "real"))
    assert said == (
        "a gain on MSMT17 +2.4 [+1.8, +3.0]; no effect shown on Market-1501 +1.5 [+0.3, +2.6]†"
    )
    assert reid_findings.grouped(AGAINST[2:3]).endswith("on MSMT17 -0.1 [-0.4, +0.2]")
    assert reid_findings.grouped(AGAINST[2:3], brief=True) == "no effect shown on MSMT17"
    first = reid_findings.grouped(reid_findings.pick(AGAINST, "pose-dive", "real", "rank1"))
    assert first == "a loss on MSMT17 -3.0 [-4.0, -2.0]"
    assert reid_findings.pair(AGAINST, "oracle", "real") == "not run in this study"


def test_gains_are_counted_and_losses_are_not_left_out():
    assert reid_findings.counted(reid_findings.pick(AGAINST, "pose-dive", "real")) == "1 of 2 sets"
    first = reid_findings.pick(AGAINST, "pose-dive", "real", "rank1")
    assert reid_findings.counted(first) == "0 of 1 sets (1 loss)"
    assert reid_findings.counted(AGAINST[:0]) == "0 of 0 sets"


def test_a_gain_without_a_control_has_no_known_cause():
    assert reid_findings.uncontrolled(AGAINST).startswith("On MSMT17 no such control ran")
    control = comparison(("msmt17", "same-distribution", "real", "mAP", 0.0, -1.0, 1.0, NONE))
    assert reid_findings.uncontrolled(pd.concat([AGAINST, control])) == ""


def test_true_photos_are_no_ceiling_only_where_a_gain_over_them_is_shown():
    rows = ("msmt17", "pose-dive", "oracle", "rank1")
    chance = comparison((*rows, 3.1, 1.2, 4.9, NONE))
    said = reid_findings.no_ceiling(chance)
    assert "is no ceiling" not in said
    assert said.endswith("Nothing shows that `oracle` is a ceiling in rank-1.")
    gain = comparison(("market1501", *rows[1:], 3.1, 1.2, 4.9, "gain"))
    said = reid_findings.no_ceiling(pd.concat([chance, gain]))
    assert said.endswith("So `oracle` is no ceiling on Market-1501.")
    few = reid_findings.no_ceiling(gain.assign(verdict="gain, too few seeds to test"))
    assert "is no ceiling" not in few
    assert reid_findings.no_ceiling(comparison((*rows, -1.0, -2.0, -0.1, NONE))) == ""


def test_a_share_that_is_not_defined_is_named():
    shares = pd.DataFrame(
        [("msmt17", "gain", 56.0, 50.0, 63.0), ("market1501", "gain", *[float("nan")] * 3)],
        columns=["dataset", "of", "share", "ci_low", "ci_high"],
    )
    said = reid_findings.captured(shares)
    assert said == (
        "MSMT17 56 % [50, 63] of the whole gain. "
        "Not defined on Market-1501, where no gain of true photos is shown."
    )
    said = reid_findings.captured(shares.replace({"of": {"gain": "diversity"}}))
    assert said.endswith("not defined on Market-1501, where true photos show no gain by them.")


def test_the_second_model_is_told_with_its_level():
    second = AGAINST.assign(baseline_mean=76.2, difference=1.0)
    said = reid_findings.second_model(second, AGAINST)
    assert said.startswith("It is the stronger model.") and "MSMT17 76.2 % (50.0 %)" in said
    assert "less than with the first model on 2 of 2 sets" in said
    weaker = reid_findings.second_model(AGAINST.assign(baseline_mean=20.0), AGAINST)
    assert weaker.startswith("It is the weaker model.")


def test_longer_training_is_held_against_the_best_arm():
    row = ("msmt17", "pose-dive", "real", "mAP", 1.4, -0.6, 3.4, NONE)
    lengths = pd.concat(
        [comparison(row).assign(length=n, baseline_mean=mean) for n, mean in ((1, 50.0), (3, 57.4))]
    ).assign(seeds=3, smallest_p=0.25)
    said = reid_findings.longer_training(lengths, AGAINST)
    assert "changes real images alone by +7.4 mAP (50.0 to 57.4), more than the best arm" in said
    assert said.endswith("With 3 seeds no p can be small enough to test this.")
    assert "less than" in reid_findings.longer_training(lengths, AGAINST.assign(difference=9.0))


def test_look_alikes_that_lose_without_new_views_clear_the_new_views():
    def told(*arms: str, low: float = -17.0, high: float = -1.0) -> str:
        columns = ["dataset", "arm", "metric", "people", "difference", "ci_low", "ci_high"]
        rows = [("msmt17", arm, "rank1", "look-alikes", -9.0, low, high) for arm in arms]
        return reid_findings.look_alikes(pd.DataFrame(rows, columns=columns))

    assert "not shown to be the cause" in told("oracle-same", "same-distribution")
    mixed = told("pose-dive", "same-distribution")
    assert "2 lie below 0 (`pose-dive` MSMT17 -9.0 [-17.0, -1.0] rank-1; `same" in mixed
    assert "With new views there lose `pose-dive`." in mixed and "cause" not in mixed
    assert "0 lie below 0, and 0 lie above 0." in told("pose-dive", high=1.0)
    assert "1 lie above 0 (`pose-dive`" in told("pose-dive", low=1.0, high=2.0)


def test_the_prediction_about_look_alikes_is_answered():
    def told(high: float, arm: str = "pose-dive") -> str:
        columns = ["dataset", "arm", "metric", "people", "difference", "ci_low", "ci_high"]
        rows = [
            ("msmt17", arm, "mAP", "look-alikes", 2.2, -9.0, high),
            ("msmt17", "viewpoint", "mAP", "look-alikes", 3.5, 1.0, 6.0),
            ("msmt17", "oracle-same", "mAP", "look-alikes", -8.0, -9.0, -1.0),  # no new views
            ("msmt17", arm, "mAP", "others", 4.7, 4.0, 5.0),
            ("msmt17", "viewpoint", "mAP", "others", 7.0, 6.0, 8.0),
        ]
        return reid_findings.look_alike_answer(pd.DataFrame(rows, columns=columns))

    assert told(high=3.0) == (
        "Of 2 arms with new views, 0 lose mAP on look-alikes, by an interval below 0. So the "
        "prediction is not borne out. On MSMT17 these arms change mAP of look-alikes by +2.2 to "
        "+3.5, and of all others by +4.7 to +7.0."
    )
    assert "1 lose" in told(high=-1.0) and "borne out in part" in told(high=-1.0)
    assert "Of 1 arms" in told(high=-1.0, arm="repeat")


def test_the_last_border_says_whether_generated_and_true_views_agree():
    def told(made: float, true: float) -> str:
        rows = [
            (border, arm, difference, difference - 1, difference + 1, NONE)
            for border, values in ((30.0, (3.0, 5.0)), (90.0, (made, true)))
            for arm, difference in zip(("pose-dive", "oracle"), values, strict=True)
        ]
        columns = ["border", "arm", "difference", "ci_low", "ci_high", "verdict"]
        return reid_findings.at_the_last_border(pd.DataFrame(rows, columns=columns))

    said = told(2.1, -2.3)
    assert "Beyond 90°, new views are worth +2.1 [+1.1, +3.1]† to generated" in said
    assert "The signs differ." in said and "signs" not in told(2.1, 0.3)
    nothing = pd.DataFrame(columns=["border", "arm", "difference"])
    assert reid_findings.at_the_last_border(nothing) == ""


def test_pairs_of_views_grow_away_from_the_front_or_not():
    def table(*gains: float) -> pd.DataFrame:
        return pd.DataFrame({"frontal": ["both", "one", "none"], "difference": gains})

    one = reid_findings.frontal({"pose-dive": table(1.0, 2.0, 3.0)})
    assert one.startswith("Frontal pairs gain least, and those far from the front gain most")
    mixed = {"pose-dive": table(1.0, 2.0, 3.0), "oracle": table(1.0, 3.0, 2.0)}
    assert "least, but those far from the front do not gain most" in reid_findings.frontal(mixed)
    back = reid_findings.frontal({"pose-dive": table(4.0, 3.0, 2.0)})
    assert back.startswith("Frontal pairs do not always gain least, and those far")


def test_whether_more_helps_is_told_by_the_steps():
    def said(*verdicts: str) -> str:
        rows = [("mAP", 0, None, None, None, None)]
        rows += [("mAP", 5 * (i + 1), 1.5, 0.8, 2.3, v) for i, v in enumerate(verdicts)]
        columns = ["metric", "n", "step", "step_low", "step_high", "step_verdict"]
        return steps_sentence(pd.DataFrame(rows, columns=columns), "n", "mAP")

    assert said("gain", NONE, NONE) == (
        "The step from 0 to 5 is a gain (+1.50 mAP [+0.80, +2.30]). "
        "From 5 to 15 no step is shown to change anything."
    )
    assert said(NONE, NONE) == "None of the 2 steps is shown to change mAP."
    assert said(NONE, "loss").endswith("The other 1 steps show no effect.")
    assert "From" not in said("gain")


def test_nearly_equal_sets_measure_chance():
    rows = [(0.15, 833, 0), (0.3, 833, 833), (0.45, 833, 832), (0.6, 833, 400), (0.9, 0, 0)]
    sizes = pd.DataFrame(rows, columns=["threshold", "used", "shared"])
    assert reid_findings.same_sets(sizes) == [0.3]
    means = pd.Series({0.15: 57.2, 0.3: 57.2, 0.45: 56.84, 0.6: 57.0})
    said = reid_findings.yardstick(sizes, means)
    assert said == (
        "0.3 and 0.45 differ in 1 of 833 images, and their means by 0.36 mAP. So much is chance."
    )
    assert reid_findings.yardstick(sizes[:2], means) == ""


def test_a_filter_that_nothing_beats_is_named_once():
    rows = [
        ("all rules", "right pose", 51.2, 0.537),
        ("target", "right pose", 51.2, 0.536),
        ("all rules", "right person", 57.3, 0.574),
        ("Re-ID similarity", "right person", 57.3, 0.591),
        ("key points", "right person", 57.3, 0.9),
    ]
    table = pd.DataFrame(rows, columns=["score", "truth", "good_percent", "precision"])
    assert reid_findings.filters(table) == (
        "right pose: 51 % unfiltered, 54 % with the rules (no other score beats that by a point); "
        "right person: 57 % unfiltered, 57 % with the rules, 59 % with Re-ID similarity."
    )


def test_what_the_rules_keep_is_told_beside_all_candidates():
    columns = ["score", "truth", "good_percent", "precision"]
    table = pd.DataFrame([("all rules", "both", 29.06, 0.302)], columns=columns)
    assert reid_findings.kept_right(table) == (
        "The right person in the right pose is in 29 % of all candidates, "
        "and in 30 % of those that the rules keep."
    )
    assert reid_findings.kept_right(table[:0]) == "Right images were not counted in this study."
