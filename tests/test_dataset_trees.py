"""Written trees, read as CLIP-ReID, TransReID, fast-reid and torchreid read them.

Their parsing rules are written down here on their own.
"""

import glob
import json
import os
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import trees
from PIL import Image

from posedive_lib import datasets
from posedive_lib.datasets import write as writing
from posedive_lib.datasets.write import write_augmented
from posedive_lib.errors import StudyError

CODE_BASES = ["clip-reid", "transreid", "fast-reid", "torchreid"]


def their_folder(code_base, name, root):
    """Where each looks below its root, the first that exists."""
    market, msmt17 = {
        "clip-reid": (["Market-1501-v15.09.15"], ["MSMT17"]),
        "transreid": (["market1501"], ["MSMT17"]),
        "fast-reid": (["Market-1501-v15.09.15"], ["MSMT17_V1", "MSMT17_V2"]),
        "torchreid": (
            ["market1501/Market-1501-v15.09.15", "market1501"],
            ["msmt17/MSMT17_V1", "msmt17/MSMT17_V2"],
        ),
    }[code_base]
    return next(
        os.path.join(root, place)
        for place in (market if name == "market" else msmt17)
        if os.path.isdir(os.path.join(root, place))
    )


def read_market_as_they_do(code_base, root):
    """Split -> sorted (path, pid, camid), with their assertions.

    The pattern runs over the full path, for .jpg only.
    """
    folder, found = their_folder(code_base, "market", root), {}
    for split, name in (
        ("train", "bounding_box_train"),
        ("query", "query"),
        ("gallery", "bounding_box_test"),
    ):
        found[split] = []
        for path in glob.glob(os.path.join(folder, name, "*.jpg")):
            pid, camid = map(int, re.compile(r"([-\d]+)_c(\d)").search(path).groups())
            if pid == -1:
                continue
            assert 0 <= pid <= 1501 and 1 <= camid <= 6
            found[split].append((path, pid, camid - 1))
        assert len(found[split]) == len(os.listdir(os.path.join(folder, name)))
    return found


def read_msmt17_as_they_do(code_base, root):
    """Split -> (path, pid, camid): list lines cut at the blank and the path at '_'.

    Identities of each list count from 0.
    """
    folder, found = their_folder(code_base, "msmt17", root), {}
    plain = code_base in ("clip-reid", "transreid") or folder.endswith("V1")
    inner = ("train", "test") if plain else ("mask_train_v2", "mask_test_v2")
    for split in ("train", "val", "query", "gallery"):
        rows, pids = [], set()
        with open(os.path.join(folder, f"list_{split}.txt")) as lines:
            for line in lines.readlines():
                path, pid = line.split(" ")
                pid, camid = int(pid), int(path.split("_")[2]) - 1
                assert 0 <= camid < 15
                full = os.path.join(
                    folder, inner[0] if split in ("train", "val") else inner[1], path
                )
                assert os.path.exists(full)
                rows.append((full, pid, camid))
                pids.add(pid)
        assert pids == set(range(len(pids)))
        found[split] = rows
    if code_base in ("clip-reid", "transreid"):
        found["train"] += found.pop("val")
    return found


def generated_for(data, tmp_path, format="png"):
    """Two images of every training person, by two of its cameras."""
    rows = []
    for pid, cameras in data.train.groupby("pid")["camid"].unique().items():
        for index, cam in enumerate(sorted(cameras)[:2]):
            path = trees.paint(tmp_path / "made" / f"{pid}_{index}.{format}")
            rows.append({"image_path": str(path), "pid": pid, "camid": cam, "index": index + 3})
    return pd.DataFrame(rows)


SOURCES = {
    "market1501": lambda root: trees.market(root / "Market-1501-v15.09.15"),
    "cuhk03-labeled": lambda root: trees.market(
        root / "cuhk03-np" / "labeled", suffix=".png", cameras=(1, 2), distractor=False
    ),
    "cuhk03-detected": lambda root: trees.cuhk03_mat(root / "cuhk03", "detected"),
    "folder": lambda root: trees.folder(root),
}


def small_cameras(root):
    text = (root / "images.csv").read_text()
    (root / "images.csv").write_text(re.sub(r",11,", ",4,", text))


