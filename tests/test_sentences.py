"""Sentences and tables agree: in the README, and in the executed notebooks."""

import re

import nbformat
import numpy as np
import pandas as pd
import pytest
from pipeline import ROOT, executed

from posedive_lib.errors import StudyError
from posedive_lib.study import border_sentences, replication_gains, sentences, summary
from posedive_lib.study.in_short import in_short
from posedive_lib.study.names import NAMES
from posedive_lib.writing import placed

README = (ROOT / "README.md").read_text()
# Page -> its part with results, and the blocks in it that are generated and held to the reports.
RESULTS = {
    "README.md": (
        README[README.index("## What came out") : README.index("## Two commands")],
        ("short", "table"),
    ),
    "docs/results.md": ((ROOT / "docs/results.md").read_text(), ("results", "replication")),
}


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / f"reports/tables/{name}.csv")


def test_the_readmes_results_and_cost_are_those_of_the_reports(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert summary.main(["--check"]) == 0, "run: python -m posedive_lib.study.summary"
    assert capsys.readouterr().out == "current\n"


def test_other_tables_give_other_sentences(tmp_path):
    """A loss is told as a loss, wherever the gain was."""
    comparison = table("comparison")
    for column in ("difference", "ci_low", "ci_high"):
        comparison[column] = -comparison[column]
    swapped = {"gain": "loss", "loss": "gain"}
    comparison["verdict"] = comparison["verdict"].replace(swapped)
    comparison.loc[comparison["dataset"] == "cuhk03-labeled", "verdict"] = "gain"
    for name in ("diversity_volume", "generator_gain", "generator_quality"):
        table(name).to_csv(tmp_path / f"{name}.csv", index=False)
    comparison.to_csv(tmp_path / "comparison.csv", index=False)
    said, before = (
        summary.summary(sentences.Tables(tmp_path)),
        summary.summary(sentences.Tables(ROOT / "reports/tables")),
    )
    assert said != before
    first = sentences.verdicts(sentences.Tables(tmp_path))
    gained = sentences.verdicts(sentences.Tables(ROOT / "reports/tables"))
    assert "not been run to its end" in summary.trust(sentences.Tables(tmp_path))
    assert "gains on MSMT17-S (Cam)" in gained and "loses on MSMT17-S (Cam)" in first


def test_fresh_worlds_lead_once_they_were_run(tmp_path):
    """Their gains, intervals and verdicts, told before those of the default study."""
    rng = np.random.default_rng(0)
    means = {"real": 50.0, "same-distribution": 53.0, "pose-dive": 52.0, "oracle": 57.0}
    runs = pd.DataFrame(
        [
            (world, "msmt17-s-cam", arm, rng.normal(mean, 0.1), rng.normal(mean, 0.1))
            for world in range(6)
            for arm, mean in means.items()
        ],
        columns=["world", "dataset", "arm", "mAP", "rank1"],
    )
    for name in ("comparison", "diversity_volume", "generator_gain", "generator_quality"):
        table(name).to_csv(tmp_path / f"{name}.csv", index=False)
    tables = sentences.Tables(tmp_path)
    before = summary.summary(tables)
    gains = replication_gains.gains(runs)
    gains.to_csv(tmp_path / "replication_gains.csv", index=False)
    said = summary.summary(tables)
    assert said.endswith(before) and len(said) > len(before)
    first = " ".join(said.removesuffix(before).split())
    assert first.startswith("## New worlds Every setting was fixed before these 6 worlds.")
    found = gains.query("arm == 'pose-dive' and metric == 'mAP'").set_index("baseline")
    gain, new = (found.loc[name] for name in ("real", "same-distribution"))
    low, high = f"{gain.ci_low:+.1f}", f"{gain.ci_high:+.1f}"
    assert (
        f"| MSMT17-S (Cam), {gain.baseline_mean:.1f} | {gain.difference:+.1f} [{low}, {high}] |"
        in first
    )
    assert "`pose-dive` gains on MSMT17-S (Cam)." in first
    trusted = summary.trust(tables)
    here = table("diversity_volume").query(
        "dataset == 'msmt17-s-cam' and arm == 'pose-dive' and metric == 'mAP'"
    )
    here = here.set_index("baseline").loc["same-distribution", "difference"]
    assert f"{new.difference:+.1f} on MSMT17-S (Cam) ({here:+.1f} in the" in trusted
    assert (
        f"new ones are worth {new.difference:+.1f} [" in first and "MSMT17-S (Cam) (loss)" in first
    )
    true = gains.query("arm == 'pose-dive' and baseline == 'oracle' and metric == 'mAP'").iloc[0]
    assert true["verdict"] == "loss"
    ends = f"[{true['ci_low']:+.1f}, {true['ci_high']:+.1f}]"
    lacking = f"generated ones: {true['difference']:+.1f} {ends} mAP on MSMT17-S (Cam) (loss)."
    assert lacking in first


def test_four_sentences_say_gains_losses_and_where_nothing_is_shown(tmp_path):
    tables = sentences.Tables(tmp_path)
    assert in_short(tables) == []
    gains = table("replication_gains")
    pair = (gains["arm"] == "pose-dive") & (gains["baseline"] == "real")
    own = gains[pair & (gains["metric"] == "mAP")].set_index("dataset")
    gains.loc[pair & (gains["dataset"] == "market1501"), "verdict"] = "loss"
    gains.to_csv(tmp_path / "replication_gains.csv", index=False)
    cam, pose, market = (
        f"{NAMES[name]} ({own.loc[name, 'difference']:+.1f})"
        for name in ("msmt17-s-cam", "msmt17-s-pose", "market1501")
    )
    first, *others = in_short(tables)
    rank1 = sentences.rank1_span(tables, "replication_gains")
    assert first == (
        f"In 8 new rendered worlds, the method's images (`pose-dive`) gain mAP on {cam} and {pose} "
        f"and lose mAP on {market}. No effect is shown on CUHK03 (L). In rank-1: "
        f"{rank1[0].lower()}{rank1[1:]}"
    )
    assert len(others) == 3 and " true photos in the new poses and views, they " in others[1]
    gains.assign(verdict="no effect shown").to_csv(tmp_path / "replication_gains.csv", index=False)
    assert "the new ones show no effect on mAP." in in_short(sentences.Tables(tmp_path))[1]


def test_true_photos_are_no_ceiling_only_by_a_verdict(tmp_path):
    """A lower mean alone is told as such."""
    for name in ("comparison", "diversity_volume"):
        table(name).to_csv(tmp_path / f"{name}.csv", index=False)
    pairs = pd.read_csv(tmp_path / "diversity_volume.csv")
    own = (pairs["arm"] == "pose-dive") & (pairs["baseline"] == "oracle")
    pairs.loc[own, ["difference", "verdict"]] = 2.0, "no effect shown"
    for verdict, said, other in (
        ("no effect shown", "That may be chance: no effect is shown.", "no upper limit"),
        ("gain", "Where this is a gain, true photos are no upper limit.", "chance"),
    ):
        pairs.loc[own, "verdict"] = verdict
        pairs.to_csv(tmp_path / "diversity_volume.csv", index=False)
        text = sentences.rank1(sentences.Tables(tmp_path))
        assert said in text and other not in text
    pairs.loc[own, "difference"] = -1.0
    pairs.to_csv(tmp_path / "diversity_volume.csv", index=False)
    assert "higher than" not in sentences.rank1(sentences.Tables(tmp_path))


def test_other_rules_and_borders_stand_beside_the_lead(tmp_path):
    tables = sentences.Tables(tmp_path)
    assert sentences.other_rules(tables) == border_sentences.border_ends(tables) == ""
    rules = [("as frozen", "gain"), ("plain means", "no effect shown"), ("Holm's", "gain")]
    checks = [("msmt17-s-cam", rule, verdict) for rule, verdict in rules]
    checks.append(("msmt17-s-cam-45", "plain means", "no effect shown"))
    columns = ["dataset", "rule", "verdict"]
    pd.DataFrame(checks, columns=columns).to_csv(tmp_path / "replication_checks.csv", index=False)
    assert "comes from 1 of 2 on MSMT17-S (Cam) (" in sentences.other_rules(tables)
    rows = table("borders")
    rows.to_csv(tmp_path / "borders.csv", index=False)
    own = rows.query("arm == 'pose-dive' and metric == 'mAP'").set_index("border")["difference"]
    said = border_sentences.border_ends(tables)
    assert f"`pose-dive` brings {own.iloc[0]:+.1f}" in said and f"to {own.iloc[-1]:+.1f}" in said
    gains = table("replication_gains")
    gains.to_csv(tmp_path / "replication_gains.csv", index=False)
    wanted = "dataset == 'msmt17-s-cam-45' and baseline == 'same-distribution'"
    margin = gains.query(f"{wanted} and arm == 'pose-dive' and metric == 'mAP'").iloc[0]
    text = border_sentences.beyond(tables, "replication_gains")
    assert "beyond 45°" in text and f"worth {margin['difference']:+.1f} [" in text
    assert border_sentences.beyond(tables, "borders") == ""  # it has no such row


def test_parts_and_the_baseline_are_told_by_their_verdicts(tmp_path):
    names = ("comparison", "diversity_volume", "generator_gain", "reid_runs", "resnet")
    for name in (*names, "training_length"):
        table(name).to_csv(tmp_path / f"{name}.csv", index=False)
    pairs = table("diversity_volume")
    where = (pairs["dataset"] == "msmt17-s-cam") & (pairs["metric"] == "mAP")
    own = where & (pairs["arm"] == "pose-dive") & (pairs["baseline"] == "unfiltered")
    pairs.loc[own, ["difference", "verdict"]] = 1.5, "gain"
    pairs.to_csv(tmp_path / "diversity_volume.csv", index=False)
    said = sentences.parts(sentences.Tables(tmp_path))
    assert "On MSMT17-S (Cam) a gain in mAP is shown of the filter (Eq. 4 to 6) (+1.5)." in said
    assert "a gain" not in sentences.parts(sentences.Tables(ROOT / "reports/tables"))
    longer = table("training_length")
    longer.loc[longer["length"] > 1, "baseline_mean"] = 0.0
    longer.to_csv(tmp_path / "training_length.csv", index=False)
    weaker = table("resnet").assign(baseline_mean=10.0)
    weaker.to_csv(tmp_path / "resnet.csv", index=False)
    said = sentences.baseline(sentences.Tables(tmp_path))
    assert " brings -" in said and "is better" not in said and "has 10.0 on" in said
    (tmp_path / "resnet.csv").unlink()
    (tmp_path / "training_length.csv").unlink()
    assert sentences.baseline(sentences.Tables(tmp_path)) == ""


def test_copies_are_told_beside_generated_images(tmp_path):
    for name in ("generator_gain", "generator_quality", "reid_runs"):
        table(name).to_csv(tmp_path / f"{name}.csv", index=False)
    said = sentences.persons(sentences.Tables(tmp_path))
    assert "of copies of the reference" in said and "; in copies" in said
    quality = table("generator_quality")
    quality[quality["method"] == "generated"].to_csv(
        tmp_path / "generator_quality.csv", index=False
    )
    said = sentences.persons(sentences.Tables(tmp_path))
    assert "copies" not in said and "renderings" not in said


def test_holm_s_least_p_is_told_where_nothing_can_pass_it(tmp_path):
    comparison = table("comparison")
    for least, told in ((0.5, True), (0.03, False)):
        comparison["smallest_p_holm"] = least
        comparison.to_csv(tmp_path / "comparison.csv", index=False)
        assert ("Holm" in summary.correction(sentences.Tables(tmp_path))) == told


def test_missing_tables_and_markers_are_named(tmp_path):
    with pytest.raises(StudyError, match="comparison.csv: run `dvc repro` first"):
        summary.summary(sentences.Tables(tmp_path))
    with pytest.raises(StudyError, match="lacks the lines <!-- results: begin --> and"):
        placed("# A README", "results", "text")


@pytest.mark.parametrize("page", RESULTS)
def test_no_result_is_typed(page):
    typed, generated = RESULTS[page]
    for name in generated:
        block = re.search(f"<!-- {name}: begin -->.*<!-- {name}: end -->", typed, re.DOTALL)
        typed = typed.replace(block[0], "")
    assert re.findall(r"\d+\.\d+|\d+ ?%", typed) == []


def too_long(text: str) -> list[str]:
    """Lines of Markdown over 100 columns; tables, formulas, code and long links may be longer."""
    text = re.sub(r"```.*?```|\$\$.*?\$\$", "", text, flags=re.DOTALL)
    return [
        line
        for line in text.splitlines()
        if len(line) > 100
        and not line.startswith(("|", "    "))
        and not re.fullmatch(r"\W*\S*\]\(\S+\)\S*", line)  # the end of one link, and no more
    ]


@pytest.mark.parametrize(
    "path",
    [
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "notebooks").glob("*.ipynb")),
        *sorted((ROOT / "notebooks/texts").glob("*.yaml")),
    ],
    ids=lambda path: path.name,
)
def test_prose_can_be_read_in_a_terminal(path):
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        assert too_long(text) == []
    elif path.suffix == ".yaml":  # every line is indented
        assert [line for line in path.read_text().splitlines() if len(line) > 100] == []
    else:
        assert too_long(path.read_text()) == []


