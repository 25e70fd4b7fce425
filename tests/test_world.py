"""The mini world: people, clothes, cameras and photos."""

import json
from dataclasses import asdict, replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from pipeline import ROOT
from scipy.ndimage import binary_erosion
from scipy.stats import chi2_contingency
from world_parts import BODY, FOCAL, H, W, contents, people  # noqa: F401 (fixtures)

from miniworld import specify
from miniworld.accessories import accessories
from miniworld.body import build_body
from miniworld.cameras import backdrop, read_cameras, sample_camera, write_cameras
from miniworld.dresser import Dresser
from miniworld.photographer import Photographer
from miniworld.specify import CAMERAS, PEOPLE, VARIETY
from miniworld.wardrobe import (
    CONTRAST,
    FACTORS,
    LOOK_ALIKE_EVERY,
    ONE_SIDE,
    caption,
    look_alikes,
    sample_identities,
)
from posedive_lib.body.smpl import cached_smpl, load_smpl
from posedive_lib.errors import StudyError
from posedive_lib.seeds import rng_for

# --- identities and captions ------------------------------------------------------------


def test_identities_are_the_same_every_time_and_more_only_append():
    few, many = sample_identities("msmt17-train", 6), sample_identities("msmt17-train", 12)
    pd.testing.assert_frame_equal(few, many.iloc[:6])
    assert (
        not sample_identities("msmt17-test", 6)
        .drop(columns=["person", "role"])
        .equals(few.drop(columns=["person", "role"]))
    )
    assert not sample_identities("msmt17-train", 6, seed=1).equals(few)


def test_the_tracked_identities_and_cameras_are_those_of_the_code(people):
    assert people["role"].value_counts().to_dict() == PEOPLE and people["person"].is_unique
    for role in PEOPLE:
        made = sample_identities(role, 5)
        pd.testing.assert_frame_equal(
            people[people["role"] == role].head(5)[made.columns].reset_index(drop=True), made
        )
    tracked = read_cameras(ROOT / "data/world")
    assert tracked == {
        name: [
            sample_camera(f"{name}-{i}", azimuth, variety=VARIETY)
            for i, azimuth in enumerate(means)
        ]
        for name, means in CAMERAS.items()
    }


def test_factors_are_many_and_independent(people):
    """No pair of factors depends on each other, but for those that must differ to be seen.

    Look-alikes are left out.
    """
    free = people[people.groupby("role").cumcount() % LOOK_ALIKE_EVERY != LOOK_ALIKE_EVERY - 1]
    assert len(FACTORS) >= 12 and all(
        set(people[name]) <= set(values) for name, values in FACTORS.items()
    )
    related = {frozenset(pair) for pair in CONTRAST.items()}
    related |= {
        frozenset((a, b)) for a, b in combinations(CONTRAST, 2) if CONTRAST[a] == CONTRAST[b]
    }
    pairs = [pair for pair in combinations(FACTORS, 2) if frozenset(pair) not in related]
    codes = {name: pd.factorize(free[name])[0] for name in FACTORS}

    def dependence(one: np.ndarray, other: np.ndarray) -> float:
        """p of the chi-square test that two columns of codes are independent."""
        counts = np.zeros((one.max() + 1, other.max() + 1))
        np.add.at(counts, (one, other), 1)
        return chi2_contingency(counts).pvalue

    p = np.array([dependence(codes[a], codes[b]) for a, b in pairs])
    assert p.min() > 0.01 / len(p) and (p < 0.05).mean() < 0.10
    mixed = np.where(np.arange(len(free)) % 3 == 0, codes["top"], codes["top_second"])
    assert dependence(codes["top"], mixed) < 1e-9  # the test sees dependence where there is some
    assert not any((free[a] == free[b]).any() for a, b in CONTRAST.items())


