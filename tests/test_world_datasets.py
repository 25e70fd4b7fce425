"""The mini world's data sets, the truth beside them, and true photos for the study."""

import io
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from pipeline import ROOT
from scipy.spatial.transform import Rotation
from world_parts import BODY, FOCAL, H, W, contents, people, source  # noqa: F401 (fixtures)

from miniworld import build, photographs, photography, planning, truth
from miniworld.cameras import read_cameras
from miniworld.photographer import Photographer
from miniworld.wardrobe import FACTORS
from posedive_lib import datasets, params
from posedive_lib.body.camera import viewpoint
from posedive_lib.body.conditions import ConditionRenderer
from posedive_lib.body.rendering import Rendering, render_many
from posedive_lib.body.table import BodyTable
from posedive_lib.datasets.images import read_sizes
from posedive_lib.errors import StudyError
from posedive_lib.seeds import rng_for
from posedive_lib.study import mini_world, prints

SPLITS = ("train", "query", "gallery")

# --- data sets --------------------------------------------------------------------------

SIZES = {
    "workers": 1,
    "aspects": [1.6, 2.0, 2.8],
    "market1501": {
        "train_pids": 2,
        "test_pids": 2,
        "images_per_train_pid": 3,
        "images_per_test_pid": 4,
        "distractors": 2,
        "junk": 2,
    },
    "msmt17": {
        "train_pids": 2,
        "test_pids": 2,
        "images_per_train_pid": 4,
        "images_per_test_pid": 6,
    },
    "cuhk03": {"train_pids": 2, "test_pids": 2, "images_per_pid": 3},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Parameters of a world with two to four people per data set, and its folder."""
    folder = tmp_path_factory.mktemp("tiny")
    settings = yaml.safe_load((ROOT / "params/smoke.yaml").read_text())
    settings["paths"] = {
        key: value and str(ROOT / value) for key, value in settings["paths"].items()
    } | {"datasets": str(folder / "build/world")}
    settings |= {"world": SIZES, "image": {"height": H, "width": W}}
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    P = params.load(folder / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # the mini world is rendered below build/ of the working folder
        build.build(P)
        yield P


@pytest.mark.parametrize(
    "name, counts, cameras",
    [
        ("market1501", {"train": 6, "query": 6, "gallery": 4}, 6),
        ("msmt17", {"train": 8, "query": 8, "gallery": 4}, 15),
        ("cuhk03-labeled", {"train": 6, "query": 4, "gallery": 2}, 2),
        ("cuhk03-detected", {"train": 6, "query": 4, "gallery": 2}, 2),
    ],
)
def test_the_readers_of_the_real_data_sets_read_it(name, counts, cameras, tiny):
    data = datasets.load(name, tiny.paths.datasets)
    found = {"train": data.train, "query": data.query, "gallery": data.gallery}
    assert {split: len(frame) for split, frame in found.items()} == counts
    for frame in found.values():
        assert frame["camid"].between(0, cameras - 1).all() and frame["person"].notna().all()
        known = (
            frame[frame["pid"] > 0] if name == "market1501" else frame
        )  # there, 0 is any distractor
        assert (known.groupby("pid")["person"].nunique() == 1).all()
    everyone = {split: set(frame["person"]) for split, frame in found.items()}
    assert not everyone["train"] & (everyone["query"] | everyone["gallery"])


def test_distractors_stay_and_junk_goes(tiny):
    data = datasets.load("market1501", tiny.paths.datasets)
    assert (data.gallery["pid"] == 0).sum() == 2 and (data.gallery["pid"] == -1).sum() == 0
    assert len(list((data.folder / "bounding_box_test").glob("-1_c*"))) == 2


FOLDERS = ["Market-1501-v15.09.15", "MSMT17_V1", "cuhk03-np/labeled", "cuhk03-np/detected"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_truth_agrees_with_the_bodies(folder, tiny):
    where = Path(tiny.paths.datasets) / folder
    table, bodies = pd.read_csv(where / "truth.csv"), BodyTable.load(where / "smpl.npz")
    assert table["path"].tolist() == bodies.path.tolist() and all(
        (where / path).is_file() for path in table["path"]
    )
    azimuth, elevation = viewpoint(bodies.global_orient, bodies.cam_t)
    np.testing.assert_allclose((table["azimuth"] - azimuth + 180) % 360 - 180, 0, atol=0.01)
    np.testing.assert_allclose(table["elevation"], elevation, atol=0.01)
    np.testing.assert_allclose(bodies.focal, FOCAL * H)
    assert set(np.unique(bodies.visible)) <= {0, 1, 2} and (bodies.visible == 2).mean() > 0.4
    described = pd.read_csv(where / "people.csv", keep_default_na=False)
    assert set(described["person"]) == set(table["person"]) and set(FACTORS) | {
        "description"
    } <= set(described)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_retake_is_the_photo_bit_for_bit_with_depth_and_normals(folder, tiny):
    where = Path(tiny.paths.datasets) / folder
    table = pd.read_csv(where / "truth.csv").iloc[::4]
    masks = truth.load_masks(where, table["path"])
    for path, hidden, mask, photo in zip(
        table["path"],
        table["hidden"],
        masks,
        truth.retake(tiny, folder, table["path"]),
        strict=True,
    ):
        again = io.BytesIO()
        Image.fromarray(photo["image"]).save(
            again, path.rsplit(".")[-1].replace("jpg", "jpeg"), quality=92
        )
        assert again.getvalue() == (where / path).read_bytes()
        body = photo["clothed_depth"] > 0
        width = photo["mask"].shape[1]
        assert not mask[:, width:].any()
        mask = mask[:, :width]
        np.testing.assert_array_equal(mask, photo["mask"])
        assert not (mask & ~body).any() and 1 - mask.sum() / body.sum() == pytest.approx(
            hidden, abs=1e-3
        )
        assert np.abs(photo["clothed_depth"][body] - photo["cam_t"][2]).max() < 1.6
        assert photo["clothed_normals"][body][:, 2].mean() > 0.4
    with pytest.raises(StudyError, match=f"{folder}/nobody.jpg is not an image of the mini world"):
        truth.retake(tiny, folder, ["nobody.jpg"])


def overlap(where: Path, rows: pd.DataFrame, sizes: np.ndarray | None) -> np.ndarray:
    """(N,) IoU of people and of their bodies, as conditions of the study's size show them."""
    bodies = BodyTable.load(where / "smpl.npz").select(rows["path"].tolist())
    drawn = render_many(bodies, Rendering(BODY, H, W, 2.5, 10.5, FOCAL), sizes=sizes).mask
    shown = []
    for mask, width in zip(truth.load_masks(where, rows["path"]), rows["width"], strict=True):
        person = Image.fromarray(mask[:, :width]).resize((W, H), Image.Resampling.NEAREST)
        shown.append(np.asarray(person))
    person = np.stack(shown)
    return (person & drawn).sum((1, 2)) / (person | drawn).sum((1, 2))


def test_crops_vary_in_shape_and_bodies_lie_on_their_people_in_all_of_them(tiny):
    """A study that forgot the shape of a crop would be seen: bodies slide off their people."""
    found = []
    for folder in FOLDERS:
        where = Path(tiny.paths.datasets) / folder
        rows = pd.read_csv(where / "truth.csv").query("split != 'junk' and hidden == 0")
        sizes = read_sizes([str(where / path) for path in rows["path"]])
        rows = rows.assign(width=sizes[:, 0])
        right, wrong = (overlap(where, rows, given) for given in (sizes, None))
        found.append(rows.assign(height=sizes[:, 1], right=right, wrong=wrong))
    rows = pd.concat(found)
    assert set(rows["height"]) == {H}
    assert set(rows["width"]) == {round(H / aspect) for aspect in SIZES["aspects"]}
    shares = rows.groupby("width")[["right", "wrong"]].median()
    assert (shares["right"] > 0.83).all()  # bodies are naked, people are dressed
    assert (shares["wrong"].drop(W) < 0.75).all() and shares["wrong"][W] == shares["right"][W]


def own_data(folder: Path) -> Path:
    """A data set that a researcher has put there."""
    for path in ("bounding_box_train/0002_c1s1_000451_03.jpg", "notes.txt", ".hidden"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"mine: " + path.encode())
    return folder


def run_build(folder: Path, datasets_folder: str, monkeypatch, capsys) -> str:
    """`python -m miniworld.build` in a folder, with status 0; what it says."""
    settings = yaml.safe_load((ROOT / "params/smoke.yaml").read_text())
    paths = {key: value and str(ROOT / value) for key, value in settings["paths"].items()}
    settings |= {"paths": paths | {"datasets": datasets_folder}, "world": SIZES}
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["build"])
    assert build.main() == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("place", ["datasets", "../elsewhere", "build/../datasets"])