@pytest.mark.parametrize("code_base", CODE_BASES)
@pytest.mark.parametrize("name", SOURCES)
def test_market_trees_parse_everywhere(tmp_path, name, code_base):
    SOURCES[name](tmp_path / "in")
    if name == "folder":
        small_cameras(tmp_path / "in")
    data = datasets.load(name, tmp_path / "in")
    generated = generated_for(data, tmp_path, "png" if code_base == "clip-reid" else "jpg")
    out = write_augmented(data, generated, tmp_path / "out", layout=code_base)
    theirs = read_market_as_they_do(code_base, tmp_path / "out")

    def pairs(rows):
        return sorted((int(pid), int(cam)) for pid, cam in rows)

    for split in ("train", "query", "gallery"):
        expected = pairs(
            getattr(data, split)[["pid", "camid"]].to_numpy().tolist()
            + (generated[["pid", "camid"]].to_numpy().tolist() if split == "train" else [])
        )
        assert pairs((pid, cam) for _, pid, cam in theirs[split]) == expected
        assert sorted(path for path, _, _ in theirs[split]) == sorted(getattr(out, split)["path"])
    label = {path: (pid, cam) for path, pid, cam in theirs["train"]}
    made = out.train[out.train["generated"]]
    assert len(made) == len(generated) and all(
        "_gen" in os.path.basename(path) for path in made["path"]
    )
    pixels = {
        np.asarray(Image.open(path).convert("RGB")).tobytes(): pair for path, pair in label.items()
    }
    for row in (
        data.train.itertuples()
    ):  # every real image is there, under the right person and camera, pixel for pixel
        assert pixels[np.asarray(Image.open(row.path).convert("RGB")).tobytes()] == (
            row.pid,
            row.camid,
        )


@pytest.mark.parametrize("code_base", CODE_BASES)
@pytest.mark.parametrize("version", ["V1", "V2"])
def test_msmt17_trees_parse_everywhere(tmp_path, version, code_base):
    trees.msmt17(tmp_path / "in" / f"MSMT17_{version}", version)
    data = datasets.load("msmt17", tmp_path / "in")
    generated = generated_for(data, tmp_path)
    out = write_augmented(data, generated, tmp_path / "out", layout=code_base)
    theirs = read_msmt17_as_they_do(code_base, tmp_path / "out")
    assert (
        out.protocol == data.protocol and out.protocol["version"] == version
    )  # also where the folder's name cannot say so

    def key(rows):
        return sorted((os.path.realpath(path), int(pid), int(cam)) for path, pid, cam in rows)

    train = theirs["train"] + theirs.get("val", [])
    assert key(train) == key(out.train[["path", "pid", "camid"]].to_numpy()) and len(train) == len(
        data.train
    ) + len(generated)
    for split in ("query", "gallery"):
        assert key(theirs[split]) == key(getattr(out, split)[["path", "pid", "camid"]].to_numpy())
        assert sorted(map(tuple, getattr(out, split)[["pid", "camid"]].to_numpy())) == sorted(
            map(tuple, getattr(data, split)[["pid", "camid"]].to_numpy())
        )
    if code_base in ("fast-reid", "torchreid"):
        assert len(theirs["val"]) == 3 and not any("_gen" in path for path, _, _ in theirs["val"])
    made = [(pid, cam) for path, pid, cam in train if "_gen" in path]
    assert sorted(made) == sorted(zip(generated["pid"], generated["camid"], strict=True))


@pytest.mark.parametrize("code_base", ["source", *CODE_BASES])
def test_msmt17_s_trees_count_identities_from_0(tmp_path, code_base):
    trees.msmt17(tmp_path / "in" / "MSMT17_V1", people=5, images=9)
    full, keep = (
        datasets.load("msmt17", tmp_path / "in"),
        [1, 2, 4],
    )  # identities left out, as the splits do
    from posedive_lib.datasets import splits

    tables = {
        s: (f := getattr(full, s))[f["pid"].isin(keep if s == "train" else [0, 3])]
        for s in ("train", "query", "gallery")
    }
    splits.write_lists(tmp_path / "in" / "MSMT17-S" / "cam", tables)
    data = datasets.load("msmt17-s-cam", tmp_path / "in")
    out = write_augmented(data, generated_for(data, tmp_path), tmp_path / "out", layout=code_base)
    assert set(out.train["pid"]) == set(keep) and set(out.query["pid"]) == {
        0,
        3,
    }  # our lists keep the original numbers
    theirs = read_msmt17_as_they_do(
        "fast-reid" if code_base == "source" else code_base, tmp_path / "out"
    )
    number = {path: pid for rows in theirs.values() for path, pid, _ in rows}
    for frame, people in ((out.train, keep), (pd.concat([out.query, out.gallery]), [0, 3])):
        assert [number[path] for path in frame["path"]] == [
            people.index(pid) for pid in frame["pid"]
        ]
    assert not theirs.get("val")