def test_some_people_differ_from_the_one_before_in_one_group_that_one_side_shows(people):
    seen = set()
    for role in PEOPLE:
        rows = people[people["role"] == role].to_dict("records")
        for before, twin in zip(
            rows[LOOK_ALIKE_EVERY - 2 :: LOOK_ALIKE_EVERY],
            rows[LOOK_ALIKE_EVERY - 1 :: LOOK_ALIKE_EVERY],
            strict=False,
        ):
            different = {name for name in before if before[name] != twin[name]} - {
                "person",
                "description",
            }
            groups = [group for group in ONE_SIDE if different & set(group)]
            assert len(groups) == 1 and groups[0][0] in different <= set(groups[0]), (
                before["person"],
                different,
            )
            seen.add(groups[0])
        place = np.arange(len(rows)) % LOOK_ALIKE_EVERY
        full = np.arange(len(rows)) < len(rows) // LOOK_ALIKE_EVERY * LOOK_ALIKE_EVERY
        assert np.array_equal(
            look_alikes(pd.DataFrame(rows)), full & (place >= LOOK_ALIKE_EVERY - 2)
        )
    assert seen == set(ONE_SIDE)


def test_captions_name_only_what_that_side_shows(people):
    for who in people.iloc[::3].to_dict("records"):
        for side, azimuth in (("front", 10), ("side", -90), ("back", 175)):
            said = caption(who, azimuth)
            front, back, jacket = side == "front", side == "back", who["jacket"] != "none"
            assert (
                f"from the {side}" in said
                and said.endswith(".")
                and " left" not in said
                and " right" not in said
                and "a orange" not in said
            )
            assert (f"{who['front_shape']} on the front" in said) == (
                front and who["front_print"] != "none" and not jacket
            )
            assert (f"{who['back_shape']} on the back" in said) == (
                back and who["back_print"] != "none" and who["bag"] != "backpack"
            )
            assert ("jacket over" in said) == (front and jacket) and ("jacket" in said) == jacket
            assert ("backpack" in said) == (not front and who["bag"] == "backpack")
            assert (" stripe" in said.replace("striped", "")) == (
                side == "side" and who["bottom_kind"] == "trousers" and who["side_stripe"] != "none"
            )
            assert ("beard" in said) == (not back and who["beard"] == "yes")
            assert ("ponytail" in said) == (not front and who["hair_style"] == "ponytail")
            if back and who["top_back"] != "same" and not jacket:
                assert f" {who['top_back']} shirt" in said
            assert who["bottom"] in said and who["shoes"] in said


HIDDEN = {
    "front": ["back_print", "back_shape", "top_back", "side_stripe"],
    "back": ["front_print", "front_shape", "beard", "side_stripe"],
    "side": ["front_print", "front_shape", "back_print", "back_shape", "top_back"],
}


def test_a_side_s_caption_does_not_depend_on_what_it_hides(people):
    for who in people.iloc[::40].to_dict("records"):
        for side, azimuth in (("front", 0), ("side", 100), ("back", 180)):
            for name in HIDDEN[side]:
                assert {caption(who | {name: value}, azimuth) for value in FACTORS[name]} == {
                    caption(who, azimuth)
                }


def test_captions_do_not_care_how_an_azimuth_is_written(people):
    who = people.iloc[0].to_dict()
    assert caption(who, 200) == caption(who, -160) == caption(who, 560) and caption(
        who, 350
    ) == caption(who, 0)


def test_tracked_inputs_of_another_content_are_left_alone_and_named(tmp_path, monkeypatch):
    def write_small_body(path):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"the mini world's body")

    monkeypatch.setattr(specify, "write_body", write_small_body)
    mine = tmp_path / "body/SMPL_NEUTRAL.npz"
    mine.parent.mkdir()
    mine.write_bytes(b"a real SMPL file")
    with pytest.raises(StudyError, match="SMPL_NEUTRAL.npz: another content is there already"):
        specify.write_inputs(tmp_path)
    assert mine.read_bytes() == b"a real SMPL file"
    before = contents(tmp_path)
    assert len(before) == 1 + 2 * 28 + 2  # what was missing is there
    mine.unlink()
    assert specify.write_inputs(tmp_path) == 1 and specify.write_inputs(tmp_path) == 0
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        specify.main(["--help"])
    assert ended.value.code == 0  # no folder of that name, as it once made
    after = contents(tmp_path)
    assert after.keys() == before.keys()
    assert {path: after[path] for path in before if path != str(mine)} == {
        path: before[path] for path in before if path != str(mine)
    }


# --- clothes on two bodies --------------------------------------------------------------

