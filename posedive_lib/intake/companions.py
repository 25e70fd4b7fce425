"""Names of what file managers, archive tools and disks leave beside anybody's files."""

from pathlib import PurePath

# In lower case. @eaDir and #recycle are of Synology's disks, lost+found is Linux's, and
# $RECYCLE.BIN and System Volume Information are of Windows' disks.
COMPANIONS = {
    "#recycle",
    "$recycle.bin",
    "@eadir",
    "__macosx",
    "desktop.ini",
    "lost+found",
    "system volume information",
    "thumbs.db",
}


def is_companion(name: str) -> bool:
    """Whether a file or folder is hidden, or one that file managers leave beside photos."""
    return name.startswith(".") or name.lower() in COMPANIONS


def among_companions(path: PurePath) -> bool:
    """Whether a relative path is a companion's, or leads through one, such as a waste bin."""
    return any(is_companion(part) for part in path.parts)