def test_data_outside_build_are_left_alone_and_the_stage_goes_on(
    place, tmp_path, monkeypatch, capsys
):
    work = tmp_path / "work"
    (work / "build").mkdir(parents=True)
    for name in build.OUTPUTS:
        own_data(work / place / name)
    before = contents(tmp_path)
    said = run_build(work, place, monkeypatch, capsys)
    assert "these are your own data, the mini world is not rendered there." in said
    assert len(said.splitlines()) == 1
    after = contents(tmp_path)
    assert {path: after[path] for path in before} == before
    for name in build.OUTPUTS:  # what the pipeline wants to see after the stage
        assert [path.name for path in (work / "build/world" / name).iterdir()] == [build.MARK]


@pytest.mark.parametrize("name", build.OUTPUTS)
def test_one_s_own_data_below_build_are_not_replaced(name, tmp_path, monkeypatch, capsys):
    folder = name + ("/labeled" if name == "cuhk03-np" else "")
    own_data(tmp_path / "build/world" / folder)
    before = contents(tmp_path)
    said = run_build(tmp_path, "build/world", monkeypatch, capsys)
    assert f"{folder} has no file {build.MARK}: these are your own data" in said
    after = contents(tmp_path)
    assert {path: after[path] for path in before} == before
    assert not list((tmp_path / "build/world").rglob("truth.csv"))  # and nothing was rendered