@pytest.mark.parametrize("name", [*SOURCES, "msmt17"])
def test_any_data_set_becomes_a_folder_with_a_table(tmp_path, name):
    SOURCES.get(name, lambda root: trees.msmt17(root / "MSMT17_V1"))(tmp_path / "in")
    data = datasets.load(name, tmp_path / "in")
    pd.DataFrame({"path": data.query["rel"], "lamp": 0.5}).to_csv(
        data.folder / "truth.csv", index=False
    )
    data = datasets.load(name, tmp_path / "in")
    generated = generated_for(data, tmp_path)
    out = write_augmented(data, generated, tmp_path / "out", layout="folder")
    assert (
        out.name == "folder"
        and out.train["generated"].sum() == len(generated)
        and (out.query["lamp"] == 0.5).all()
    )
    shift = 0 if data.shared_pids else data.train["pid"].max() + 1
    for split, move in (("train", 0), ("query", shift), ("gallery", shift)):
        ours = getattr(out, split)
        real = ours[~ours["generated"]].set_index("rel")[["pid", "camid"]]
        then = getattr(data, split).set_index("rel")[["pid", "camid"]]
        assert (real.sort_index() - then.sort_index() == [move, 0]).all(axis=None)
    assert set(out.train["pid"]).isdisjoint(out.query["pid"])


def test_cuhk03_np_keeps_one_ending_and_its_truth_under_new_names(tmp_path):
    trees.cuhk03_mat(tmp_path / "in")
    data = datasets.load("cuhk03-labeled", tmp_path / "in")
    pd.DataFrame({"path": data.train["rel"], "azimuth": np.arange(len(data.train))}).to_csv(
        data.folder / "truth.csv", index=False
    )
    np.savez(
        data.folder / "smpl.npz",
        path=data.train["rel"].to_numpy(str),
        betas=np.arange(len(data.train)),
    )
    data = datasets.load("cuhk03-labeled", tmp_path / "in")
    out = write_augmented(data, generated_for(data, tmp_path, "jpg"), tmp_path / "out")
    assert out.folder == tmp_path / "out" / "cuhk03-np" / "labeled" and {
        os.path.splitext(path)[1] for path in out.train["path"]
    } == {".png"}
    assert all(Image.open(path).format == "PNG" for path in out.train["path"])

    def by_pixels(frame):
        return {
            np.asarray(Image.open(row.path)).tobytes(): (row.pid, row.camid, row.azimuth)
            for row in frame.itertuples()
        }

    before, after = by_pixels(data.train), by_pixels(out.train[~out.train["generated"]])
    assert before == after
    with np.load(out.folder / "smpl.npz") as bodies:
        order = dict(zip(bodies["path"].tolist(), bodies["betas"].tolist(), strict=True))
    assert all(
        order[row.rel] == row.azimuth for row in out.train[~out.train["generated"]].itertuples()
    )


def test_cells_of_own_columns_come_through_as_they_are(tmp_path):
    lines = trees.folder(tmp_path / "in")
    cells = ['007,7,True,NA,"a, b",K5,', "010,-8,False,0,,K6,x"] * 4
    (tmp_path / "in" / "images.csv").write_text(
        "\n".join(
            [
                lines[0] + ",badge,count,bag,size,note,identity,old",
                *map("{},{}".format, lines[1:], cells),
            ]
        )
    )
    (tmp_path / "in" / "truth.csv").write_text("path,code\ntrain/p4/0.png,001\n")
    data = datasets.load("folder", tmp_path / "in")
    once = write_augmented(data, generated_for(data, tmp_path), tmp_path / "once")
    twice = write_augmented(
        once, generated_for(data, tmp_path).assign(index=50 + np.arange(4)), tmp_path / "twice"
    )
    before = (
        pd.read_csv(tmp_path / "in" / "images.csv", dtype=str, keep_default_na=False)
        .drop(columns="size")
        .set_index("path")
    )
    after = pd.read_csv(twice.folder / "images.csv", dtype=str, keep_default_na=False).set_index(
        "path"
    )
    pd.testing.assert_frame_equal(before, after.loc[before.index, before.columns])
    made = after[after["generated"] == "True"]
    assert len(made) == 8 and (
        made[["badge", "count", "bag", "note", "identity", "old"]] == ""
    ).all(axis=None)
    assert (twice.folder / "truth.csv").read_text() == (tmp_path / "in" / "truth.csv").read_text()


