"""Phase 2's training images, and the list of candidates."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
from pipeline import ROOT

from posedive_lib import params
from posedive_lib.study import candidate_files, generation, phase2


def test_phase_2_trains_on_photos_that_pass_eq_3_and_4_and_that_no_split_tests(monkeypatch):
    def dataset(name, paths):
        rels = {
            "msmt17": ["a", "b", "c", "d"],
            "msmt17-s-cam": ["a", "b", "c"],
            "msmt17-s-pose": ["a", "b", "d"],
        }.get(name, ["a", "b"])
        return SimpleNamespace(
            bodies=name,
            train=pd.DataFrame(
                {"rel": rels, "path": [f"{name}/{rel}" for rel in rels], "pid": 1, "camid": 0}
            ),
        )

    sigma = {
        "a": np.full(17, 0.9),
        "b": np.r_[np.full(16, 0.9), 0.1],
    }  # one hidden ankle: no reference, but a clear target
    monkeypatch.setattr(phase2.datasets, "of_study", dataset)
    monkeypatch.setattr(
        phase2, "confidence", lambda P, paths: np.stack([sigma[path[-1]] for path in paths])
    )
    images = phase2.training_images(params.load(ROOT / "params.yaml"))
    assert images.groupby("dataset")["rel"].apply(list).to_dict() == {
        name: ["a", "b"] for name in ("market1501", "msmt17", "cuhk03-labeled")
    }
    assert images["pid"].nunique() == 3 and images["target_ok"].all()
    assert images["reference_ok"].tolist() == [True, False] * 3


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
        for (name, arm, _), table in zip(arms, tables, strict=True):
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
