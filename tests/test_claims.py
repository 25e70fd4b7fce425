"""The table of claims follows its tables: changed numbers change verdicts.

Missing tables are errors, and no claim stays blank.
"""

import shutil

import numpy as np
import pandas as pd
import pytest
from pipeline import ROOT, stages

from posedive_lib import params
from posedive_lib.bench import tables
from posedive_lib.errors import StudyError
from posedive_lib.study import claim_rules, claims, comparison, verdicts
from posedive_lib.study.choices import CHOICES, choices

SOURCES = sorted({source for claim in claims.CLAIMS for source in claim.sources})


@pytest.fixture
def reports(tmp_path):
    """A copy of the reports that the claims read."""
    for source in SOURCES:
        (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / f"reports/{source}.csv", tmp_path / f"{source}.csv")
    return tmp_path


def change(reports, name: str, function) -> None:
    table = pd.read_csv(reports / f"{name}.csv")
    function(table).to_csv(reports / f"{name}.csv", index=False)


def verdict(reports, words: str) -> str:
    table = claims.claims(reports, seed=0)
    (found,) = table.loc[table["paper says"].str.contains(words, regex=False), "verdict"]
    return found


def with_map(column: str, means: dict[float, float], dataset: str):
    """Six seeds of runs whose mAP is the level's mean with little noise."""
    noise = np.random.default_rng(0).normal(0, 0.05, (len(means), 6))
    experiment = "images_per_pid" if column == "images_per_pid" else "threshold"
    rows = [
        {
            "experiment": experiment,
            "dataset": dataset,
            "arm": "pose-dive",
            "model": "clip-reid",
            "seed": seed,
            column: level,
            "mAP": mean + noise[i, seed],
        }
        for i, (level, mean) in enumerate(means.items())
        for seed in range(6)
    ]
    return lambda table: pd.concat([table[table["experiment"] != experiment], pd.DataFrame(rows)])


def test_every_section_has_its_claims_and_none_is_blank():
    table = pd.read_csv(ROOT / "reports/tables/claims.csv")
    assert set(table["section"]) == {"main paper", "§A", "§D", "§E", "§F", "§G", "§I"} and len(
        table
    ) == len(claims.CLAIMS)
    assert table.drop(columns="sources").notna().all(axis=None) and set(table["verdict"]) <= set(
        verdicts.VERDICTS
    )


def test_the_default_study_covers_every_claim_that_it_can():
    table = pd.read_csv(ROOT / "reports/tables/claims.csv")
    assert table.loc[table["verdict"] == "not tested", "paper says"].tolist() == [
        "Such hard samples can benefit the Re-ID model (a guess of the paper)"
    ]


def test_committed_claims_are_those_of_the_committed_tables():
    P = params.load(ROOT / "params.yaml")
    table, open_choices = claims.claims(ROOT / "reports", seed=P.seed), choices(P)
    assert (ROOT / "reports/tables/claims.csv").read_text() == tables.to_csv(table)
    assert (ROOT / "reports/tables/choices.csv").read_text() == tables.to_csv(open_choices)
    assert (ROOT / "reports/claims.md").read_text() == claims.page(
        table, open_choices, claims.Evidence(ROOT / "reports", P.seed)
    )


@pytest.mark.parametrize("source", SOURCES)
def test_a_missing_table_is_an_error(reports, source):
    (reports / f"{source}.csv").unlink()
    with pytest.raises(
        StudyError, match=f"needs .*{source}.csv, which does not exist; `dvc repro` makes it"
    ):
        claims.claims(reports, seed=0)


def test_the_pipeline_knows_every_source():
    listed = set(stages()["claims"]["deps"])
    assert not {
        source
        for source in SOURCES
        if not any(f"reports/{source}.csv".startswith(dep) for dep in listed)
    }


def test_what_the_study_leaves_out_is_not_tested_and_says_so(reports):
    change(reports, "tables/comparison", lambda t: t[t["dataset"] != "msmt17-s-cam"])
    change(
        reports,
        "tables/reid_runs",
        lambda t: t[(t["experiment"] != "images_per_pid") | (t["images_per_pid"] != 15)],
    )
    table = claims.claims(reports, seed=0).set_index("paper says")
    assert table.loc[
        "Pose-dIVE mitigates the bias of camera viewpoints", ["we measured", "verdict"]
    ].tolist() == [
        "this study has no rows with dataset = msmt17-s-cam in tables/comparison.csv",
        "not tested",
    ]
    assert verdict(reports, "About 15") == "not tested"