def test_data_that_build_links_to_are_left_alone(tmp_path, monkeypatch, capsys):
    mine = own_data(tmp_path / "disk/Market-1501-v15.09.15")
    work = tmp_path / "work"
    (work / "build/world").mkdir(parents=True)
    link = work / "build/world/Market-1501-v15.09.15"
    link.symlink_to(mine)
    before = contents(tmp_path / "disk")
    assert "these are your own data" in run_build(work, "build/world", monkeypatch, capsys)
    assert contents(tmp_path / "disk") == before and link.is_symlink()


def test_the_mini_world_replaces_its_own_folders(tmp_path, monkeypatch, capsys):
    assert run_build(tmp_path, "build/world", monkeypatch, capsys) == ""
    first = contents(tmp_path / "build")
    stray = tmp_path / "build/world/MSMT17_V1/stray.txt"
    stray.write_text("of an earlier version")
    assert run_build(tmp_path, "build/world", monkeypatch, capsys) == ""
    again = contents(tmp_path / "build")
    assert {path: data for path, (data, _) in again.items()} == {
        path: data for path, (data, _) in first.items()
    }


def test_masks_come_back_in_the_order_asked(tmp_path):
    masks = np.random.default_rng(0).random((5, 7, 3)) > 0.5  # 21 bits: no whole bytes
    paths = np.array([f"{i}.jpg" for i in range(5)])
    truth.save_masks(tmp_path / "masks.npz", paths, masks)
    np.testing.assert_array_equal(
        truth.load_masks(tmp_path, ["3.jpg", "0.jpg", "3.jpg"]), masks[[3, 0, 3]]
    )
    with pytest.raises(StudyError, match="9.jpg is not in .*masks.npz"):
        truth.load_masks(tmp_path, ["9.jpg"])
    with pytest.raises(StudyError, match="masks.npz is missing.*dvc repro world"):
        truth.load_masks(tmp_path / "none", ["1.jpg"])