def test_a_line_that_is_too_long_is_found():
    wide = "word " * 21
    for exempt in (f"| {wide}|", f"    {wide}", f"```\n{wide}\n```", f"$${wide}$$"):
        assert too_long(exempt) == []
    assert too_long(f"[a](https://{'x' * 99}).") == []
    assert too_long(f"One.\n{wide}\n") == [wide]


def test_the_findings_of_notebook_05_are_its_table():
    text = executed("05_reid_comparison")
    shown = table("comparison").query("arm == 'pose-dive' and verdict != 'no effect shown'")
    for row in shown.itertuples():
        gain = f"{row.difference:+.1f} [{row.ci_low:+.1f}, {row.ci_high:+.1f}]"
        assert f"{NAMES[row.dataset]} {gain}" in text, (row.dataset, row.metric)


@pytest.mark.parametrize(
    "name, saved, column",
    [
        ("06_images_per_identity", "images_per_pid", "images_per_pid"),
        ("07_threshold_sweep", "threshold_sweep", "threshold"),
    ],
)
def test_the_peaks_of_notebooks_06_and_07_are_those_of_their_tables(name, saved, column):
    text, rows = executed(name).replace("rank-1", "rank1"), table(saved)
    for metric, part in rows.groupby("metric"):
        best = part.loc[part["mean"].idxmax()]
        assert f"Highest mean {metric}: {best['mean']:.2f} at {best[column]:g};" in text


