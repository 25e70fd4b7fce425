"""The whole pipeline at smoke size: every output appears, a second run has nothing to do."""

import shutil
import subprocess
from pathlib import Path

import pytest
from pipeline import ROOT, run, stages

from posedive_lib.bench import pipeline


def copy_repository(target: Path) -> None:
    """What git tracks or would track, with smoke parameters and data, as a repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (
            name.startswith(("reports/", ".dvc/bundle/", "miniworld/pretrain/"))
            or name == "dvc.lock"
            or not (ROOT / name).is_file()
        ):
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    shutil.copytree(ROOT / "data", target / "data")
    shutil.copy2(target / "params/smoke.yaml", target / "params.yaml")
    subprocess.run(["git", "init", "-q"], cwd=target, check=True)


@pytest.mark.slow
def test_the_whole_pipeline_at_smoke_size(tmp_path):
    copy_repository(tmp_path)
    run(tmp_path, "dvc", "repro")
    outs = [out for stage in stages().values() for out in pipeline.paths(stage["outs"])]
    assert [out for out in outs if not (tmp_path / out).exists()] == []
    assert not any(
        path.is_dir() and not any(path.iterdir()) for path in map(tmp_path.joinpath, outs)
    )
    assert "Data and pipelines are up to date." in run(tmp_path, "dvc", "repro")
    assert "Data and pipelines are up to date." in run(tmp_path, "dvc", "status")
