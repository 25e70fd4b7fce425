"""The mini world: the same identities and photos every time, captions that name what can be seen, data sets in the real formats."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline import ROOT
from posedive_lib import datasets, params
from posedive_lib.body.camera import viewpoint
from posedive_lib.body.poses import load_poses
from posedive_lib.body.table import BodyTable
from posedive_lib.errors import StudyError
from posedive_lib.seeds import rng_for
from posedive_lib.world import build, oracle
from posedive_lib.world.scene import Camera, Photographer, camera_record, sample_camera
from posedive_lib.world.specify import CAMERAS, PEOPLE
from posedive_lib.world.wardrobe import FACTORS, caption, sample_identities

BODY = str(ROOT / "data/body/SMPL_NEUTRAL.npz")
H, W = 64, 32


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    return pd.read_csv(ROOT / "data/world/identities.csv", keep_default_na=False)


# --- identities and captions --------------------------------------------------------------------------------------------------


def test_identities_are_the_same_every_time_and_more_only_append():
    few, many = sample_identities("msmt17-train", 6), sample_identities("msmt17-train", 12)
    pd.testing.assert_frame_equal(few, many.iloc[:6])
    assert not sample_identities("msmt17-test", 6).drop(columns=["person", "role"]).equals(few.drop(columns=["person", "role"]))
    assert not sample_identities("msmt17-train", 6, seed=1).equals(few)


def test_the_tracked_identities_are_those_of_the_code(people):
    assert people["role"].value_counts().to_dict() == PEOPLE and people["person"].is_unique
    for role in PEOPLE:
        made = sample_identities(role, 5)
        pd.testing.assert_frame_equal(people[people["role"] == role].head(5)[made.columns].reset_index(drop=True), made)


def test_the_tracked_cameras_are_those_of_the_code():
    tracked = json.loads((ROOT / "data/world/cameras.json").read_text())
    for name, azimuths in CAMERAS.items():
        made = [camera_record(sample_camera(f"{name}-{i}", azimuth)) for i, azimuth in enumerate(azimuths)]
        assert json.loads(json.dumps(made)) == tracked[name]


def test_every_fourth_person_is_a_look_alike(people):
    some = people[people["role"] == "msmt17-test"].reset_index(drop=True)
    same = [name for name in FACTORS if name not in ("front_print", "back_print", "bag", "bag_colour")]
    for row in range(3, len(some), 4):
        assert (some.loc[row, same] == some.loc[row - 1, same]).all() and some.loc[row, "person"] != some.loc[row - 1, "person"]


def test_captions_name_only_what_that_side_shows(people):
    for who in people.head(200).to_dict("records"):
        views = {side: caption(who, azimuth) for side, azimuth in (("front", 10), ("side", -90), ("back", 175))}
        for side, sentence in views.items():
            assert f"from the {side}" in sentence and sentence.endswith(".") and " left" not in sentence and " right" not in sentence
            assert ("front print" in sentence) == (side == "front" and who["front_print"] != "none")
            covered = who["jacket"] != "none" or who["bag"] == "backpack"
            assert ("back print" in sentence) == (side == "back" and who["back_print"] != "none" and not covered)
            assert ("backpack" in sentence) == (side != "front" and who["bag"] == "backpack")
            assert who["bottom"] in sentence and who["shoes"] in sentence


def test_captions_do_not_care_how_an_azimuth_is_written(people):
    who = people.iloc[0].to_dict()
    assert caption(who, 200) == caption(who, -160) == caption(who, 560) and caption(who, 350) == caption(who, 0)


# --- photos -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def studio(people):
    """Takes a photo of a standing person from an azimuth, by a clean camera."""
    photographer = Photographer(BODY, H, W, 2.5)
    camera = replace(sample_camera("test", 0), noise=0.0, blur=0.0, occluded=0.0)
    body_pose = np.zeros(69)
    body_pose[15 * 3 + 2], body_pose[16 * 3 + 2] = -1.2, 1.2  # arms down

    def take(who: dict, azimuth: float, key: str = "photo", **changed) -> dict:
        turn, place = photographer.place(who, np.zeros(3), body_pose, azimuth, 8)
        return photographer.shoot(who, body_pose, turn, place, replace(camera, **changed), rng_for(key))

    return take


@pytest.fixture
def person(people) -> dict:
    plain = {"jacket": "none", "bag": "none", "front_print": "none", "back_print": "none", "top": "white", "top_pattern": "plain", "hair_style": "short"}
    return people.iloc[0].to_dict() | plain | {"person": "plain"}


def test_photos_are_the_same_for_the_same_key(studio, person):
    noisy = {"noise": 0.02, "occluded": 0.5}
    one, same, other = studio(person, 30, **noisy), studio(person, 30, **noisy), studio(person, 30, key="another", **noisy)
    np.testing.assert_array_equal(one["image"], same["image"])
    np.testing.assert_array_equal(one["visible"], same["visible"])
    assert (one["image"] != other["image"]).mean() > 0.5
    assert one["image"].shape == (H, W, 3) and one["image"].dtype == np.uint8 and 0.1 < one["mask"].mean() < 0.6


@pytest.mark.parametrize("change, seen_from, hidden_from", [
    ({"front_print": "red"}, 0, 180), ({"back_print": "red"}, 180, 0), ({"bag": "backpack", "bag_colour": "red"}, 180, None),
])  # fmt: skip
def test_what_one_side_hides_is_hidden_in_the_photo_too(change, seen_from, hidden_from, studio, person):
    changed = person | change | {"person": f"plain with {change}"}
    differ = lambda azimuth: (np.abs(studio(person, azimuth)["image"].astype(int) - studio(changed, azimuth)["image"]).max(-1) > 40).sum()
    assert differ(seen_from) > 30
    assert hidden_from is None or differ(hidden_from) <= 2


def test_an_occluder_hides_key_points(studio, person):
    seen = [studio(person, 0, key=f"occluder {i}", occluded=1.0) for i in range(6)]
    assert all(photo["occluded"] for photo in seen) and any((photo["visible"] == 0).any() for photo in seen)
    assert not studio(person, 0)["occluded"] and (studio(person, 0)["visible"] > 0).all()


# --- data sets ----------------------------------------------------------------------------------------------------------------

SIZES = {
    "workers": 1, "market1501": {"train_pids": 2, "test_pids": 2, "images_per_train_pid": 3, "images_per_test_pid": 4, "distractors": 2, "junk": 2},
    "msmt17": {"train_pids": 2, "test_pids": 2, "images_per_train_pid": 4, "images_per_test_pid": 6}, "cuhk03": {"train_pids": 2, "test_pids": 2, "images_per_pid": 3},
}  # fmt: skip


def in_this_process(people, poses, shots, *, body, height, width, focal, workers, progress):
    """`oracle.photograph` without other processes, which take seconds to start."""
    rows = people.to_dict("records")
    jobs = [(rows[s.person], poses.root_tilt[s.pose], poses.body_pose[s.pose], s) for s in shots]
    return oracle._take((body, height, width, focal, None, None), jobs)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Parameters of a world with two to four people per data set, and its folder."""
    folder = tmp_path_factory.mktemp("tiny")
    settings = yaml.safe_load((ROOT / "params/smoke.yaml").read_text())
    settings["paths"] = {key: value and str(ROOT / value) for key, value in settings["paths"].items()} | {"datasets": str(folder / "world")}
    settings |= {"world": SIZES, "image": {"height": H, "width": W}}
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    P = params.load(folder / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "photograph", in_this_process)
        build.build(P)
    return P