def test_truth_keeps_its_cells_under_new_names(tmp_path):
    trees.folder(tmp_path / "in")
    small_cameras(tmp_path / "in")
    (tmp_path / "in" / "truth.csv").write_text("path,code,note\ntrain/p4/0.png,007,NA\n")
    data = datasets.load("folder", tmp_path / "in")
    out = write_augmented(data, generated_for(data, tmp_path), tmp_path / "out", layout="clip-reid")
    assert (
        (out.folder / "truth.csv").read_text()
        == f"path,code,note\n{out.train['rel'][out.train['code'].notna()].iloc[0]},007,NA\n"
    )


@pytest.mark.parametrize(
    "name",
    [
        "images.csv",
        "truth.csv",
        "smpl.npz",
        "augmented.json",
        "manifest.csv",
        "contact_sheet.jpg",
        "Manifest.csv",
        "manifest.csv/a.jpg",
    ],
)
def test_a_photo_never_has_the_name_of_a_file_beside_it(tmp_path, name):
    trees.folder(tmp_path, extra=f"{name},4,0,train,1\n")
    if name != "images.csv":
        (tmp_path / name).parent.mkdir(exist_ok=True)
        trees.paint(tmp_path / "photo.png").rename(tmp_path / name)
    with pytest.raises(StudyError, match="Line 10 of .* expected another name than"):
        datasets.load("folder", tmp_path)


@pytest.mark.parametrize("name", ["truth.csv", "images.csv", "augmented.json", "smpl.npz"])
def test_what_is_written_never_goes_through_a_link_into_the_source(tmp_path, name):
    """The reader refuses such names; a table made in memory may still hold them."""
    trees.folder(tmp_path / "in")
    photo = trees.paint(tmp_path / "in" / "photo.png").rename(tmp_path / "in" / ("of " + name))
    data = datasets.load("folder", tmp_path / "in")
    (tmp_path / "in" / "truth.csv").write_text("path,lamp\n")
    np.savez(tmp_path / "in" / "smpl.npz", path=np.array(["a"]))
    row = data.train.iloc[:1].assign(path=str(photo), rel=name)
    data = replace(data, train=pd.concat([data.train, row], ignore_index=True))
    before = photo.read_bytes()
    with pytest.raises(StudyError, match="Cannot write"):
        write_augmented(data, generated_for(data, tmp_path), tmp_path / "out")
    assert photo.read_bytes() == before and not (tmp_path / "out").exists()


def test_photos_that_are_links_arrive_as_photos(tmp_path):
    trees.folder(tmp_path / "in")
    photo = tmp_path / "in" / "train" / "p4" / "0.png"
    photo.rename(tmp_path / "in" / "raw.png")
    photo.symlink_to("../../raw.png")
    data = datasets.load("folder", tmp_path / "in")
    out = write_augmented(data, generated_for(data, tmp_path), tmp_path / "out")
    assert (out.folder / "train/p4/0.png").read_bytes() == photo.read_bytes() and not (
        out.folder / "train/p4/0.png"
    ).is_symlink()


def test_training_photos_alone_are_augmented_in_their_own_layout_only(tmp_path):
    lines = trees.folder(tmp_path / "in")
    (tmp_path / "in" / "images.csv").write_text(
        "\n".join(line for line in lines if "split" in line or "train" in line)
    )
    data = datasets.load("folder", tmp_path / "in")
    out = write_augmented(data, generated_for(data, tmp_path), tmp_path / "out")
    assert out.train["generated"].sum() == 4 and out.counts()["images"].tolist() == [8, 0, 0]
    with pytest.raises(StudyError, match="training images only"):
        write_augmented(data, generated_for(data, tmp_path), tmp_path / "other", layout="clip-reid")


