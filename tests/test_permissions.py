"""A file or folder that may not be read is named as such, never as damaged."""

import os
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import numpy as np
import pytest
import trees
from pipeline import ROOT

from posedive_lib import datasets
from posedive_lib.augment.confidence import PoseEstimator
from posedive_lib.body import load_smpl
from posedive_lib.body.poses import load_poses
from posedive_lib.body.table import BodyTable
from posedive_lib.checkpoints import load_checkpoint
from posedive_lib.datasets.preflight import preflight
from posedive_lib.digests import file_digest, folder_digest
from posedive_lib.errors import StudyError, command, require_readable
from posedive_lib.generator.noise_schedule import load_scheduler
from posedive_lib.generator.sampling import load
from posedive_lib.intake.arrays import read_npz
from posedive_lib.intake.frames import check_frames
from posedive_lib.own_data.augment import checked_generator
from posedive_lib.own_data.hmr2 import read_hmr2
from posedive_lib.weights import local_folder

PRETRAINED = ROOT / "data/pretrained"
VITPOSE = PRETRAINED / "vitpose"
PHOTO = "query/0001_c1s1_000001_00.jpg"  # of `trees.market`
SCHEDULER = PRETRAINED / "stable-diffusion/scheduler"


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """All modules that reading imports: the ordinary user may not read them."""
    warm = trees.market(tmp_path_factory.mktemp("warm"))
    (warm / "truth.csv").write_text(f"path\n{PHOTO}\n")
    preflight(datasets.load("market1501", warm))
    load_smpl(ROOT / "data/body/SMPL_NEUTRAL.npz")
    PoseEstimator(VITPOSE)
    load(PRETRAINED / "phase1", PRETRAINED / "stable-diffusion")


@pytest.fixture
def ordinary_user(imported):
    """A folder of a user whom permissions bind; root is bound by none."""
    user = os.geteuid()
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
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


@pytest.mark.parametrize(
    "what", ["", "query", "bounding_box_train", "query/one", "query/more", "truth.csv"]
)
def test_a_data_set(ordinary_user, what):
    root = trees.market(ordinary_user / "market1501")
    (root / "truth.csv").write_text(f"path\n{PHOTO}\n")
    trees.paint(root / "query/more/0001_c1s1_000009_00.jpg")
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


@pytest.mark.parametrize(
    "name",
    [
        "phase1/posedive.json",
        "phase1/guiders.safetensors",
        "phase1/denoising_unet",
        "stable-diffusion/vae",
        "stable-diffusion/image_encoder",
        "stable-diffusion",
        "",
    ],
)
def test_a_generator_and_what_lies_above_it(ordinary_user, name):
    pretrained = ordinary_user / "pretrained"
    for part in ("phase1", "stable-diffusion"):
        shutil.copytree(PRETRAINED / part, pretrained / part)
    (pretrained / name).chmod(0)
    says_so(pretrained / name, lambda: load(pretrained / "phase1", pretrained / "stable-diffusion"))


def test_a_model_in_the_hub_cache_and_the_cache_itself(ordinary_user, monkeypatch):
    hub = ordinary_user / "hub"
    model = hub / "models--someone--vitpose"
    for part in ("refs", "snapshots/0", "blobs"):
        (model / part).mkdir(parents=True)
    (model / "refs/main").write_text("0")
    (model / "blobs/a").write_text("{}")
    (model / "snapshots/0/config.json").symlink_to("../../blobs/a")
    for name, value in (("HF_HUB_CACHE", hub), ("HF_TOKEN_PATH", ordinary_user / "token")):
        monkeypatch.setattr(huggingface_hub.constants, name, str(value))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert local_folder("someone/vitpose") == model / "snapshots/0"
    for folder in (hub, model, *(model / part for part in ("refs", "snapshots/0", "blobs"))):
        for mode in (0, 0o400):  # closed, and a list whose files cannot be opened
            folder.chmod(mode)
            says_so(model, lambda: local_folder("someone/vitpose"))
            folder.chmod(0o755)


@pytest.mark.parametrize("name", ["", "scheduler", "scheduler/scheduler_config.json"])
def test_a_scheduler(ordinary_user, name):
    shutil.copytree(SCHEDULER, ordinary_user / "sd/scheduler")
    path = ordinary_user / "sd" / name
    path.chmod(0)
    params = SimpleNamespace(prediction_type="epsilon", zero_snr=False)
    says_so(path, lambda: load_scheduler(ordinary_user / "sd", params))


def arrays(path):
    return read_npz(path, what="a table")


@pytest.mark.parametrize("read", [load_smpl, BodyTable.load, file_digest, arrays, read_hmr2])
def test_what_lies_in_a_closed_folder(ordinary_user, read):
    (ordinary_user / "body").mkdir()
    (ordinary_user / "body/a.npz").touch()
    (ordinary_user / "body").chmod(0)
    says_so(ordinary_user / "body/a.npz", lambda: read(ordinary_user / "body/a.npz"))


FOLDERS = (load_poses, check_frames, folder_digest, checked_generator, require_readable)


@pytest.mark.parametrize("read", FOLDERS)
def test_a_folder_in_a_closed_one(ordinary_user, read):
    (ordinary_user / "a/b").mkdir(parents=True)
    (ordinary_user / "a").chmod(0)
    says_so(ordinary_user / "a/b", lambda: read(ordinary_user / "a/b"))


@pytest.mark.parametrize("mode", [0, 0o444], ids=["closed", "may be listed, not entered"])
@pytest.mark.parametrize("read", [load_poses, check_frames, folder_digest])
def test_a_folder_below_a_readable_one(ordinary_user, read, mode):
    (ordinary_user / "motions/in-domain").mkdir(parents=True)
    (ordinary_user / "motions/in-domain/walk.npz").touch()
    (ordinary_user / "motions/in-domain").chmod(mode)
    says_so(ordinary_user / "motions/in-domain", lambda: read(ordinary_user / "motions"))


def test_a_folder_of_bodies(ordinary_user):
    root = trees.market(ordinary_user / "market1501")
    (ordinary_user / "bodies").mkdir()
    (ordinary_user / "bodies").chmod(0)
    load_set = partial(datasets.load, "market1501", root, bodies=ordinary_user / "bodies")
    says_so(ordinary_user / "bodies/market1501.npz", load_set)


def test_a_companion_folder_is_not_asked_for(ordinary_user):
    """Every disk of Linux has a `lost+found` that only root may read; nothing reads it."""
    root = trees.market(ordinary_user / "market1501")
    (root / "query/lost+found").mkdir()
    (root / "query/lost+found").chmod(0)
    assert not preflight(datasets.load("market1501", root)).problems


def test_a_command_ends_with_the_sentence(ordinary_user, capsys):
    path = ordinary_user / "notes.txt"
    path.touch()
    path.chmod(0)
    assert command()(lambda: len(path.read_text()))() == 2
    assert capsys.readouterr().err == (
        f"{path} cannot be read (Permission denied): make it readable.\n"
    )
