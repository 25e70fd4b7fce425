"""`python -m posedive_lib.own_data.train`: one's own photos train a generator that augments them.

The bundled small models do the work, on a tiny Market-1501 of plain photos.
"""

import re
import shutil
import textwrap
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from launching import launch_line
from PIL import Image
from pipeline import ROOT

from posedive_lib import datasets, params
from posedive_lib.augment import photo_arrays
from posedive_lib.augment.__main__ import main as augment_command
from posedive_lib.body.camera import orient
from posedive_lib.body.table import BodyTable
from posedive_lib.digests import folder_digest
from posedive_lib.errors import StudyError
from posedive_lib.generator import training
from posedive_lib.own_data import augment, train
from posedive_lib.writing import alone_in

SPLITS = {"bounding_box_train": (2, 7, 9), "query": (3,), "bounding_box_test": (3,)}
GUIDE = ROOT / "docs/your_data.md"
MODELS = ("body", "motions", "stable_diffusion", "pose_estimator", "phase1")


@pytest.fixture
def market(tmp_path):
    """Root of three training people: two with two photos, one with a single one."""
    folder, rels = tmp_path / "data" / "Market-1501-v15.09.15", []
    for split, pids in SPLITS.items():
        (folder / split).mkdir(parents=True)
        for pid in pids:
            for camera in (1, 2) if pid != 9 and split != "query" else (1,):
                rels.append(f"{split}/{pid:04d}_c{camera}s1_000001_00.jpg")
                Image.new("RGB", (64, 128), (20 * pid, 120, 100)).save(folder / rels[-1])
    n = len(rels)
    facing = orient(np.zeros((n, 3)), np.zeros(n), np.full(n, 10.0))
    camera = np.tile([0, 0, 4.0], (n, 1))
    points, visible = np.zeros((n, 17, 2)), np.full((n, 17), 2)
    zeros = np.zeros((n, 69)), np.zeros((n, 10))
    bodies = BodyTable(np.array(rels), facing, *zeros, camera, np.full(n, 320.0), points, visible)
    bodies.save(folder / "smpl.npz")
    return tmp_path / "data"


@pytest.fixture
def profile(tmp_path):
    """A parameter file of few small steps; `profile(**changes)` writes another one."""

    def write(**changes):
        known = params.load(ROOT / "params.yaml")
        small = {
            "image.height": 64,
            "image.width": 32,
            "world.workers": 1,
            "augment.tau_ref": 0.0,
            "augment.tau_tar": 0.0,
            "augment.tau_gen": 0.0,
            "augment.epsilon_gen": 1.0,
            "augment.policy.pose": "uniform",
            "augment.images_per_pid": 1,
            "augment.candidates_per_pid": 1,
            "generator.steps": 2,
            "generator.batch_size": 2,
            "generator.log_every": 1,
            "generator.checkpoint_every": 1,
            "generator.sample_every": 0,
            "generator.precision": "fp32",
        }
        models = {f"paths.{name}": str(ROOT / getattr(known.paths, name)) for name in MODELS}
        return params.load(ROOT / "params.yaml", overrides=small | models | changes)

    return write


def stop(*arguments, **options):
    raise KeyboardInterrupt


def losses(folder) -> np.ndarray:
    return np.nan_to_num(pd.read_csv(folder / "losses.csv").to_numpy(), nan=-1)


