"""Digests of models, which are folders or copies of the hub's."""

from __future__ import annotations

from pathlib import Path

from posedive_lib.digests import folder_digest


def model_digest(source: str | Path, revision: str | None = None) -> str:
    """SHA-256 of a folder's files; of a hub id the commit of its local copy.

    revision: as in `local_folder`. StudyError where there is neither a folder nor a model.
    """
    if Path(source).is_dir():
        return folder_digest(source)
    from posedive_lib.weights import local_folder  # PyTorch takes a second to load

    folder = local_folder(source, revision)
    # The hub's cache has a folder for each commit. Files may come to it, but none ever changes.
    return folder.name if folder.parent.name == "snapshots" else folder_digest(folder)
