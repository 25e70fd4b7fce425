"""Preflight: each trouble is made on a tiny tree, named, counted and told by the exit status."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import trees
from PIL import Image

from posedive_lib import datasets
from posedive_lib.datasets.checks import valid_queries
from posedive_lib.datasets.preflight import main, preflight
from posedive_lib.datasets.unread import PICTURES
from posedive_lib.errors import StudyError
from posedive_lib.intake.images import FORMATS


@pytest.fixture
def market(tmp_path):
    return trees.market(tmp_path / "market1501")


def report(root, name="market1501", **options):
    """The report of a data set, its sentences checked for form."""
    found = preflight(datasets.load(name, root), **{"batch_size": 8, "instances": 4} | options)
    for text in (*found.problems, *found.notes):
        assert "\n" not in text and text.endswith(".")
        assert (
            len(text.replace(str(root), "")) < 600
        )  # how deep the data set lies is not the sentence's fault
    return found


def only(texts):
    assert len(texts) == 1, texts
    return texts[0]


def test_a_good_data_set_has_nothing_to_say(market):
    found = report(market)
    assert found.findings == [] and found.require() is found
    table = found.table.set_index("split")
    assert (
        table["images"].tolist() == [18, 6, 7]
        and table["identities"].tolist() == [3, 2, 3]
        and table["cameras"].tolist() == [3, 3, 3]
    )
    assert table["fewest"].tolist() == [6, 3, 1] and set(table["size"]) == {"32 x 16"}
    assert len(found.images) == 31 and (found.images["error"] == "").all()


def test_a_photo_saved_again_on_the_other_side_is_a_note(market):
    """Other bytes, other size, the same look; plain pictures look like nothing."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 255, (8, 4, 3), dtype=np.uint8)
    photo = Image.fromarray(blocks).resize((64, 128), Image.Resampling.BICUBIC)
    train, test = market / "bounding_box_train", market / "bounding_box_test"
    photo.save(train / "0002_c1s1_000077_00.jpg", quality=95)
    photo.resize((96, 192)).save(test / "0003_c1s1_000077_00.jpg", quality=60)
    photo.save(test / "0003_c1s1_000078_00.jpg", quality=80)  # one per look is enough
    Image.new("RGB", (64, 128), "grey").save(train / "0002_c1s1_000079_00.jpg")
    Image.new("RGB", (64, 128), "grey").save(test / "0003_c1s1_000079_00.jpg", quality=50)
    found = report(market)
    assert not found.problems
    text = only(found.notes)
    assert text.startswith("1 pairs of photos in training and in test look the same")
    assert "0002_c1s1_000077_00.jpg and bounding_box_test/0003_c1s1_00007" in text


def test_all_queries_in_the_camera_of_their_matches(market):
    for folder in ("query", "bounding_box_test"):
        for path in list((market / folder).iterdir()):
            if "_c1" not in path.name:
                path.unlink()
    text = only(report(market).problems)
    assert (
        "All 2 queries share their camera with every true match (all are camera 1)" in text
        and "camera numbers were lost" in text
    )


def test_some_queries_without_a_valid_match(market):
    for cam in (2, 3):
        (market / "bounding_box_test" / f"0001_c{cam}s1_000002_01.jpg").unlink()
    trees.paint(market / "query" / "0044_c1s1_000001_00.jpg")
    found = report(market)
    assert not found.problems
    assert (
        "2 of 7 queries have no valid match (1 share their camera with every true match, "
        "1 have none in the gallery)" in only(found.notes)
    )


def test_no_query_in_the_gallery(market):
    for path in (market / "bounding_box_test").glob("000[13]_*"):
        path.rename(path.with_name("9" + path.name[1:]))
    assert "None of the 6 queries has its identity in the gallery" in only(report(market).problems)


def test_valid_queries_equal_their_definition():
    rng = np.random.default_rng(2)
    for _ in range(50):
        query, gallery = (
            pd.DataFrame({"pid": rng.integers(0, 6, n), "camid": rng.integers(0, 3, n)})
            for n in (20, 12)
        )
        known, valid = valid_queries(query, gallery)
        for i, q in enumerate(query.itertuples()):
            same = [g for g in gallery.itertuples() if g.pid == q.pid]
            assert known.iloc[i] == bool(same) and valid.iloc[i] == any(
                g.camid != q.camid for g in same
            )


