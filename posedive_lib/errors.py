"""Errors that a user of the study can mend, and how its commands end."""

import functools
import sys
from collections.abc import Callable
from typing import Any


class StudyError(ValueError):
    """One clear sentence: what is wrong, where, and how to mend it."""


def command(stopped: str = "Stopped.") -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Decorator for the `main` of a command, which returns its exit status.

    A StudyError becomes its sentence on stderr and status 2, Ctrl-C the sentence `stopped` and
    status 130. Characters that the terminal's encoding lacks are printed as escapes.
    """

    def decorate(main: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(main)
        def ended(*arguments: Any, **options: Any) -> int:
            for stream in (sys.stdout, sys.stderr):
                if hasattr(stream, "reconfigure"):  # a notebook's streams cannot be, and need not
                    stream.reconfigure(errors="backslashreplace")
            try:
                return main(*arguments, **options)
            except StudyError as error:
                print(error, file=sys.stderr)
                return 2
            except KeyboardInterrupt:
                # A line of its own, behind the terminal's ^C.
                print(f"\n{stopped}", file=sys.stderr)
                return 130

        return ended

    return decorate


def why_unreadable(error: Exception) -> str | None:
    """How to mend a file or folder that is there but may not be read; None for other errors."""
    if isinstance(error, PermissionError):
        return f"cannot be read ({error.strerror or 'Permission denied'}): make it readable"
    return None
