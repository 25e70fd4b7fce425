"""Candidates: resumable shards, scores, selection by rows, matched counts.

Rendering, painter and estimator are stand-ins here.
"""

import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import trees
from PIL import Image
from pipeline import ROOT

from posedive_lib.augment import candidates, diversify, shards
from posedive_lib.augment.manifest import SIGMA_GEN, SIGMA_TAR
from posedive_lib.augment.selection import (
    at_quantiles,
    counted,
    judge,
    matched,
    select,
    shortfall,
    unfiltered,
    usable_references,
)
from posedive_lib.augment.training_set import Training
from posedive_lib.body import camera
from posedive_lib.body import rendering as many
from posedive_lib.body.poses import PoseSource
from posedive_lib.body.rendering import Rendering
from posedive_lib.body.smpl import pose
from posedive_lib.datasets.archives import PLACE, Archived
from posedive_lib.errors import StudyError

H, W = 32, 16
LIMITS = SimpleNamespace(tau_ref=0.2, tau_tar=0.3, epsilon_gen=0.3, tau_gen=0.5, keypoints="body")
RENDERING = Rendering("body.npz", H, W, 2.0, 7.0, 4.0)


@dataclass(frozen=True)
class SimpleConditions:
    neutral: np.ndarray


class Estimator:
    """Says that an image's confidence is its mean brightness."""

    def estimate(self, images):
        return np.full((len(images), 17, 2), 3.0, np.float32), np.repeat(
            images.mean(axis=(1, 2, 3))[:, None] / 255, 17, axis=1
        )


class Painter:
    """Paints grey images whose brightness comes from the seed, and counts them."""

    key = "grey"

    def __init__(self, fail_after=None):
        self.painted, self.fail_after = 0, fail_after

    def __call__(self, wanted):
        rows, photos = wanted.rows, wanted.references
        if self.fail_after is not None and self.painted >= self.fail_after:
            raise KeyboardInterrupt
        assert len(rows) == len(wanted.bodies) == len(wanted.conditions.neutral)
        assert len(rows) == len(wanted.reference_index) and photos.shape[1:] == (H, W, 3)
        self.painted += len(rows)
        grey = (rows["seed"].to_numpy() % 256).astype(np.uint8)
        return np.broadcast_to(grey[:, None, None, None], (len(rows), H, W, 3)).copy()


class Noise(Painter):
    """Soft noise of one's own for each image, which JPEG keeps."""

    key = "noise"

    def __call__(self, wanted):
        super().__call__(wanted)
        pairs = zip(wanted.rows["pid"], wanted.rows["index"], strict=True)
        return np.stack([self.of(*pair) for pair in pairs])

    @staticmethod
    def of(pid, index):
        coarse = np.random.default_rng((pid, index)).integers(60, 200, (4, 2, 3), np.uint8)
        return np.asarray(Image.fromarray(coarse).resize((W, H), Image.Resampling.BICUBIC))


@pytest.fixture
def study(tmp_path, monkeypatch):
    rows = [(pid, f"{pid}_{shot}.jpg", shot) for pid in (2, 7, 11) for shot in range(2)]
    train = pd.DataFrame(rows, columns=["pid", "rel", "camid"])
    train["path"] = [str(tmp_path / rel) for rel in train["rel"]]
    for path in train["path"]:
        Image.new("RGB", (20, 40), (90, 60, 30)).save(path)
    n = len(train)
    bodies = trees.standing(train["rel"], 128.0)
    training = Training(bodies, np.zeros(n), np.full(n, 10.0))
    rng = np.random.default_rng(0)
    source = PoseSource(
        np.zeros((30, 3)),
        rng.normal(0, 0.3, (30, 69)),
        np.full(30, "in"),
        np.full(30, "walk"),
        np.arange(30),
    )

    def start_rendering(rows, training, source, rendering, pool):
        drawn = SimpleConditions(np.full((len(rows), H, W, 3), 160, np.uint8))
        many = bodies.select(rows["reference"].tolist())
        return lambda: (many, drawn)

    monkeypatch.setattr(shards, "start_rendering", start_rendering)

    def run(count, painter, key="a", known=train, **options):
        plan = diversify.plan("market1501", train, training, source, n_per_pid=count)
        options = {"shard": 2, "block": 4, "progress": False} | options
        maker = shards.Maker(known, training, source, Estimator(), painter, RENDERING)
        return candidates.generate(plan, maker, LIMITS, tmp_path / "out", inputs=key, **options)

    return SimpleNamespace(run=run, train=train, out=tmp_path / "out", source=source)


