"""Measures of the study against hand-derived values."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pipeline import ROOT

from posedive_lib import params
from posedive_lib.augment.filter_quality import auc
from posedive_lib.errors import StudyError
from posedive_lib.generator.arrays import Encoders
from posedive_lib.reid.image_set import ImageSet
from posedive_lib.study import candidate_files, failures, generation, quality, split_views
from posedive_lib.study.crossing import Crossing, right_person, variance_shares
from posedive_lib.study.reid_work import repeated


def test_pck_counts_visible_body_key_points_within_a_tenth_of_the_height():
    mask = np.zeros((1, 120, 60), bool)
    mask[0, 10:110, 20:40] = True  # 100 pixels tall
    truth = np.full((1, 17, 2), 50.0)
    visible = np.full((1, 17), 2)
    visible[0, 5] = 1  # hidden by the body: does not count
    estimated = truth.copy()
    estimated[0, 5] += 50
    estimated[0, 6, 0] += 10.0  # just inside
    estimated[0, 7, 0] += 10.1  # just outside
    estimated[0, 0] += 50  # a face point: not in the body subset
    assert quality.pck(estimated, truth, visible, mask) == pytest.approx([10 / 11])


def test_pck_is_undefined_where_nothing_is_visible():
    mask = np.ones((1, 4, 4), bool)
    assert np.isnan(
        quality.pck(np.zeros((1, 17, 2)), np.zeros((1, 17, 2)), np.zeros((1, 17), int), mask)
    ).all()


def test_psnr_looks_at_the_person_only():
    truth = np.zeros((1, 8, 8, 3), np.uint8)
    image = truth.copy()
    image[0, :4] = 200  # background
    image[0, 4:] = 16
    mask = np.zeros((1, 8, 8), bool)
    mask[0, 4:] = True
    assert quality.foreground_psnr(image, truth, mask) == pytest.approx(
        [10 * np.log10(255**2 / 256)]
    )


def test_ssim_of_an_image_with_itself_is_one():
    image = np.random.default_rng(0).integers(0, 256, (2, 16, 12, 3), dtype=np.uint8)
    assert quality.foreground_ssim(image, image, np.ones((2, 16, 12), bool)) == pytest.approx(
        [1, 1]
    )


def test_images_pass_the_vae_in_any_batch():
    generator = SimpleNamespace(encoders=Encoders.load(ROOT / "data/pretrained/stable-diffusion"))
    ramp = np.linspace(0, 255, 128).astype(np.uint8)[None, :, None, None]
    images = (
        np.broadcast_to(ramp, (3, 128, 64, 3)) // np.array([1, 2, 3], np.uint8)[:, None, None, None]
    )
    passed = quality.through_vae(generator, images)
    assert passed.shape == images.shape and passed.dtype == np.uint8
    assert (
        np.abs(passed.astype(int) - quality.through_vae(generator, images, batch_size=2)).max() <= 1
    )
    assert quality.foreground_psnr(passed, images, np.ones(images.shape[:3], bool)).min() > 20


def test_identity_top1_uses_the_mean_of_a_persons_photos():
    gallery = np.array([[1.0, 0], [0.8, 0.6], [0, 1], [0, 2]])
    assert quality.identity_top1(
        np.array([[1.0, 0.1], [0.1, 1.0], [1.0, 0.0]]),
        np.array([3, 9, 9]),
        gallery,
        np.array([3, 3, 9, 9]),
    ).tolist() == [True, True, False]


def test_variance_shares_of_a_pure_effect():
    identity = np.arange(4.0)[:, None, None] * np.ones((4, 5, 2))
    assert variance_shares(identity) == pytest.approx(
        {"identity": 100, "pose": 0, "interaction": 0}
    )
    both = identity + 3 * np.arange(5.0)[None, :, None]
    shares = variance_shares(both)  # variances 1.25 and 9 · 2
    assert shares["identity"] == pytest.approx(100 * 1.25 / 19.25) and shares[
        "interaction"
    ] == pytest.approx(0, abs=1e-9)


def test_auc_equals_the_share_of_ordered_pairs():
    score, positive = np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, True, False, True])
    assert auc(score, positive) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert np.isnan(auc(score, np.ones(4, bool)))


def test_repeat_gives_every_identity_the_count_of_the_generated_images():
    train = ImageSet(
        np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8),
        np.array([1, 1, 2, 2, 2]),
        np.zeros(5, int),
    )
    again = repeated(train, {1: 3, 2: 2}, seed=0)
    assert np.bincount(again.pids).tolist() == [0, 3, 2]
    assert (repeated(train, {1: 3, 2: 2}, seed=0).images == again.images).all()


def test_a_rose_s_sectors_begin_at_the_front_and_its_rays_are_where_the_rule_ends():
    views = {"train": np.array([0.0, 14.9, 15.0, -0.1]), "test": np.array([45.0, 180.0])}
    figure, shares = split_views.azimuth_roses(
        {"S": views}, limits={"S": {"train": 30.0, "test": 45.0}}
    )
    own = shares[(shares["side"] == "train") & (shares["share"] > 0)].set_index("azimuth")["share"]
    assert own.to_dict() == {7.5: 0.5, 22.5: 0.25, -7.5: 0.25}
    assert sorted(
        round(float(np.degrees(line.get_xdata()[0]))) for line in figure.axes[0].lines
    ) == [-45, -30, 30, 45]


def test_the_right_person_is_counted_without_an_image_s_own_target():
    """Three people of one colour each in two poses; one generated image has another's colour."""
    truth = np.zeros((3, 2, 4, 2, 3), np.uint8)
    for person in range(3):
        truth[person, ..., person] = 200
    generated = truth.copy()
    generated[0, 1] = truth[2, 1]
    mean_colour = SimpleNamespace(
        extract=lambda images: images.reshape(len(images), -1, 3).mean(1) + 1e-3
    )
    named = right_person(
        Crossing(truth[:, 0], generated, truth, truth, ["a", "b"]), mean_colour
    ).set_index("images")
    assert named.loc["generated"].tolist() == [5, 6] and named.loc["truth"].tolist() == [6, 6]
    truth[[0, 1], 0] = truth[
        [1, 0], 0
    ]  # by the other pose alone, both are now taken for each other in both poses
    named = right_person(
        Crossing(truth[:, 0], generated, truth, truth, ["a", "b"]), mean_colour
    ).set_index("images")
    assert named.loc["truth"].tolist() == [2, 6]