@pytest.mark.parametrize(
    "means, expected",
    [
        ({10: 50, 15: 52, 20: 51}, "supported"),
        ({0: 53, 10: 50, 15: 50, 20: 50}, "not shown"),
        ({5: 53, 10: 50, 15: 52, 20: 51}, "contradicted"),
    ],
)
def test_best_at_fifteen(reports, means, expected):
    change(reports, "tables/reid_runs", with_map("images_per_pid", means, "cuhk03-labeled"))
    assert verdict(reports, "About 15") == expected


@pytest.mark.parametrize(
    "means, stable, peak",
    [
        (
            {0.15: 50, 0.3: 50.2, 0.45: 50.3, 0.6: 50.6, 0.75: 50.2, 0.9: 50.1},
            "supported",
            "supported",
        ),
        (
            {0.15: 50, 0.3: 50.2, 0.45: 50.3, 0.6: 52.6, 0.75: 50.2, 0.9: 50.1},
            "not shown",
            "supported",
        ),
        ({0.45: 50.3, 0.6: 50.2}, "partly supported", "contradicted"),
    ],
)
def test_thresholds(reports, means, stable, peak):
    change(reports, "tables/reid_runs", with_map("threshold", means, "msmt17"))
    assert (verdict(reports, "stable"), verdict(reports, "peaks")) == (stable, peak)


def test_other_verdicts_follow_their_tables(reports):
    assert verdict(reports, "camera angles") == "supported"
    change(reports, "figures/01/azimuth", lambda t: t.assign(share=1.0))
    assert verdict(reports, "camera angles") == "contradicted"
    change(reports, "figures/01/pose_clusters", lambda t: t.assign(cluster=0))
    assert verdict(reports, "poses that are not present") == "contradicted"
    change(reports, "tables/filter_check", lambda t: t.assign(ci_low=[-1.0] + [0.1] * (len(t) - 1)))
    assert verdict(reports, "higher quality") == "partly supported"
    assert verdict(reports, "bias of camera viewpoints") == "supported"
    change(
        reports, "tables/comparison_identities", lambda t: t.assign(ci_low=-0.1, ci_high=5.0)
    )  # it may be the people who were drawn
    assert verdict(reports, "bias of camera viewpoints") == "partly supported"
    for table in ("tables/comparison", "tables/diversity_volume"):
        change(reports, table, lambda t: t.assign(verdict="loss"))
    change(reports, "tables/comparison_identities", lambda t: t.assign(ci_low=-5.0, ci_high=-0.1))
    assert (verdict(reports, "bias of human poses"), verdict(reports, "MSMT17: +3.0")) == (
        "contradicted",
        "opposite sign",
    )
    change(
        reports,
        "tables/failures",
        lambda t: t.assign(low=0.5, **{"true photos": 0.1, "bagless strangers": 0.4}),
    )
    assert verdict(reports, "backpack appears") == "supported"
    change(
        reports, "tables/failures", lambda t: t.assign(**{"bagless strangers": 0.6})
    )  # wrong clothes look as much like a bag
    assert verdict(reports, "backpack appears") == "not shown"
    change(
        reports,
        "tables/disentanglement",
        lambda t: t.assign(identity=60.0, pose=10.0, interaction=30.0),
    )
    change(reports, "tables/generator_quality", lambda t: t.assign(ci_low=0.6, ci_high=0.9))
    assert (
        verdict(reports, "Identity is preserved"),
        verdict(reports, "Pose and viewpoint stay"),
    ) == ("supported", "not shown")
    change(
        reports,
        "tables/generator_quality",
        lambda t: t.assign(
            ci_low=t["method"].map({"generated": 0.2}).fillna(0.6),
            ci_high=t["method"].map({"generated": 0.4}).fillna(0.9),
        ),
    )
    assert (
        verdict(reports, "Identity is preserved") == "partly supported"
    )  # as constant as the truth, but often another person


