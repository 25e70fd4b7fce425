"""The paper's profile, as a researcher runs it on licensed files, in miniature: every stage.

What needs no truth comes out, the rest is left out, and nothing is called rendered.
"""

import subprocess
from pathlib import Path

import pandas as pd
import pytest
import rehearsal
import yaml
from pipeline import run, stages
from test_pipeline_smoke import copy_repository

# What differs from params/paper.yaml but for `paths`: sizes, steps and how many runs there are, no
# GPU, and what a generator of random weights can pass of the filter.
REDUCED = {
    "image": {"height": 128, "width": 64},
    "world": {"workers": 1},
    "splits": {  # of few photos more has to be left
        "cam": {"train_max_azimuth": 75.0, "test_min_azimuth": 90.0},
        "pose": {"clusters": 3, "train_clusters": 2},
    },
    "generator": {
        "guider_widths": {"depth": 8, "normals": 12, "skeleton": 12},
        "guider_channels": [4, 8, 8, 16],
        "precision": "fp32",
        "steps": 4,
        "log_every": 2,
        "checkpoint_every": 2,
        "sample_every": 2,
        "sampling": {"steps": 2},
    },
    "augment": {
        "candidates_per_pid": 2,
        "images_per_pid": 2,
        "tau_ref": 0.1,
        "tau_tar": 0.1,
        "epsilon_gen": 0.9,
        "tau_gen": 0.0,
    },
    "reid": {
        "seeds": [0],
        "image": {"height": 128, "width": 64},
        "batch_size": 16,
        "precision": "fp32",
        "stage1": {"steps": 2},
        "stage2": {"steps": 2},
        "resnet": {"steps": 2},
    },
    "study": {
        "arms": {  # where notebooks need them; of the two that diversify a part none
            "real": "all",
            "repeat": ["msmt17-s-cam"],
            "pose-dive": ["msmt17", "msmt17-s-cam", "msmt17-s-pose", "cuhk03-labeled"],
            "same-distribution": ["msmt17-s-pose"],
            "uniform": ["cuhk03-labeled"],
            "unfiltered": ["msmt17-s-pose"],
        },
        "workers": 1,
        "counts": [0, 1, 2],
        "thresholds": [0.6, 0.9],
        "quantiles": [0.0],
        "borders": [45.0],
        "longer": {"factor": 2, "datasets": ["msmt17-s-cam"], "seeds": [0]},
        "failure_samples": 6,
        "poor_references": 2,
    },
}


def updated(values: dict, changes: dict) -> dict:
    """Nested values with others in their places, which must be there; arms as they are given."""
    for key, value in changes.items():
        assert key in values
        inner = isinstance(value, dict) and isinstance(values[key], dict) and key != "arms"
        values[key] = updated(values[key], value) if inner else value
    return values


def files(folder: Path) -> dict[Path, tuple[bytes, int]]:
    """Bytes and time of every file below a folder, and the time of every folder."""
    return {
        path: (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns)
        for path in [folder, *folder.rglob("*")]
    }


@pytest.mark.slow(seconds=500)
def test_the_paper_s_profile_on_licensed_files(tmp_path, monkeypatch):
    own, study = tmp_path / "licensed", tmp_path / "study"
    own.mkdir()
    copy_repository(study)
    smoke = yaml.safe_load((study / "params.yaml").read_text())
    smoke["world"]["aspects"] = None  # Market-1501's crops have one size
    (study / "params.yaml").write_text(yaml.safe_dump(smoke, sort_keys=False))
    run(study, "python", "-m", "miniworld.build")
    run(study, "cp", "params/smoke.yaml", "params.yaml")
    run(study, "python", "-m", "posedive_lib.params.profile", "paper")
    values = updated(yaml.safe_load((study / "params.yaml").read_text()), REDUCED)
    world = study / "build/world"
    rehearsal.data_sets(world, own / "sets")
    rehearsal.hmr2(world, own / "hmr2")
    rehearsal.smpl(study / "data/body/SMPL_NEUTRAL.npz", own / "SMPL.pkl")
    rehearsal.amass(study / "data/motions", own / "AMASS")
    rehearsal.hub(study / "data/pretrained", own / "hub", values["paths"], values["generator"])
    monkeypatch.setenv("HF_HUB_CACHE", str(own / "hub"))
    mine = {"datasets": "sets", "body": "SMPL.pkl", "motions": "AMASS"}
    values["paths"] |= {name: str(own / place) for name, place in mine.items()}
    values["bodies"] = {"source": "hmr2", "hmr2": str(own / "hmr2")}
    run(study, "rm", "-r", "build")
    (study / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    run(study, "git", "add", "-A")
    run(study, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "mine")
    before = files(own)

    run(study, "dvc", "repro")

    assert files(own) == before
    changed = subprocess.run(
        ["git", "status", "--porcelain"], cwd=study, capture_output=True, text=True, check=True
    )
    names = {line.split()[-1] for line in changed.stdout.splitlines()}
    assert names <= {"dvc.lock", "data.dvc"}  # no picture where git may take it
    bodies = pd.read_csv(study / "build/bodies/bodies.csv").set_index("dataset")
    assert bodies.loc["market1501", "given"] > bodies.loc["market1501", "fitted"] > 0
    assert (bodies.drop("market1501")["given"] == 0).all() and len(bodies) == 4
    reports = study / "build/reports"
    counts = pd.read_csv(reports / "tables/splits.csv")
    assert set(counts["dataset"]) == set(values["study"]["datasets"])
    names = [name for name in stages() if name[:2].isdigit()]
    assert [name for name in names if not (reports / f"notebooks/{name}.ipynb").is_file()] == []
    what_needs_no_truth(reports)


def what_needs_no_truth(reports: Path) -> None:
    """Figures, tables and words of reports on photos without the truth."""
    shown = {
        path.relative_to(reports / "figures").as_posix()
        for path in (reports / "figures").rglob("*")
        if path.suffix in (".jpg", ".png")
    }
    assert {"03/unseen_people.jpg", "07/threshold_sweep.png", "09/sheet_1.jpg"} <= shown
    assert {"08/same_pose.jpg", "08/same_identity.jpg", "08/generator_gain.png"} <= shown
    assert not {"08/beside_truth.jpg", "09/colours.jpg"} & shown
    quality = pd.read_csv(reports / "tables/generator_quality.csv")
    assert set(quality["metric"]) == {"pck", "identity_top1"} and quality["value"].notna().all()
    for text in [reports / "claims.md", *(reports / "figures").rglob("*.md")]:
        said = text.read_text()
        assert "mini world" not in said and "true render" not in said, text
    verdicts = pd.read_csv(reports / "tables/claims.csv").set_index("paper says")["verdict"]
    assert verdicts["Identity is preserved across poses and viewpoints"] == "not tested"
    assert verdicts["Performance peaks at a threshold of 0.6"] == "not tested"
