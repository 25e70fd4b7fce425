"""Digests of models, which are folders or copies of the hub's."""

from __future__ import annotations

import re
from pathlib import Path

from posedive_lib.digests import folder_digest

COMMIT = re.compile("[0-9a-f]{40}")


def model_digest(source: str | Path, revision: str | None = None) -> str:
    """SHA-256 of a folder's files; of a hub id, or its folder in the cache, the commit.

    revision: as in `local_folder`. StudyError where there is neither a folder nor a model.
    """
    folder = Path(source)
    if not folder.is_dir():
        from posedive_lib.weights import local_folder  # PyTorch takes a second to load

        folder = local_folder(source, revision)
    # The hub's cache has a folder for each commit. Files may come to it, but none ever changes.
    cached = folder.parent.name == "snapshots" and COMMIT.fullmatch(folder.name)
    return folder.name if cached else folder_digest(folder)


def published_digests(source: str | Path) -> list[str]:
    """`model_digest` of every folder that determines what a Re-ID model starts from.

    source: as of `weights.load_clip` and `weights.load_resnet`.
    """
    from posedive_lib.weights import published_folders

    return [model_digest(folder) for folder in published_folders(source)]