@pytest.mark.parametrize("kind", ["turned", "transparent"])
def test_generated_images_look_alike_to_every_reader(tmp_path, kind):
    trees.market(tmp_path / "in", suffix=".jpg")
    data = datasets.load("market1501", tmp_path / "in")
    exif = Image.Exif()
    exif[0x0112] = 6
    left = np.zeros((32, 16, 4), np.uint8)
    left[:, 8:] = 200, 10, 10, 255
    made, options = (
        tmp_path / f"made.{'jpg' if kind == 'turned' else 'png'}",
        {"exif": exif, "quality": 95} if kind == "turned" else {},
    )
    (
        Image.fromarray(np.rot90(left[..., :3]).copy())
        if kind == "turned"
        else Image.fromarray(left)
    ).save(made, **options)
    generated = pd.DataFrame([{"image_path": str(made), "pid": 2, "camid": 0, "index": 1}])
    out = write_augmented(data, generated, tmp_path / "out", layout="clip-reid")
    with Image.open(
        out.train.loc[out.train["generated"], "path"].iloc[0]
    ) as image:  # as they read: no EXIF, no alpha
        plain = np.asarray(image.convert("RGB")).astype(int)
    assert (
        plain.shape == (32, 16, 3)
        and np.abs(plain[:, 10:] - [200, 10, 10]).max() < 40
        and np.abs(plain[:, :6] - (0 if kind == "turned" else 255)).max() < 40
    )


def test_numbers_as_text_are_numbers(tmp_path):
    trees.market(tmp_path / "in")
    data = datasets.load("market1501", tmp_path / "in")
    generated = generated_for(data, tmp_path)
    as_text = generated.astype({"pid": str, "camid": str, "index": str})
    out, same = (
        write_augmented(data, as_text, tmp_path / "text"),
        write_augmented(data, generated, tmp_path / "numbers"),
    )
    assert out.train["rel"].tolist() == same.train["rel"].tolist() and out.train[
        "generated"
    ].sum() == len(generated)
    with pytest.raises(StudyError, match="share identity 2, camera 0 and index 3"):
        write_augmented(data, pd.concat([as_text, generated]), tmp_path / "x")


def test_names_that_others_would_misread_are_refused(tmp_path):
    data = datasets.load("folder", trees.folder(tmp_path / "in") and tmp_path / "in")
    with pytest.raises(StudyError, match="cameras of two digits"):
        write_augmented(data, generated_for(data, tmp_path), tmp_path / "out", layout="clip-reid")
    trees.market(tmp_path / "m")
    data = datasets.load("market1501", tmp_path / "m")
    with pytest.raises(StudyError, match="identity 12 and camera 3") as caught:
        write_augmented(
            data, generated_for(data, tmp_path), tmp_path / "exp_12_c3", layout="torchreid"
        )
    assert ".partial" not in str(caught.value) and not (tmp_path / "exp_12_c3").exists()
    write_augmented(
        data, generated_for(data, tmp_path), tmp_path / "exp_12_c3"
    )  # for our own readers it is well
    with pytest.raises(StudyError, match="Unknown layout"):
        write_augmented(data, generated_for(data, tmp_path), tmp_path / "x", layout="reid-strong")


def test_only_trees_written_here_are_replaced(tmp_path):
    trees.market(tmp_path / "in" / "market1501")
    data = datasets.load("market1501", tmp_path / "in")
    generated = generated_for(data, tmp_path)
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "holiday.jpg").write_text("mine")
    for place, text in (
        (foreign, "not replaced"),
        (tmp_path / "in", "one in the other"),
        (data.folder / "x", "one in the other"),
        (tmp_path, "one in the other"),
    ):
        with pytest.raises(StudyError, match=text):
            write_augmented(data, generated, place, overwrite=True)
    (foreign / "augmented.json").write_text('{"photos": 1}')  # under our name
    with pytest.raises(StudyError, match="no augmented.json of one"):
        write_augmented(data, generated, foreign, overwrite=True)
    assert (foreign / "holiday.jpg").read_text() == "mine" and len(
        datasets.load("market1501", tmp_path / "in").train
    ) == len(data.train)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StudyError, match="is a file"):
        write_augmented(data, generated, tmp_path / "file", overwrite=True)
    out = write_augmented(data, generated, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "augmented.json").read_text())
    assert (record["real"], record["generated"], record["protocol"]) == (
        31,
        len(generated),
        data.protocol,
    ) and len(out.train) == 18 + len(generated)


