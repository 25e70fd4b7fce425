"""What stages read and dvc.yaml cannot name: models, HMR2's results. A change there is seen."""

import re

import pytest
from pipeline import ROOT, stages

from posedive_lib import params
from posedive_lib.bench import input_digests, pipeline
from posedive_lib.digests import folder_digest
from posedive_lib.errors import StudyError
from posedive_lib.model_digests import model_digest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODELS = ("stable_diffusion", "clip", "pose_estimator", "phase1")


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Writes the digests of a study with models of one file each; returns them by name."""
    monkeypatch.chdir(tmp_path)
    for name in (*MODELS, "results"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("first")

    def write(**changes) -> dict[str, str]:
        own = {f"paths.{name}": name for name in MODELS} | changes
        input_digests.write(params.load(ROOT / "params/smoke.yaml", overrides=own), "params.yaml")
        return {file.stem: file.read_text() for file in (tmp_path / "build/inputs").iterdir()}

    return write


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize(
    "model, name",
    [("phase1", "generator"), ("stable_diffusion", "generator"), ("clip", "clip")],
)
def test_a_model_that_changes_in_its_place_changes_its_file_alone(study, tmp_path, model, name):
    before = study()
    assert study() == before and before["resnet"] == "paths.resnet none\n"
    (tmp_path / model / "file").write_text("other")
    assert changed(before, study()) == {name}


def test_results_of_hmr2_count_where_they_are_read(study, tmp_path):
    before = study(**{"bodies.hmr2": "results"})
    assert before["hmr2"] == "bodies.hmr2 none\n"
    own = {"bodies.source": "hmr2", "bodies.hmr2": "results"}
    first = study(**own)
    (tmp_path / "results/file").write_text("other")
    assert changed(before, first) == changed(first, study(**own)) == {"hmr2"}


def test_a_model_of_the_hub_is_known_by_its_commit(study, tmp_path, monkeypatch):
    """Nothing is read of it: the folder of a commit never changes."""
    snapshot = tmp_path / "hub/snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    asked = []
    local = "posedive_lib.weights.local_folder"
    monkeypatch.setattr(local, lambda name, revision: asked.append(name) or snapshot)
    own = {"paths.clip": "a/clip", "paths.stable_diffusion": "a/sd", "generator.revision": COMMIT}
    found = study(**own)
    assert found["clip"] == f"paths.clip {COMMIT}\n"
    assert asked == [f"a/sd@{COMMIT}", "a/clip"]
    assert model_digest(snapshot) == COMMIT
    assert model_digest(tmp_path / "clip") == folder_digest(tmp_path / "clip")


def test_a_missing_input_is_named_with_its_parameter(study):
    with pytest.raises(StudyError, match="params.yaml: paths.clip: No folder none"):
        study(**{"paths.clip": "none"})
    with pytest.raises(StudyError, match="params.yaml: bodies.hmr2: There is no folder a/none"):
        study(**{"bodies.source": "hmr2", "bodies.hmr2": "a/none"})


def test_stages_depend_on_what_the_parameters_name():
    """Not on the places where the mini world has its inputs."""
    text = (ROOT / "dvc.yaml").read_text()
    assert not re.search(r"data/(body|motions)\b", text)
    known = {
        f"build/inputs/{n}.txt" for n in input_digests.inputs_of(params.load(ROOT / "params.yaml"))
    }
    listed = set()
    for name, stage in stages().items():
        deps = set(pipeline.paths(stage.get("deps", [])))
        own = {dep for dep in deps if dep.startswith("build/inputs/")}
        models = {dep for dep in deps if dep.startswith("data/pretrained")}
        assert own <= known and (name == "inputs" or bool(own) == bool(models)), name
        for model, file in (("clip", "clip"), ("resnet", "resnet"), ("vitpose", "pose_estimator")):
            if f"data/pretrained/{model}" in models:
                assert f"build/inputs/{file}.txt" in own, name
        listed |= own
    assert listed == known
    # Without it DVC restores the output of an earlier run with the same parameters.
    assert stages()["inputs"]["outs"] == [{"build/inputs": {"push": False, "persist": True}}]
