"""What is written is written whole: a stop or a full disk leaves the last good file or folder."""

import os
import subprocess

import pytest

from posedive_lib import writing as writers
from posedive_lib.errors import StudyError
from posedive_lib.writing import replacing, replacing_folder, writing


def test_a_file_is_replaced_when_the_block_ends_well(tmp_path):
    path = tmp_path / "new/file.txt"
    for content in ("first", "second"):
        with replacing(path) as draft:
            draft.write_text(content)
            assert draft.parent == path.parent and draft.name != path.name
        assert path.read_text() == content and os.listdir(path.parent) == ["file.txt"]


@pytest.mark.parametrize(
    "stop, raised",
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(28, "No space left on device"), StudyError),
    ],
)
def test_the_last_good_file_stays(tmp_path, stop, raised):
    path = tmp_path / "file.txt"
    path.write_text("good")
    with pytest.raises(raised), replacing(path) as draft:
        draft.write_text("half")
        raise stop
    assert path.read_text() == "good" and os.listdir(tmp_path) == ["file.txt"]


def test_what_cannot_be_written_is_named_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with (
        pytest.raises(
            StudyError,
            match="file/below.txt cannot be written .*: free space or choose a writable folder",
        ),
        replacing(tmp_path / "file/below.txt"),
    ):
        pass
    with (
        pytest.raises(StudyError, match="/dev/full cannot be written .No space left on device."),
        writing("/dev/full"),
        open("/dev/full", "w") as file,
    ):
        file.write("x")


@pytest.mark.parametrize("fails", [1, 2])
def test_a_folder_stays_where_its_replacement_fails(tmp_path, monkeypatch, fails):
    """At either of the two renames; the next call puts back what stopped between them."""
    folder, calls, rename = tmp_path / "generator", [], os.replace
    folder.mkdir()
    (folder / "weights").write_text("good")

    def sometimes(source, target):
        calls.append(source)
        if len(calls) == fails:
            raise OSError(5, "Input/output error")
        rename(source, target)

    with (
        monkeypatch.context() as patch,
        pytest.raises(StudyError, match="generator cannot be written .Input/output error."),
        replacing_folder(folder) as draft,
    ):
        (draft / "weights").write_text("new")
        patch.setattr(os, "replace", sometimes)
    assert (folder / "weights").read_text() == "good" and os.listdir(tmp_path) == ["generator"]
    folder.rename(tmp_path / ".generator.old")  # as a kill between the renames leaves it
    with pytest.raises(ZeroDivisionError), replacing_folder(folder):
        raise ZeroDivisionError
    assert (folder / "weights").read_text() == "good" and os.listdir(tmp_path) == ["generator"]


def test_drafts_of_killed_processes_are_removed_and_those_of_running_ones_stay(tmp_path):
    folder = tmp_path / "images"
    killed = subprocess.Popen(["true"])
    killed.wait()
    for process in (killed.pid, os.getppid()):
        (tmp_path / f".images.{writers._host()}.{process}.new").mkdir()
    with replacing_folder(folder) as draft:
        (draft / "photo").write_text("new")
    assert sorted(os.listdir(tmp_path)) == sorted(
        [f".images.{writers._host()}.{os.getppid()}.new", "images"]
    )


def test_a_folder_that_another_process_has_made_meanwhile_is_kept(tmp_path):
    folder = tmp_path / "images"
    with replacing_folder(folder, keep=True) as draft:
        (draft / "photo").write_text("ours")
        folder.mkdir()
        (folder / "photo").write_text("theirs")
    assert (folder / "photo").read_text() == "theirs" and os.listdir(tmp_path) == ["images"]


def test_a_draft_of_another_machine_is_left_alone(tmp_path, monkeypatch):
    """Its process may have a number that no process has here."""
    path = tmp_path / "file.txt"
    with monkeypatch.context() as there, replacing(path) as draft:
        draft.write_text("theirs")
        there.setattr(writers, "_host", lambda: "other")
        with replacing(path) as other:
            other.write_text("ours")
        assert other != draft and draft.read_text() == "theirs"
    assert path.read_text() == "theirs" and os.listdir(tmp_path) == ["file.txt"]


def test_a_linked_folder_is_replaced_where_it_lies_and_the_link_stays(tmp_path):
    disk, link = tmp_path / "disk/bodies", tmp_path / "build/bodies"
    disk.mkdir(parents=True)
    link.parent.mkdir()
    link.symlink_to(disk)
    for name in ("first", "second"):
        with replacing_folder(link) as draft:
            assert draft.parent == disk.parent
            (draft / name).write_text(name)
        assert link.is_symlink() and os.listdir(disk) == [name]
    assert os.listdir(link.parent) == ["bodies"] == os.listdir(disk.parent)


@pytest.mark.parametrize("linked, path", [("out", "out"), ("out", "out/below"), ("f", "f")])
@pytest.mark.parametrize("write", [replacing, replacing_folder])
def test_a_link_that_leads_nowhere_is_no_place_to_write(tmp_path, write, linked, path):
    """Its disk is not mounted; what is written in its place would lie on another one."""
    (tmp_path / linked).symlink_to(tmp_path / "not-mounted/out")
    with (
        pytest.raises(StudyError, match=f"{linked} is a link that leads nowhere .*: mount its"),
        write(tmp_path / path),
    ):
        pytest.fail("too late")
    assert (tmp_path / linked).is_symlink() and os.listdir(tmp_path) == [linked]


def test_the_top_folder_of_a_disk_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path)
    with pytest.raises(StudyError, match="is the top folder of a disk"), replacing_folder(tmp_path):
        pytest.fail("too late")
