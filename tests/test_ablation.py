"""Variants of the generator: what differs, who is measured, the table, and the whole command."""

import subprocess
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from pipeline import ROOT

from posedive_lib import params
from posedive_lib.errors import StudyError
from posedive_lib.params import Params
from posedive_lib.params.experiments import value_at
from posedive_lib.study import ablation, ablation_table, ablation_work, quality

P = params.load("params.yaml")
A = params.load_ablation("ablation/params.yaml")


def changes(P: Params) -> dict[str, ablation_work.Changes]:
    return {name: plan.changed for name, plan in ablation.variants(P, A).items()}


def test_every_variant_is_a_valid_recipe_that_differs_in_one_choice():
    first, *others = changes(P).values()
    assert first == {}
    for sections in others:
        for section, changed in sections.items():
            own = getattr(P, section)
            recipe = type(own).model_validate(
                own.model_dump() | changed
            )  # the validators accept it
            differing = {
                name
                for name, value in recipe.model_dump().items()
                if value != getattr(own, name) and name in changed
            }
            assert differing == set(changed)
    others = [sections.get("generator", {}) for sections in others]
    left_out = [
        set(P.generator.conditions) - set(c["conditions"]) for c in others if "conditions" in c
    ]
    assert sorted(name for names in left_out for name in names) == sorted(
        P.generator.conditions
    ) and all(len(names) == 1 for names in left_out)


def test_the_other_objective_and_tokens_are_the_ones_not_chosen():
    tokens = {"pooled": "patch", "patch": "pooled"}[P.generator.clip_tokens]
    epsilon = P.generator.model_copy(
        update={"prediction_type": "epsilon", "zero_snr": False, "clip_tokens": tokens}
    )
    other = ablation.variants(P.model_copy(update={"generator": epsilon}), A)
    assert other["v_prediction from nothing"].baseline == "epsilon from nothing"
    assert f"{P.generator.clip_tokens} CLIP tokens" in other
    assert f"{tokens} CLIP tokens" in ablation.variants(P, A)


def test_variants_train_as_long_as_their_baseline_and_objectives_start_from_nothing():
    plans = ablation.variants(P, A)
    assert all(plan.steps == plans[plan.baseline].steps for plan in plans.values())
    longer = {name: plan for name, plan in plans.items() if plan.steps == A.objective_steps}
    assert set(longer) == {"v_prediction from nothing", "epsilon from nothing"}
    assert {plan.baseline for plan in longer.values()} == {"v_prediction from nothing"}
    for plan in longer.values():
        own = P.generator.model_copy(update=plan.changed["generator"])
        assert not own.pretrained and plan.changed["paths"] == {"phase1": None}
    assert {plan.steps for name, plan in plans.items() if name not in longer} == {A.steps}


def test_spare_people_are_in_no_data_set():
    spare = ablation.spare_people(P, A.people)
    people = pd.read_csv(f"{P.paths.world}/identities.csv", keep_default_na=False)
    used = set()
    for family in ("market1501", "msmt17", "cuhk03"):
        for part in ("train", "test"):
            used |= set(
                people.loc[people["role"] == f"{family}-{part}", "person"].head(
                    getattr(getattr(P.world, family), f"{part}_pids")
                )
            )
    assert (
        len(spare) == A.people
        and not used & set(spare)
        and not any("distractor" in name for name in spare)
    )


def test_without_spare_people_the_error_says_what_to_change():
    counts = SimpleNamespace(train_pids=10_000)
    world = SimpleNamespace(market1501=counts, msmt17=counts, cuhk03=counts)
    with pytest.raises(StudyError, match="train_pids"):
        ablation.spare_people(SimpleNamespace(paths=P.paths, world=world), 5)


@pytest.fixture
def measured(monkeypatch):
    """A table of two variants, two seeds and 30 people, whose measures are given."""
    rng = np.random.default_rng(0)
    base = rng.normal(0.5, 0.1, 30)
    values = {
        ("as trained", 0): base,
        ("as trained", 1): base + 0.02,
        ("better", 0): base + 0.1 + rng.normal(0, 0.01, 30),
        ("better", 1): base + 0.08,
    }
    monkeypatch.setattr(quality, "per_person", lambda images, *_: {"pck": values[images]})
    reid = SimpleNamespace(extract=lambda images: images)
    plans = {name: ablation.Plan({}, 9) for name in ("as trained", "better")}
    return values, ablation.table(
        plans, {key: key for key in values}, None, None, reid, (None, None), seed=0
    )