@pytest.fixture(scope="module")
def planned(source) -> list[planning.Plan]:
    """The data sets at their full sizes, not rendered."""
    P = params.load(ROOT / "params.yaml")
    return planning.plans(
        P.model_copy(
            update={"paths": P.paths.model_copy(update={"world": str(ROOT / "data/world")})}
        ),
        source,
    )


def test_training_is_frontal_and_ordinary_and_testing_is_neither(planned, source):
    for plan in planned:
        rows = pd.DataFrame(
            {
                "train": e.split in ("train", "val"),
                "person": e.shot.person,
                "pid": e.pid,
                "camid": e.camid,
                "unusual": source.domain[e.shot.pose] == "out",
                "off": abs((e.shot.azimuth + 180) % 360 - 180),
                "elevation": e.shot.elevation,
            }
            for e in plan.entries
            if e.split != "junk"
        )
        train, test = rows[rows["train"]], rows[~rows["train"]]
        assert (
            not set(train["person"]) & set(test["person"])
            and rows["elevation"].between(0, 30).all()
        )
        assert train["unusual"].mean() < 0.07 < 0.28 < test["unusual"].mean() < 0.42
        if (
            plan.label != "CUHK03 (L)" and plan.label != "CUHK03 (D)"
        ):  # two cameras see everybody there
            assert (train["off"] <= 60).mean() > 0.65 and (test["off"] <= 60).mean() < (
                train["off"] <= 60
            ).mean() - 0.12
            assert (train.groupby("person")["camid"].nunique() == 3).all()
            assert test[test["pid"] > 0].groupby("person")["camid"].nunique().median() >= 3
            assert (
                len(set(test["camid"])) == len(plan.planner.cameras)
                and (test["off"] > 120).mean() > 1.3 * (train["off"] > 120).mean()
            )
        assert len({e.path for e in plan.entries}) == len(plan.entries)


def test_detected_boxes_are_looser_than_labeled_ones(planned):
    labeled, detected = (
        np.std([e.shot.shift for e in plan.entries], axis=0) for plan in planned[2:]
    )
    assert (detected > 3 * labeled).all()
    assert [(e.path, e.shot.pose, e.shot.azimuth) for e in planned[2].entries] == [
        (e.path, e.shot.pose, e.shot.azimuth) for e in planned[3].entries
    ]


def test_shots_are_planned_the_same_every_time_and_too_many_people_are_named(people, source):
    cameras = read_cameras(ROOT / "data/world")["cuhk03"]
    own = people[people["role"].str.startswith("cuhk03")]

    def make(seed: int) -> planning.Planner:
        return planning.Planner("cuhk03", own, cameras, source, seed, None)

    one, same, other = (make(seed).shot(1, 0, 2, True) for seed in (0, 0, 1))
    assert one == same != other
    with pytest.raises(StudyError, match="ask for fewer"):
        make(0).role("train", 1000)


# --- the oracle -------------------------------------------------------------------------


