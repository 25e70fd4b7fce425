"""Readers: every root layout, versions, one's own data, and trees that are wrong."""

import os
import re
import string

import numpy as np
import pandas as pd
import pytest
import trees
from hypothesis import given
from hypothesis import strategies as st
from pipeline import ROOT

from posedive_lib import datasets, params
from posedive_lib.datasets import market1501, msmt17
from posedive_lib.datasets.trees import market_name, msmt17_name
from posedive_lib.datasets.unread import unread_files
from posedive_lib.errors import StudyError
from posedive_lib.study import reid_work

MARKET = [
    "",
    "Market-1501-v15.09.15",
    "market1501",
    "market1501/Market-1501-v15.09.15",
    "Market-1501",
]
MSMT17 = [
    ("MSMT17", "V1"),
    ("MSMT17_V1", "V1"),
    ("MSMT17_V2", "V2"),
    ("msmt17/MSMT17_V1", "V1"),
    ("msmt17/MSMT17_V2", "V2"),
    ("", "V1"),
    ("", "V2"),
]
NP = ["cuhk03-np/{}", "CUHK03-NP/{}", "cuhk03/{}", "{}"]


def refusal(name, root):
    """The one sentence that a tree is refused with."""
    with pytest.raises(StudyError) as caught:
        datasets.load(name, root)
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".") and len(text.replace(str(root), "")) < 400
    return text


@pytest.mark.parametrize("place", MARKET)
def test_market_is_found_below_and_at_the_root(tmp_path, place):
    root = tmp_path / "exp_12_c3"  # a careless pattern reads identity 12 of camera 3 here
    trees.market(root / place)
    data = datasets.load("market1501", root)
    assert data.folder == root / place and data.counts()["images"].tolist() == [18, 6, 7]
    assert sorted(data.train["pid"].unique()) == [2, 7, 9] and sorted(
        data.train["camid"].unique()
    ) == [0, 1, 2]
    assert (data.gallery["pid"] == 0).sum() == 1 and (data.gallery["pid"] >= 0).all()
    assert data.protocol == {
        "dataset": "market1501",
        "version": None,
        "train_val": None,
        "boxes": None,
        "split": "751/750 identities",
    }


@pytest.mark.parametrize("place, version", MSMT17)
def test_msmt17_is_found_with_its_version(tmp_path, place, version):
    trees.msmt17(tmp_path / place, version)
    data = datasets.load("msmt17", tmp_path)
    assert data.folder == tmp_path / place and data.counts()["images"].tolist() == [18, 9, 9]
    assert (data.protocol["version"], data.protocol["train_val"]) == (version, True)
    assert data.train["rel"].str.startswith("train/" if version == "V1" else "mask_train_v2/").all()


def test_a_folder_named_v2_with_plain_inner_names_is_version_2(tmp_path):
    trees.msmt17(tmp_path / "MSMT17_V2", "V1")
    assert datasets.load("msmt17", tmp_path).protocol["version"] == "V2"


def test_both_versions_in_one_folder_are_refused(tmp_path):
    trees.msmt17(tmp_path / "MSMT17", "V1")
    trees.msmt17(tmp_path / "MSMT17", "V2")
    assert "version 1" in refusal("msmt17", tmp_path)


def test_train_val_is_a_choice_and_on_record(tmp_path):
    trees.msmt17(tmp_path / "MSMT17_V1")
    both, alone = (datasets.load("msmt17", tmp_path, train_val=value) for value in (True, False))
    assert len(both.train) - len(alone.train) == 3 and set(alone.train["rel"]) < set(
        both.train["rel"]
    )
    assert (both.protocol["split"], alone.protocol["split"], alone.protocol["train_val"]) == (
        "list_train + list_val",
        "list_train",
        False,
    )
    pd.testing.assert_frame_equal(both.gallery, alone.gallery)
    (tmp_path / "MSMT17_V1" / "list_val.txt").unlink()
    assert len(datasets.load("msmt17", tmp_path, train_val=False).train) == 15
    assert "list_val.txt is missing" in refusal("msmt17", tmp_path)


