"""params.yaml is validated before anything starts; each mistake gets one sentence that helps."""

from pathlib import Path

import pytest
import yaml

from posedive_lib import params
from posedive_lib.errors import StudyError

ROOT = Path(__file__).resolve().parents[1]


def message(path, **overrides) -> str:
    with pytest.raises(StudyError) as caught:
        params.load(
            path, overrides={key.replace("__", "."): value for key, value in overrides.items()}
        )
    text = str(caught.value)
    assert "\n" not in text and str(path) in text
    return text


@pytest.fixture
def mini(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params/mini.yaml").read_text())
    return path


def edit(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    return path


@pytest.mark.parametrize("name", ["mini", "smoke", "paper"])
def test_ready_made_studies_are_valid(name):
    loaded = params.load(ROOT / f"params/{name}.yaml")
    written = yaml.safe_load((ROOT / f"params/{name}.yaml").read_text())
    study = written["study"]
    study["arms"] = {
        arm: study["datasets"] if where == "all" else where for arm, where in study["arms"].items()
    }
    assert loaded.model_dump() == written


def test_mini_is_the_default():
    assert (ROOT / "params/mini.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes()


def test_values_are_typed_and_cannot_be_changed(mini):
    loaded = params.load(mini)
    assert isinstance(loaded.generator.sampling.steps, int)
    assert loaded.generator.guider_widths.depth == 16
    with pytest.raises(ValueError):
        loaded.seed = 1


def test_pick_gives_plain_values_by_dotted_key(mini):
    overrides = {"generator.sampling.steps": 12, "augment.tau_gen": 0.6}
    picked = params.load(mini, overrides=overrides).pick(
        "seed", "generator.sampling", "augment.tau_gen"
    )
    assert picked == {
        "seed": 0,
        "generator.sampling": {
            "scheduler": "DDIMScheduler",
            "steps": 12,
            "guidance": 2.0,
            "batch_size": 64,
        },
        "augment.tau_gen": 0.6,
    }


def test_an_override_below_a_section_that_is_missing_is_named(tmp_path):
    file = tmp_path / "own.yaml"
    for text in ("seed: 1\n", "augment:\n"):
        file.write_text(text)
        with pytest.raises(StudyError, match="own.yaml has no section augment"):
            params.load(file, overrides={"augment.images_per_pid": 5})


def test_overrides_change_one_value(mini):
    assert (
        params.load(mini, overrides={"generator.sampling.steps": 3}).generator.sampling.steps == 3
    )


@pytest.mark.parametrize(
    "old, new, expected",
    [
        (
            "tau_gen: 0.55",
            "tau_genn: 0.55",
            "augment.tau_genn is not a parameter; did you mean augment.tau_gen?",
        ),
        (
            "tau_gen: 0.55",
            "tau_gen: 1.6",
            "augment.tau_gen is 1.6, but it must be less than or equal to 1",
        ),
        (
            "learning_rate: 2.0e-4",
            "learning_rate: 2e-4",
            "generator.learning_rate is the text '2e-4', not a number; write 2.0e-4",
        ),
        ("learning_rate: 2.0e-4", "learning_rate: fast", "generator.learning_rate is 'fast'"),
        ("seed: 0", "", "seed is missing"),
        ("seed: 0", "seed: 0\nseed: 1", "line 5: the key 'seed' stands there twice"),
        ("seeds: [0, 1, 2, 3, 4, 5]", "seeds: [0, 1, 2", "not valid YAML on line"),
        ("seed: 0", "seed: 010", "line 4: 010 is read as a number to base 8 or 60"),
        ("seed: 0", "seed: 1:30", "line 4: 1:30 is read as a number to base 8 or 60"),
        ("tau_gen: 0.55", "tau_gen: 1:30.5", "1:30.5 is read as a number to base 8 or 60"),
        ("seed: 0", "seed: !!int 0", "line 4: tags (tag:yaml.org,2002:int) are not read"),
        ("seed: 0", "seed: !secret 0", "line 4: tags (!secret) are not read"),
        ("scheduler: ''", "scheduler: null", "scale.scheduler is None, but it must be a valid"),
        ("[0.15, 0.30,", "[0.30, 0.15,", "study.thresholds is [0.3, 0.15"),
        (
            "batch_size: 64              # P",
            "batch_size: 63              # P",
            "reid must have batch_size a multiple of instances",
        ),
        (
            "count_dataset: cuhk03-labeled",
            "count_dataset: cuhk03",
            "study.count_dataset is 'cuhk03', but it must be 'market1501'",
        ),
    ],
)
def test_a_mistake_gets_one_sentence(mini, old, new, expected):
    assert expected in message(edit(mini, old, new))


def test_a_key_in_the_wrong_place_is_pointed_home(mini):
    assert "did you mean augment.tau_gen?" in message(mini, tau_gen=0.5)


@pytest.mark.parametrize("value", [True, "3", 2.5, 0, -1])
def test_counts_are_positive_integers(mini, value):
    assert "generator.steps is" in message(mini, generator__steps=value)


def test_values_that_contradict_each_other(mini):
    assert "zero_snr: false" in message(mini, generator__prediction_type="epsilon")
    assert "overlap" in message(mini, splits__cam__train_max_azimuth=120.0)
    assert "train_clusters below clusters" in message(mini, splits__pose__train_clusters=6)
    assert "at most candidates_per_pid" in message(mini, augment__images_per_pid=21)
    assert "resnet_arms only arms, and oracle is not among them" in message(
        mini, study__arms={"real": "all", "pose-dive": "all"}
    )


def test_unreadable_files(tmp_path):
    assert "cannot be read" in message(tmp_path / "none.yaml")
    (tmp_path / "empty.yaml").write_text("")
    assert "holds no parameters" in message(tmp_path / "empty.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in message(tmp_path / "binary.yaml")


@pytest.mark.parametrize("kind", ["azimuth", "generator", "count", "threshold"])
def test_each_experiment_runs_on_a_data_set_of_the_study(mini, kind):
    said = message(mini, **{f"study__{kind}_dataset": "folder"})
    assert f"study must have {kind}_dataset among its datasets" in said


def test_a_split_of_msmt17_needs_msmt17(mini):
    few = [
        "market1501",
        "cuhk03-labeled",
        "msmt17-s-cam",
        "msmt17-s-pose",
    ]
    said = message(mini, study__datasets=few, study__threshold_dataset="market1501")
    assert "study must have msmt17 among its datasets, for msmt17-s-cam is a part of it" in said


@pytest.mark.parametrize("name", ["folder", "market1501", "msmt17", "cuhk03-detected"])
def test_one_data_set_alone_is_a_study(mini, name):
    kinds = ("azimuth", "generator", "count", "threshold")
    alone = {f"study.{kind}_dataset": name for kind in kinds} | {"study.datasets": [name]}
    P = params.load(mini, overrides=alone)
    assert P.study.whole == [P.study.main_dataset] == [name]
    assert P.study.arms["real"] == [name]  # "all"; other lists may name sets that are not there