class Torn(Painter):
    """Noise of one's own for each image, but for a grey one and two equal ones."""

    def __call__(self, wanted):
        images, rows = super().__call__(wanted), wanted.rows
        for image, pid, index in zip(images, rows["pid"], rows["index"], strict=True):
            key = 0 if pid == 7 and index < 2 else 1000 * pid + index
            noise = np.random.default_rng(key).integers(0, 256, image.shape, dtype=np.uint8)
            image[:] = 90 if (pid, index) == (11, 1) else noise
        return images


def test_blank_and_equal_images_are_counted_once_when_they_are_listed(study, caplog):
    study.run(2, Torn())
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("1 of 6 generated images are blank and 2 are equal to others")
    study.run(2, Torn())
    study.run(3, Torn())  # three more, of which none is odd
    assert len(caplog.records) == 1


@pytest.mark.parametrize("painted", [2, 3, 5])
def test_a_resumed_run_counts_the_images_from_before_it_was_stopped(painted, study, caplog):
    with pytest.raises(KeyboardInterrupt):
        study.run(2, Torn(fail_after=painted))
    assert not caplog.records
    study.run(2, Torn())
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("1 of 6 generated images are blank and 2 are equal to others")


def test_images_are_counted_again_where_the_counting_was_stopped(study, caplog, monkeypatch):
    def stopped(content):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(candidates, "inspect_bytes", stopped)
        study.run(2, Torn())
    study.run(2, Torn())
    assert [record.getMessage()[:25] for record in caplog.records] == ["1 of 6 generated images a"]


def test_manifest_holds_every_candidate_with_its_scores(study):
    manifest = study.run(4, Painter())
    assert len(manifest) == 12 and manifest["path"].is_unique
    np.testing.assert_allclose(manifest["tar_mean"], 160 / 255, atol=1e-5)
    grey = manifest["seed"] % 256
    np.testing.assert_allclose(
        manifest["gen_mean"], grey / 255, atol=2 / 255
    )  # scored as stored, after JPEG
    expected = np.where((manifest["difference"] <= 0.3) & (manifest["gen_mean"] >= 0.5), "", None)
    assert (manifest["kept"] == (expected == "")).all()
    assert set(manifest.loc[~manifest["kept"], "rejected_by"]) <= {"difference", "confidence"}
    assert (pd.read_csv(study.out / "manifest.csv")["path"] == manifest["path"]).all()


def test_finished_shards_are_not_made_again_and_more_only_appends(study):
    first, more, again = Painter(), Painter(), Painter()
    few, many = study.run(3, first), study.run(5, more)
    assert (first.painted, more.painted) == (9, 6)
    pd.testing.assert_frame_equal(study.run(5, again), many)
    assert again.painted == 0
    pd.testing.assert_frame_equal(many.iloc[: len(few)], few)


def test_another_key_makes_everything_anew(study):
    study.run(2, Painter())
    other = Painter()
    study.run(2, other, key="b")
    assert other.painted == 6
    otherwise = Painter()
    otherwise.key = "grey, otherwise"
    study.run(2, otherwise)
    assert otherwise.painted == 6


def test_an_interrupted_run_resumes_with_the_same_result(study):
    with pytest.raises(KeyboardInterrupt):
        study.run(4, Painter(fail_after=5))
    assert not (study.out / "manifest.csv").exists()
    rest = Painter()
    manifest = study.run(4, rest)
    assert 0 < rest.painted < 12
    pd.testing.assert_frame_equal(manifest, study.run(4, Painter(), key="a", block=100))


def test_each_identity_may_have_a_count_of_its_own(study):
    everything = study.run(7, Painter(), key="all", shard=50, block=100)
    pids = everything["pid"].unique()
    counts = pd.Series({pids[0]: 1, pids[1]: 3})
    manifest = study.run(7, Painter(), key="own", images_per_pid=counts, shard=50, block=100)
    kept = manifest.groupby("pid")["kept"].sum()
    possible = everything.groupby("pid")["kept"].sum()
    assert set(manifest["pid"]) == set(counts.index)
    assert kept.to_dict() == {pid: min(n, possible[pid]) for pid, n in counts.items()}