def test_unreadable_images_are_counted_and_the_first_is_named(market):
    paths = sorted((market / "bounding_box_train").iterdir())[:5]
    for path in paths:
        path.write_bytes(path.read_bytes()[:150])
    text = only(report(market).problems)
    assert str(paths[0]) in text and "and 4 more" in text and "restore" in text
    with pytest.raises(StudyError, match="not a readable image"):
        report(market).require()


def test_a_person_in_training_and_test(market):
    for cam in (1, 2):
        trees.paint(market / "bounding_box_train" / f"0003_c{cam}s1_000077_00.jpg")
    assert "1 identities are in training and in test (3)" in only(report(market).problems)


def test_msmt17_identities_are_no_overlap(tmp_path):
    trees.msmt17(tmp_path / "MSMT17_V1")
    assert report(tmp_path, "msmt17").findings == []


def test_masked_faces_are_said(tmp_path):
    trees.msmt17(tmp_path / "MSMT17_V2", "V2")
    assert "version 2, with masked faces" in only(report(tmp_path, "msmt17").notes)


def test_identities_for_the_sampler(market):
    assert "fewer than the 16 of a batch (P = 64 / 4)" in only(report(market, batch_size=64).notes)
    assert "3 training identities have fewer than 8 images" in only(
        report(market, batch_size=16, instances=8).notes
    )
    for path in (market / "bounding_box_train").glob("000[79]_*"):
        path.unlink()
    assert "at least two" in only(report(market, batch_size=4).problems)


def test_cameras_that_an_embedding_does_not_know(market):
    trees.paint(market / "query" / "0001_c6s1_000001_00.jpg")
    trees.paint(market / "bounding_box_train" / "0002_c5s1_000001_00.jpg")
    notes = report(market).notes
    assert any("Test cameras (camid + 1) 6 are not in training" in note for note in notes) and any(
        "Training cameras (camid + 1) are 1, 2, 3, 5" in note for note in notes
    )


def test_equal_files(market):
    train = sorted((market / "bounding_box_train").iterdir())
    shutil.copy(train[0], train[1])
    shutil.copy(train[2], train[-1])
    found = report(market)
    assert (
        not found.problems
        and any("occur more than once" in note for note in found.notes)
        and any("carry two identities" in note for note in found.notes)
    )
    shutil.copy(train[3], market / "query" / "0001_c1s1_000001_00.jpg")
    shutil.copy(
        market / "query" / "0003_c1s1_000001_00.jpg",
        market / "bounding_box_test" / "0003_c2s1_000002_01.jpg",
    )
    leak, own = report(market).problems
    assert (
        "1 files with equal content are in training and in test" in leak
        and "find themselves" in own
    )


def test_odd_sizes(market):
    trees.paint(market / "query" / "0001_c1s1_000001_00.jpg", size=(80, 40))
    trees.paint(market / "query" / "0001_c2s1_000001_00.jpg", size=(9, 40))
    wide, small = report(market).notes
    assert (
        "1 images are wider than tall" in wide
        and "40 x 80" in wide
        and "below 16 pixels" in small
        and "0001_c2s1" in small
    )


def test_what_other_code_bases_would_misread(tmp_path):
    trees.market(tmp_path / "exp_12_c3" / "market1501")
    assert "would read identity 12 and camera 3" in only(report(tmp_path / "exp_12_c3").notes)
    trees.market(tmp_path / "wide", cameras=(1, 2, 12), suffix=".png")
    notes = report(tmp_path / "wide").notes
    assert any(
        "identity 0001 and camera 1 from" in note or "camera 1 from" in note for note in notes
    )
    assert any("cameras above 6" in note for note in notes) and any(
        ".jpg only" in note for note in notes
    )
    trees.msmt17(tmp_path / "MSMT17", people=4)
    shutil.rmtree(tmp_path / "MSMT17" / "train" / "0001")
    for name in ("train", "val"):
        path = tmp_path / "MSMT17" / f"list_{name}.txt"
        path.write_text(
            "".join(
                line + "\n" for line in path.read_text().splitlines() if not line.endswith(" 1")
            )
        )
    assert "those of train leave numbers out (3 identities up to 3)" in only(
        report(tmp_path, "msmt17").notes
    )


