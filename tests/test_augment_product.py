"""`python -m posedive_lib.augment` on a tiny Market-1501.

Generator and estimator are stand-ins; everything else is real.
"""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import trees
from PIL import Image
from pipeline import ROOT

from posedive_lib import datasets, params
from posedive_lib.augment import __main__ as command
from posedive_lib.augment import augmenter, product
from posedive_lib.augment.confidence import PoseEstimator
from posedive_lib.body.camera import orient
from posedive_lib.body.table import BodyTable
from posedive_lib.digests import file_digest
from posedive_lib.errors import StudyError
from posedive_lib.own_data import augment


class Estimator(PoseEstimator):
    """Confidence is the mean brightness of the image's left edge.

    That is the neutral rendering's ground, or what the painter wants.
    """

    def __init__(self, folder):
        pass

    def estimate(self, images, progress=None):
        sigma = np.asarray(images)[:, :, :2].mean(axis=(1, 2, 3)) / 255
        return np.zeros((len(images), 17, 2), np.float32), np.repeat(
            sigma[:, None], 17, axis=1
        ).astype(np.float32)


class Painter:
    key = "custom painter"

    def __init__(self):
        self.painted = 0

    def __call__(self, wanted):
        rows = wanted.rows
        self.painted += len(rows)
        bright = np.where(
            rows["pid"].to_numpy() == 7, 10, 100 + rows["index"].to_numpy() % 2 * 20
        ).astype(np.uint8)  # 7 never passes
        return np.broadcast_to(bright[:, None, None, None], (len(rows), 32, 16, 3)).copy()


def standing(rels):
    """Bodies that stand and face the camera."""
    n = len(rels)
    return BodyTable(
        np.array(rels),
        orient(np.zeros((n, 3)), np.zeros(n), np.full(n, 10.0)),
        np.zeros((n, 69)),
        np.zeros((n, 10)),
        np.tile([0, 0, 4.0], (n, 1)),
        np.full(n, 320.0),
        np.zeros((n, 17, 2)),
        np.full((n, 17), 2),
    )


@pytest.fixture
def market(tmp_path, monkeypatch):
    folder = tmp_path / "data" / "Market-1501-v15.09.15"
    rels = []
    for split, pids in (
        ("bounding_box_train", (2, 7)),
        ("query", (3,)),
        ("bounding_box_test", (3,)),
    ):
        (folder / split).mkdir(parents=True)
        for pid in pids:
            for camera in (1, 2) if split != "query" else (1,):
                rels.append(f"{split}/{pid:04d}_c{camera}s1_000001_00.jpg")
                Image.new("RGB", (64, 128), (140, 120, 100)).save(folder / rels[-1])
    standing(rels).save(folder / "smpl.npz")
    monkeypatch.setattr(augmenter, "PoseEstimator", Estimator)
    overrides = {
        "image.height": 32,
        "image.width": 16,
        "augment.images_per_pid": 2,
        "augment.candidates_per_pid": 3,
        "world.workers": 1,
        "augment.policy.pose": "uniform",
        "augment.tau_tar": 0.2,
        "augment.tau_gen": 0.3,
        "augment.epsilon_gen": 0.5,
    }
    P = params.load(
        ROOT / "params.yaml",
        overrides=overrides
        | {
            f"paths.{k}": str(ROOT / v)
            for k, v in {
                "body": "data/body/SMPL_NEUTRAL.npz",
                "motions": "data/motions/in-domain",
                "pose_estimator": "data/pretrained/vitpose",
            }.items()
        },
    )
    return tmp_path / "data", folder, P


def test_the_same_layout_comes_back_with_manifest_and_sheet_and_nothing_is_made_twice(
    market, tmp_path
):
    root, folder, P = market
    painter = Painter()
    made = augment.augment("market1501", root, tmp_path / "out", P, painter=painter, progress=False)
    assert painter.painted == 2 + 3  # identity 2 passes at once, 7 spends its budget
    assert made.added["pid"].tolist() == [2, 2] and made.short.to_numpy().tolist() == [[7, 0, 2]]
    again = datasets.load("market1501", tmp_path / "out")
    assert (
        len(again.train) == 4 + 2 and again.train["generated"].sum() == 2 and len(again.query) == 1
    )
    # Drawn at 32 x 16, but the set's photos are 128 x 64.
    assert {Image.open(path).size for path in again.train["path"]} == {(64, 128)}
    manifest = pd.read_csv(tmp_path / "out" / "manifest.csv", keep_default_na=False)
    assert (
        len(manifest) == 5
        and manifest["added"].sum() == 2
        and set(manifest.loc[manifest["pid"] == 7, "rejected_by"]) == {"confidence"}
    )
    with Image.open(tmp_path / "out" / "contact_sheet.jpg") as sheet:
        assert sheet.width > 9 * 16 and sheet.height > 2 * 32
    card = (tmp_path / "out" / "CARD.md").read_text()
    for line in (
        "| real training images | 4 |",
        "| candidates generated | 5 |",
        "| generated images added | 2 |",
        "| none: it passed | 2 |",
        "| confidence | 3 |",
        f"| body model: `SMPL_NEUTRAL.npz` | {file_digest(P.paths.body)} |",
        "tau_gen: 0.3",
        "custom painter",
    ):
        assert line in card
    with pytest.raises(StudyError, match="already exists"):
        augment.augment("market1501", root, tmp_path / "out", P, painter=painter, progress=False)
    shutil.rmtree(tmp_path / "out")
    augment.augment("market1501", root, tmp_path / "out", P, painter=painter, progress=False)
    assert painter.painted == 5