PLAIN = {
    "jacket": "none",
    "bag": "none",
    "front_print": "none",
    "back_print": "none",
    "top": "white",
    "top_pattern": "plain",
    "top_back": "same",
    "scarf": "none",
    "hair_style": "short",
    "hair": "black",
    "beard": "no",
    "skin": "pale",
    "sleeves": "long",
    "bottom_kind": "trousers",
    "bottom": "blue",
    "side_stripe": "none",
    "top_second": "red",
    "bag_colour": "red",
    "cap": "red",
    "front_shape": "square",
    "back_shape": "square",
}


@pytest.fixture
def person(people) -> dict:
    return people.iloc[0].to_dict() | PLAIN


@pytest.fixture(scope="module")
def dressers(tmp_path_factory) -> dict[str, Dresser]:
    """Of the bundled body, and of one with other vertices, 12 % larger, elsewhere in its frame."""
    other = build_body(step=0.021)
    other["v_template"] = other["v_template"] * 1.12 + [0, 0.3, 0.05]
    other["shapedirs"] = other["shapedirs"] * 1.12
    path = tmp_path_factory.mktemp("body") / "other.npz"
    np.savez(path, **other)
    return {"bundled": Dresser(cached_smpl(BODY)), "other": Dresser(load_smpl(path))}


# A factor's change, what the plain person must wear for it, and which vertices may change: those in
# front, behind, or any.
CHANGES = [
    ("skin", "dark", {}, "any"),
    ("hair", "blond", {}, "any"),
    ("hair_style", "bald", {}, "any"),
    ("hair_style", "long", {}, "any"),
    ("cap", "blue", {"hair_style": "cap"}, "any"),
    ("beard", "yes", {}, "front"),
    ("scarf", "red", {}, "any"),
    ("top", "black", {}, "any"),
    ("top_pattern", "checked", {}, "any"),
    ("top_pattern", "raglan", {}, "any"),
    ("top_second", "blue", {"top_pattern": "striped"}, "any"),
    ("top_back", "red", {}, "behind"),
    ("sleeves", "short", {}, "any"),
    ("front_print", "red", {}, "front"),
    ("front_shape", "disc", {"front_print": "red"}, "front"),
    ("back_print", "red", {}, "behind"),
    ("back_shape", "sash", {"back_print": "red"}, "behind"),
    ("jacket", "black", {}, "any"),
    ("bottom", "black", {}, "any"),
    ("bottom_kind", "shorts", {}, "any"),
    ("side_stripe", "yellow", {}, "any"),
    ("socks", "red", {"bottom_kind": "shorts", "socks": "white"}, "any"),
    ("shoes", "red", {"shoes": "white"}, "any"),
    ("bag_colour", "blue", {"bag": "shoulder bag"}, "any"),
]


@pytest.mark.parametrize("body", ["bundled", "other"])
def test_every_factor_is_painted_where_it_belongs(body, dressers, person):
    dresser = dressers[body]
    for name, value, wearing, where in CHANGES:
        before, after = (
            dresser.dress(person | wearing),
            dresser.dress(person | wearing | {name: value}),
        )
        count = min(len(before.albedo), len(after.albedo))
        changed = (
            np.abs(before.albedo[:count] - after.albedo[:count]).max(1)[: len(dresser.up)] > 0.05
        )
        assert changed.sum() > 12, (name, value)
        if where != "any":
            assert (dresser.behind[changed] == (where == "behind")).all(), name
    assert {name for name, *_ in CHANGES} | {"bag"} == set(FACTORS)  # bags are meshes, below


def test_both_bodies_wear_the_same(dressers, people):
    """Each region of clothes covers the same share of either body's surface."""

    def shares(dresser):
        corner = dresser.template[dresser.faces]
        area = np.linalg.norm(
            np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1
        )

        def on(region: np.ndarray) -> float:
            return area[region[dresser.faces].all(1)].sum() / area.sum()

        regions = {
            name: on(getattr(dresser, name))
            for name in ("is_arm", "is_head", "is_foot", "is_leg", "is_torso", "behind")
        }
        return regions | {
            shape: on(dresser._print(shape) & ~dresser.behind)
            for shape in ("square", "disc", "band", "sash")
        }

    one, other = shares(dressers["bundled"]), shares(dressers["other"])
    assert all(abs(one[name] - other[name]) < 0.02 for name in one), (one, other)
    assert (
        sum(one[name] for name in ("is_arm", "is_head", "is_foot", "is_leg", "is_torso")) > 0.9
        and min(one.values()) > 0.01
    )


