"""What `dvc metrics`, `dvc plots` and the README's experiments show and accept."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from pipeline import ROOT, stages

from posedive_lib import params
from posedive_lib.bench import pipeline
from posedive_lib.errors import StudyError
from posedive_lib.study.collect import metrics

GUIDE = (ROOT / "docs/experiments.md").read_text()
EXAMPLES = re.findall(r'dvc exp run -S "([^"]+)" (\w+)', GUIDE)


def run(folder: Path, *command: str) -> str:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
    }
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """The pipeline and its reports, committed, in a repository of their own."""
    folder = tmp_path_factory.mktemp("views")
    for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy2(ROOT / name, folder)
    for name in ("reports/tables", "reports/figures/03", ".dvc/plots"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy2(ROOT / "reports/metrics.json", folder / "reports")
    shutil.copy2(ROOT / ".dvc/config", folder / ".dvc")
    run(folder, "git", "init", "-q")
    run(folder, "git", "add", "-A")
    run(folder, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first")
    return folder


def test_plots_show_every_row_and_interval(repository):
    shown = json.loads(run(repository, "dvc", "plots", "show", "--json", "--out", "plots"))["data"]
    declared = [
        next(iter(plot)) for plot in yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
    ]
    assert list(shown) == declared
    for name in ("comparison", "images_per_pid", "threshold_sweep"):
        (plot,) = shown[name]
        table = pd.read_csv(ROOT / f"reports/tables/{name}.csv")
        assert len(plot["content"]["data"]["values"]) == len(
            table
        ) and "DVC_METRIC" not in json.dumps(plot["content"])
        used = set(re.findall(r'"field": "(\w+)"', json.dumps(plot["content"]["spec"]))) - {
            "comparison",
            "rev",
        }
        assert used and used <= set(table.columns) and {"ci_low", "ci_high"} <= used


def test_metrics_differ_between_revisions(repository):
    path = repository / "reports/metrics.json"
    before = path.read_text()
    changed = json.loads(before)
    changed["generator"]["pck"] += 0.1
    path.write_text(json.dumps(changed))
    diff = json.loads(run(repository, "dvc", "metrics", "diff", "--json"))
    path.write_text(before)
    (entry,) = diff["reports/metrics.json"].values()
    assert entry["diff"] == pytest.approx(0.1)


def test_metrics_are_those_of_the_tables():
    def read(name: str) -> pd.DataFrame:
        return pd.read_csv(ROOT / f"reports/tables/{name}.csv")

    shown = pd.json_normalize(json.loads((ROOT / "reports/metrics.json").read_text()))
    again = pd.json_normalize(
        metrics(read("reid_runs"), read("comparison"), read("generator_quality"))
    )
    assert set(shown) == set(again)
    assert shown.iloc[0].to_dict() == pytest.approx(
        again.iloc[0].to_dict(), rel=0, abs=0, nan_ok=True
    )


def test_the_guide_shows_a_threshold_a_count_and_a_seed():
    assert [override.partition("=")[0] for override, _ in EXAMPLES] == [
        "study.thresholds",
        "study.counts",
        "reid.seeds",
    ]


@pytest.mark.parametrize("override, stage", EXAMPLES)
def test_experiments_of_the_guide_are_accepted_and_reach_their_stage(tmp_path, override, stage):
    from dvc.utils.hydra import apply_overrides  # what `dvc exp run -S` calls

    shutil.copy2(ROOT / "params.yaml", tmp_path)
    before = params.load(tmp_path / "params.yaml").model_dump()
    apply_overrides(tmp_path / "params.yaml", [override])
    after = params.load(tmp_path / "params.yaml").model_dump()
    section, key = override.partition("=")[0].split(".")
    assert len(after[section].pop(key)) > len(before[section].pop(key)) and after == before
    # the stage itself or one that it needs has to list the parameter, or DVC would run nothing
    known, todo, seen = stages(), [stage], set()
    links = pipeline.edges(known)
    while todo:
        seen.add(name := todo.pop())
        todo += [start for start, end in links if end == name and start not in seen]
    reached = {one for name in seen for one in known[name].get("params", [])}
    assert {section, f"{section}.{key}"} & reached


def test_a_wrong_experiment_is_refused(tmp_path):
    from dvc.utils.hydra import apply_overrides

    shutil.copy2(ROOT / "params.yaml", tmp_path)
    apply_overrides(tmp_path / "params.yaml", ["study.thresholds=[0.15,7]"])
    with pytest.raises(StudyError, match="thresholds"):
        params.load(tmp_path / "params.yaml")
