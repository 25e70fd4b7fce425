"""docs/answers.md: each answer follows the verdicts of its table."""

import pandas as pd
import pytest

from posedive_lib.bench.statistics import NO_EFFECT
from posedive_lib.study import answers
from posedive_lib.study.sentences import Tables

SETS = ("cuhk03-labeled", "cuhk03-detected", "msmt17-s-cam", "msmt17-s-pose")


def row(dataset: str, arm: str, baseline: str, verdict: str, **others: str) -> dict:
    size = {"gain": 2.0, "loss": -2.0}.get(verdict, 0.1)
    ends = {"difference": size, "ci_low": size - 1, "ci_high": size + 1}
    named = {"dataset": dataset, "arm": arm, "baseline": baseline, "metric": "mAP"}
    return {**named, **ends, "verdict": verdict, **others}


@pytest.fixture
def write(tmp_path):
    def table(name: str, *rows: dict) -> Tables:
        pd.DataFrame(rows).to_csv(tmp_path / f"{name}.csv", index=False)
        return Tables(tmp_path)

    return table


@pytest.mark.parametrize(
    "verdicts, word",
    [
        (["gain", "gain"], "Yes."),
        (["gain", "no effect shown"], "In part."),
        (["gain", "loss"], "Mixed."),
        (["loss", "loss"], "No."),
        (["loss", "no effect shown"], "In part against it."),
        (["no effect shown"], "Not shown."),
        ([], answers.NOT_RUN),
    ],
)
def test_what_verdicts_say_together(verdicts, word):
    assert answers.verdict(verdicts) == word


def test_fresh_worlds_answer_by_their_primary_comparisons(write, tmp_path):
    assert answers.fresh_worlds(Tables(tmp_path)).startswith("Not known yet")
    pairs = [("msmt17-s-cam", "gain"), ("msmt17-s-pose", "no effect shown")]
    tables = write(
        "replication_gains",
        *[row(name, "pose-dive", "same-distribution", v, family="primary") for name, v in pairs],
        row("market1501", "pose-dive", "real", "loss", family="secondary"),
    )
    said = answers.fresh_worlds(tables)
    assert said.startswith("In part.") and "Market" not in said
    assert "+2.0 [+1.0, +3.0] on MSMT17-S (Cam) (gain)" in said


def test_a_yes_is_of_the_two_splits_and_stands_beside_what_speaks_against_it(write):
    pair = ("pose-dive", "same-distribution")
    first = [row(name, *pair, "gain", family="primary") for name in SETS[2:]]
    others = [
        row("market1501", *pair, "no effect shown", family="secondary"),
        row("msmt17-s-cam-45", *pair, "gain", family="secondary"),  # no set of its own
        row("msmt17-s-cam", "same-distribution", "real", "gain", family="secondary"),
        row("market1501", "same-distribution", "real", "loss", family="secondary"),
    ]
    tables = write("replication_gains", *first, *others)
    said = answers.fresh_worlds(tables)
    assert said.startswith("Yes, on the two splits that were made for this question.")
    assert said.endswith(
        "Elsewhere: +0.1 [-0.9, +1.1] on Market-1501 (no effect shown). Images in the old poses "
        "and views gain over real ones too: +2.0 [+1.0, +3.0] on MSMT17-S (Cam) (gain)."
    )
    rules = [
        {"dataset": "msmt17-s-cam", "rule": "plain means", "p": 0.1328, "verdict": NO_EFFECT},
        {"dataset": "msmt17-s-cam", "rule": "Holm's correction", "p": 0.016, "verdict": "gain"},
        {"dataset": "msmt17-s-cam-45", "rule": "all pairs", "p": 0.2, "verdict": NO_EFFECT},
    ]
    said = answers.fresh_worlds(write("replication_checks", *rules))
    assert said.endswith(
        "No effect is shown on MSMT17-S (Cam) by these rules: *plain means* (p 0.133)."
    )


@pytest.mark.parametrize(
    "own, true, pair, said",
    [
        ("loss", "gain", "loss", "The loss is the generator's."),
        ("loss", "loss", "no effect shown", "True photos lose as well"),
        ("loss", "gain", "no effect shown", "Whose the loss is, is not shown."),
        ("no effect shown", "gain", "loss", "against true photos generated ones lose"),
        ("gain", "gain", "no effect shown", "No loss is shown."),
    ],
)
def test_whose_a_loss_is(write, own, true, pair, said):
    name = "cuhk03-labeled"
    write(
        "comparison",
        row(name, "pose-dive", "real", own),
        row(name, "oracle", "real", true),
        row(name, "pose-dive", "real", "loss", metric="rank1"),
    )
    tables = write("diversity_volume", row(name, "pose-dive", "oracle", pair))
    text = answers.loss(tables)
    assert said in text and "CUHK03 (D)" not in text
    assert "and in rank-1 -2.0 [-3.0, -1.0] (loss)." in text  # whatever its verdict
    assert "over the queried people" not in text
    people = row(name, "pose-dive", "oracle", pair) | {"ci_low": -4.0, "ci_high": 0.5}
    write("comparison_identities", people)
    hint = "; over the queried people the interval is [-4.0, +0.5], with 0 in it."
    assert (hint in answers.loss(tables)) == (pair == "loss")
    assert "new worlds" not in text
    new = [row(name, "pose-dive", "real", "gain"), row(name, "pose-dive", "oracle", "loss")]
    write("replication_gains", *new, row(name, "pose-dive", "repeat", "gain"))
    first = answers.loss(tables)
    assert first.startswith("In new worlds, on CUHK03 (L), `pose-dive` brings +2.0 [+1.0, +3.0]")
    assert "(gain) against real images, and -2.0 [-3.0, -1.0] (loss) against true photos" in first
    assert text.split(". ", 1)[0] in first


def test_two_models_agree_where_their_verdicts_are_the_same(write):
    sets = SETS[2:]
    write("comparison", *[row(name, "pose-dive", "real", "gain") for name in sets])
    for verdicts, said in (
        (
            ("gain", "loss"),
            "Mixed. Both models gain, or both lose, on 1 of 2 sets; one gains and one loses on 1.",
        ),
        (
            ("gain", "no effect shown"),
            "In part. Both models gain, or both lose, on 1 of 2 sets. The ResNet",
        ),
        (("gain", "gain"), "Yes."),
        (("loss", "no effect shown"), "In part against it."),
        (("loss", "loss"), "No."),
        (("no effect shown", "no effect shown"), "Not shown."),
    ):
        pairs = zip(sets, verdicts, strict=True)
        found = [row(name, "pose-dive", "real", verdict) for name, verdict in pairs]
        assert answers.second_model(write("resnet", *found)).startswith(said)


def test_the_filter_and_what_was_not_run(write, tmp_path):
    assert answers.filtering(Tables(tmp_path)) == answers.NOT_RUN
    write("filtering", {"dataset": SETS[2], "kept_percent": 93.6})
    tables = write("diversity_volume", row(SETS[2], "pose-dive", "unfiltered", "no effect shown"))
    said = answers.filtering(tables)
    assert said.startswith("Not shown. ") and "keeps 94 % of candidates" in said
    assert len(answers.answers(tables)) == 4