def test_own_photos_train_a_generator_that_augment_takes(market, profile, tmp_path, monkeypatch):
    P, dataset = profile(), datasets.load("market1501", market)
    before = {path: path.read_bytes() for path in market.rglob("*") if path.is_file()}
    monkeypatch.setattr(photo_arrays, "BLOCK", 3)
    out = tmp_path / "run"
    generator = train.train_on(dataset, out, P, progress=False)
    assert generator == out / "generator" and len(losses(out)) == 2
    # Person 9 has one photo and so no pair.
    (arrays,) = (out / "arrays").iterdir()
    assert sorted(np.load(arrays / "pid.npy")) == [2, 2, 7, 7]
    made = augment.augment(
        "market1501", market, tmp_path / "augmented", P, generator=out, progress=False
    )
    assert sorted(made.added["pid"]) == [2, 7, 9]  # Person 9 was never in a pair.
    card = (tmp_path / "augmented/CARD.md").read_text()
    assert f"| generator: `generator` | {folder_digest(generator)} |" in card
    assert "on 4 photos of 2 identities of market1501, listed in `photos.csv`" in card
    assert set(pd.read_csv(out / "photos.csv")["pid"]) == {2, 7}
    assert "trained for 2 steps" in card and "prediction_type: v_prediction" in card
    assert {path: path.read_bytes() for path in market.rglob("*") if path.is_file()} == before

    # Again: nothing is encoded or trained anew.
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert train.train_on(dataset, out, P, progress=False) == generator
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_a_stopped_encoding_goes_on_with_its_blocks(market, profile, tmp_path, monkeypatch):
    P, dataset = profile(), datasets.load("market1501", market)
    monkeypatch.setattr(photo_arrays, "BLOCK", 3)
    made, plain, stop = [], train._Encoding.arrays, [True]

    def arrays(work, images):
        if stop[0] and len(made) == 2:  # the first photo, and the first block
            raise KeyboardInterrupt
        made.append(len(images))
        return plain(work, images)

    monkeypatch.setattr(train._Encoding, "arrays", arrays)
    with pytest.raises(KeyboardInterrupt):
        train.train_on(dataset, tmp_path / "part", P, progress=False)
    stop[0] = False
    part = train.train_on(dataset, tmp_path / "part", P, progress=False)
    assert made == [1, 3, 1, 1]  # after the stop the first photo again, and the second block
    whole = train.train_on(dataset, tmp_path / "whole", P, progress=False)
    assert np.array_equal(losses(part.parent), losses(whole.parent))
    assert folder_digest(part.parent / "arrays") == folder_digest(whole.parent / "arrays")


def test_blocks_that_a_kill_left_are_removed_by_the_next_call(
    market, profile, tmp_path, monkeypatch
):
    P, dataset, out = profile(), datasets.load("market1501", market), tmp_path / "run"
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(photo_arrays, "_remove", lambda paths: None)  # killed just before
        killed.setattr(train, "train", stop)
        train.train_on(dataset, out, P, progress=False)
    assert [*(out / "arrays").glob("*-00000.npz")]
    train.train_on(dataset, out, P, progress=False)
    assert len([*(out / "arrays").iterdir()]) == 1


def test_pairs_of_photos_may_be_limited_to_near_views(market, profile, tmp_path):
    """The bodies know from where a photo was taken."""
    P, dataset = profile(), datasets.load("market1501", market)
    images = train.training_photos(dataset)
    work = train._Encoding(P)
    assert np.allclose(work.arrays(images).azimuth, 0.0, atol=1e-3)  # they all face the camera


def test_a_stopped_training_goes_on_to_the_same_weights(market, profile, tmp_path, monkeypatch):
    P, dataset = profile(), datasets.load("market1501", market)
    whole = train.train_on(dataset, tmp_path / "whole", P, progress=False)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training.saved, "save_model", stop)
        train.train_on(dataset, tmp_path / "part", P, progress=False)
    assert (tmp_path / "part/checkpoint.safetensors").is_file()
    part = train.train_on(dataset, tmp_path / "part", P, progress=False)
    assert np.array_equal(losses(part.parent), losses(whole.parent))
    for file in ("denoising_unet/diffusion_pytorch_model.safetensors", "guiders.safetensors"):
        assert (part / file).read_bytes() == (whole / file).read_bytes()


def documented(market, file, out) -> str:
    """The guide's line for two processes without a GPU, with the places of a test."""
    (line,) = re.findall(r"^ {4}(torchrun .*)$", GUIDE.read_text(), re.MULTILINE)
    places = {"/srv/reid/run": out, "/srv/reid/datasets": market}
    assert line.split()[-4:] == ["market1501", "/srv/reid/datasets", "--out", "/srv/reid/run"]
    line = " ".join(str(places.get(word, word)) for word in line.split())
    return f"{line} --params {file}"


def test_two_processes_share_encoding_and_training(market, profile, tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(profile().model_dump()))
    said = launch_line(documented(market, file, tmp_path / "two"), tmp_path)
    assert f"The generator: {tmp_path / 'two/generator'}" in said
    dataset = datasets.load("market1501", market)
    train.train_on(dataset, tmp_path / "one", params.load(file), progress=False)
    names = [[p.name for p in (tmp_path / n / "arrays").iterdir()] for n in ("one", "two")]
    assert names[0] == names[1]
    np.testing.assert_allclose(losses(tmp_path / "one"), losses(tmp_path / "two"), rtol=1e-3)
    assert (tmp_path / "two/generator/posedive.json").is_file()