def test_generation_goes_on_until_each_identity_has_its_images_or_the_budget_is_spent(study):
    everything = study.run(7, Painter(), key="all", shard=50, block=100)
    for wanted, budget in ((2, 7), (0, 5), (50, 3)):
        painter = Painter()
        manifest = study.run(
            budget, painter, key="until", images_per_pid=wanted, shard=50, block=100
        )
        for pid, own in everything[everything["index"] < budget].groupby("pid"):
            kept = own.sort_values("index")["kept"].cumsum().to_numpy()
            needed = (
                int(np.searchsorted(kept, wanted) + 1)
                if wanted and kept[-1] >= wanted
                else budget * bool(wanted)
            )
            mine = manifest[manifest["pid"] == pid]
            assert sorted(mine["index"]) == list(range(needed))
            assert mine["kept"].sum() == min(wanted, kept[-1])
        assert manifest.duplicated(["pid", "index"]).sum() == 0
        again = Painter()
        pd.testing.assert_frame_equal(
            study.run(budget, again, key="until", images_per_pid=wanted, shard=50, block=100),
            manifest,
        )
        assert again.painted == 0


def test_a_run_broken_off_in_a_later_round_resumes(study):
    whole = study.run(6, Painter(), images_per_pid=3, key="w", shard=50)
    enough = len(whole) - 2  # at the latest the last shard, of one or two images, fails
    assert enough > 3 * 3  # the first round is over
    with pytest.raises(KeyboardInterrupt):
        study.run(6, Painter(fail_after=enough), images_per_pid=3, key="r", shard=2, block=1)
    rest = Painter()
    resumed = study.run(6, rest, images_per_pid=3, key="r", shard=2, block=1)
    assert 0 < rest.painted < len(whole)
    where = ["path", *PLACE]  # which follow the size of the shards
    pd.testing.assert_frame_equal(resumed.drop(columns=where), whole.drop(columns=where))


def test_an_empty_plan_gives_an_empty_manifest(study):
    manifest = study.run(0, Painter())
    assert len(manifest) == 0 and {"kept", "rejected_by", "difference", "path"} <= set(
        manifest.columns
    )


def test_unwritable_output_and_unknown_reference_are_named(study, tmp_path):
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(StudyError, match="out"):
        study.run(1, Painter())
    (tmp_path / "out").unlink()
    with pytest.raises(StudyError, match="2_1.jpg"):
        study.run(2, Painter(), known=study.train[study.train["rel"] != "2_1.jpg"])


@pytest.mark.parametrize(
    "kind, content",
    [
        (".csv", b""),
        (".csv", b"pid,index\n"),
        (".csv", None),
        (".tar", b""),
        (".tar", None),
    ],
)
def test_what_a_full_disk_left_of_a_shard_is_made_anew(kind, content, study):
    whole = study.run(3, Painter())
    broken = study.out / f"{whole['path'].iloc[0].split('.tar')[0]}{kind}"
    before = broken.read_bytes()
    broken.write_bytes(before[:-200] if content is None else content)  # cut short in a row
    again = Painter()
    pd.testing.assert_frame_equal(study.run(3, again), whole)
    assert again.painted == 2 and broken.read_bytes() == before


def test_a_shard_is_an_archive_of_samples_and_every_image_is_read_from_its_place(study):
    manifest = study.run(3, Noise())
    archives = {path.split(".tar/")[0] for path in manifest["path"]}
    files = {path.relative_to(study.out) for path in study.out.glob("shards/*/[!.]*")}
    assert {str(file) for file in files} == {
        f"{a}{kind}" for a in archives for kind in (".tar", ".csv")
    }
    images = Archived(manifest, study.out, H, W)
    for place, row in enumerate(manifest.itertuples()):
        archive, name = f"{study.out}/{row.path}".rsplit("/", 1)
        with tarfile.open(archive) as members:
            assert [m.name for m in members][0].startswith("__shard__/")
            stored = members.extractfile(name).read()
            about = json.load(members.extractfile(name.replace(".jpg", ".json")))
        assert images.bytes_of(place) == stored
        pixels = np.asarray(Image.open(io.BytesIO(stored)))
        np.testing.assert_array_equal(images[place], pixels)
        drawn = Noise.of(row.pid, row.index).astype(int)
        assert np.abs(drawn - pixels).mean() < 3  # JPEG of quality 95
        assert (about["pid"], about["seed"]) == (row.pid, row.seed)
        assert about[SIGMA_GEN[0]] == pytest.approx(manifest[SIGMA_GEN[0]].iloc[place])
    shuffled = np.random.default_rng(0).permutation(len(manifest))
    np.testing.assert_array_equal(images[shuffled], np.stack(list(images))[shuffled])
    mask = manifest["pid"].to_numpy() == 7
    np.testing.assert_array_equal(images[mask], images[:][mask])
    assert images[[]].shape == (0, H, W, 3) and len(Archived(manifest, study.out, 8, 4)[:2]) == 2


