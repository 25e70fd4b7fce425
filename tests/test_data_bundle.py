"""The tracked data come with the clone: no network, no account, bit for bit."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from pipeline import ROOT

from posedive_lib.digests import folder_digest


def run(folder: Path, *command: str) -> str:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
    }
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def test_a_clone_pulls_its_data_from_the_bundle(tmp_path):
    run(tmp_path, "git", "clone", "--quiet", "--no-hardlinks", str(ROOT), "clone")
    clone = tmp_path / "clone"
    assert not (clone / "data").exists()
    run(clone, "dvc", "pull", "-q", "data.dvc")
    assert "up to date" in run(clone, "dvc", "status", "data.dvc")
    if "up to date" in run(ROOT, "dvc", "status", "data.dvc"):  # nobody edited data/ here
        assert folder_digest(clone / "data") == folder_digest(ROOT / "data")


def test_a_copy_without_git_pulls_its_data_too(tmp_path):
    """A ZIP download: DVC wants git unless its settings say that there is none."""
    run(tmp_path, "git", "clone", "--quiet", "--no-hardlinks", str(ROOT), "clone")
    clone = tmp_path / "clone"
    shutil.copy(ROOT / "Makefile", clone)
    shutil.rmtree(clone / ".git")
    run(clone, "make", "-o", "setup", "data")
    assert "up to date" in run(clone, "dvc", "status", "data.dvc")


def test_build_on_another_disk_is_refused_before_anything_runs_with_a_line_that_mends_it(
    tmp_path,
):
    run(tmp_path, "git", "clone", "--quiet", "--no-hardlinks", str(ROOT), "clone")
    clone = tmp_path / "clone"
    for package in ("posedive_lib", "miniworld", "notebooks"):
        shutil.rmtree(clone / package)
        shutil.copytree(ROOT / package, clone / package)
    (tmp_path / "disk").mkdir()
    (clone / "build").symlink_to(tmp_path / "disk")
    refused = subprocess.run(
        [sys.executable, "-m", "posedive_lib.bench.code"],
        cwd=clone,
        env=os.environ | {"PYTHONPATH": str(clone)},
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 2 and not any((tmp_path / "disk").iterdir())
    (mend,) = re.findall(r"run `(.*)`, then start again", refused.stderr)
    run(clone, *mend.split())
    run(clone, "dvc", "repro", "-s", "code")
    assert (tmp_path / "disk/code/miniworld.build.txt").is_file()
    assert "up to date" in run(clone, "dvc", "status", "code")


def test_a_user_without_passwd_entry_has_a_name():
    """`getpass`, which DVC calls, asks for LOGNAME first."""
    rule = "--eval=show: ; @echo $$LOGNAME"
    assert run(ROOT, "env", "-u", "LOGNAME", "make", "-s", rule, "show") == f"{os.getuid()}\n"
    assert run(ROOT, "env", "LOGNAME=ann", "make", "-s", rule, "show") == "ann\n"


def test_line_endings_of_the_user_change_no_tracked_byte(tmp_path):
    """A clone by someone whose Git writes Windows' line endings: the same files and checksums."""
    clone = tmp_path / "clone"
    settings = ("-c", "core.autocrlf=true", "-c", "core.eol=crlf")
    run(tmp_path, "git", *settings, "clone", "--quiet", "--no-hardlinks", str(ROOT), "clone")
    run(clone, "git", "config", "core.autocrlf", "true")
    assert run(clone, "git", "status", "--porcelain") == ""
    listed = run(clone, "git", "ls-files", "--eol", "-z").split("\0")
    places = [line.split("\t")[0].split() for line in listed if line]
    changed = [place for place in places if place[0].split("/")[1] != place[1].split("/")[1]]
    assert len(places) > 300 and not changed
    run(clone, "dvc", "pull", "-q", "data.dvc")
    assert "up to date" in run(clone, "dvc", "status", "data.dvc")


def test_the_bundle_is_the_default_remote_and_small():
    assert run(ROOT, "dvc", "remote", "default").strip() == "bundle"
    assert (
        sum(path.stat().st_size for path in (ROOT / ".dvc/bundle").rglob("*") if path.is_file())
        <= 40e6
    )