@pytest.mark.parametrize("body", ["bundled", "other"])
def test_outfits_are_well_formed(body, dressers, people):
    dresser = dressers[body]
    for who in people.iloc[::60].to_dict("records"):
        outfit = dresser.dress(who)
        assert (
            np.isfinite(outfit.albedo).all()
            and outfit.albedo.min() >= 0
            and outfit.albedo.max() <= 1
        )
        assert len(outfit.albedo) == len(dresser.up) + len(outfit.points) == outfit.faces.max() + 1
        np.testing.assert_allclose(outfit.weights.sum(1), 1, atol=1e-9)
        lengths = np.linalg.norm(outfit.offsets, axis=1)
        assert (
            lengths.max() < 0.03
            and (np.einsum("ij,ij->i", outfit.offsets, dresser.normals) >= -1e-12).all()
        )  # cloth lies outside the skin


def welded(points, faces):
    """Faces over points that are merged where they coincide, without the triangles that vanish."""
    _, merged = np.unique(np.round(points, 5), axis=0, return_inverse=True)
    faces = merged.ravel()[faces]
    return faces[
        (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    ], merged.ravel()


@pytest.mark.parametrize("body", ["bundled", "other"])
@pytest.mark.parametrize(
    "wearing",
    [
        {"bag": "backpack"},
        {"bag": "shoulder bag"},
        {"hair_style": "ponytail"},
        {"hair_style": "cap"},
        {"bottom_kind": "skirt"},
    ],
)
def test_accessories_are_closed_and_face_outwards(wearing, body, dressers, person):
    dresser = dressers[body]
    ((points, faces, _, _),) = accessories(dresser, person | wearing)
    merged, _ = welded(points, faces)
    directed = {
        tuple(edge) for face in merged for edge in (face[[0, 1]], face[[1, 2]], face[[2, 0]])
    }
    assert len(directed) == 3 * len(merged)  # neighbours turn the same way
    rims = {edge[0] for edge in directed if edge[::-1] not in directed}
    a, b, c = (points[faces[:, k]] - points.mean(0) for k in range(3))
    normal = np.cross(b - a, c - a)
    if wearing == {"bottom_kind": "skirt"}:  # a tube, open at waist and hem
        assert len(rims) == 2 * 28 and (normal[:, [0, 2]] * (a + b + c)[:, [0, 2]]).sum(1).min() > 0
    else:
        assert not rims and np.einsum("ij,ij->i", normal, a + b + c).min() > -1e-9
    height = np.ptp(dresser.template[:, 1])
    assert (points.min(0) > dresser.template.min(0) - 0.25).all() and (
        points.max(0) < dresser.template.max(0) + 0.25
    ).all()
    assert (
        np.linalg.norm(points[:, None] - dresser.template[None, ::20], axis=-1).min()
        < 0.03 * height
    )  # it touches the body


# --- cameras ----------------------------------------------------------------------------


def test_cameras_look_down_from_their_lens(tmp_path):
    cameras = [sample_camera(f"c{i}", 30.0 * i) for i in range(40)]
    for camera in cameras:
        assert np.tan(np.radians(camera.elevation)) == pytest.approx(
            (camera.lens_height - 0.95) / camera.distance, abs=2e-4
        )
        assert (
            0 < camera.elevation < 40
            and np.linalg.norm(camera.light) == pytest.approx(1, abs=2e-3)
            and camera.light[2] > 0
        )
    far = np.array([c.distance for c in cameras])
    assert (
        np.corrcoef(far, [c.resolution for c in cameras])[0, 1] < -0.8
        and len({c.scene for c in cameras}) == 40
    )
    write_cameras(tmp_path / "cameras.json", {"a": cameras[:3], "b": []})
    assert read_cameras(tmp_path) == {"a": cameras[:3], "b": []}
    assert sample_camera("c1", 30.0) == cameras[1] != sample_camera("c1", 30.0, seed=1)


def test_variety_is_of_a_camera_s_colours_alone():
    colours = ("light_colour", "gain", "gamma", "contrast")
    full, half, none = (sample_camera("c1", 30.0, variety=variety) for variety in (1.0, 0.5, 0.0))
    assert {k: v for k, v in asdict(full).items() if k not in colours} == {
        k: v for k, v in asdict(none).items() if k not in colours
    }
    for name in colours:
        assert np.all(np.array(getattr(none, name)) == 1) and np.all(
            np.array(getattr(full, name)) != 1
        )
        np.testing.assert_allclose(
            np.log(getattr(half, name)), 0.5 * np.log(getattr(full, name)), atol=2e-3
        )


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1]",
        '{"a": 1}',
        '{"a": [1]}',
        '{"a": [{"name": "x"}]}',
        json.dumps({"a": [asdict(sample_camera("x", 0)) | {"tilt": 1}]}),
    ],
)
def test_a_camera_file_that_is_none_is_named(text, tmp_path):
    (tmp_path / "cameras.json").write_text(text)
    with pytest.raises(
        StudyError, match="cameras.json does not describe cameras.*miniworld.specify"
    ):
        read_cameras(tmp_path)