@pytest.mark.parametrize(
    "spoil, changes, sentence",
    [
        (
            None,
            {"generator.batch_size": 3, "generator.gradient_accumulation": 2},
            "batch_size is 3",
        ),
        (None, {"generator.precision": "fp16"}, "generator.precision fp16 needs a GPU"),
        ("single", {}, "No identity of .* has two real training photos"),
        ("broken", {}, "0002_c1s1_000001_00.jpg"),
        ("bodies", {}, "smpl.npz is missing: fit SMPL"),
        ("full", {}, "GB free, but arrays, checkpoint and generator need"),
        ("foreign", {}, "holds something else than a training"),
        ("arrays", {}, "holds something else than a training"),
        ("a list", {}, "has no photos.csv with the columns dataset, rel, pid, camid"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_encoded(
    market, profile, tmp_path, monkeypatch, spoil, changes, sentence
):
    photos, out = market / "Market-1501-v15.09.15", tmp_path / "run"
    if spoil == "single":
        for photo in photos.glob("bounding_box_train/*_c2*"):
            photo.unlink()
    elif spoil == "broken":
        (photos / "bounding_box_train/0002_c1s1_000001_00.jpg").write_bytes(b"no image")
    elif spoil == "bodies":
        (photos / "smpl.npz").unlink()
    elif spoil == "full":
        none = shutil.disk_usage(tmp_path)._replace(free=1000)
        monkeypatch.setattr(train.shutil, "disk_usage", lambda path: none)
    elif spoil == "foreign":
        out.mkdir()
        (out / "holiday.jpg").write_bytes(b"mine")
    elif spoil == "arrays":  # a folder that happens to have our name
        (out / "arrays").mkdir(parents=True)
        (out / "arrays/features.npy").write_bytes(b"mine")
    elif spoil == "a list":  # of the user's own, under our name
        (out / "arrays").mkdir(parents=True)
        (out / "photos.csv").write_text("file,who\nholiday.jpg,me\n")
    monkeypatch.setattr(train, "_encoded", lambda *arguments: pytest.fail("too late"))
    with pytest.raises(StudyError, match=sentence):
        train.train_on(datasets.load("market1501", market), out, profile(**changes))
    assert spoil != "foreign" or [path.name for path in out.iterdir()] == ["holiday.jpg"]
    assert spoil != "arrays" or (out / "arrays/features.npy").read_bytes() == b"mine"
    assert spoil != "a list" or "holiday" in (out / "photos.csv").read_text()


def test_what_others_put_among_the_arrays_stays(market, tmp_path, monkeypatch):
    folder, old = tmp_path / "arrays", "0123456789abcdef"
    folder.mkdir()
    ours = [old, f"{old}-00000.npz", f".{old}-00000.npz.host.7", f".{old}.host.7.new"]
    theirs = ["results.npy", "mine", "0123456789abcdef0", ".hidden"]
    for name in [*ours, *theirs]:
        (folder / name).mkdir() if "." not in name else (folder / name).touch()
    monkeypatch.setattr(train, "encoded_in_blocks", lambda *arguments, **options: folder)
    monkeypatch.setattr(train.TrainingArrays, "read", lambda path: path)
    scale = SimpleNamespace(scale=SimpleNamespace(scheduler=""))
    work = SimpleNamespace(params=scale, arrays=None)
    photos = datasets.load("market1501", market).train
    train._encoded(work, photos, folder, key="f" * 16, progress=False)
    assert {path.name for path in folder.iterdir()} == {*theirs}


def test_a_training_is_known_by_its_list_of_photos(market, profile, tmp_path):
    """So its arrays may go, as the guide says."""
    dataset, out = datasets.load("market1501", market), tmp_path / "run"
    train.train_on(dataset, out, profile(), progress=False)
    before = folder_digest(out / "generator")
    shutil.rmtree(out / "arrays")
    train.train_on(dataset, out, profile(), progress=False)
    assert folder_digest(out / "generator") == before


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"generator.steps": 3}, "holds a finished training of 2 steps: choose another folder for"),
        ({"seed": 1}, "holds a training with other seed: choose another folder"),
        ({"generator.learning_rate": 1e-3}, "with other parameters of the generator"),
        ({"image.height": 128, "image.width": 64}, "with other photos, image settings or encoders"),
        ({"paths.phase1": None}, "with other starting weights"),
    ],
)
def test_another_training_takes_no_finished_one_s_place(
    market, profile, tmp_path, monkeypatch, changes, sentence
):
    dataset, out = datasets.load("market1501", market), tmp_path / "run"
    train.train_on(dataset, out, profile(), progress=False)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    monkeypatch.setattr(train, "_encoded", lambda *arguments: pytest.fail("too late"))
    with pytest.raises(StudyError, match=sentence):
        train.train_on(dataset, out, profile(**changes), progress=False)
    (market / "Market-1501-v15.09.15/bounding_box_train/0007_c2s1_000001_00.jpg").unlink()
    with pytest.raises(StudyError, match="with other photos"):
        train.train_on(datasets.load("market1501", market), out, profile(), progress=False)
    (out / "run.json").unlink()  # of a training before there was a record
    with pytest.raises(StudyError, match="with other photos"):
        train.train_on(datasets.load("market1501", market), out, profile(), progress=False)
    kept = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert kept == {path: data for path, data in before.items() if path.name != "run.json"}


