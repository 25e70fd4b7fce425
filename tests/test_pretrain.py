"""The pre-trained models' own pipeline, on few people and for few steps, in a copy."""

import math
import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from pipeline import ROOT, run

from miniworld.pretrain import common
from posedive_lib import params
from posedive_lib.digests import folder_digest
from posedive_lib.errors import StudyError
from posedive_lib.weights import plain


def shorter(text: str) -> str:
    """miniworld/pretrain/params.yaml with few people and steps."""
    for pattern, value in (
        (r"persons: \d+", "persons: 24"),
        (r"frames: \d+", "frames: 8"),
        (r"held_out: \d+", "held_out: 24"),
        (r"held_out_frames: \d+", "held_out_frames: 8"),
        (r"steps: \d+", "steps: 2"),  # decay_steps too
        (r"batch_size: \d+", "batch_size: 4"),
        (r"at_least: \d+", "at_least: 1"),
        (r"workers: \d+", "workers: 1"),  # to start one costs as much as its work
    ):
        text, count = re.subn(pattern, value, text)
        assert count, pattern
    return text


@pytest.mark.slow(seconds=320)
def test_all_models_are_trained_measured_and_published(tmp_path):
    for folder in ("miniworld", "posedive_lib"):
        shutil.copytree(
            ROOT / folder,
            tmp_path / folder,
            ignore=shutil.ignore_patterns("runs", "__pycache__", "tmp", "cache", "dvc.lock"),
        )
    shutil.copytree(ROOT / "data", tmp_path / "data")
    shutil.copy2(ROOT / "params.yaml", tmp_path / "params.yaml")
    settings = tmp_path / "miniworld/pretrain/params.yaml"
    settings.write_text(shorter(settings.read_text()))
    (tmp_path / "miniworld/pretrain/metrics.csv").unlink()
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)

    run(tmp_path / "miniworld/pretrain", "dvc", "repro")
    assert "up to date" in run(tmp_path / "miniworld/pretrain", "dvc", "status")
    measured = pd.read_csv(tmp_path / "miniworld/pretrain/metrics.csv").set_index("metric")["value"]
    published = set(pd.read_csv(ROOT / "miniworld/pretrain/metrics.csv")["metric"])
    assert published <= set(measured.index)  # a model may be new, and not published yet
    assert all(map(math.isfinite, measured))

    run(tmp_path, sys.executable, "-m", "miniworld.pretrain.publish")
    for name in sorted(path.name for path in (ROOT / "data/pretrained").iterdir()):
        published, before = (
            folder_digest(tmp_path / "data/pretrained" / name),
            folder_digest(ROOT / "data/pretrained" / name),
        )
        assert published != before, f"{name} is still the old one"
    assert not list((tmp_path / "data/pretrained").glob("*.new"))


@pytest.fixture
def others(monkeypatch):
    """No file of `use` is left behind."""
    monkeypatch.setattr(common, "_others", [])


def test_the_values_for_a_gpu_are_settings_of_the_models(others):
    before = common.settings()
    common.use(ROOT / "miniworld/pretrain/gpu.yaml")
    values = common.settings()
    assert values["unet"]["batch_size"] >= 256 <= values["phase1"]["batch_size"]
    assert (
        values["vae"] == before["vae"] and values["unet"]["channels"] == before["unet"]["channels"]
    )
    own = {key: value for key, value in values["phase1"].items() if key not in ("initial", "parts")}
    study = params.load(ROOT / "params.yaml").generator
    read = [
        type(study).model_validate(plain(study) | own | part) for part in values["phase1"]["parts"]
    ]
    assert sum(part.steps * part.batch_size for part in read) >= 3_000_000  # pairs


def test_a_value_that_is_no_setting_is_refused(others, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"unet": {"bach_size": 4}}))
    common.use(file)
    with pytest.raises(StudyError, match="mine.yaml sets 'bach_size'"):
        common.settings()
