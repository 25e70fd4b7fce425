"""A file or folder that may not be read is named as such, never as damaged."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import trees
from pipeline import ROOT

from posedive_lib import datasets
from posedive_lib.augment.confidence import PoseEstimator
from posedive_lib.body import load_smpl
from posedive_lib.checkpoints import load_checkpoint
from posedive_lib.datasets.preflight import preflight
from posedive_lib.errors import StudyError
from posedive_lib.intake.arrays import read_npz

VITPOSE = ROOT / "data/pretrained/vitpose"


@pytest.fixture
def ordinary_user():
    """A folder of a user whom permissions bind; root is bound by none."""
    user = os.geteuid()
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    # All modules that reading imports: that user may not read them.
    warm = trees.market(folder / "warm")
    (warm / "truth.csv").write_text("path\n")
    preflight(datasets.load("market1501", warm))
    load_smpl(ROOT / "data/body/SMPL_NEUTRAL.npz")
    PoseEstimator(VITPOSE)
    if user == 0:
        os.seteuid(12345)
    yield folder
    os.seteuid(user)
    subprocess.run(["chmod", "-R", "u+rwX", str(folder)], check=True)
    shutil.rmtree(folder)


def says_so(path, work):
    with pytest.raises(StudyError) as caught:
        work()
    text = str(caught.value)
    assert str(path) in text and "cannot be read (Permission denied): make" in text
    assert not any(word in text for word in ("damaged", "restore", "remove", "fetch", "\n"))


@pytest.mark.parametrize("what", ["", "query", "bounding_box_train", "query/one", "truth.csv"])
def test_a_data_set(ordinary_user, what):
    root = trees.market(ordinary_user / "market1501")
    (root / "truth.csv").write_text("path\n")
    path = sorted((root / "query").iterdir())[0] if what == "query/one" else root / what
    path.chmod(0)
    says_so(path, lambda: preflight(datasets.load("market1501", root)).require())


@pytest.mark.parametrize("what", ["list_query.txt", "test", "train/0000"])
def test_msmt17(ordinary_user, what):
    root = trees.msmt17(ordinary_user / "MSMT17_V1")
    (root / what).chmod(0)
    says_so(root / what, lambda: datasets.load("msmt17", root))


@pytest.mark.parametrize(
    "name, read",
    [
        ("body.npz", load_smpl),
        ("body.pkl", load_smpl),
        ("a.npz", lambda path: read_npz(path, what="a table")),
        ("state.safetensors", lambda path: load_checkpoint(path, "key")),
    ],
)
def test_a_file(ordinary_user, name, read):
    path = ordinary_user / name
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))
    path.chmod(0)
    says_so(path, lambda: read(path))


@pytest.mark.parametrize(
    "name", ["config.json", "preprocessor_config.json", "model.safetensors", ""]
)
def test_weights(ordinary_user, name):
    folder = ordinary_user / "vitpose"
    shutil.copytree(VITPOSE, folder)
    (folder / name).chmod(0)
    says_so(folder / name, lambda: PoseEstimator(folder))