def test_the_table_pairs_people_and_seeds(measured):
    values, found = measured
    row = found.set_index("variant").loc["better"]
    by_seed = [(values["better", s] - values["as trained", s]).mean() for s in (0, 1)]
    assert row["difference"] == pytest.approx(np.mean(by_seed)) and row["value"] == pytest.approx(
        np.mean([values["better", s] for s in (0, 1)])
    )
    assert (row["seed_low"], row["seed_high"]) == pytest.approx((min(by_seed), max(by_seed)))
    assert (
        row["ci_low"] < row["difference"] < row["ci_high"] and row["ci_high"] - row["ci_low"] < 0.02
    )  # far narrower than people differ: paired
    assert (row["seeds"], row["n"]) == (2, 30) and list(found.columns) == ablation_table.COLUMNS


def test_the_verdict_names_what_beats_the_default(measured):
    found = measured[1]
    assert "better in pck (+0.0" in ablation_table.verdict(found)
    none = ablation_table.verdict(found[found["variant"] == "as trained"])
    assert "No variant is shown to be better" in none
    for said in (none, ablation_table.verdict(found)):
        assert "0.01 in PCK, top-1 or SSIM, 0.1 dB in PSNR" in said
    said = ablation_table.verdict(found.iloc[:0])
    assert "not compared" in said and "make ablation" in said


def test_small_differences_are_not_worth_a_word():
    def row(name: str, d: float, wide: float) -> dict:
        return {
            "variant": f"without {name}",
            "baseline": "as trained",
            "steps": 9,
            "metric": "pck",
            "difference": d,
            "value": 0.5,
            "ci_low": d - wide,
            "ci_high": d + wide,
            "seed_low": d - wide,
            "seed_high": d + wide,
            "seeds": 2,
            "n": 80,
        }

    found = pd.DataFrame(
        [row("depth", 0.002, 0.001), row("normals", -0.4, 0.001), row("skeleton", 0.02, 0.001)]
    )
    assert "skeleton" in ablation_table.verdict(found) and "depth" not in ablation_table.verdict(
        found
    )
    assert ablation_table.spare_conditions(found) == (
        ["depth"],
        ["skeleton"],
    )  # one that does better is no loss, but its change is worth a word
    unsure = pd.DataFrame([row("depth", -0.002, 0.02), row("normals", -0.02, 0.001)])
    assert ablation_table.spare_conditions(unsure) == (
        [],
        ["depth"],
    ) and ablation_table.spare_conditions(unsure.iloc[:0]) == ([], [])


def test_what_is_missed_is_told_with_both_objectives(measured):
    found = measured[1]
    worse = found.replace({"variant": {"better": "without reference attention"}})
    ends = ["difference", "ci_low", "ci_high", "seed_low", "seed_high"]
    worse[ends] = -worse[["difference", "ci_high", "ci_low", "seed_high", "seed_low"]].to_numpy()
    assert "Surely worse are: without reference attention, PCK -0.0" in ablation_table.needed(worse)
    slight = worse.assign(ci_high=0.001)  # the interval reaches over 0
    assert "Surely worse are: none." in ablation_table.needed(slight)
    names = {"as trained": "v_prediction from nothing", "better": "epsilon from nothing"}
    pair = found.replace({"variant": names, "baseline": names}).assign(steps=70)
    said = ablation_table.needed(pair)
    assert "epsilon from nothing against v_prediction from nothing (70 steps): pck +0.0" in said
    assert ablation_table.needed(found.iloc[:0]) == ""


def test_the_table_of_the_repository_is_read_and_says_how_it_was_made():
    found = ablation_table.read(ROOT / ablation_table.TABLE)
    assert found.columns.tolist() == ablation_table.COLUMNS and len(found)
    for name, count in (("steps", "steps"), ("seeds", "seeds")):
        assert f"{found[name].max()} {count}" in ablation_table.made(found)
    assert set(found["baseline"]) <= set(found["variant"])
    listed = ablation_table.compared(found)
    assert set(listed["variant"]) == set(found["variant"]) - set(found["baseline"])
    tracked = ["git", "ls-files", "--error-unmatch", str(ablation_table.TABLE)]
    assert subprocess.run(tracked, cwd=ROOT, capture_output=True).returncode == 0


