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


# Who works, and how many at a time, changes no result.
PACE = {"study.workers", "world.workers", "scale.scheduler"}


def parameters_read(folder: Path) -> dict[str, set[str]]:
    """Stage -> the parameters that it read, as tests/recording wrote them down."""
    read: dict[str, set[str]] = {}
    for file in folder.iterdir():
        read.setdefault(file.stem, set()).update(set(file.read_text().split()) - PACE)
    return read


def covers(listed: str, read: str) -> bool:
    """Whether a parameter or section that a stage lists has part in one that was read."""
    for one in read.split("|"):
        name = one.removesuffix(".*")
        if name == listed or name.startswith(f"{listed}."):
            return True
        if name != one and listed.startswith(f"{name}."):
            return True
    return False


@pytest.mark.slow(seconds=850)
def test_the_whole_pipeline_at_smoke_size(tmp_path, tmp_path_factory, monkeypatch):
    copy_repository(tmp_path)
    record = tmp_path_factory.mktemp("parameters")
    monkeypatch.setenv("RECORD_PARAMETERS", str(record))
    run(tmp_path, "dvc", "repro")
    outs = [out for stage in stages().values() for out in pipeline.paths(stage["outs"])]
    assert [out for out in outs if not (tmp_path / out).exists()] == []
    assert not any(
        path.is_dir() and not any(path.iterdir()) for path in map(tmp_path.joinpath, outs)
    )
    assert "Data and pipelines are up to date." in run(tmp_path, "dvc", "repro")
    assert "Data and pipelines are up to date." in run(tmp_path, "dvc", "status")

    read = parameters_read(record)
    for name, stage in stages().items():
        listed = stage.get("params", [])
        idle = [
            one for one in listed if not any(covers(one, other) for other in read.get(name, ()))
        ]
        assert not idle, f"{name} lists parameters that it never reads: {idle}"
        missing = [
            one for one in read.get(name, ()) if not any(covers(other, one) for other in listed)
        ]
        assert not missing, f"{name} reads parameters that it does not list: {sorted(missing)}"
