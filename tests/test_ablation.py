"""Variants of the generator: what differs, who is measured, and how the table compares them."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from posedive_lib import params
from posedive_lib.errors import StudyError
from posedive_lib.study import ablation, quality

P = params.load("params.yaml")


def test_every_variant_is_a_valid_recipe_that_differs_in_one_choice():
    first, *others = ablation.variants(P).values()
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
    assert {"v_prediction objective", f"{P.generator.clip_tokens} CLIP tokens"} <= set(
        ablation.variants(P.model_copy(update={"generator": epsilon}))
    )
    assert {"epsilon objective", f"{tokens} CLIP tokens"} <= set(ablation.variants(P))


def test_spare_people_are_in_no_data_set():
    spare = ablation.spare_people(P)
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
        len(spare) == P.study.ablation.people
        and not used & set(spare)
        and not any("distractor" in name for name in spare)
    )


def test_without_spare_people_the_error_says_what_to_change():
    counts = SimpleNamespace(train_pids=10_000)
    world = SimpleNamespace(market1501=counts, msmt17=counts, cuhk03=counts)
    with pytest.raises(StudyError, match="train_pids"):
        ablation.spare_people(SimpleNamespace(paths=P.paths, world=world, study=P.study))


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
    return values, ablation.table(
        {key: key for key in values}, None, None, reid, (None, None), seed=0
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
    assert (row["seeds"], row["n"]) == (2, 30) and list(found.columns) == ablation.COLUMNS


def test_the_verdict_names_what_beats_the_default(measured):
    found = measured[1]
    assert "better in pck (+0.0" in ablation.verdict(found)
    assert "No variant" in ablation.verdict(found[found["variant"] == "as trained"])
    assert "switched off" in ablation.verdict(found.iloc[:0])


def test_small_differences_are_not_worth_a_word():
    def row(name: str, d: float, wide: float) -> dict:
        return {
            "variant": f"without {name}",
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
    assert "skeleton" in ablation.verdict(found) and "depth" not in ablation.verdict(found)
    assert ablation.spare_conditions(found) == (
        ["depth"],
        ["skeleton"],
    )  # one that does better is no loss, but its change is worth a word
    unsure = pd.DataFrame([row("depth", -0.002, 0.02), row("normals", -0.02, 0.001)])
    assert ablation.spare_conditions(unsure) == ([], ["depth"]) and ablation.spare_conditions(
        unsure.iloc[:0]
    ) == ([], [])