@pytest.mark.parametrize("place", NP)
@pytest.mark.parametrize("boxes", ["labeled", "detected"])
def test_cuhk03_np_is_found_and_boxes_never_mixed(tmp_path, place, boxes):
    trees.market(tmp_path / place.format(boxes), suffix=".png", cameras=(1, 2), distractor=False)
    data = datasets.load(f"cuhk03-{boxes}", tmp_path)
    assert data.folder == tmp_path / place.format(boxes) and data.protocol["boxes"] == boxes
    assert data.counts()["images"].tolist() == [12, 4, 4]
    other = "detected" if boxes == "labeled" else "labeled"
    assert other in refusal(f"cuhk03-{other}", tmp_path)
    assert (
        datasets.load(f"cuhk03-{boxes}", data.folder).folder == data.folder
    )  # the folder itself is a root, too


@pytest.mark.parametrize(
    "name, build, first, second",
    [
        ("market1501", trees.market, "Market-1501-v15.09.15", "market1501"),
        ("msmt17", trees.msmt17, "MSMT17_V1", "MSMT17"),
        ("msmt17", trees.msmt17, "MSMT17_V1", "msmt17/MSMT17_V2"),
        ("cuhk03-labeled", trees.market, "cuhk03-np/labeled", "CUHK03/labeled"),
    ],
)
def test_two_folders_are_refused_and_links_are_not_two(tmp_path, name, build, first, second):
    build(tmp_path / first)
    (tmp_path / second).parent.mkdir(parents=True, exist_ok=True)
    os.symlink(tmp_path / first, tmp_path / second)
    assert datasets.load(name, tmp_path).folder == tmp_path / first
    (tmp_path / second).unlink()
    build(tmp_path / second)
    text = refusal(name, tmp_path)
    assert str(tmp_path / first) in text and str(tmp_path / second) in text
    datasets.load(name, tmp_path / first)


