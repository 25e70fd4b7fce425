"""Data without the truth, such as the real ones: what needs none is measured, the rest left out."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pipeline import ROOT, stages

from posedive_lib import params
from posedive_lib.bench import pages, tables
from posedive_lib.body.poses import load_poses
from posedive_lib.body.table import BodyTable
from posedive_lib.study import (
    claims,
    comparison,
    crossing,
    failure_views,
    failures,
    graded_generators,
    mini_world,
    quality,
    sentences,
    summary,
)

PIDS = [3, 3, 7, 7]  # a query and a gallery photo of each of two people
COLOURS = {3: (200, 0, 0), 7: (0, 0, 200)}
MEAN_COLOUR = SimpleNamespace(
    extract=lambda images: images.reshape(len(images), -1, 3).mean(1) + 1e-3
)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Parameters and a data set of two people, one red and one blue, with bodies alone."""
    loaded = params.load(ROOT / "params/smoke.yaml")
    paths = loaded.paths.model_copy(
        update={"body": str(ROOT / "data/body/SMPL_NEUTRAL.npz"), "motions": ROOT / "data/motions"}
    )
    rows = []
    for number, pid in enumerate(PIDS):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (64, 128), COLOURS[pid]).save(path)
        rows.append({"rel": path.name, "path": str(path), "pid": pid, "camid": 0})
    table = pd.DataFrame(rows)
    count = len(table)
    BodyTable(
        path=table["rel"].to_numpy(str),
        global_orient=np.zeros((count, 3)),
        body_pose=np.zeros((count, 69)),
        betas=np.zeros((count, 10)),
        cam_t=np.tile([0.0, 0.0, 5.0], (count, 1)),
        focal=np.full(count, 320.0),
        keypoints=np.zeros((count, 17, 2)),
        visible=np.full((count, 17), 2),
    ).save(tmp_path / "smpl.npz")
    dataset = SimpleNamespace(
        name="msmt17",
        bodies=tmp_path / "smpl.npz",
        query=table[::2],
        gallery=table[1::2],
        train=table,
    )
    monkeypatch.setattr(quality.datasets, "of_study", lambda *_: dataset)
    return loaded.model_copy(update={"paths": paths})


def copied(references, index, *_, **__):
    """A generator that returns the reference photos."""
    return references[index]


def test_unseen_people_are_measured_by_pose_and_identity(study):
    targets = quality.unseen_targets(study, per_person=2)
    assert targets.truth is None and targets.skeleton.shape == (4, 128, 64, 3)
    assert targets.pids.tolist() == [3, 3, 7, 7] and targets.mask.any((1, 2)).all()
    estimator = SimpleNamespace(estimate=lambda images: (targets.keypoints, None))
    swapped = targets.references[[2, 3, 0, 1]]
    table = quality.compared(study, None, targets, swapped, estimator, MEAN_COLOUR)
    value = table.set_index(["method", "metric"])["value"]
    assert set(table["method"]) == {"generated", "copy-reference", "mean-image"}
    assert set(table["metric"]) == {"pck", "identity_top1"}
    assert value["generated", "pck"] == 1 and value["generated", "identity_top1"] == 0
    assert value["copy-reference", "identity_top1"] == 1


def test_what_is_asked_for_is_what_the_mini_world_renders(study):
    """The same body, pose and view gives the conditions that the mini world's photos come with."""
    world = study.model_copy(
        update={"paths": study.paths.model_copy(update={"world": str(ROOT / "data/world")})}
    )
    person = pd.read_csv(ROOT / "data/world/identities.csv", keep_default_na=False)["person"][0]
    shot = mini_world.Shot(0, 5, 40.0, 10.0, 0, ("key",))
    (photo,) = mini_world.photographs(world, "msmt17", [person], [shot])
    dataset = quality.datasets.of_study()
    known = BodyTable.load(dataset.bodies)
    known.betas[:] = photo["betas"]
    known.save(dataset.bodies)
    (asked,) = mini_world.asked(study, dataset, dataset.query, [shot])
    assert "image" not in asked
    for name in ("skeleton", "depth", "normals"):
        assert np.array_equal(asked[name], photo[name]), name


def test_people_are_crossed_with_poses_and_recognised_by_their_real_photos(study):
    crossed = crossing.cross(study, SimpleNamespace(generate=copied), people=6, poses=2)
    assert crossed.truth is None and crossed.generated.shape == (2, 2, 128, 64, 3)
    assert crossed.normals.any() and len(load_poses(study.paths.motions))
    named = crossing.right_person(crossed, MEAN_COLOUR).set_index("images")
    assert named.index.tolist() == ["generated"] and named.loc["generated"].tolist() == [4, 4]
    crossed.generated[0, 0] = crossed.references[1]
    named = crossing.right_person(crossed, MEAN_COLOUR).set_index("images")
    assert named.loc["generated"].tolist() == [3, 4]
    found = np.arange(4 * 17 * 2.0).reshape(4, 17, 2)
    estimator = SimpleNamespace(estimate=lambda images: (found, None))
    shares = crossing.disentanglement(crossed, MEAN_COLOUR, estimator)
    assert set(shares["images"]) == {"generated"} and len(shares) == 2


