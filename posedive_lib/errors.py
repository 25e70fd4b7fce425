"""Errors that a user of the study can mend, and how its commands end."""

import errno
import functools
import os
import select
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

LFS_POINTER = b"version https://git-lfs"  # how the small files begin that stand for large ones


class StudyError(ValueError):
    """One clear sentence: what is wrong, where, and how to mend it."""


def command(stopped: str = "Stopped.") -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Decorator for the `main` of a command, which returns its exit status.

    A StudyError becomes its sentence on stderr and status 2, full memory, a full disk or a missing
    permission likewise. Where nobody reads the output any more, as with `| head`, it ends with
    status 141. Ctrl-C becomes the sentence `stopped` and status 130. Characters that the terminal's
    encoding lacks are printed as escapes.
    """

    def decorate(main: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(main)
        def ended(*arguments: Any, **options: Any) -> int:
            for stream in (sys.stdout, sys.stderr):
                if hasattr(stream, "reconfigure"):  # a notebook's streams cannot be, and need not
                    stream.reconfigure(errors="backslashreplace")
            try:
                status = main(*arguments, **options)
                sys.stdout.flush()  # here, where a closed pipe is caught
                return status
            except StudyError as error:
                print(error, file=sys.stderr)
                return 2
            except BrokenPipeError:
                if not _unread():
                    raise  # a pipe to another process of ours
                return 141  # as the shell has it: 128 + SIGPIPE
            except (MemoryError, RuntimeError, OSError) as error:
                said = _full(error)
                if isinstance(error, PermissionError) and error.filename:
                    said = str(unreadable(error.filename, error, "", ""))
                if not said:
                    raise
                print(said, file=sys.stderr)
                return 2
            except KeyboardInterrupt:
                # A line of its own, behind the terminal's ^C.
                print(f"\n{stopped}", file=sys.stderr)
                return 130

        return ended

    return decorate


def _unread() -> bool:
    """Whether nobody reads the standard output any more; then the rest of it goes nowhere.

    Python would complain once more at its end.
    """
    try:
        output = sys.stdout.fileno()
    except OSError:  # as in a notebook
        return False
    poll = select.poll()
    poll.register(output, 0)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


def _full(error: Exception) -> str | None:
    """The sentence about an error for want of memory or space; None for any other error."""
    text = str(error).lower()  # PyTorch's errors have no type of their own
    if isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text:
        return (
            f"The memory is full ({' '.join(str(error).split()) or 'MemoryError'}): free some, or "
            "set smaller batches or fewer workers, and start again; finished work is kept."
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"{error.filename or 'The disk'} cannot be written ({error.strerror}): free space, and "
            "start again; finished work is kept."
        )
    return None


def unreadable(path: object, error: Exception, what: str, mend: str) -> StudyError:
    """The error about a file or folder that could not be read: `path what (reason): mend.`

    A missing permission has a sentence of its own, because the file itself is not at fault.
    """
    if isinstance(error, PermissionError):
        return StudyError(
            f"{shown(path)} cannot be read ({error.strerror or 'Permission denied'}): "
            "make it readable."
        )
    reason = str(getattr(error, "strerror", None) or error).replace("\n", " ")
    return StudyError(f"{shown(path)} {what} ({reason}): {mend}.")


def require_readable(path: str | Path) -> None:
    """StudyError if a file, or one directly in a folder, may not be read or is a git-lfs pointer.

    For libraries that take such a file for a missing or a damaged one.
    """
    path = Path(path)
    try:
        for file in path.iterdir() if is_folder(path) else (path,):
            if not file.is_file():
                continue
            with file.open("rb") as stream:
                if stream.read(len(LFS_POINTER)) == LFS_POINTER:
                    raise StudyError(
                        f"{shown(file)} is a git-lfs pointer, not the file itself: "
                        "run `git lfs pull` in its repository."
                    )
    except PermissionError as error:
        raise unreadable(error.filename or path, error, "", "") from None


def is_folder(path: str | Path) -> bool:
    """Whether a folder is there. StudyError where a folder above it may not be entered.

    `Path.is_dir` has an error of its own for that, or says no, depending on the version of Python.
    """
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except PermissionError as error:
        raise unreadable(path, error, "", "") from None
    except (OSError, ValueError):  # nothing is there, or no file may have this name
        return False


def require_utf8(name: str | Path, folder: str | Path) -> None:
    """StudyError for a name, relative to `folder`, that is not UTF-8: no table can hold it."""
    try:
        str(name).encode()
    except UnicodeEncodeError:
        raise StudyError(
            f"The name {shown(name)} in {shown(folder)} is not in UTF-8: rename the file or its "
            "folder, for all such names with `convmv -r -f latin1 -t utf8 --notest FOLDER`."
        ) from None


def shown(name: object) -> str:
    """A name for a message: as it is, or with escapes where it does not print on one line."""
    text = str(name)
    return text if text.isprintable() else repr(text)