@pytest.mark.parametrize("name, counts, cameras", [
    ("market1501", {"train": 6, "query": 6, "gallery": 4}, 6), ("msmt17", {"train": 8, "query": 8, "gallery": 4}, 15),
    ("cuhk03-labeled", {"train": 6, "query": 4, "gallery": 2}, 2), ("cuhk03-detected", {"train": 6, "query": 4, "gallery": 2}, 2),
])  # fmt: skip
def test_the_readers_of_the_real_data_sets_read_it(name, counts, cameras, tiny):
    data = datasets.load(name, tiny.paths.datasets)
    found = {"train": data.train, "query": data.query, "gallery": data.gallery}
    assert {split: len(frame) for split, frame in found.items()} == counts
    for split, frame in found.items():
        assert frame["camid"].between(0, cameras - 1).all() and frame["person"].notna().all()
        known = frame[frame["pid"] > 0] if name == "market1501" else frame  # there, 0 is any distractor
        assert (known.groupby("pid")["person"].nunique() == 1).all()
    everyone = {split: set(frame["person"]) for split, frame in found.items()}
    assert not everyone["train"] & (everyone["query"] | everyone["gallery"])


def test_distractors_stay_and_junk_goes(tiny):
    gallery = datasets.load("market1501", tiny.paths.datasets).gallery
    assert (gallery["pid"] == 0).sum() == 2 and (gallery["pid"] == -1).sum() == 0
    folder = datasets.load("market1501", tiny.paths.datasets).folder
    assert len(list((folder / "bounding_box_test").glob("-1_c*"))) == 2


FOLDERS = ["Market-1501-v15.09.15", "MSMT17_V1", "cuhk03-np/labeled", "cuhk03-np/detected"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_truth_agrees_with_the_bodies(folder, tiny):
    where = build.Path(tiny.paths.datasets) / folder
    truth, bodies = pd.read_csv(where / "truth.csv"), BodyTable.load(where / "smpl.npz")
    assert truth["path"].tolist() == bodies.path.tolist() and all((where / path).is_file() for path in truth["path"])
    azimuth, elevation = viewpoint(bodies.global_orient, bodies.cam_t)
    turn = (truth["azimuth"] - azimuth + 180) % 360 - 180
    np.testing.assert_allclose(turn, 0, atol=0.01)
    np.testing.assert_allclose(truth["elevation"], elevation, atol=0.01)
    np.testing.assert_allclose(bodies.focal, 2.5 * H)
    assert set(np.unique(bodies.visible)) <= {0, 1, 2} and (bodies.visible == 2).mean() > 0.4


def test_shots_are_planned_the_same_every_time(people):
    poses = load_poses(ROOT / "data/motions", fps=2)
    cameras = [sample_camera(f"cuhk03-{i}", azimuth) for i, azimuth in enumerate(CAMERAS["cuhk03"])]
    make = lambda seed: build.Planner("cuhk03", people[people["role"].str.startswith("cuhk03")], cameras, poses, seed)
    one, same, other = (make(seed).shot(1, 0, 2, True) for seed in (0, 0, 1))
    assert one == same != other
    few = build.plan_cuhk03(make(0), params.load(ROOT / "params/smoke.yaml").world.cuhk03, 0.01)
    assert [e.path for e in few] == [e.path for e in build.plan_cuhk03(make(0), params.load(ROOT / "params/smoke.yaml").world.cuhk03, 0.04)]


def test_asking_for_more_people_than_there_are_is_named(people):
    poses = load_poses(ROOT / "data/motions", fps=2)
    planner = build.Planner("market1501", people[people["role"].str.startswith("market1501")], [Camera(**camera_record(sample_camera("x", 0)))], poses, 0)
    with pytest.raises(StudyError, match="ask for fewer"):
        planner.role("train", 1000)