def test_failures_are_those_of_the_key_points_and_sheets_for_eyes():
    count, pictures = 12, np.full((12, 20, 10, 3), 9, np.uint8)
    wanted = np.tile(np.stack([np.linspace(0, 9, 17), np.linspace(0, 19, 17)], 1), (count, 1, 1))
    found = wanted.copy()
    found[:3] += 50
    samples = failures_samples(count, pictures, wanted)
    values = failures.scores(samples, None, pictures, found)
    assert list(values) == ["wrong key points"]
    flagged = failures.flags(values, failures.colour_limit(samples))
    table = failure_views.failure_table(samples, flagged).set_index("kind")
    assert table.index.tolist() == ["wrong key points", "any of these"]
    row = table.loc["wrong key points"]
    assert (row["count"], row["of"], row["kept"], row["rejected"]) == (3, 12, 0, 0.5)
    assert table[["true photos", "staged failures", "bagless strangers"]].isna().all(axis=None)
    assert failure_views.reference_table(pd.Series(dtype=str), flagged, flagged).empty
    assert failure_views.caught(samples, flagged)["kind"].tolist() == ["wrong key points"]
    sheet = failure_views.contact_sheet(samples, 0)
    assert sum(bool(axes.images) for axes in sheet.axes) == 3 * count  # the rest stays empty
    worst = failure_views.worst(samples, values["wrong key points"], 2, "off")
    assert sum(bool(axes.images) for axes in worst.axes) == 3 * 2


def failures_samples(count, pictures, wanted):
    from posedive_lib.study.failure_samples import Samples

    kept = np.arange(count) >= 6
    return Samples(
        table=pd.DataFrame({"kept": kept, "pid": 1, "dataset": "x"}),
        bodies=SimpleNamespace(keypoints=wanted, visible=np.full((count, 17), 2)),
        estimated=wanted,
        references=pictures,
        generated=pictures,
        normals=pictures,
        mask=np.ones((count, 20, 10), bool),
    )


@pytest.fixture
def reports(tmp_path):
    """The committed reports as they would be without the truth."""
    for name in {source for claim in claims.CLAIMS for source in claim.sources}:
        table = pd.read_csv(ROOT / f"reports/{name}.csv")
        if name == "tables/generator_quality":
            table = table[~table["method"].str.startswith("true")]
        if name == "tables/failures":
            table = table[table["kind"] == "wrong key points"]
        if name == "tables/failures_by_reference":
            table = table.iloc[:0]
        if name == "tables/disentanglement":
            table = table[table["images"] == "generated"]
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    for name in ("diversity_volume", "generator_gain"):
        table = pd.read_csv(ROOT / f"reports/tables/{name}.csv")
        table = table[table["arm"] != "oracle"]
        table.to_csv(tmp_path / f"tables/{name}.csv", index=False)
    return tmp_path


def test_claims_are_judged_by_what_there_is_and_name_no_mini_world(reports):
    table = claims.claims(reports, seed=0)
    untested = table.loc[table["verdict"] == "not tested", "section"].tolist()
    # §E waits for the arm `unfiltered`, which needs no truth; §F has no arm that asks it.
    rest = [section for section in untested if section != "§E"]
    assert rest == ["§F", "§G", "§G", "§G", "§I", "§I"]
    page = claims.page(table, table, claims.Evidence(reports, 0))
    assert "These are results on the data sets of this run." in page
    assert "mini world" not in page and "rendered set" not in page
    assert tables.rendered(ROOT / "reports") and not tables.rendered(reports)


def test_the_books_introduction_says_what_the_data_are(reports):
    words = "measured in the *mini world*"
    assert words not in pages.contents(pages.Study(ROOT, reports, stages()))
    assert words in pages.contents(pages.Study(ROOT, ROOT / "reports", stages()))


def test_the_summary_leaves_out_the_truth(reports):
    found = sentences.Tables(reports / "tables")
    assert "true" not in sentences.persons(found) and "never saw, " in sentences.persons(found)
    path = reports / "tables/diversity_volume.csv"
    pd.read_csv(path).iloc[:0].to_csv(path, index=False)
    found = sentences.Tables(reports / "tables")
    assert sentences.diversity(found) == "" and "Diversity" not in summary.summary(found)


def test_nothing_kept_gives_tables_without_rows():
    runs = pd.DataFrame(columns=["threshold", "seed", "mAP", "rank1", "n_generated"])
    table = comparison.by_level(runs, "threshold", seed=0)
    assert table.empty and {"threshold", "metric", "mean", "step"} <= set(table)
    rows = pd.DataFrame({"path": []})
    assert graded_generators.files(None, "x", rows) == {}
    measured = graded_generators.quality(None, "x", rows, {}, None, None)
    real = pd.DataFrame({"dataset": "x", "arm": "real", "seed": [0, 1], "mAP": [1.0, 2.0]})
    gains = graded_generators.gains(real, measured, seed=0)
    assert gains.empty and {"arm", "gain", "step_verdict"} <= set(gains)


def test_captions_say_what_the_images_are():
    with_truth = pd.DataFrame({"person": ["a"], "occluded": [True], "low_quality": [False]})
    bare = pd.DataFrame({"pid": [1]})
    assert mini_world.described(with_truth) == "rendered mini world"
    assert mini_world.described(bare) == "photos"
    assert len(mini_world.clear(bare)) == 1 and mini_world.clear(with_truth).empty