def test_a_missing_camera_file_is_named(tmp_path):
    with pytest.raises(StudyError, match="cameras.json is missing: run `dvc pull`"):
        read_cameras(tmp_path)


def test_a_scene_has_one_backdrop():
    one, same, other = backdrop(7, 40, 90), backdrop(7, 40, 90), backdrop(8, 40, 90)
    np.testing.assert_array_equal(one, same)
    assert (
        one.shape == (40, 90, 3)
        and one.min() >= 0
        and one.max() <= 1
        and one.std() > 0.03
        and abs(one - other).mean() > 0.03
    )


# --- photos -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def studio():
    """Takes a photo of a standing person from an azimuth, by a clean camera or a changed one."""
    photographer = Photographer(BODY, H, W, FOCAL)
    camera = replace(
        sample_camera("test", 0),
        noise=0.0,
        blur=0.0,
        motion_blur=0.0,
        resolution=1.0,
        jpeg=95,
        occluded=0.0,
        gamma=1.0,
        contrast=1.0,
        gain=(1.0,) * 3,
    )
    body_pose = np.zeros(69)
    body_pose[15 * 3 + 2], body_pose[16 * 3 + 2] = -1.2, 1.2  # arms down

    def take(
        who: dict,
        azimuth: float,
        key: str = "photo",
        low_quality: bool = False,
        maps: bool = False,
        **changed,
    ) -> dict:
        turn, place = photographer.place(who, np.zeros(3), body_pose, azimuth, 8)
        return photographer.shoot(
            who,
            body_pose,
            turn,
            place,
            replace(camera, **changed),
            rng_for(key),
            low_quality=low_quality,
            maps=maps,
        )

    return take


def test_photos_are_the_same_for_the_same_key(studio, person):
    noisy = {"noise": 0.02, "occluded": 0.5}
    one, same, other = (
        studio(person, 30, **noisy),
        studio(person, 30, **noisy),
        studio(person, 30, key="another", **noisy),
    )
    np.testing.assert_array_equal(one["image"], same["image"])
    np.testing.assert_array_equal(one["visible"], same["visible"])
    assert (one["image"] != other["image"]).mean() > 0.5
    assert (
        one["image"].shape == (H, W, 3)
        and one["image"].dtype == np.uint8
        and 0.1 < one["mask"].mean() < 0.6
    )


# Change, azimuths where it shows, azimuths where it must not.
SIDES = [
    ({"front_print": "red"}, (0, 40), (180, 150)),
    ({"back_print": "red"}, (180, -150), (0, 30)),
    ({"top_back": "red"}, (180, 140), (0,)),
    ({"front_print": "red", "front_shape": "band"}, (0,), (180,)),
    ({"bag": "backpack", "bag_colour": "black"}, (180, 90), ()),
    ({"beard": "yes"}, (0,), (180,)),
    ({"hair_style": "ponytail", "hair": "blond"}, (180,), ()),
]


def changed_pixels(studio, one: dict, other: dict, azimuth: float) -> int:
    images = [studio(who, azimuth)["image"].astype(int) for who in (one, other)]
    return int((np.abs(images[0] - images[1]).max(-1) > 40).sum())


@pytest.mark.parametrize("change, seen_from, hidden_from", SIDES)
def test_what_one_side_shows_changes_pixels_on_that_side_only(
    change, seen_from, hidden_from, studio, person
):
    seen, hidden = (
        [changed_pixels(studio, person, person | change, azimuth) for azimuth in side]
        for side in (seen_from, hidden_from)
    )
    assert min(seen) >= (3 if "beard" in change else 8), seen  # a chin is a few pixels here
    assert max(hidden, default=0) <= 2, hidden