def test_own_data_and_cuhk03(tmp_path):
    trees.folder(tmp_path / "own")
    assert report(tmp_path / "own", "folder", instances=2).problems == []
    trees.cuhk03_mat(tmp_path / "cuhk03")
    assert report(tmp_path, "cuhk03-labeled", instances=2).problems == []


def test_training_photos_alone_are_worth_a_note(tmp_path):
    lines = trees.folder(tmp_path)
    (tmp_path / "images.csv").write_text(
        "\n".join(line for line in lines if "split" in line or "train" in line)
    )
    found = report(tmp_path, "folder", instances=2, batch_size=4)
    assert (
        not found.problems
        and any("nothing can be evaluated" in note for note in found.notes)
        and "12 x" not in str(found)
    )
    table = found.table.set_index("split")
    assert table["fewest"].tolist() == [2, 0, 0] and table["size"].tolist() == [
        "32 x 16",
        "- x -",
        "- x -",
    ]


def test_own_columns_may_have_the_name_of_what_is_found(tmp_path):
    lines = trees.folder(tmp_path)
    (tmp_path / "images.csv").write_text(
        "\n".join(
            [
                lines[0] + ",width,height,digest,error,turned,identity",
                *(line + ",1,2,3,4,5,6" for line in lines[1:]),
            ]
        )
    )
    found = report(tmp_path, "folder", instances=2)
    assert (
        not found.problems
        and set(found.images["width"]) == {16}
        and (found.images["error"] == "").all()
    )


def test_photos_that_only_some_turn(market):
    path = market / "query" / "0001_c1s1_000001_00.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (32, 16)).save(path, exif=exif)
    found = report(market)
    assert (
        "1 images are turned by their EXIF orientation" in only(found.notes)
        and found.table["size"].tolist() == ["32 x 16"] * 3
    )


def test_the_command_for_more_can_be_copied(tmp_path):
    root = tmp_path / "my photos"
    trees.market(root / "market1501")
    for path in (root / "market1501" / "query").iterdir():
        if "_c1" not in path.name:
            path.write_text("no image")
    shutil.copy(
        next((root / "market1501" / "query").glob("*_c1*")),
        root / "market1501" / "bounding_box_train" / "0002_c1s1_000005_00.jpg",
    )
    with pytest.raises(StudyError) as caught:
        report(root).require()
    assert f"preflight market1501 '{root}')" in str(caught.value)


def test_the_command_prints_a_table_and_ends_with_0_or_1(market, capsys):
    assert main(["market1501", str(market)]) == 0
    out = capsys.readouterr().out
    assert (
        "bounding" not in out
        and "train" in out
        and "gallery" in out
        and "0 problems" in out
        and "market1501" in out
    )
    next((market / "query").iterdir()).write_text("no image")
    assert main(["market1501", str(market.parent)]) == 1
    assert "PROBLEM" in capsys.readouterr().out