@pytest.mark.parametrize("break_at", ["_write_truth", "_place_generated"])
def test_a_stop_leaves_the_old_tree_whole(tmp_path, monkeypatch, break_at):
    trees.market(tmp_path / "in")
    data = datasets.load("market1501", tmp_path / "in")
    generated = generated_for(data, tmp_path)
    write_augmented(data, generated, tmp_path / "out")

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, break_at, stop)
    with pytest.raises(KeyboardInterrupt):
        write_augmented(data, generated, tmp_path / "out", overwrite=True)
    assert len(datasets.load("market1501", tmp_path / "out").train) == 18 + len(
        generated
    ) and not list(tmp_path.glob(".out*"))


def test_further_files_are_published_with_the_tree_or_not_at_all(tmp_path):
    trees.market(tmp_path / "in")
    data = datasets.load("market1501", tmp_path / "in")
    generated = generated_for(data, tmp_path)

    def also(root):
        assert (
            root != tmp_path / "out" and (root / writing.RECORD).is_file()
        )  # the tree is whole, and not yet in place
        (root / "notes.csv").write_text(texts.pop())

    texts = ["first"]
    write_augmented(data, generated, tmp_path / "out", also=also)
    with pytest.raises(IndexError):  # stopped while it writes its own
        write_augmented(data, generated[:0], tmp_path / "out", overwrite=True, also=also)
    assert (tmp_path / "out" / "notes.csv").read_text() == "first" and datasets.load(
        "market1501", tmp_path / "out"
    ).train["generated"].sum() == len(generated)
    assert not list(tmp_path.glob(".out*"))
    (tmp_path / "out" / "checkpoints").mkdir()  # by the code base that trains on the set
    with pytest.raises(StudyError, match="holds checkpoints, which is not of the augmented data"):
        write_augmented(data, generated, tmp_path / "out", overwrite=True)
    (tmp_path / "out" / "checkpoints").rmdir()
    own = tmp_path / "out/Market-1501-v15.09.15/bounding_box_train/note.txt"
    own.write_text("mine")
    with pytest.raises(StudyError, match="bounding_box_train holds more files than were written"):
        write_augmented(data, generated, tmp_path / "out", overwrite=True)
    assert own.read_text() == "mine"
    own.unlink()
    record = tmp_path / "out" / writing.RECORD
    whole = json.loads(record.read_text())
    record.write_text(json.dumps(whole | {"names": 3}))
    with pytest.raises(StudyError, match="is damaged"):
        write_augmented(data, generated, tmp_path / "out", overwrite=True)
    record.write_text(json.dumps(whole))
    written = write_augmented(data, generated[:1], tmp_path / "out", overwrite=True)
    assert written.train["generated"].sum() == 1


def test_identities_keep_all_of_their_digits(tmp_path):
    trees.market(tmp_path / "in")
    data = datasets.load("market1501", tmp_path / "in")
    pid = 202311051234567891  # no float holds it
    rows = data.train.assign(pid=data.train["pid"].replace(data.train["pid"].iloc[0], pid))
    data = replace(data, train=rows)
    table = pd.DataFrame({"pid": [pid], "camid": [0], "index": [0], "image_path": ["x.png"]})
    assert writing.check(data, table)["pid"].tolist() == [pid]


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"pid": 2.5}, "whole number"),
        ({"camid": -1}, "whole number"),
        ({"index": "x"}, "whole number"),
        ({"pid": np.nan}, "whole number"),
        ({"pid": pd.Series([pd.NA], dtype="Int64")}, "whole number"),
        ({"index": np.inf}, "whole number"),
    ],
)
def test_tables_that_lie_are_refused(tmp_path, change, expected):
    trees.market(tmp_path / "in")
    data = datasets.load("market1501", tmp_path / "in")
    with pytest.raises(StudyError, match=expected):
        write_augmented(data, generated_for(data, tmp_path).assign(**change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_augmenting_twice_needs_new_numbers(tmp_path):
    trees.market(tmp_path / "in")
    data = datasets.load("market1501", tmp_path / "in")
    generated = generated_for(data, tmp_path)
    once = write_augmented(data, generated, tmp_path / "once")
    with pytest.raises(StudyError, match="number the generated images anew"):
        write_augmented(once, generated, tmp_path / "twice")
    twice = write_augmented(
        once, generated.assign(index=generated["index"] + 10), tmp_path / "twice"
    )
    assert twice.train["generated"].sum() == 2 * len(generated)