def test_filters_are_compared_at_the_same_loss(monkeypatch):
    """Candidates of two people, half of each in the wrong colour: a similarity to the real photos' colour is the perfect filter for the person."""
    from posedive_lib.study import filter_report

    colours = np.array([[200, 0, 0], [0, 0, 200]], np.uint8)
    pids = np.repeat([0, 1], 4)
    shown = np.where(np.arange(8) % 2 == 0, pids, 1 - pids)
    photos = {f"{i}.png": np.broadcast_to(colours[shown[i]], (4, 2, 3)) for i in range(8)} | {
        f"real{p}.png": np.broadcast_to(colours[p], (4, 2, 3)) for p in (0, 1)
    }
    manifest = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(8)],
            "pid": pids,
            "reference_min": 0.9,
            "reference_passed": True,
            **{
                f"sigma_{kind}_{k:02d}": [0.9] * 4 + [0.9 if kind == "tar" else 0.1] * 4
                for kind in ("tar", "gen")
                for k in range(17)
            },
        }
    )
    train = pd.DataFrame({"path": ["real0.png", "real1.png"], "pid": [0, 1]})
    monkeypatch.setattr(filter_report.datasets, "load", lambda *_: SimpleNamespace(train=train))
    monkeypatch.setattr(
        filter_report,
        "read_images",
        lambda paths, *_: np.stack([photos[str(path).split("/")[-1]] for path in paths]),
    )
    wanted = np.tile(np.stack([np.linspace(0, 9, 17), np.linspace(0, 99, 17)], axis=1), (8, 1, 1))
    bodies = SimpleNamespace(keypoints=wanted, visible=np.full((8, 17), 2))
    found = wanted.copy()
    found[:2] += 60  # the first two are in a wrong pose
    monkeypatch.setattr(filter_report, "load_bodies", lambda *_: (bodies, found))
    P = SimpleNamespace(
        image=SimpleNamespace(height=4, width=2),
        paths=SimpleNamespace(datasets=""),
        augment=SimpleNamespace(
            keypoints="body", tau_ref=0.35, tau_tar=0.5, epsilon_gen=0.18, tau_gen=0.55
        ),
    )
    colour = lambda images: images.reshape(len(images), -1, 3).mean(1) + 1.0
    images = np.stack([photos[path] for path in manifest["path"]])
    table = filter_report.filters_compared(
        P, "x", manifest, images, shown == pids, colour
    ).set_index(["score", "truth"])
    assert (table["lost_percent"] <= 50).all() and table.loc[
        ("all rules", "right person"), "lost_percent"
    ] == 50
    assert table.loc[
        ("Re-ID similarity", "right person"), ["precision", "recall", "auc"]
    ].tolist() == [1, 1, 1]
    assert (
        table.loc[("all rules", "right person"), "precision"] == 0.5
        and table.loc[("all rules", "right pose"), "precision"] == 0.5
    )
    assert (
        table.loc[("key points", "right pose"), "auc"] == 1
        and table.loc[("confidence", "right pose"), "auc"] < 0.5
    )
    assert table["good_percent"].groupby("truth").first().to_dict() == {
        "both": 37.5,
        "right person": 50.0,
        "right pose": 75.0,
    }