def test_an_archive_that_is_cut_short_or_gone_is_one_sentence(study):
    manifest = study.run(2, Painter())
    file = study.out / manifest["path"].iloc[0].rsplit("/", 1)[0]
    images = Archived(manifest, study.out, H, W)
    file.write_bytes(file.read_bytes()[: images.places[0, 0] + 9])
    with pytest.raises(StudyError, match=f"{file} is cut short .*makes it again .*04_augment"):
        images[:]
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(StudyError, match=f"{file} is cut short .*makes it again"):
        candidates.load_bodies(manifest, study.out)
    file.unlink()
    with pytest.raises(StudyError, match=f"{file} is missing: .*makes it again"):
        images[0]


def test_a_killed_run_leaves_whole_archives_and_goes_on_with_them(study):
    """The process ends in the middle of writing an archive, at the third shard."""
    whole = study.run(4, Painter(), key="whole")
    child = os.fork()
    if not child:  # a copy of this process, which kills itself
        write = shards.archives.write
        done = []

        def torn(path, members):
            if len(done) == 2:
                with shards.archives.replacing(path) as draft:
                    draft.write_bytes(b"half an archive")
                    os.kill(os.getpid(), signal.SIGKILL)
            done.append(path)
            return write(path, members)

        shards.archives.write = torn
        study.run(4, Painter(), key="killed")
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    made = Painter()
    manifest = study.run(4, made, key="killed")
    assert made.painted == 12 - 2 - 1  # two shards, of two images and of one, were there
    pd.testing.assert_frame_equal(manifest.drop(columns="path"), whole.drop(columns="path"))
    assert not [file for file in study.out.rglob(".*") if file.name != ".lock"]


def test_few_shards_are_in_work_at_a_time_however_many_there_are(study, monkeypatch):
    """Counted from where a shard is cut from the plan to where its table is written."""
    cut, write = shards.cut, shards.Maker._write
    begun, most = set(), []

    def counted(*arguments):
        for part in cut(*arguments):
            if not part.table.exists():
                begun.add(part.archive)
                most.append(len(begun))
            yield part

    def written(maker, shard, *arguments):
        write(maker, shard, *arguments)
        begun.discard(shard.archive)

    monkeypatch.setattr(shards, "cut", counted)
    monkeypatch.setattr(shards.Maker, "_write", written)
    monkeypatch.setattr(candidates, "JOINED", 7)
    manifest = study.run(20, Painter(), shard=1, block=2)
    assert len(manifest) == len(most) == 60
    assert max(most) <= 2 * 2 + 2  # two blocks, one shard that is written, one that is looked at
    assert (
        manifest["path"].is_unique and (manifest.groupby("pid")["index"].diff().dropna() == 1).all()
    )


