"""`python -m posedive_lib.study.augmented_set`: what the study trains on, as a data set."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import trees
from PIL import Image
from pipeline import ROOT

from posedive_lib import datasets, params
from posedive_lib.augment import product
from posedive_lib.augment.manifest import SIGMA_GEN, SIGMA_TAR
from posedive_lib.augment.selection import judge
from posedive_lib.datasets import archives
from posedive_lib.datasets.write import write_augmented
from posedive_lib.errors import StudyError
from posedive_lib.study import augmented_set, candidate_files, design

NAME, PEOPLE, EACH = "market1501", (2, 7, 9), 4


def picture(pid: int, index: int) -> bytes:
    """A JPEG of its own, in the photos' size for an even index, else twice as large."""
    size = (16, 32) if index % 2 == 0 else (32, 64)
    pixels = np.random.default_rng((pid, index)).integers(0, 255, (*size[::-1], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=95, subsampling=0)
    return file.getvalue()


def make_candidates(arm: str, rows: pd.DataFrame) -> None:
    """Archives and manifest of an arm, a shard for each index."""
    parts = []
    for index, part in rows.groupby("index"):
        names = [f"{pid:04d}_{index:03d}.jpg" for pid in part["pid"]]
        files = [picture(pid, index) for pid in part["pid"]]
        archive = candidate_files.store_of(NAME, arm) / f"shards/{index}.tar"
        places = archives.write(archive, zip(names, files, strict=True))
        part = part.assign(path=[f"shards/{index}.tar/{name}" for name in names], arm=arm)
        part[archives.PLACE] = [places[name] for name in names]
        parts.append(part)
    folder = candidate_files.candidates_folder(NAME, arm)
    folder.mkdir(parents=True)
    pd.concat(parts).to_csv(folder / "manifest.csv", index=False)


@pytest.fixture
def P(tmp_path, monkeypatch):
    """A Market-1501 with candidates of two arms; every second one of person 7 is rejected."""
    monkeypatch.chdir(tmp_path)
    trees.market(tmp_path / "data/Market-1501-v15.09.15", PEOPLE)
    overrides = {"paths.datasets": "data", "augment.images_per_pid": 3}
    P = params.load(ROOT / "params.yaml", overrides=overrides)
    train = datasets.of_study(NAME, P.paths).train
    rows = pd.DataFrame([(pid, i) for i in range(EACH) for pid in PEOPLE], columns=["pid", "index"])
    photos = train.groupby("pid")[["rel", "camid"]].first().loc[rows["pid"]]
    rows["reference"], rows["camid"] = photos["rel"].to_numpy(), photos["camid"].to_numpy()
    weak = (rows["pid"] == 7) & (rows["index"] % 2 == 1)
    scores = dict.fromkeys(SIGMA_TAR, 0.9) | dict.fromkeys(SIGMA_GEN, np.where(weak, 0.1, 0.9))
    rows = judge(rows.assign(dataset=NAME, reference_min=1.0, **scores), P.augment)
    make_candidates("pose-dive", rows)
    make_candidates("viewpoint", rows.iloc[::-1].iloc[3:])
    monkeypatch.setattr(product, "card", lambda *_, arm, generator, **__: f"{arm} by {generator}")
    return P


def content(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def from_loose_files(P, rows: pd.DataFrame, folder: Path) -> dict[str, bytes]:
    """What `write_augmented` makes of the same images as files of their own."""
    folder.mkdir()
    rows = rows.assign(image_path=[str(folder / Path(path).name) for path in rows["path"]])
    for row in rows.itertuples():
        Path(row.image_path).write_bytes(picture(row.pid, row.index))
    rows = rows.drop(columns=archives.PLACE)
    write_augmented(datasets.of_study(NAME, P.paths), rows, folder / "set")
    return content(folder / "set")


@pytest.mark.parametrize("arm", ["pose-dive", "viewpoint", "unfiltered"])
def test_the_set_is_that_of_loose_files_with_manifest_sheet_and_card(P, arm, tmp_path):
    made = augmented_set.write(P, NAME, arm, "sets/new")
    rows = design.images(P, NAME, [arm])[arm]
    written, wanted = content(tmp_path / "sets/new"), from_loose_files(P, rows, tmp_path / "loose")
    assert set(written) - set(wanted) == {"manifest.csv", "contact_sheet.jpg", "CARD.md"}
    records = [json.loads(tree.pop("augmented.json")) for tree in (written, wanted)]
    names = [record.pop("names") for record in records]
    assert records[0]["files"].pop(".") == records[1]["files"].pop(".") + 3
    assert records[0] == records[1]
    assert {*names[0]} - {*names[1]} == {"manifest.csv", "contact_sheet.jpg", "CARD.md"}
    assert {name: written[name] for name in wanted} == wanted
    assert made.train["generated"].sum() == len(rows) == 3 + 2 + 3
    drawn = "viewpoint" if arm == "viewpoint" else "pose-dive"
    listed = pd.read_csv("sets/new/manifest.csv", keep_default_na=False)
    whole = candidate_files.load_manifest(NAME, drawn)
    pd.testing.assert_frame_equal(listed.drop(columns="added"), whole)
    chosen = listed[listed["added"]].sort_values(["pid", "index"], ignore_index=True)
    assert chosen[["pid", "index"]].equals(rows[["pid", "index"]])
    assert written["CARD.md"].decode() == f"{arm} by build/generator"


def test_a_folder_with_content_the_data_sets_and_a_missing_arm_are_refused(P, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    before = content(tmp_path)
    settings = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text()
    settings.write_text(text.replace("datasets: build/world", "datasets: data"))

    def said(arm: str, out: str) -> str:
        assert augmented_set.main([NAME, arm, "--out", out]) == 2
        return capsys.readouterr().err

    assert "full has content, which is not replaced: choose a new folder" in said("pose", "full")
    assert "lies in data (paths.datasets)" in said("pose-dive", "data/more")
    assert "lies in data (paths.datasets)" in said("pose-dive", "data")
    assert "no candidates of pose on market1501" in said("pose", "new")
    settings.unlink()
    assert content(tmp_path) == before


def test_an_archive_that_is_gone_leaves_no_set(P, tmp_path):
    archive = candidate_files.store_of(NAME) / "shards/1.tar"
    archive.unlink()
    with pytest.raises(StudyError, match="1.tar is missing: the command that made"):
        augmented_set.write(P, NAME, "pose-dive", "new")
    assert not (tmp_path / "new").exists()