def test_the_order_is_the_names_order(tmp_path):
    trees.market(tmp_path)
    for split in ("train", "query", "gallery"):
        frame = getattr(datasets.load("market1501", tmp_path), split)
        assert frame["rel"].tolist() == sorted(frame["rel"])
    trees.folder(tmp_path / "own")
    lines = (tmp_path / "own" / "images.csv").read_text().splitlines()
    before = datasets.load("folder", tmp_path / "own").train
    (tmp_path / "own" / "images.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]))
    pd.testing.assert_frame_equal(before, datasets.load("folder", tmp_path / "own").train)


def test_train_and_test_identities_of_msmt17_are_told_apart(tmp_path):
    trees.msmt17(tmp_path)
    data = datasets.load("msmt17", tmp_path)
    images = data.images()
    assert set(data.train["pid"]) == set(data.query["pid"]) and not data.shared_pids
    sides = images.groupby("identity")["split"].agg(
        lambda s: {"train" if x == "train" else "test" for x in s}
    )
    assert (sides.map(len) == 1).all() and len(sides) == 6
    trees.market(tmp_path / "m")
    assert datasets.load("market1501", tmp_path / "m").shared_pids


@given(pid=st.integers(0, 99999), cam=st.integers(0, 120), index=st.integers(0, 999))
def test_generated_names_round_trip(pid, cam, index):
    file = market_name(pid, cam, index).rsplit("/", 1)[1]
    assert market1501.parse(file, "here") == (pid, cam)
    assert msmt17.camera(msmt17_name(pid, cam, index).rsplit("/", 1)[1], "here") == cam


@given(
    pid=st.sampled_from([-1, 0, 1, 77, 1501, 123456]),
    cam=st.integers(1, 99),
    width=st.integers(1, 3),
    tail=st.text(string.ascii_lowercase + "_s0123456789", max_size=12).filter(
        lambda t: not t[:1].isdigit()
    ),
)
def test_market_names_are_read_from_their_start(pid, cam, width, tail):
    number = "-1" if pid == -1 else f"{pid:04d}"
    assert market1501.parse(f"{number}_c{cam:0{width}d}{tail}.jpg", "here") == (pid, cam - 1)


@given(st.text(string.ascii_letters + string.digits + "_-.", min_size=1, max_size=20))
def test_other_names_are_refused_or_mean_what_they_say(name):
    try:
        pid, cam = market1501.parse(name, "here")
    except StudyError as error:
        assert repr(name)[1:-1] in str(error)
    else:
        head, rest = name.split("_c", 1)
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        assert int(head) == pid and int(digits) == cam + 1 and pid >= -1


def test_own_data_come_with_their_columns(tmp_path):
    lines = trees.folder(tmp_path)
    data = datasets.load("folder", tmp_path)
    assert data.train["pid"].tolist() == [4, 4, 5, 5] and set(data.gallery["camid"]) == {0, 11}
    assert data.query["azimuth"].tolist() == [84.0, 84.0] and data.protocol["split"] == "images.csv"
    assert len(lines) - 1 == sum(data.counts()["images"])
    trees.paint(tmp_path / "train" / "junk.png")
    trees.folder(tmp_path, extra="train/junk.png,-1,0,train,0\n")
    assert len(datasets.load("folder", tmp_path).train) == 4


@pytest.mark.parametrize(
    "line, expected",
    [
        ("train/p4/0.png,4,0,train,1", "each image once"),
        ("none.png,4,0,train,1", "a file in"),
        ("train/p4/0.png,four,0,query,1", "pid 'four'"),
        ("train/p4/0.png,4,-1,query,1", "camid '-1'"),
        ("train/p4/0.png,4,0,valid,1", "split 'valid'"),
        ("../x.png,4,0,train,1", "below the folder"),
        ("/etc/hosts,4,0,train,1", "below the folder"),
        (",4,0,train,1", "below the folder"),
        ("train/p4/0.png,,0,query,1", "pid ''"),
        ("./train/p4/0.png,4,0,train,1", "each image once"),
        ("train//p4/0.png,4,0,train,1", "each image once"),
        ("train/p4/0.png,4,0,query,1,2", "6 fields and the header 5"),
        ("train/p4/0.png,4,0,query", "4 fields and the header 5"),
        ("contact_sheet.jpg,4,0,train,1", "another name"),
        ("card.md/4.jpg,4,0,train,1", "another name"),
        (f"{'x' * 300}.jpg,4,0,train,1", "a file in"),
    ],
)
def test_own_tables_that_lie_are_refused_by_line(tmp_path, line, expected):
    trees.folder(tmp_path, extra=line + "\n")
    text = refusal("folder", tmp_path)
    assert text.startswith("Line 10 of") and expected in text


def test_lines_are_counted_as_an_editor_does(tmp_path):
    lines = trees.folder(tmp_path)
    lines[2:2] = ["", ""]
    lines[1] = lines[1].rsplit(",", 1)[0] + ',"two\nlines"'
    (tmp_path / "images.csv").write_text("\n".join([*lines, "none.png,4,0,train,1"]))
    assert refusal("folder", tmp_path).startswith(f"Line {len(lines) + 2} of")


def test_one_file_has_one_spelling(tmp_path):
    (tmp_path / "images.csv").write_text(
        "\ufeff" + "\n".join(trees.folder(tmp_path)).replace("train/p4", "./train//p4"),
        encoding="utf-8",
    )  # with Excel's mark
    assert datasets.load("folder", tmp_path).train["rel"].tolist()[:2] == [
        "train/p4/0.png",
        "train/p4/11.png",
    ]


@pytest.mark.parametrize(
    "cells, dtype, values",
    [
        (["007", "012"], "str", ["007", "012"]),
        (["7", "-12"], "int64", [7, -12]),
        (["7", ""], "Int64", [7, None]),
        (["7", "1.50"], "float64", [7, 1.5]),
        (["1e-05", "NaN"], "float64", [1e-5, None]),
        (["1e999", "7"], "str", ["1e999", "7"]),
        (["\u0661", "7"], "str", ["\u0661", "7"]),  # a digit of another script
        (["-inf", "0"], "float64", [-np.inf, 0]),
        (["True", "False"], "bool", [True, False]),
        (["TRUE", ""], "boolean", [True, None]),
        (["NA", "no"], "str", ["NA", "no"]),
        (["12345678901234567890", "1"], "str", ["12345678901234567890", "1"]),
        (["", ""], "str", [None, None]),
        (["left, below", '"quoted"'], "str", ["left, below", '"quoted"']),
    ],
)
def test_cells_of_own_columns_mean_what_they_say(tmp_path, cells, dtype, values):
    trees.folder(tmp_path)
    pd.read_csv(tmp_path / "images.csv").assign(note=cells * 4).to_csv(
        tmp_path / "images.csv", index=False
    )
    for frame in (datasets.load("folder", tmp_path).train, datasets.load("folder", tmp_path).query):
        assert str(frame["note"].dtype) == dtype and [
            None if pd.isna(found) else found for found in frame["note"]
        ] == values * (len(frame) // 2)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("path;pid;camid;split\na.jpg;1;0;train\n", "by semicolons: use commas"),
        ("path\tpid\tcamid\tsplit\na,b\t1\t0\ttrain\n", "by tabs: use commas"),
        ("path,pid,camid,split,note,note\na.jpg,1,0,train,x,y\n", "two columns 'note'"),
        ('path,pid,camid,split\n"a.jpg,1,0,train\n', "cannot be read as a table"),
    ],
)
def test_own_tables_of_another_form_are_told_what_to_change(tmp_path, text, expected):
    (tmp_path / "images.csv").write_text(text)
    assert expected in refusal("folder", tmp_path)


