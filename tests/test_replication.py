"""Fresh worlds: what is frozen is held, worlds are new, a stopped run goes on, tables come last."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from pipeline import ROOT

from posedive_lib import params
from posedive_lib.bench.runs import RunStore
from posedive_lib.errors import StudyError
from posedive_lib.params import Params
from posedive_lib.study import (
    mini_world,
    replication,
    replication_gains,
    replication_world,
)


@pytest.fixture
def r(tmp_path, monkeypatch):
    """A folder with the parameters alone, two worlds to run, and code that does not change."""
    for name in ("params", "replication"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("freeze.json", "begun.json"):
        (tmp_path / "replication" / name).unlink(missing_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(replication, "code_digest", lambda module: "code")
    monkeypatch.setattr(replication, "STORE", RunStore(tmp_path / "runs"))
    return edited(worlds=[5, 9])


def edited(**changes) -> params.Replication:
    file = replication.FOLDER / "params.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | changes))
    return params.load_replication(file)


def rows_of(seed: int) -> list[dict]:
    """pose-dive gains 3 on average, same-distribution nothing; worlds differ."""
    added = {"real": 0.0, "pose-dive": 2.0 + seed % 2, "same-distribution": 0.0}
    return [
        {"dataset": "msmt17-s-cam", "arm": arm, "mAP": seed + gain, "rank1": float(seed)}
        for arm, gain in added.items()
    ]


def test_the_replication_of_the_repository_is_a_study_of_fresh_worlds():
    file = ROOT / "replication/params.yaml"
    r = params.load_replication(file)
    assert len(r.worlds) >= 7 and params.load(ROOT / "params.yaml").seed not in r.worlds
    assert {"real", "repeat", "same-distribution", "pose-dive", "oracle", "oracle-same"} == set(
        r.arms
    )


def test_a_world_has_the_frozen_parameters_and_a_seed_of_its_own(r):
    study = params.load(r.study)
    P = Params.model_validate(replication.world_values(r, 9))
    assert (P.seed, P.reid.seeds) == (9, [9])
    for section in ("image", "world", "splits", "conditions", "augment"):
        assert getattr(P, section) == getattr(study, section)
    fixed = {"precision": "fp32"}  # for `auto` depends on the processor
    assert P.generator == study.generator.model_copy(update=fixed)
    assert P.reid == study.reid.model_copy(update={"seeds": [9], **fixed})
    assert P.study.datasets == ["msmt17", *r.datasets] and "msmt17" not in P.study.arms["real"]
    own = P.model_dump()["paths"]
    assert own["world"] == "world" and own["datasets"] == "build/world"


def test_nothing_runs_that_is_not_frozen(r, monkeypatch):
    with pytest.raises(StudyError, match="commit it, before anything runs"):
        replication.held(r)
    replication.freeze(r)
    replication.held(r)
    with pytest.raises(StudyError, match="The worlds changed after the freeze"):
        replication.held(edited(worlds=[5, 10]))
    mini = replication.FOLDER.parent / "params/mini.yaml"
    text = mini.read_text()
    mini.write_text(text.replace("tau_gen: 0.55", "tau_gen: 0.5"))
    with pytest.raises(StudyError, match="The parameters changed"):
        replication.held(edited(worlds=[5, 9]))
    mini.write_text(text.replace("# paths", "#"))  # words do not count
    replication.held(r)
    digests = {replication.CODE: "other", replication.ANALYSIS: "code"}
    monkeypatch.setattr(replication, "code_digest", digests.get)
    with pytest.raises(StudyError, match="The code changed"):
        replication.held(r)


def test_inputs_count_and_their_place_does_not(r, tmp_path):
    before = replication.frozen(r)
    body = tmp_path / "data/body"
    body.mkdir(parents=True)
    (body / "SMPL_NEUTRAL.npz").write_bytes(b"one")
    with_body = replication.frozen(r)
    assert with_body["inputs"] != before["inputs"]
    assert with_body["parameters"] == before["parameters"]
    (body / "SMPL_NEUTRAL.npz").write_bytes(b"two")
    assert replication.frozen(r)["inputs"] != with_body["inputs"]


def test_a_stopped_run_goes_on_and_the_tables_come_last(r, monkeypatch):
    replication.freeze(r)
    asked = []

    def one_world(r, seed, folder):
        asked.append(seed)
        if len(asked) == 2:
            raise StudyError("stopped")
        return rows_of(seed)

    monkeypatch.setattr(replication, "one_world", one_world)
    with pytest.raises(StudyError, match="stopped"):
        replication.run(r)
    assert not replication.REPORTS.exists()
    assert json.loads(replication.BEGUN.read_text()) == {"worlds": [5, 9]}
    table = replication.run(r)
    assert asked == [5, 9, 9]
    written = pd.read_csv("reports/tables/replication.csv")
    assert written.columns.tolist() == ["world", "dataset", "arm", "mAP", "rank1"]
    pd.testing.assert_frame_equal(written, table, check_dtype=False)
    gains = pd.read_csv("reports/tables/replication_gains.csv")
    gains = gains[gains["metric"] == "mAP"].set_index(["arm", "baseline"])
    assert gains.loc[("pose-dive", "real"), "difference"] == 3.0
    assert gains.loc[("pose-dive", "same-distribution"), "worlds"] == 2
    # What was begun may be known, so another freeze needs other worlds.
    with pytest.raises(StudyError, match="World 5 was begun under an earlier freeze"):
        replication.freeze(r)
    replication.FREEZE.unlink()
    with pytest.raises(StudyError, match="World 5 was begun under an earlier freeze"):
        replication.freeze(r)
    assert replication.freeze(edited(worlds=[11, 12]))["worlds"] == [11, 12]


def test_tables_of_finished_worlds_can_be_made_again_and_never_otherwise(r, monkeypatch):
    replication.freeze(r)
    monkeypatch.setattr(replication, "one_world", lambda r, seed, folder: rows_of(seed))
    first = replication.run(r)
    shutil.rmtree(replication.REPORTS)
    world, analysis = replication.CODE, replication.ANALYSIS
    digests = {world: "the study went on", analysis: "code"}
    monkeypatch.setattr(replication, "code_digest", digests.get)
    pd.testing.assert_frame_equal(replication.run(r), first)
    assert (replication.REPORTS / "tables/replication_gains.csv").is_file()
    digests[analysis] = "put in order afterwards"
    pd.testing.assert_frame_equal(replication.run(r), first)  # for it gives the same
    written = (replication.REPORTS / "tables/replication_gains.csv").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(replication, "gains", lambda table: table.head(1))  # chosen afterwards
        with pytest.raises(StudyError, match="replication_gains.csv is not what it gives now"):
            replication.run(r)
    assert (replication.REPORTS / "tables/replication_gains.csv").read_bytes() == written
    shutil.rmtree(replication.REPORTS)  # then nothing says what it gave
    with pytest.raises(StudyError, match="The analysis changed after the freeze"):
        replication.run(r)


def test_the_tables_of_the_new_worlds_are_those_of_their_results(monkeypatch):
    monkeypatch.chdir(ROOT)
    texts = {}
    monkeypatch.setattr(replication, "write_text", lambda path, text: texts.update({path: text}))
    monkeypatch.setattr(replication, "draw", lambda runs, found: None)  # it would write here
    replication.run(params.load_replication(replication.FOLDER / "params.yaml"))
    names = ("replication", "replication_gains", "replication_checks", "replication_shares")
    for name in (f"{name}.csv" for name in names):
        path = replication.REPORTS / "tables" / name
        assert texts[path].encode() == path.read_bytes()


def test_the_figure_has_every_pair_of_arms_and_every_test_set(monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        replication.figures, "save", lambda fig, name, **_: drawn.update({name: fig})
    )
    tables = ROOT / "reports/tables"
    runs, found = (
        pd.read_csv(tables / f"{name}.csv") for name in ("replication", "replication_gains")
    )
    replication.draw(runs, found)
    panels = drawn["replication/worlds"].axes
    titles = [axes.get_title() for axes in panels]
    assert titles[:3] == ["MSMT17-S (Cam)", "MSMT17-S (Cam),\nbeyond 45°", "MSMT17-S (Pose)"]
    assert len(titles) == runs["dataset"].nunique()
    means = found[(found["arm"] == "pose-dive") & (found["baseline"] == "oracle")]
    means = means[means["metric"] == "mAP"].set_index("dataset")["difference"]
    assert panels[0].get_yticklabels()[-1].get_text() == "pose-dive\nagainst oracle"
    for axes, dataset in zip(panels[:3], [*replication.PANELS][:3], strict=True):
        assert axes.lines[-2].get_xdata()[0] == means[dataset]  # the last line is that at 0


def test_another_arithmetic_is_another_experiment(r, monkeypatch):
    replication.freeze(r)
    monkeypatch.setattr(replication.torch, "__version__", "another")
    with pytest.raises(StudyError, match="The arithmetic changed after the freeze"):
        replication.held(r)


def test_the_primary_comparisons_are_corrected_alone():
    rows = []
    for world in range(6):
        for dataset in (*replication_gains.PRIMARY_DATASETS, "market1501"):
            for number, arm in enumerate(("real", "same-distribution", "repeat", "pose-dive")):
                noise = ((world * 7 + number * 3 + len(dataset)) % 5) / 10
                value = 50.0 + world + number + noise
                rows.append((world, dataset, arm, value, value))
    table = pd.DataFrame(rows, columns=["world", "dataset", "arm", "mAP", "rank1"])
    found = replication_gains.gains(table)
    primary = found[found["family"] == "primary"]
    assert primary["dataset"].tolist() == list(replication_gains.PRIMARY_DATASETS)
    assert set(primary["metric"]) == {"mAP"} and set(primary["arm"]) == {"pose-dive"}
    assert (primary["p_holm"] == 2 * primary["p"]).all()  # two tests, and no other
    assert not found.duplicated(["dataset", "arm", "baseline", "metric"]).any()
    market = found[(found["dataset"] == "market1501") & (found["baseline"] == "same-distribution")]
    assert set(market["family"]) == {"secondary"} and len(market) == 2
    elsewhere = replication_gains.gains(table[table["dataset"] == "market1501"])
    assert set(elsewhere["family"]) == {"secondary"}  # no data set of the primary comparison


def test_a_finished_world_leaves_its_rows_and_a_failed_one_its_folder(r, monkeypatch, tmp_path):
    folder = tmp_path / "build/replication/5"
    status = {"returncode": 1}

    def work(command, cwd, env, check):
        assert params.load(cwd / "params.yaml").seed == 5
        assert str(ROOT) in env["PYTHONPATH"]
        pd.DataFrame(rows_of(5)).to_csv(cwd / "result.csv", index=False)
        return SimpleNamespace(**status)

    monkeypatch.setattr(replication.subprocess, "run", work)
    with pytest.raises(StudyError, match="World 5 stopped with status 1"):
        replication.one_world(r, 5, folder)
    assert folder.is_dir()
    status["returncode"] = 0
    assert replication.one_world(r, 5, folder) == rows_of(5)
    replication.freeze(r)
    folders = []

    def full(spec, rows):
        folders.extend(replication.WORK.iterdir())
        raise OSError("No space left on device")

    monkeypatch.setattr(replication.STORE, "put", full)
    with pytest.raises(OSError):
        replication.run(r)
    assert folders and folders[0].is_dir()  # a world that could not be recorded is not removed


def test_a_world_makes_its_candidates_before_its_runs(r, monkeypatch):
    P = Params.model_validate(replication.world_values(r, 9))
    done = []

    def noted(name):
        return lambda *given, **options: done.append((name, *given[1:], *options.values()))

    monkeypatch.setattr(mini_world, "make_world", noted("world"))
    monkeypatch.setattr(replication_world, "write_msmt17_s", noted("splits"))
    monkeypatch.setattr(replication_world.phase2, "training_images", lambda P: "images")
    monkeypatch.setattr(replication_world.phase2, "train_generator", noted("generator"))
    monkeypatch.setattr(replication_world.generation, "make_candidates", noted("candidates"))
    monkeypatch.setattr(replication_world.design, "jobs", lambda P: ["job"])
    table = pd.DataFrame(rows_of(9)).assign(seed=9)
    table = table.assign(n_real=8, n_generated=4, n_valid=2)
    counts = {"n_real": 8, "n_generated": 4, "n_valid": 2}
    record = {"dataset": "msmt17-s-cam", "arm": "real", "mAP": 50.0, "rank1": 60.0, **counts}
    records = [
        record | {"borders": {"30": [50.0, 60.0, 2], "45": [40.0, 70.0, 1]}},
        record | {"dataset": "msmt17-s-pose", "borders": None},
    ]
    monkeypatch.setattr(replication_world.reid_jobs, "many", lambda P, jobs: (table, records))
    found = replication_world.results(P)
    margin = found.pop("dataset").iloc[-1], *found.iloc[-1]  # also tested beyond 45°
    assert margin == ("msmt17-s-cam-45", "real", 40.0, 70.0, 8, 4, 1)
    found = pd.concat([table["dataset"], found.iloc[:-1]], axis=1)
    assert found[["dataset", "arm", "mAP", "rank1"]].to_dict("records") == rows_of(9)
    assert set(found["n_generated"]) == {4}
    assert [step[0] for step in done[:3]] == ["world", "splits", "generator"]
    made = [step[1:] for step in done[3:]]
    assert made[:2] == [
        ("msmt17-s-cam", P.augment.images_per_pid),
        ("msmt17-s-cam", "same-distribution"),
    ]
    assert {step[0] for step in made} == set(r.datasets)


@pytest.mark.slow(seconds=200)
def test_two_small_worlds_from_nothing(tmp_path, monkeypatch):
    """The real thing at the size of the smoke study: new people, generator, images and runs.

    On a split, whose whole data set has no arms of its own.
    """
    for name in ("params", "replication"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "data").symlink_to(ROOT / "data")
    for name in ("freeze.json", "begun.json"):
        (tmp_path / "replication" / name).unlink(missing_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(replication, "STORE", RunStore(tmp_path / "runs"))
    smoke = Path("params/smoke.yaml")
    values = yaml.safe_load(smoke.read_text())
    for name in ("market1501", "cuhk03"):  # rendered, and not of this study: two photos a person
        sizes = values["world"][name]
        sizes |= {key: 0 if key in ("distractors", "junk") else 2 for key in sizes}
    smoke.write_text(yaml.safe_dump(values))
    arms = ["real", "pose-dive", "oracle"]
    r = edited(study=str(smoke), worlds=[5, 9], datasets=["msmt17-s-cam"], arms=arms)
    replication.freeze(r)
    table = replication.run(r)
    assert set(table["dataset"]) == {"msmt17-s-cam", "msmt17-s-cam-45"}
    assert len(table) == 2 * 2 * len(arms) and table["mAP"].between(0, 100).all()
    assert table.groupby(["dataset", "arm"])["mAP"].nunique().eq(2).all()  # the worlds differ
    assert not [*(tmp_path / "build/replication").iterdir()]
