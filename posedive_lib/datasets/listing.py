"""Which files of a folder are images of a data set."""

from collections.abc import Container
from pathlib import Path

COMPANIONS = {"thumbs.db", "desktop.ini", "__macosx"}


def is_companion(name: str) -> bool:
    """Whether a file or folder is hidden, or one that file managers leave beside photos."""
    return name.startswith(".") or name.lower() in COMPANIONS


def image_names(folder: Path, suffixes: Container[str]) -> list[str]:
    """Names of the images directly in `folder`, sorted so that every machine sees the same.

    suffixes: lower-case endings, such as ".jpg".
    """
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.suffix.lower() in suffixes and not is_companion(entry.name)
    )