def test_a_second_training_in_a_folder_waits_for_no_encoding(market, profile, tmp_path):
    dataset, out = datasets.load("market1501", market), tmp_path / "run"
    with alone_in(out, "training"), pytest.raises(StudyError, match="Another run is training in"):
        train.train_on(dataset, out, profile(), progress=False)
    assert not (out / "photos.csv").exists() and not (out / "arrays").exists()


def test_a_generator_draws_no_images_of_another_size(market, profile, tmp_path):
    out = tmp_path / "run"
    train.train_on(datasets.load("market1501", market), out, profile(), progress=False)
    ask = "market1501", market, tmp_path / "more"
    with pytest.raises(StudyError, match="trained with image.height 64, .* say 128: give the --pa"):
        larger = profile(**{"image.height": 128, "image.width": 64})
        augment.augment(*ask, larger, generator=out, progress=False)
    with pytest.raises(StudyError, match="trained with conditions.depth_far 10.5"):
        other = profile(**{"conditions.depth_far": 12.0})
        augment.augment(*ask, other, generator=out, progress=False)
    assert not (tmp_path / "more").exists()


def test_a_data_set_that_cannot_be_written_has_its_bodies_elsewhere(market, profile, tmp_path):
    table = market / "Market-1501-v15.09.15/smpl.npz"
    (tmp_path / "bodies").mkdir()
    table.rename(tmp_path / "bodies/market1501.npz")
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(profile().model_dump()))
    places = ["market1501", str(market), "--params", str(file)]
    run, more = str(tmp_path / "run"), str(tmp_path / "more")
    assert train.main([*places, "--out", run]) == 2  # smpl.npz is missing
    places += ["--bodies", str(tmp_path / "bodies")]
    assert train.main([*places, "--out", run]) == 0
    assert augment_command([*places, "--generator", run, "--out", more]) == 0
    assert (tmp_path / "more/Market-1501-v15.09.15/smpl.npz").is_file() and not table.exists()


def test_the_guide_s_lines_of_python_train_on_an_augmented_set(
    market, profile, tmp_path, monkeypatch, capsys
):
    run = train.train_on(
        datasets.load("market1501", market), tmp_path / "run", profile(), progress=False
    )
    small = {"stage1.steps": 1, "stage2.steps": 1, "batch_size": 4, "instances": 2}
    own = {"paths.clip": str(ROOT / profile().paths.clip)}
    P = profile(**own, **{f"reid.{name}": value for name, value in small.items()})
    ask = "market1501", market, tmp_path / "more", P
    added = augment.augment(*ask, generator=run, progress=False).added
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(P.model_dump()))
    monkeypatch.chdir(tmp_path)
    (lines,) = re.findall(
        r"((?:^ {4}.*\n|^\n)*^ {4}found = (?:.*\n)+?)\n\S", GUIDE.read_text(), re.M
    )
    code = textwrap.dedent(lines).replace("/srv/reid/more", str(tmp_path / "more"))
    capsys.readouterr()
    exec(compile(code, str(GUIDE), "exec"), {})
    mAP, generated = capsys.readouterr().out.split()
    assert 0 <= float(mAP) <= 100 and int(generated) == len(added) == 3


def test_generated_images_of_an_augmented_set_need_no_body(market):
    dataset = datasets.load("market1501", market)
    rows = dataset.train
    more = rows.iloc[:1].assign(rel="bounding_box_train/0002_gen00.jpg", generated=True)
    dataset = replace(dataset, train=pd.concat([rows, more], ignore_index=True))
    images = train.training_photos(dataset)
    assert len(images) == 4 and not images["generated"].any()