def test_free_shots_are_photographed_with_conditions_by_other_processes(people, source):
    """One pass in a worker gives what placing, shooting and rendering apart give."""
    cameras = read_cameras(ROOT / "data/world")["msmt17"]
    shots = photography.free_shots(2, source, cameras, 2, ("test",))
    assert shots == photography.free_shots(2, source, cameras, 2, ("test",)) and [
        s.person for s in shots
    ] == [0, 0, 1, 1]
    many = photography.free_shots(150, source, cameras, 2, ("spread",))
    assert np.histogram([s.azimuth for s in many], 6, (-180, 180))[0].min() > 25 and all(
        0 <= s.elevation <= 30 for s in many
    )
    photos = list(
        photography.photograph(
            people.head(2),
            source,
            shots,
            body=BODY,
            height=H,
            width=W,
            focal=FOCAL,
            depth_range=(2.5, 10.5),
            maps=True,
            workers=1,
        )
    )
    renderer, photographer = (
        ConditionRenderer(BODY, H, W, near=2.5, far=10.5, focal=FOCAL),
        Photographer(BODY, H, W, FOCAL),
    )
    assert len(photos) == len(shots)
    for shot, photo in zip(shots, photos, strict=True):
        who, pose = people.iloc[shot.person].to_dict(), source.body_pose[shot.pose]
        view = (shot.azimuth, shot.elevation, shot.fill, shot.shift)
        orient, cam_t = photographer.place(who, source.root_tilt[shot.pose], pose, *view)
        np.testing.assert_allclose(photo["global_orient"], orient, atol=1e-9)
        np.testing.assert_allclose(photo["cam_t"], cam_t, atol=1e-6)
        assert (
            abs((photo["azimuth"] - shot.azimuth + 180) % 360 - 180) < 25
        )  # the crop's centre, not the pelvis, is what the camera looks at
        again = photographer.shoot(
            who,
            pose,
            orient,
            cam_t,
            shot.camera,
            rng_for(*shot.key),
            low_quality=shot.low_quality,
            maps=True,
        )
        assert (photo["image"] == again["image"]).mean() > 0.999 and (
            photo["mask"] == again["mask"]
        ).mean() > 0.998
        drawn = renderer.render(orient, pose, photo["betas"], cam_t)
        for name in ("skeleton", "depth", "normals", "neutral"):
            assert (np.abs(photo[name].astype(int) - getattr(drawn, name)) > 1).mean() < 0.003, name
        naked, clothed = photo["depth"][..., 0] > 0, photo["clothed_depth"] > 0
        assert (naked & ~clothed).sum() <= 0.04 * naked.sum()  # clothes cover the body


@pytest.fixture
def rows(tiny) -> pd.DataFrame:
    """A plan of four images: training bodies as they are, then seen from behind."""
    train = datasets.load("msmt17", tiny.paths.datasets).train
    bodies = BodyTable.load(Path(tiny.paths.datasets) / "MSMT17_V1/smpl.npz")
    bodies = bodies.select(train["rel"].tolist())
    azimuth, elevation = viewpoint(bodies.global_orient, bodies.cam_t)
    chosen = np.array([0, 5, 0, 5])
    turned = np.array([0, 0, 180, 180])
    return pd.DataFrame(
        {
            "reference": train["rel"].to_numpy()[chosen],
            "pid": train["pid"].to_numpy()[chosen],
            "camid": train["camid"].to_numpy()[chosen],
            "pose_from": "training",
            "pose_row": chosen,
            "view_row": np.where(turned == 0, chosen, -1),
            "azimuth": azimuth[chosen] + turned,
            "elevation": elevation[chosen],
            "index": range(4),
        }
    )