@pytest.mark.parametrize("comma", [", ", " ,", " , ", ",\t"])
@pytest.mark.parametrize("header", [True, False], ids=["everywhere", "in cells alone"])
def test_blanks_beside_commas_say_nothing(tmp_path, comma, header):
    lines = trees.folder(tmp_path, extra="train/junk.png,-1,0,train,0\n")
    trees.paint(tmp_path / "train/junk.png")
    lines.append("train/junk.png,-1,0,train,0")
    before = datasets.load("folder", tmp_path)
    first, *cells = [line.split(",") for line in lines]
    if not header:  # a path may end in a blank, so those around it say something
        cells = [[path + "," + pid, *rest] for path, pid, *rest in cells]
    text = [comma.join(first) if header else lines[0], *map(comma.join, cells)]
    (tmp_path / "images.csv").write_text("\n".join(text) + "\n")
    after = datasets.load("folder", tmp_path)
    for split, frame in before.tables.items():
        pd.testing.assert_frame_equal(after.tables[split], frame)
    assert not unread_files(after).pictures  # junk is known, too


def test_two_columns_that_differ_in_blanks_are_one(tmp_path):
    (tmp_path / "images.csv").write_text("path, pid,pid, camid\na, 1, 2, 3\n")
    assert "two columns 'pid'" in refusal("folder", tmp_path)


def test_text_of_one_s_own_keeps_its_blanks(tmp_path):
    lines = trees.folder(tmp_path)
    more = ["note,size", *[" red, 5"] * (len(lines) - 1)]
    (tmp_path / "images.csv").write_text("\n".join(map(",".join, zip(lines, more, strict=True))))
    train = datasets.load("folder", tmp_path).train
    assert set(train["note"]) == {" red"} and set(train["size"]) == {5}