def test_a_side_stripe_is_seen_from_the_sides(studio, person):
    front, *sides, back = (
        changed_pixels(studio, person, person | {"side_stripe": "yellow"}, azimuth)
        for azimuth in (0, 90, -90, 180)
    )
    assert min(sides) > 2 * max(front, back), (front, sides, back)  # a rim of it turns into view


def test_a_backpack_is_a_body_behind_the_back_and_straps_in_front(studio, person):
    pack = person | {"bag": "backpack", "bag_colour": "black"}
    assert (
        changed_pixels(studio, person, pack, 180) > 2 * changed_pixels(studio, person, pack, 0) > 0
    )
    behind, front = (
        studio(pack, a, maps=True)["clothed_depth"] - studio(person, a, maps=True)["clothed_depth"]
        for a in (180, 0)
    )
    assert (behind < -0.05).sum() > 30 and (front < -0.05).sum() == 0


def detail(image: np.ndarray) -> float:
    """Mean difference of neighbouring pixels."""
    grey = image.astype(float).mean(-1)
    return np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()


def test_optics_act_as_they_are_named(studio, person):
    plain = studio(person, 20)["image"].astype(float)

    def error(**changed) -> float:
        return np.sqrt(np.square(studio(person, 20, **changed)["image"] - plain).mean())

    assert error() == 0 < error(jpeg=60) < error(jpeg=20)
    assert error(noise=0.005) < error(noise=0.02) and error(low_quality=True) > 2 * error(
        noise=0.015, jpeg=70
    )
    for blunt in ({"resolution": 0.5}, {"blur": 3.0}, {"motion_blur": 12.0}):
        assert detail(studio(person, 20, **blunt)["image"]) < 0.9 * detail(plain), blunt
    assert (
        studio(person, 20, gain=(0.6, 1.0, 1.0))["image"][..., 0].mean()
        < 0.75 * plain[..., 0].mean()
    )
    assert (
        studio(person, 20, gamma=1.4)["image"].mean()
        < plain.mean()
        < studio(person, 20, gamma=0.7)["image"].mean()
    )


def test_an_occluder_hides_key_points_and_mask(studio, person):
    hidden = []
    for i in range(10):
        free, photo = (
            studio(person, 0, key=f"occluder {i}", maps=True),
            studio(person, 0, key=f"occluder {i}", occluded=1.0, maps=True),
        )
        body = photo["clothed_depth"] > 0
        assert (
            photo["occluded"]
            and not free["occluded"]
            and not (photo["mask"] & ~body).any()
            and (free["mask"] == body).all()
        )
        assert (
            photo["hidden"] == pytest.approx(1 - photo["mask"].sum() / body.sum())
            and free["hidden"] == 0
        )
        column, row = np.floor(photo["keypoints"]).astype(int).T
        on_body = body[row, column]
        assert ((photo["visible"] == 0) == ~photo["mask"][row, column])[on_body].all()
        assert (free["visible"] > 0).all() and (photo["visible"] <= free["visible"]).all()
        hidden.append(photo["hidden"])
    assert max(hidden) > 0.15 and np.mean(hidden) < 0.6 and len(set(hidden)) > 5


def test_the_truth_s_normals_are_those_of_its_depth(studio, person):
    """Surface directions from differences of the depth map agree with normals, but for edges."""
    photo = studio(person, 25, maps=True)
    depth = photo["clothed_depth"]
    rows, columns = np.mgrid[:H, :W] + 0.5
    points = np.stack(
        [(columns - W / 2) * depth / (FOCAL * H), (rows - H / 2) * depth / (FOCAL * H), depth], -1
    )
    normal = np.cross(np.gradient(points, axis=0), np.gradient(points, axis=1)) * [1, -1, -1]
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
    step = np.abs(np.stack(np.gradient(depth))).max(0)
    inside = binary_erosion(depth > 0, np.ones((3, 3))) & (step < 0.03)
    angle = np.degrees(np.arccos(np.clip((normal * photo["clothed_normals"]).sum(-1), -1, 1)))[
        inside
    ]
    assert inside.sum() > 150 and np.median(angle) < 12
    np.testing.assert_allclose(
        np.linalg.norm(photo["clothed_normals"][depth > 0], axis=-1), 1, atol=1e-3
    )