def test_true_photos_of_a_plan_are_taken_once(tiny, rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = mini_world.true_photos(tiny, "msmt17", rows)
    images = np.load(file)
    assert images.shape == (4, H, W, 3) and images.dtype == np.uint8
    again = photographs.of_plan(tiny, "msmt17", rows.iloc[::-1])  # each photo has its own seed
    np.testing.assert_array_equal(again[::-1], images)
    monkeypatch.setattr(photographs, "of_plan", None)  # it is not called again
    assert mini_world.true_photos(tiny, "msmt17", rows) == file
    with pytest.raises(TypeError):  # but for other rows
        mini_world.true_photos(tiny, "msmt17", rows.assign(azimuth=0.0))


def test_true_photos_show_the_reference_s_person_in_the_row_s_pose_and_view(
    tiny, rows, monkeypatch
):
    taken = []

    def note(people, poses, shots, **options):
        photos = photography.photograph(people, poses, shots, **options)
        for shot, photo in zip(shots, photos, strict=True):
            taken.append((people.person[shot.person], photo))
            yield photo

    monkeypatch.setattr(photographs, "photograph", note)
    photographs.of_plan(tiny, "msmt17", rows)
    data = datasets.load("msmt17", tiny.paths.datasets)
    bodies = BodyTable.load(data.folder / "smpl.npz").select(rows["reference"].tolist())
    persons = data.train.set_index("rel")["person"].loc[rows["reference"]].tolist()
    assert [person for person, _ in taken] == persons
    for number, (_, photo) in enumerate(taken):
        np.testing.assert_allclose(photo["body_pose"], bodies.body_pose[number], atol=1e-6)
    for number in (0, 1):  # where the view is kept, so is the orientation
        turn = Rotation.from_rotvec(bodies.global_orient[number])
        own = Rotation.from_rotvec(taken[number][1]["global_orient"])
        assert (turn.inv() * own).magnitude() < 1e-4
        assert abs(taken[number + 2][1]["global_orient"] - bodies.global_orient[number]).max() > 0.1


def test_data_without_truth_cannot_be_photographed(tiny, rows, monkeypatch):
    data = datasets.load("msmt17", tiny.paths.datasets)
    blind = replace(data, train=data.train.drop(columns="person"))
    monkeypatch.setattr(mini_world.datasets, "of_study", lambda *given: blind)
    with pytest.raises(StudyError, match="no true photos can be taken: leave the oracle arms out"):
        mini_world.true_photos(tiny, "msmt17", rows)


def test_prints_are_told_from_shirts_without_them(tiny, tmp_path, monkeypatch):
    """Of the test people, each in one pose, from the front and from behind."""
    shutil.copytree(tiny.paths.world, tmp_path / "world")
    looks = pd.read_csv(tmp_path / "world/identities.csv", keep_default_na=False)
    looks.assign(back_print="none", bag="none").to_csv(tmp_path / "world/identities.csv")
    monkeypatch.setattr(prints, "FRONT", 100.0)  # of few photos few are from the front
    P = tiny.model_copy(
        update={"paths": tiny.paths.model_copy(update={"world": str(tmp_path / "world")})}
    )
    found = [prints.sample(P, name) for name in ("market1501", "msmt17", "cuhk03-labeled")]
    found = [one for one in found if one is not None]
    assert sum(one.own.sum() for one in found) and sum((~one.own).sum() for one in found)
    for one in found:
        assert one.shown(one.with_print).all() and not one.shown(one.without).any()
        assert (one.shown(one.targets.truth) == one.own).all()
        shirt = one.without.astype(float)
        shirt[one.targets.mask] = [90, 40, 160]  # one wrong colour on the whole person
        assert not one.shown(shirt).any()
        halves = (one.with_print.astype(float), one.without.astype(float))
        faint, clear = (share * halves[0] + (1 - share) * halves[1] for share in (0.4, 0.6))
        assert not one.shown(faint).any() and one.shown(clear).all()


def test_rates_of_prints_are_of_people():
    """Four people, two from the front; the images show the print of one of each."""
    blank = np.full((4, 12, 6, 3), 50, np.uint8)
    with_print = blank.copy()
    with_print[:, 4:8, 2:4] = [250, 50, 50]
    targets = SimpleNamespace(mask=np.ones(blank.shape[:3], bool))
    asked = prints.Prints(targets, with_print, blank, np.array([True, True, False, False]))
    images = np.where(np.array([1, 0, 1, 0])[:, None, None, None], with_print, blank)
    table = prints.measured(asked, {"generated": images, "truth": blank}, seed=0)
    value = table.set_index(["method", "metric"])["value"]
    assert value["generated"].to_dict() == {"print_kept": 0.5, "print_false": 0.5}
    assert value["truth"].to_dict() == {"print_kept": 0.0, "print_false": 0.0}
    assert (table["n"] == 2).all() and (table["ci_low"] <= table["value"]).all()


def test_data_without_truth_have_no_prints(tiny, monkeypatch):
    data = datasets.load("msmt17", tiny.paths.datasets)
    bare = replace(data, **{part: getattr(data, part).drop(columns="person") for part in SPLITS})
    monkeypatch.setattr(datasets, "of_study", lambda name, paths: bare)
    assert prints.sample(tiny, "msmt17") is None
