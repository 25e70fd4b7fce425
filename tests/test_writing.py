"""What is written is written whole: a stop or a full disk leaves the last good file or folder."""

import os

import pytest

from posedive_lib.errors import StudyError
from posedive_lib.generator.folders import replaced_folder
from posedive_lib.writing import replacing, writing


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
    """At either of the two renames; and one that was stopped between them is put back by the next call."""
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
        replaced_folder(folder) as draft,
    ):
        (draft / "weights").write_text("new")
        patch.setattr(os, "replace", sometimes)
    assert (folder / "weights").read_text() == "good" and os.listdir(tmp_path) == ["generator"]
    folder.rename(tmp_path / "generator.old")  # as a kill between the renames leaves it
    with pytest.raises(ZeroDivisionError), replaced_folder(folder):
        1 / 0
    assert (folder / "weights").read_text() == "good" and os.listdir(tmp_path) == ["generator"]
