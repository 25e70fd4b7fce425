"""Files and folders that a user names."""

from pathlib import Path

from posedive_lib.errors import unreadable


def resolved(path: str | Path) -> Path:
    """The place that a path leads to: `~` is the home of a user, and links are followed.

    StudyError for links that lead in a circle, and for a user who is not known.
    """
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise unreadable(path, error, "leads nowhere", "name another place") from None