def test_the_command_names_what_cannot_be_loaded(tmp_path, capsys):
    trees.msmt17(tmp_path / "MSMT17")
    (tmp_path / "MSMT17" / "list_query.txt").unlink()
    assert main(["msmt17", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("PROBLEM: The list file") and out.count("\n") == 1
    trees.msmt17(tmp_path / "MSMT17")
    (tmp_path / "MSMT17" / "list_val.txt").unlink()
    assert (
        main(["msmt17", str(tmp_path)]) == 1
        and "list_val.txt is missing" in capsys.readouterr().out
    )
    assert (
        main(["msmt17", str(tmp_path), "--train-only"]) == 0
    )  # where it does not train, it is not needed


def test_it_runs_as_a_module(market):
    done = subprocess.run(
        [sys.executable, "-m", "posedive_lib.datasets.preflight", "market1501", str(market)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr and "31 images" in done.stdout


def test_images_that_are_not_read_are_counted_and_the_first_is_named(market):
    for path in sorted((market / "query").iterdir())[:3]:
        Image.open(path).save(path.with_suffix(".tif"))
        path.unlink()
    trees.paint(market / "bounding_box_train" / "0002" / "0002_c1s1_000001_00.jpg")
    text = only(report(market).problems)
    assert "4 images are there but not read (bounding_box_train/0002/" in text
    assert "directly in bounding_box_train" in text


def test_every_ending_that_pillow_knows_of_a_picture_is_one():
    Image.init()
    known = {end for end, kind in Image.registered_extensions().items() if kind in FORMATS}
    assert not known - PICTURES


@pytest.mark.parametrize("ending", ["", ".jpe", ".heif", ".JP2K", ".tga", ".pgm", ".qoi"])
def test_an_ending_of_few_pictures_or_none_is_no_way_to_vanish(market, ending):
    path = sorted((market / "query").iterdir())[0]
    path.rename(path.with_suffix(ending))
    (market / "query" / "README").write_text("no picture")
    (market / "query" / f"{path.name}.json").write_text("{}")
    text = only(report(market).problems)
    assert f"1 images are there but not read (query/{path.stem}{ending}): only files in" in text
    assert "convert, rename or move them" in text


def test_a_name_that_no_table_can_hold_is_named(market, capsys):
    path = sorted((market / "query").iterdir())[0]
    os.rename(path, os.fsencode(path.with_suffix("")) + b"_\xe9.jpg")
    said = r"query/0001_c1s1_000001_00_\\udce9.jpg' in .* is not in UTF-8: rename the file"
    with pytest.raises(StudyError, match=said):
        datasets.load("market1501", market)
    assert main(["market1501", str(market)]) == 1
    assert capsys.readouterr().out.startswith("PROBLEM: The name 'query/0001_c1s1")


def test_a_split_whose_images_all_lie_deeper_says_so(market):
    person = market / "query" / "0001"
    for path in sorted((market / "query").iterdir()):
        person.mkdir(exist_ok=True)
        path.rename(person / path.name)
    with pytest.raises(StudyError, match="6 are there but not read .query/0001/0001_c1"):
        datasets.load("market1501", market)


def test_linked_folders_are_followed_and_a_link_back_ends(market):
    people = market.parent / "people"
    trees.paint(people / "0002_c1s1_000001_00.webp")
    (market / "query" / "more").symlink_to(people)
    (people / "back").symlink_to(people)
    assert "1 images are there but not read (query/more/0002" in only(report(market).problems)


def test_unlisted_images_of_lists_and_tables_are_a_note(tmp_path):
    trees.msmt17(tmp_path / "a" / "MSMT17_V1")
    trees.paint(tmp_path / "a" / "MSMT17_V1" / "train" / "0009" / "x.jpg")
    found = report(tmp_path / "a", "msmt17")
    assert "1 images are there but not read (train/0009/x.jpg): no list" in only(found.notes)
    trees.folder(tmp_path / "b", extra="junk.png,-1,0,train,1\n")
    trees.paint(tmp_path / "b" / "junk.png")
    trees.paint(tmp_path / "b" / "new.png")
    notes = report(tmp_path / "b", "folder", instances=2, batch_size=4).notes
    assert "1 images are there but not read (new.png): they are not in images.csv" in notes[0]


def test_companion_files_are_skipped_and_counted(market):
    (market / "bounding_box_train" / "._0002_c1s1_000000_00.jpg").write_bytes(b"\0\5\x16\7")
    photo = "0001_c1s1_000001_00.jpg"
    folders = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "#recycle", "System Volume Information")
    for folder in folders:
        (market / "query" / folder).mkdir()
    for name in ("Thumbs.db", ".DS_Store", *(f"{folder}/{photo}" for folder in folders)):
        (market / "query" / name).write_bytes(b"x")
    found = report(market)
    assert not found.problems and "8 hidden files and files of file managers" in only(found.notes)


def test_cameras_count_from_1(market):
    trees.paint(market / "query" / "0001_c0s1_000001_00.jpg")
    with pytest.raises(StudyError, match="cameras count from 1"):
        datasets.load("market1501", market)


def test_names_that_do_not_print_are_escaped(market):
    odd = market / "query" / "0001_c1s1_000001_00\n\x1b[31m.jpg"
    odd.write_text("no image")
    text = only(report(market).problems)
    assert "\\n\\x1b[31m.jpg" in text
    (market / "query" / "\x07.jpg").write_text("no image")
    with pytest.raises(StudyError, match=r"from '\\x07.jpg' in"):
        datasets.load("market1501", market)


def test_a_terminal_that_lacks_a_character_still_gets_the_report(market):
    for path in (market / "bounding_box_train").glob("*_c2*"):
        path.unlink()
    done = subprocess.run(
        [sys.executable, "-m", "posedive_lib.datasets.preflight", "market1501", str(market)],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        check=False,
    )
    assert done.returncode == 0 and not done.stderr
    assert b"number them 1, 2, \\u2026." in done.stdout
