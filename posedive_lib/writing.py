"""Files that are written whole or not at all, and one sentence where they cannot be."""

import fcntl
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from posedive_lib.errors import StudyError


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """A place that cannot be written, or a full disk, becomes a StudyError that names `path`.

    So does, before anything is written, a link on the way to `path` that leads nowhere: a new file
    in its place would end on another disk than the one that was meant.
    """
    try:
        _refuse_loose_links(Path(path))
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, shutil.Error):  # a copied folder's, which lists every file
            reason = error.args[0][0][-1]
        mend = "free space or choose a writable folder"
        if isinstance(error, FileNotFoundError) and error.filename:
            reason = f"{reason}: {error.filename}"
            mend = "something was removed meanwhile; put it back, or start again"
        raise StudyError(f"{path} cannot be written ({reason}): {mend}") from error


def _refuse_loose_links(path: Path) -> None:
    for place in (path, *path.parents):
        if place.is_symlink() and not place.exists():
            raise StudyError(
                f"{place} is a link that leads nowhere ({os.readlink(place)}): mount its disk, or "
                "remove the link."
            )


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a draft beside `path`, which takes its place when the block ends well.

    A kill or a full disk leaves the last good file. Makes the folder where there is none. The
    draft's name is this process's own, so that several may write the same file, also on several
    machines.
    """
    path = Path(path)
    draft = path.with_name(f".{path.name}.{_host()}.{os.getpid()}")
    with writing(path):
        _remove_drafts(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield draft
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)  # gone already when all went well


@contextmanager
def replacing_folder(path: str | Path, *, keep: bool = False) -> Iterator[Path]:
    """Yields a new folder beside `path`, which takes its place when the block ends well.

    keep: a folder that another process has put there meanwhile stays, and this one is dropped.
    A kill or a full disk leaves the old folder whole. If a kill falls between the two renames, the
    next call puts the old folder back first. The draft's name is this process's own. A link stays,
    and the folder that it leads to is replaced. StudyError where that is a disk's own folder.
    """
    path = Path(path)
    if os.path.islink(path) and os.path.exists(path):
        path = path.resolve()  # the draft must lie on the disk that the link leads to
    if os.path.ismount(path):
        raise StudyError(
            f"{path} is the top folder of a disk, which cannot be replaced: name one below it."
        )
    draft, old = (
        path.with_name(f".{path.name}.{_host()}.{os.getpid()}.new"),
        path.with_name(f".{path.name}.old"),
    )
    with writing(path):
        _put_back(old, path)
        _remove_drafts(path)
        try:
            draft.mkdir(parents=True)
            yield draft
            if keep and path.is_dir():
                return
            if path.exists():
                os.replace(path, old)
            os.replace(draft, path)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
            _put_back(old, path)


@contextmanager
def alone_in(folder: str | Path, doing: str, *, first: bool = True) -> Iterator[None]:
    """Make a folder and hold its lock, which the system releases when the process ends.

    StudyError where another run holds it. first: False in all processes of one launch but one.
    """
    folder = Path(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    with lock:
        if first:
            _take(lock.fileno(), f"Another run is {doing} in {folder}")
        yield


def _take(lock: int, other: str) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StudyError(f"{other}: wait for its end, or choose another folder") from None
    except OSError:
        pass  # a file system without locks


def _put_back(old: Path, path: Path) -> None:
    """Undo half a replacement; forget the old folder after a whole one."""
    if old.exists() and not path.exists():
        os.replace(old, path)
    shutil.rmtree(old, ignore_errors=True)


def _host() -> str:
    """This machine's name: processes of several machines may have one number."""
    return socket.gethostname().partition(".")[0]


def _remove_drafts(path: Path) -> None:
    """Remove drafts of `path` that this process or a killed one of this machine has left."""
    pattern = re.compile(re.escape(f".{path.name}.{_host()}.") + r"(\d+)(\.new)?")
    for name in os.listdir(path.parent) if path.parent.is_dir() else ():
        match = pattern.fullmatch(name)
        if not match or (_runs(int(match[1])) and int(match[1]) != os.getpid()):
            continue
        if match[2]:
            shutil.rmtree(path.with_name(name), ignore_errors=True)
        else:
            path.with_name(name).unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        return True
    return True


def placed(text: str, name: str, block: str) -> str:
    """A page with a block between its markers. StudyError where a marker is missing."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise StudyError(f"The page lacks the lines {begin} and {end}: put them where it goes.")
    return f"{before}{begin}\n{block}\n{end}{after}"