def test_diversity_has_to_beat_every_arm_of_equal_volume(reports):
    def beside(**verdicts):
        rows = [
            {
                "dataset": "d",
                "arm": arm,
                "baseline": baseline,
                "metric": "mAP",
                "difference": 1.0,
                "ci_low": 0.5,
                "ci_high": 1.5,
                "seeds": 6,
                "verdict": words,
            }
            for key, words in verdicts.items()
            for arm, baseline in [key.replace("_", "-").split("--")]
        ]
        return lambda table: pd.DataFrame(rows)

    words = "Diverse viewpoints and poses help"
    for found, expected in [
        (dict(pose_dive__repeat="gain", oracle__oracle_same="gain"), "supported"),
        (dict(pose_dive__repeat="loss", oracle__oracle_same="gain"), "partly supported"),
        (dict(pose_dive__repeat="loss", oracle__oracle_same="no effect shown"), "contradicted"),
        (
            dict(pose_dive__repeat="no effect shown", viewpoint__same_distribution="gain"),
            "not shown",
        ),
        (dict(viewpoint__same_distribution="gain"), "not tested"),
    ]:
        change(reports, "tables/diversity_volume", beside(**found))
        assert verdict(reports, words) == expected, found


def test_the_bias_of_viewpoints_needs_viewpoints_to_help(reports):
    """pose-dive may gain by its new poses alone: then the claim on viewpoints holds in part."""
    words = "bias of camera viewpoints"
    change(reports, "tables/comparison", lambda t: t.assign(verdict="gain"))
    for found, expected in [("gain", "supported"), ("no effect shown", "partly supported")]:
        alone = {
            "dataset": "msmt17-s-cam",
            "arm": "viewpoint",
            "baseline": "same-distribution",
            "metric": "mAP",
            "verdict": found,
        }
        change(
            reports,
            "tables/diversity_volume",
            lambda t, alone=alone: pd.DataFrame([{**t.iloc[0], **alone}]),
        )
        assert verdict(reports, words) == expected


def test_every_claim_has_its_rule_and_every_rule_its_claim():
    assert {claim.rule for claim in claims.CLAIMS} == set(claim_rules.RULES)


def test_published_gains_are_those_that_the_study_compares_with():
    said = {
        claim.arguments["dataset"]: float(claim.paper.partition(": ")[2].split()[0])
        for claim in claims.CLAIMS
        if claim.rule == "same_sign"
    }
    assert said == comparison.PUBLISHED


def test_choices_read_the_parameters():
    P = params.load(ROOT / "params.yaml")
    table = choices(P).set_index("choice")
    assert len(table) == len(CHOICES) and table.map(lambda cell: bool(cell.strip())).all(axis=None)
    assert f"tau_gen {P.augment.tau_gen}" in table.loc["thresholds of the filter", "ours"]
    changed = P.model_copy(update={"augment": P.augment.model_copy(update={"tau_gen": 0.123})})
    assert (
        "tau_gen 0.123"
        in choices(changed).set_index("choice").loc["thresholds of the filter", "ours"]
    )


def test_the_page_says_what_the_corrections_leave(reports):
    change(
        reports,
        "tables/comparison",
        lambda t: t.assign(
            seeds=6, difference=1.0, smallest_p_holm=0.59375, p_holm=1.0, p_joint=0.03125
        ),
    )
    said = claims.correction(claims.Evidence(reports, 0))
    count = (pd.read_csv(reports / "tables/comparison.csv")["metric"] == "mAP").sum()
    assert (
        f"significant after it at 0.05: gains {count}, losses 0." in said
        and "none can pass: with 6 seeds its p is 0.594 at best." in said
    )
    change(
        reports,
        "tables/comparison",
        lambda t: t.assign(
            seeds=10,
            difference=-1.0,
            smallest_p_holm=0.0371,
            p_holm=[0.04, 0.04, *[0.5] * (len(t) - 2)],
            p_joint=0.002,
        ),
    )
    passed = claims.correction(claims.Evidence(reports, 0))
    assert (
        f"gains 0, losses {count}." in passed
        and "1 pass: with 10 seeds its p is 0.037 at best." in passed
    )  # of the two rows, one is of rank-1
