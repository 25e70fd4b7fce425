"""Switching profile: what changes is shown, the old parameters are kept, nothing is overwritten."""

import shutil
from pathlib import Path

import pytest
from pipeline import ROOT

from posedive_lib.params import profile


@pytest.fixture
def root(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "params", tmp_path / "params")
    shutil.copy2(ROOT / "params/mini.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_switch_says_what_changes_and_keeps_the_old_file(root, capsys):
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("seed: 0", "seed: 7", 1))
    old = Path("params.yaml").read_bytes()
    Path("params.yaml.1.bak").write_text("an earlier one")
    assert profile.main(["smoke"]) == 0
    said = capsys.readouterr().out
    assert Path("params.yaml").read_bytes() == Path("params/smoke.yaml").read_bytes()
    assert Path("params.yaml.2.bak").read_bytes() == old
    assert Path("params.yaml.1.bak").read_text() == "an earlier one"
    assert "\nseed: 7 -> 0\n" in f"\n{said}" and "world.cuhk03.train_pids: 80 -> " in said
    assert "paths.datasets" not in said and "git checkout -- reports" in said
    assert profile.main(["smoke"]) == 0  # again: nothing to keep
    assert "already" in capsys.readouterr().out and not Path("params.yaml.3.bak").exists()


def test_an_unknown_profile_is_refused_and_nothing_changes(root, capsys):
    before = Path("params.yaml").read_bytes()
    assert profile.main(["../params"]) == 2
    assert "there are: mini, paper, smoke." in capsys.readouterr().err
    Path("params/own.yaml").write_text("seed: x\n")
    assert profile.main(["own"]) == 2
    assert "seed is 'x'" in capsys.readouterr().err
    assert Path("params.yaml").read_bytes() == before and not list(root.glob("*.bak"))


def test_a_folder_in_the_parameters_place_is_named(root, capsys):
    Path("params.yaml").unlink()
    Path("params.yaml").mkdir()
    assert profile.main(["smoke"]) == 2
    assert "params.yaml is a folder: move it" in capsys.readouterr().err


def test_faulty_parameters_can_be_left(root, capsys):
    Path("params.yaml").write_text("seed: x\n")
    assert profile.main(["paper"]) == 0
    assert "until now were faulty: params.yaml: seed" in capsys.readouterr().out
    assert Path("params.yaml.1.bak").read_text() == "seed: x\n"
    assert Path("params.yaml").read_bytes() == Path("params/paper.yaml").read_bytes()