def test_training_photos_alone_are_loaded_and_not_evaluated(tmp_path):
    lines = trees.folder(tmp_path)
    (tmp_path / "images.csv").write_text("\n".join(line for line in lines if "gallery" not in line))
    assert "The gallery split of folder" in refusal("folder", tmp_path)  # half a test was forgotten
    (tmp_path / "images.csv").write_text(
        "\n".join(line for line in lines if "split" in line or "train" in line)
    )
    (tmp_path / "truth.csv").write_text("path,lamp\ntrain/p4/0.png,3\n")
    data = datasets.load("folder", tmp_path)
    assert (
        data.counts()["images"].tolist() == [4, 0, 0]
        and data.images()["pid"].dtype == "int64"
        and data.train["lamp"].notna().sum() == 1
    )
    paths = params.load(ROOT / "params.yaml", overrides={"paths.datasets": str(tmp_path)}).paths

    def read_photos():
        return reid_work.read_photos("folder", paths, 32, 16)

    for evaluate in (data.require_test, read_photos):
        with pytest.raises(StudyError, match="can be augmented but not evaluated"):
            evaluate()
    (tmp_path / "truth.csv").unlink()  # of training photos
    (tmp_path / "images.csv").write_text("\n".join(line for line in lines if "train" not in line))
    assert "The train split of folder" in refusal("folder", tmp_path)
    trees.market(tmp_path / "m")
    for image in (tmp_path / "m" / "query").iterdir():
        image.unlink()
    assert "unpacked completely" in refusal("market1501", tmp_path / "m")


def test_own_tables_that_are_none(tmp_path):
    assert "images.csv" in refusal("folder", tmp_path)
    (tmp_path / "images.csv").write_text("path,pid\na,1\n")
    assert "camid, split" in refusal("folder", tmp_path)
    (tmp_path / "images.csv").write_bytes(b"\xff\xfe\x00garbage\x00")
    assert "images.csv" in refusal("folder", tmp_path)
    (tmp_path / "images.csv").write_text("")
    assert "cannot be read as a table" in refusal("folder", tmp_path)


@pytest.mark.parametrize(
    "line, expected",
    [
        ("0000/0000_000_01_0303morning_0000_0.jpg 0", "again"),
        ("../../secret_000_01_x.jpg 0", "leaves the data set's folder"),
        ("/etc/a_b_01_c.jpg 0", "leaves the data set's folder"),
        ("0000/x.jpg zero", "expected '<path> <pid>'"),
        ("0000/0000_000_01_no_such.jpg 0", "not in"),
    ],
)
def test_lists_that_lie_are_refused(tmp_path, line, expected):
    trees.msmt17(tmp_path)
    path = tmp_path / "list_train.txt"
    path.write_text(path.read_text() + line + "\n")
    assert expected in refusal("msmt17", tmp_path)


def test_bad_trees_are_named(tmp_path):
    assert "Market-1501 not found" in refusal("market1501", tmp_path)
    trees.market(tmp_path / "market1501")
    (tmp_path / "market1501" / "query").rename(tmp_path / "market1501" / "queries")
    assert f"The folder {tmp_path / 'market1501' / 'query'} is missing" in refusal(
        "market1501", tmp_path
    )
    trees.msmt17(tmp_path / "MSMT17")
    for name in ("train", "val", "query", "gallery"):
        (tmp_path / "MSMT17" / f"list_{name}.txt").unlink()
    assert "copies without lists" in refusal("msmt17", tmp_path)
    trees.msmt17(tmp_path / "MSMT17")
    (tmp_path / "MSMT17" / "test").rename(tmp_path / "MSMT17" / "tests")
    assert "MSMT17/test is missing" in refusal("msmt17", tmp_path)
    (tmp_path / "MSMT17" / "tests").rename(tmp_path / "MSMT17" / "test")
    (tmp_path / "MSMT17" / "list_val.txt").write_text(
        (tmp_path / "MSMT17" / "list_train.txt").read_text()
    )
    assert "in list_train.txt and in list_val.txt" in refusal("msmt17", tmp_path)
    lines = (tmp_path / "MSMT17" / "list_train.txt").read_text()  # another spelling of the same
    (tmp_path / "MSMT17" / "list_val.txt").write_text(re.sub("(?m)^", "./", lines.rstrip("\n")))
    assert "in list_train.txt and in list_val.txt" in refusal("msmt17", tmp_path)
    trees.msmt17(tmp_path / "MSMT17")
    (tmp_path / "MSMT17" / "list_query.txt").write_bytes(b"\xff\xfe\xfa")
    assert "cannot be read" in refusal("msmt17", tmp_path)
    assert "write_msmt17_s" in refusal("msmt17-s-cam", tmp_path)
