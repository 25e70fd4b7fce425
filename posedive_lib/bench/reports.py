"""Where a study's figures, tables and pages go: `paths.reports`.

The repository's own `reports/` are committed, and hold the mini world's results. Reports of other
data never go there, nor to any place that git may track: they show real people.
"""

import os
from pathlib import Path

from posedive_lib.datasets.table import RENDERED
from posedive_lib.errors import StudyError
from posedive_lib.intake.companions import is_companion
from posedive_lib.intake.settings import read_yaml
from posedive_lib.places import BUILD
from posedive_lib.places import REPORTS as DEFAULT

VARIABLE = "POSE_DIVE_REPORTS"  # tells a notebook's kernel, which may have another parameter file


def folder(params_file: str | Path = "params.yaml") -> Path:
    """`paths.reports` of the study that runs here.

    StudyError where own data would be shown in a place that git may track.
    """
    if VARIABLE in os.environ:
        return Path(os.environ[VARIABLE])
    if not Path(params_file).is_file():
        return DEFAULT
    values = read_yaml(params_file, "copy params/mini.yaml there to start again")
    paths = values.get("paths")
    if not isinstance(paths, dict) or "reports" not in paths:
        return DEFAULT
    wanted = Path(str(paths["reports"]))
    if own_data(str(paths.get("datasets"))) and not _untracked(wanted):
        raise StudyError(
            f"{params_file}: paths.reports is {wanted}, but the data sets in "
            f"{paths.get('datasets')} are your own, and pictures of people must not come into git: "
            f"name a folder below {BUILD}/ or outside of this one, such as {BUILD}/reports."
        )
    return wanted


def own_data(datasets: str | Path) -> bool:
    """Whether the folder of data sets holds anything that the mini world did not render."""
    root = Path(datasets)
    shown = _visible(root)
    if not shown:
        return not root.resolve().is_relative_to(BUILD.resolve())
    return not all(map(_rendered, shown))


def _visible(folder: Path) -> list[Path]:
    """What a folder holds but for companions of other files, [] where there is none."""
    entries = folder.iterdir() if folder.is_dir() else ()
    return [entry for entry in entries if not is_companion(entry.name)]


def _rendered(folder: Path) -> bool:
    """Whether the mini world made a data set, or both of CUHK03, which lie in one folder."""
    parts = _visible(folder)
    of_parts = bool(parts) and all((part / RENDERED).is_file() for part in parts)
    return (folder / RENDERED).is_file() or of_parts


def _untracked(path: Path) -> bool:
    """Whether a folder lies below `build/` or outside of the repository, links followed."""
    there = path.resolve()
    return there.is_relative_to(BUILD.resolve()) or not there.is_relative_to(Path.cwd().resolve())