def test_what_the_filter_catches_is_counted_and_tested():
    from types import SimpleNamespace

    from scipy.stats import fisher_exact

    samples = SimpleNamespace(table=pd.DataFrame({"kept": [True] * 10 + [False] * 5}))
    flagged = pd.DataFrame(
        {kind: [0.0] * 9 + [1.0] + [1.0] * 4 + [np.nan] for kind in failures.MEASURED}
    )
    row = failures.caught(samples, flagged).set_index("kind").loc["wrong colours"]
    assert (row["kept count"], row["kept of"], row["rejected count"], row["rejected of"]) == (
        1,
        10,
        4,
        4,
    )
    assert (
        row["p"] == pytest.approx(fisher_exact([[1, 9], [4, 0]]).pvalue)
        and row["kept high"] < row["rejected low"] + 0.2
    )


def test_phase_2_trains_on_photos_that_pass_eq_3_and_4_and_that_no_split_tests(monkeypatch):
    def dataset(name, root):
        rels = {
            "msmt17": ["a", "b", "c", "d"],
            "msmt17-s-cam": ["a", "b", "c"],
            "msmt17-s-pose": ["a", "b", "d"],
        }.get(name, ["a", "b"])
        return SimpleNamespace(
            folder=name,
            train=pd.DataFrame(
                {"rel": rels, "path": [f"{name}/{rel}" for rel in rels], "pid": 1, "camid": 0}
            ),
        )

    sigma = {
        "a": np.full(17, 0.9),
        "b": np.r_[np.full(16, 0.9), 0.1],
    }  # one hidden ankle: no reference, but a clear target
    monkeypatch.setattr(generation.datasets, "load", dataset)
    monkeypatch.setattr(
        generation, "confidence", lambda P, paths: np.stack([sigma[path[-1]] for path in paths])
    )
    images = generation.phase2_images(params.load(ROOT / "params.yaml"))
    assert images.groupby("dataset")["rel"].apply(list).to_dict() == {
        name: ["a", "b"] for name in generation.PHASE2_SETS
    }
    assert images["pid"].nunique() == 3 and images["target_ok"].all()
    assert images["reference_ok"].tolist() == [True, False] * 3


def test_without_the_truth_nothing_is_compared_with_it(monkeypatch):
    from posedive_lib.study import crossing

    bare = SimpleNamespace(query=pd.DataFrame({"path": ["a.png"], "pid": [1], "camid": [0]}))
    monkeypatch.setattr(quality.datasets, "load", lambda *_: bare)
    P = SimpleNamespace(paths=SimpleNamespace(datasets="", motions="data/motions"), seed=0)
    assert quality.unseen_targets(P) is None
    empty = quality.compared(P, None, None, None, None, None)
    assert empty.empty and list(empty.columns) == quality.COLUMNS
    with pytest.raises(StudyError, match="msmt17 has no truth.csv"):
        crossing.cross(P, None, people=6, poses=6)


def test_the_list_of_candidates_tells_of_every_change(tmp_path, monkeypatch):
    """Stages depend on it in place of the images: another shard, or an arm more, has to show."""
    monkeypatch.setattr(candidate_files, "CANDIDATES", tmp_path)

    def listed(*arms: tuple[str, str, str]) -> pd.DataFrame:
        tables = [
            pd.DataFrame(
                {"dataset": [name], "arm": [arm], "path": [f"shards/{shard}/0001_000.jpg"]}
            )
            for name, arm, shard in arms
        ]
        for (name, arm, _), table in zip(arms, tables):
            candidate_files.candidates_folder(name, arm).mkdir(parents=True, exist_ok=True)
            table.to_csv(candidate_files.candidates_folder(name, arm) / "manifest.csv", index=False)
        generation.list_candidates(tables)
        return pd.read_csv(tmp_path / "manifests.csv")

    first = listed(("msmt17", "pose-dive", "aa"), ("msmt17", "pose", "bb"))
    assert first[["dataset", "arm", "candidates"]].to_numpy().tolist() == [
        ["msmt17", "pose-dive", 1],
        ["msmt17", "pose", 1],
    ]
    other = listed(("msmt17", "pose-dive", "aa"), ("msmt17", "pose", "cc"))
    assert (first["manifest"] == other["manifest"]).tolist() == [True, False]
    assert len(listed(("msmt17", "pose-dive", "aa"))) == 1