def test_the_findings_of_notebook_03_are_its_table():
    value = table("generator_quality").set_index(["method", "metric"])["value"]
    text = executed("03_generator_training")
    right = f"On average {value['generated', 'pck']:.0%} of the visible key points are right in "
    right += f"generated images, {value['true-render', 'pck']:.0%} in true renderings"
    assert right in " ".join(text.split())
    psnr = f"PSNR {value['generated', 'psnr']:.1f} generated, "
    assert psnr + f"{value['copy-reference', 'psnr']:.1f} copied" in text
    assert f"{value['generated', 'print_kept']:.0%} of the prints are kept" in text


@pytest.mark.parametrize(
    "name, unit, least, most",
    [("reid_runs", "seed", -0.3, 0.3), ("replication", "world", 0.8, 1.0)],
)
def test_pairing_pays_over_worlds_and_not_over_seeds(name, unit, least, most):
    """As docs/primary_analysis.md has it: the mean correlation of two arms' mAP."""
    runs, found = table(name), []
    if "experiment" in runs:
        runs = runs[(runs["experiment"] == "comparison") & (runs["model"] == "clip-reid")]
    for _, part in runs.groupby("dataset"):
        pairs = part.pivot(index=unit, columns="arm", values="mAP").corr().to_numpy()
        found += list(pairs[np.triu_indices(len(pairs), k=1)])
    assert least < np.nanmean(found) < most
