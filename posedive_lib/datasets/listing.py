"""Which files of a folder are images of a data set."""

from collections.abc import Container
from pathlib import Path

from posedive_lib.intake.companions import is_companion


def image_names(folder: Path, suffixes: Container[str]) -> list[str]:
    """Names of the images directly in `folder`, sorted so that every machine sees the same.

    suffixes: lower-case endings, such as ".jpg".
    """
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.suffix.lower() in suffixes and not is_companion(entry.name)
    )