def test_a_stop_before_the_last_file_leaves_nothing_that_the_next_run_refuses(
    market, tmp_path, monkeypatch
):
    root, _, P = market

    def stop(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(
            product, "contact_sheet", lambda *args, **options: SimpleNamespace(save=stop)
        )
        with pytest.raises(KeyboardInterrupt):
            augment.augment(
                "market1501", root, tmp_path / "out", P, painter=Painter(), progress=False
            )
    assert not (tmp_path / "out").exists()
    augment.augment("market1501", root, tmp_path / "out", P, painter=Painter(), progress=False)
    assert (tmp_path / "out" / "contact_sheet.jpg").is_file()


def test_where_the_filter_keeps_nothing_that_is_said_and_no_set_is_written(market, tmp_path):
    root, _, P = market
    strict = P.model_copy(update={"augment": P.augment.model_copy(update={"tau_gen": 1.0})})
    with pytest.raises(StudyError, match="keeps none of 6 .*confidence 6.*No data set was written"):
        augment.augment(
            "market1501", root, tmp_path / "out", strict, painter=Painter(), progress=False
        )
    assert not (tmp_path / "out").exists()
    made = augment.augment(
        "market1501", root, tmp_path / "out", P, painter=(again := Painter()), progress=False
    )
    assert len(made.added) == 2 and again.painted == 1  # the candidates stayed


def test_nobody_is_drawn_from_photos_that_may_not_be_references(market, tmp_path):
    root, folder, P = market
    for photo in folder.glob("bounding_box_train/0007*.jpg"):
        Image.new("RGB", (64, 128), (10, 10, 10)).save(photo)
    ask, painter = ("market1501", root, tmp_path / "out"), Painter()
    made = augment.augment(*ask, P, painter=painter, progress=False)
    assert set(made.manifest["pid"]) == {2} and painter.painted == len(made.manifest)
    assert made.short.to_numpy().tolist() == [[7, 0, 2]]
    strict = P.model_copy(update={"augment": P.augment.model_copy(update={"tau_ref": 0.9})})
    with pytest.raises(StudyError, match=r"No training photo of .* may be a reference.*\(0.9\)"):
        augment.augment(*ask, strict, painter=painter, overwrite=True, progress=False)


def test_every_input_and_the_code_decide_what_is_made_anew(market, monkeypatch):
    root, folder, P = market

    def inputs() -> str:
        return augmenter.Augmenter.of(P, datasets.load("market1501", root))._inputs()

    keys = [inputs()]
    photo = next(folder.glob("bounding_box_train/*.jpg"))
    Image.new("RGB", (64, 128), (1, 2, 3)).save(photo)
    keys.append(inputs())
    bodies = BodyTable.load(folder / "smpl.npz")
    replace(bodies, betas=bodies.betas + 1).save(folder / "smpl.npz")
    keys.append(inputs())
    monkeypatch.setattr(augmenter, "code_digest", lambda *modules: "other code")
    keys.append(inputs())
    assert len(set(keys)) == len(keys) and inputs() == keys[-1]


def test_photos_may_have_numbers_as_names(market, tmp_path):
    own = tmp_path / "own"
    trees.folder(own)
    table = pd.read_csv(own / "images.csv", dtype=str)
    names = [f"{number:06d}" for number in range(len(table))]
    for old, new in zip(table["path"], names, strict=True):
        (own / old).rename(own / new)
    table.assign(path=names).to_csv(own / "images.csv", index=False)
    standing(names).save(own / "smpl.npz")
    ask = "folder", own, tmp_path / "out", market[2]
    made = augment.augment(*ask, painter=Painter(), progress=False)
    assert set(made.added["reference"]) <= set(names[:4]) and len(made.added) == 4
    again = Painter()
    assert len(augment.augment(*ask, painter=again, overwrite=True, progress=False).added) == 4
    assert not again.painted
    training = made.dataset.train
    assert set(training.loc[~training["generated"], "rel"]) == set(names[:4])


def test_what_is_missing_is_said_first_in_one_sentence(market, tmp_path, capsys, monkeypatch):
    root, folder, P = market
    monkeypatch.chdir(ROOT)
    call = [
        "market1501",
        str(root),
        "--out",
        str(tmp_path / "out"),
        "--generator",
        str(tmp_path / "none"),
    ]
    assert command.main(call) == 2 and "no generator" in capsys.readouterr().err
    (tmp_path / "none").mkdir()  # such as a Stable Diffusion folder
    assert command.main(call) == 2 and "no trained generator" in capsys.readouterr().err
    painter = Painter()
    with pytest.raises(StudyError, match="lie one in the other"):
        augment.augment("market1501", root, folder / "out", P, painter=painter, progress=False)
    assert not painter.painted and not (folder / "out.candidates").exists()
    own = tmp_path / "mine.candidates"  # for an election
    own.mkdir()
    (own / "manifest.csv").write_text("mine")
    with pytest.raises(StudyError, match="mine.candidates holds something else than candidates"):
        augment.augment("market1501", root, tmp_path / "mine", P, painter=painter, progress=False)
    assert (own / "manifest.csv").read_text() == "mine"
    place = tmp_path / "bodies"  # which has no table: that of the data set is not meant
    assert datasets.load("market1501", root, bodies=place).bodies == place / "market1501.npz"
    (folder / "smpl.npz").unlink()
    ask = "market1501", root, tmp_path / "out", P
    with pytest.raises(StudyError, match=f"posedive_lib.own_data.fit market1501 {root}`"):
        augment.augment(*ask, painter=Painter(), progress=False)
    with pytest.raises(StudyError, match=f"{place}/market1501.npz is missing.*--bodies {place}`"):
        augment.augment(*ask, painter=Painter(), bodies=place, progress=False)
    assert (
        command.main([*call, "--images-per-pid", "0"]) == 2
        and "images_per_pid" in capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()