def test_a_second_run_in_one_folder_is_refused_and_a_killed_one_holds_nothing(study):
    code = f"""import time
from pathlib import Path
from posedive_lib.writing import alone_in
with alone_in(Path({str(study.out / "shards")!r}), "making candidates"):
    print(1, flush=True)
    time.sleep(600)
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline()
        with pytest.raises(StudyError, match="Another run is making candidates in .*shards: wait"):
            study.run(1, Painter())
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    assert len(study.run(1, Painter())) == 3


def test_processes_of_one_launch_share_the_folder_and_the_first_one_writes(study, monkeypatch):
    waited = []
    second = SimpleNamespace(is_main_process=False, wait_for_everyone=lambda: waited.append(1))
    whole = study.run(2, Painter())
    for module in (candidates, shards):
        monkeypatch.setattr(module, "processes", lambda: second)
    with (study.out / "shards" / ".lock").open("w") as lock:  # as the first process holds it
        fcntl.flock(lock, fcntl.LOCK_EX)
        pd.testing.assert_frame_equal(study.run(2, Painter()), whole)
    assert waited
    with pytest.raises(StudyError, match="not whole"):  # nobody wrote these
        study.run(2, Painter(), key="b")


def test_bodies_and_estimates_come_back_in_the_manifest_s_order(study):
    manifest = study.run(3, Painter()).sample(frac=1, random_state=0)
    bodies, estimated = candidates.load_bodies(manifest, study.out)
    assert bodies.path.tolist() == manifest["path"].tolist() and estimated.shape == (9, 17, 2)
    writing = candidates.for_writing(manifest, study.out)
    assert list(writing.columns) == ["pid", "camid", "index", "reference", *PLACE, "image_path"]
    archive = writing["image_path"].iloc[0].rsplit("/", 1)[0]
    assert archive.endswith(".tar") and tarfile.is_tarfile(archive)


def table(means: dict[int, list[float]]) -> pd.DataFrame:
    rows = [(pid, index, mean) for pid, some in means.items() for index, mean in enumerate(some)]
    frame = pd.DataFrame(rows, columns=["pid", "index", "mean"]).assign(reference_min=0.5)
    return frame.assign(**dict.fromkeys(SIGMA_TAR, 0.8), **dict.fromkeys(SIGMA_GEN, frame["mean"]))


def test_selection_is_by_rows():
    manifest = table({1: [0.9, 0.4, 0.7, 0.8], 2: [0.55, 0.45, 0.2, 0.95]})
    assert judge(manifest, LIMITS)["rejected_by"].tolist() == [
        "",
        "difference",
        "",
        "",
        "",
        "difference",
        "difference",
        "",
    ]
    assert select(manifest, LIMITS)[["pid", "index"]].to_numpy().tolist() == [
        [1, 0],
        [1, 2],
        [1, 3],
        [2, 0],
        [2, 3],
    ]
    assert select(manifest, LIMITS, images_per_pid=2)["index"].tolist() == [0, 2, 0, 3]
    chosen = select(manifest, LIMITS, tau_gen=0.85)
    assert chosen["mean"].tolist() == [0.9, 0.95]
    pids = manifest["pid"]
    assert shortfall(pids, chosen, 2).to_numpy().tolist() == [[1, 1, 1], [2, 1, 1]]
    assert shortfall(pids, select(manifest, LIMITS, tau_gen=1.0), 1)["missing"].tolist() == [
        1,
        1,
    ]
    assert len(select(manifest.iloc[:0], LIMITS)) == 0
    poor = manifest.assign(reference_min=np.where(manifest["pid"] == 1, 0.1, 0.5))
    assert (
        judge(poor, LIMITS).query("pid == 1")["rejected_by"] == "reference"
    ).all()  # Eq. 3 comes first
    assert select(poor, LIMITS)["pid"].unique().tolist() == [2]


def test_matched_selections_have_equal_counts():
    rng = np.random.default_rng(0)
    limits = SimpleNamespace(
        tau_ref=0.0, tau_tar=0.0, epsilon_gen=1.0, tau_gen=0.0, keypoints="all"
    )
    manifest = table({pid: rng.uniform(0.1, 0.97, 20).tolist() for pid in range(5)})
    sets = matched(manifest, limits, [0.15, 0.5, 0.8, 0.99], seed=3)
    assert len(sets[0.99]) == 0
    counts = [sets[tau]["pid"].value_counts().sort_index().tolist() for tau in (0.15, 0.5, 0.8)]
    assert counts[0] == counts[1] == counts[2] and sum(counts[0]) > 0
    assert sets[0.8]["mean"].min() >= 0.8 > 0.5 > sets[0.15]["mean"].min()
    pd.testing.assert_frame_equal(
        sets[0.5], matched(manifest, limits, [0.15, 0.5, 0.8], seed=3)[0.5]
    )
    capped = matched(manifest, limits, [0.15, 0.5], images_per_pid=2)
    assert all(rows["pid"].value_counts().max() == 2 for rows in capped.values())


def test_thresholds_at_quantiles_keep_their_share_of_what_passes():
    rng = np.random.default_rng(0)
    limits = SimpleNamespace(
        tau_ref=0.0, tau_tar=0.0, epsilon_gen=0.5, tau_gen=0.9, keypoints="all"
    )
    manifest = table({pid: rng.uniform(0.05, 0.97, 25).tolist() for pid in range(4)})
    passed = len(select(manifest, limits, tau_gen=0.0))
    assert 0 < passed < len(manifest)  # Eq. 5 rejects some whatever the threshold
    for quantile, tau in at_quantiles(manifest, limits, [0.0, 0.5, 0.75]).items():
        kept = len(select(manifest, limits, tau_gen=tau))
        assert kept / passed == pytest.approx(1 - quantile, abs=1.5 / passed)
    assert at_quantiles(manifest.iloc[:0], limits, [0.5]) == {}


def test_counts_of_one_manifest_are_reached_in_another():
    """The first that pass, then the most confident of the rest; without a filter the first ones."""
    manifest = table({1: [0.1, 0.9, 0.3, 0.9, 0.9], 2: [0.9, 0.2, 0.4, 0.1, 0.1], 3: [0.9] * 5})
    counts = pd.Series({1: 2, 2: 3})
    rows = counted(manifest, LIMITS, counts)
    assert list(zip(rows["pid"], rows["index"], strict=True)) == [
        (1, 1),
        (1, 3),
        (2, 0),
        (2, 1),
        (2, 2),
    ]
    assert rows["kept"].tolist() == [True, True, True, False, False]
    plain = unfiltered(manifest, counts)
    assert plain["index"].tolist() == [0, 1, 0, 1, 2] and plain["pid"].tolist() == [1, 1, 2, 2, 2]


def test_references_fall_back_to_the_best_one():
    train = pd.DataFrame({"pid": [1, 1, 1, 2, 2], "rel": list("abcde"), "camid": 0})
    sigma = np.ones((5, 17))
    sigma[[0, 3, 4], 10] = [0.1, 0.1, 0.2]  # a wrist
    sigma[2, 0] = 0.0  # a nose, not of the body
    found = usable_references(train, sigma, tau_ref=0.3)
    assert found["rel"].tolist() == ["b", "c", "e"] and found["reference_passed"].tolist() == [
        True,
        True,
        False,
    ]
    assert usable_references(train, sigma, tau_ref=0.3, keypoints="all")["rel"].tolist() == [
        "b",
        "e",
    ]
    assert usable_references(train, sigma, tau_ref=0.0)["reference_passed"].all()


class AtOnce(Executor):
    """Stands in for the processes of a pool."""

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future


def test_targets_are_fitted_and_rendered_in_order(monkeypatch):
    """With processes and without, against placing and rendering in two steps."""
    rng, body = np.random.default_rng(0), str(ROOT / "data/body/SMPL_NEUTRAL.npz")
    orientation = camera.orient(np.zeros((3, 3)), np.array([0, 100, 220]), np.array([0, 15, 30]))
    body_pose, betas = rng.normal(0, 0.2, (3, 69)), rng.normal(0, 0.5, (3, 10))
    rendering = Rendering(body, height=64, width=32, near=2.5, far=10.5, focal=2.5, fill=0.86)
    monkeypatch.setattr(many, "CHUNK", 2)
    renderer = rendering.renderer()
    for pool in (None, AtOnce()):
        cam_t, drawn = many.render_fitted_later(
            orientation, body_pose, betas, rendering, pool=pool
        )()
        for row in range(3):
            vertices, _ = pose(renderer.model, orientation[row], body_pose[row], betas[row])
            np.testing.assert_allclose(
                cam_t[row], camera.fit_to_crop(vertices, 2.5 * 64, 64, 32, 0.86), atol=1e-6
            )
            expected = renderer.render(orientation[row], body_pose[row], betas[row], cam_t[row])
            for name in ("skeleton", "depth", "normals", "neutral", "keypoints", "visible"):
                np.testing.assert_array_equal(
                    getattr(drawn, name)[row], getattr(expected, name), name
                )


def test_broken_reference_is_named(tmp_path):
    (tmp_path / "x.jpg").write_text("no image")
    with pytest.raises(StudyError, match="x.jpg"):
        shards.read_images([tmp_path / "x.jpg"], H, W)