def test_a_missing_table_is_none_and_a_foreign_one_is_one_sentence(measured, tmp_path):
    file = tmp_path / "table.csv"
    assert ablation_table.read(file).empty
    assert ablation_table.made(ablation_table.read(file)) == "none on these data"
    found = measured[1]
    found.to_csv(file, index=False)
    pd.testing.assert_frame_equal(ablation_table.read(file), found, check_dtype=False)
    for other, said in (
        (found.drop(columns="baseline"), "has other columns than variant, baseline, steps"),
        (found.assign(metric="fid"), "has a measure 'fid'"),
        (found.assign(steps="many"), "has a word for a number"),
    ):
        other.to_csv(file, index=False)
        with pytest.raises(StudyError, match=said) as refused:
            ablation_table.read(file)
        assert "\n" not in str(refused.value) and "make ablation" in str(refused.value)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A folder in which the command runs in seconds: few people, steps and variants."""
    values = yaml.safe_load((ROOT / "params/smoke.yaml").read_text())
    few = {"train_pids": 3, "test_pids": 2}
    values["world"] = {
        "workers": 1,
        "aspects": None,
        "market1501": {**few, "images_per_train_pid": 2, "images_per_test_pid": 3}
        | {"distractors": 1, "junk": 1},
        "msmt17": {**few, "images_per_train_pid": 2, "images_per_test_pid": 3},
        "cuhk03": {**few, "images_per_pid": 3},
    }
    kinds = ("azimuth_dataset", "generator_dataset", "count_dataset", "threshold_dataset")
    values["study"] |= dict.fromkeys(kinds, "market1501") | {
        "datasets": ["market1501"],
        "arms": {"real": "all", "pose-dive": "all"},
        "resnet_arms": ["real"],
        "workers": 1,
    }
    values["reid"] |= {"batch_size": 4, "instances": 2}
    own = {"study": "tiny.yaml", "seeds": [0], "steps": 1, "objective_steps": 2, "people": 2}
    (tmp_path / "ablation").mkdir()
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / ablation.PARAMS).write_text(yaml.safe_dump(own))
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    wanted = ("as trained", "v_prediction from nothing", "epsilon from nothing")
    every = ablation.variants
    monkeypatch.setattr(
        ablation, "variants", lambda P, a: {name: every(P, a)[name] for name in wanted}
    )
    return wanted


def test_the_command_makes_the_table_and_a_stopped_one_goes_on(tiny, monkeypatch, capsys):
    made = []
    work = ablation.in_processes

    def stopped(function, jobs, workers, bar, **options):
        made.append(len(jobs))
        work(function, jobs[:1], workers, bar, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(ablation, "in_processes", stopped)
    assert ablation.main([]) == 130
    assert "goes on from here" in capsys.readouterr().err
    assert not ablation_table.TABLE.exists()

    def noted(function, jobs, workers, bar, **options):
        made.append(len(jobs))
        work(function, jobs, workers, bar, **options)

    monkeypatch.setattr(ablation, "in_processes", noted)
    assert ablation.main([]) == 0
    assert made == [3, 2]  # the first training is not repeated
    found = ablation_table.read()
    assert found["variant"].drop_duplicates().tolist() == list(tiny)
    assert set(found["metric"]) == set(ablation_table.RELEVANT) and (found["n"] == 2).all()
    steps = found.groupby("variant")["steps"].first()
    assert steps.to_dict() == dict(zip(tiny, (1, 2, 2), strict=True))
    before = ablation_table.TABLE.read_bytes()
    ablation_table.TABLE.unlink()
    assert ablation.main([]) == 0
    assert made == [3, 2] and ablation_table.TABLE.read_bytes() == before


def test_the_stage_is_the_command_and_its_parameters_exist():
    (stage,) = yaml.safe_load((ROOT / "ablation/dvc.yaml").read_text())["stages"].values()
    assert stage["cmd"] == f"python -m {ablation.__name__}" and stage["wdir"] == ".."
    own, study = (next(iter(entry.items())) for entry in stage["params"])
    assert own == (str(ablation.PARAMS), None) and study[0] == A.study
    assert all(value_at(P.model_dump(), name) is not None for name in study[1])
    assert all((ROOT / folder).is_dir() for folder in stage["deps"])
    (out,) = stage["outs"]
    assert out == {str(ablation_table.TABLE): {"cache": False, "persist": True}}
