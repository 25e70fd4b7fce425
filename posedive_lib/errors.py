"""Errors that a user of the study can mend, and how its commands end."""

import functools
import sys
from collections.abc import Callable


class StudyError(ValueError):
    """One clear sentence: what is wrong, where, and how to mend it."""


def command(stopped: str = "Stopped.") -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Decorates the `main` of a command, which returns its exit status: a StudyError becomes its sentence on stderr and status 2, Ctrl-C the
    sentence `stopped` and status 130."""

    def decorate(main: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(main)
        def ended(*arguments, **options) -> int:
            try:
                return main(*arguments, **options)
            except StudyError as error:
                print(error, file=sys.stderr)
                return 2
            except KeyboardInterrupt:
                print(
                    f"\n{stopped}", file=sys.stderr
                )  # a line of its own, behind the terminal's ^C
                return 130

        return ended

    return decorate
