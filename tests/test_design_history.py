"""docs/design_history.md repeats the comparisons of the commits that it names, and misses none."""

import io
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/design_history.md").read_text(encoding="utf-8")
TABLE = "reports/tables/comparison.csv"
SETS = [
    "msmt17-s-cam",
    "msmt17-s-pose",
    "market1501",
    "msmt17",
    "cuhk03-labeled",
    "cuhk03-detected",
]
DESIGNS = dict(re.findall(r"^\| ([A-Z]) \| `([0-9a-f]{7})` \|", PAGE, re.MULTILINE))
GAINS, RANKS = (part.split("\n## ")[0] for part in PAGE.split("\n## Gain in ")[1:])


def git(*arguments: str) -> str:
    """What git prints; the test is skipped where the copy has no history."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("this copy of the project comes without its history")
    return done.stdout


def rows_of(design: str, part: str) -> dict[str, list[str]]:
    """Arm -> the cells of a design's rows in a part of the page."""
    found = re.findall(rf"^\| {design} \| (.+?) \| (.+) \|$", part, re.MULTILINE)
    return {arm: cells.split(" | ") for arm, cells in found}


def cells(values: pd.Series) -> list[str]:
    return [f"{values[name]:+.1f}" if name in values else "–" for name in SETS]


@pytest.mark.parametrize("design", DESIGNS)
def test_a_design_s_gains_are_those_of_its_commit(design):
    table = pd.read_csv(io.StringIO(git("show", f"{DESIGNS[design]}:{TABLE}")))
    table = table[table["baseline"] == "real"]
    said = rows_of(design, GAINS)
    maps, ranks = (table[table["metric"] == metric] for metric in ("mAP", "rank1"))
    real = maps.drop_duplicates("dataset").set_index("dataset")["baseline_mean"]
    assert said.pop("mAP of `real`") == [f"{real[name]:.1f}" for name in SETS]
    assert set(said) == {f"`{arm}`" for arm in maps["arm"]}
    for arm, own in maps.groupby("arm"):
        assert said[f"`{arm}`"] == cells(own.set_index("dataset")["difference"])
    for arm, shown in rows_of(design, RANKS).items():
        own = ranks[ranks["arm"] == arm.strip("`")].set_index("dataset")["difference"]
        assert shown == cells(own)


def test_a_second_run_of_one_design_moved_as_little_as_the_page_says():
    counts = {}
    for name in ("diversity_volume", "resnet", "comparison"):
        first, second = (
            pd.read_csv(io.StringIO(git("show", f"{DESIGNS[design]}:reports/tables/{name}.csv")))
            for design in "JK"
        )
        both = first.merge(second, on=["dataset", "arm", "baseline", "metric"], suffixes=("", "_2"))
        assert len(both) == len(first) == len(second)
        counts[name] = f"{(both['verdict'] != both['verdict_2']).sum()} of {len(both)}"
    assert counts["comparison"].startswith("0 of ")
    words = " ".join(PAGE.split())
    assert f"Between arms {counts['diversity_volume']} verdicts changed" in words
    assert f"and of the ResNet's {counts['resnet']}." in words
    maps = both[both["metric"] == "mAP"]
    real, change = (
        (maps[name] - maps[f"{name}_2"]).abs().max() for name in ("baseline_mean", "difference")
    )
    said = f"`real` moved by at most {real:.1f}, and the difference of an arm by at most"
    assert f"{said} {change:.1f}." in words


def test_no_comparison_that_was_committed_is_left_out():
    changed = git("log", "--format=%h", "--abbrev=7", "--no-merges", "--", TABLE).split()
    assert sorted(changed) == sorted(DESIGNS.values())
