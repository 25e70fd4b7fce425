"""Switch to a ready-made study: what changes is shown, and the parameters before it are kept.

    python -m posedive_lib.params.profile paper

Copies params/NAME.yaml over params.yaml; the old file becomes params.yaml.1.bak, or .2.bak and so
on. Nothing is written where nothing would change.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from posedive_lib.errors import StudyError, command
from posedive_lib.params.reading import load
from posedive_lib.writing import replacing, writing

PROFILES, ACTIVE = Path("params"), Path("params.yaml")
REPORTS = "The next `make repro` writes its results to {}; `git checkout -- {}` brings {} back."


def switch(name: str) -> list[str]:
    """Make the profile `name` the active parameters. Returns what was done, line by line.

    StudyError for an unknown or a faulty profile, before anything is written.
    """
    source = PROFILES / f"{name}.yaml"
    known = sorted(path.stem for path in PROFILES.glob("*.yaml"))
    if name not in known:
        listed = ", ".join(known) or "none here: go to the repository's root"
        raise StudyError(f"There is no profile {name!r}; there are: {listed}.")
    new = load(source).model_dump()
    if ACTIVE.is_dir():
        raise StudyError(f"{ACTIVE} is a folder: move it, for the parameters come there.")
    if not ACTIVE.exists():
        return [_put(source), _results(new)]
    if ACTIVE.read_bytes() == source.read_bytes():
        return [f"{ACTIVE} is {source} already."]
    try:
        said = list(changes(load(ACTIVE).model_dump(), new)) or ["No value changes, comments do."]
    except StudyError as error:  # whatever is wrong there is being replaced
        said = [f"The parameters until now were faulty: {error}"]
    return [*said, f"{_keep()} keeps the parameters until now.", _put(source), _results(new)]


def _results(values: dict[str, Any]) -> str:
    """Where the results of a study with these parameters will be, and how to get the old ones."""
    where = values["paths"]["reports"]
    if where == "reports":
        return REPORTS.format(where, "reports dvc.lock", "the committed ones")
    return REPORTS.format(where, "dvc.lock", "the committed state of the pipeline")


def changes(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """One line, "dotted.key: old -> new", for each value that differs."""
    for key, value in new.items():
        before, dotted = old[key], f"{prefix}{key}"
        if isinstance(value, dict):
            yield from changes(before, value, f"{dotted}.")
        elif before != value:
            yield f"{dotted}: {before} -> {value}"


def _keep() -> Path:
    """Copy the active parameters to the first backup that is free; returns its path."""
    number = 1
    while True:
        backup = ACTIVE.with_name(f"{ACTIVE.name}.{number}.bak")
        try:
            with writing(backup), open(backup, "xb") as file:
                file.write(ACTIVE.read_bytes())
            return backup
        except StudyError as error:
            if not isinstance(error.__cause__, FileExistsError):
                raise
            number += 1


def _put(source: Path) -> str:
    with replacing(ACTIVE) as draft:
        draft.write_bytes(source.read_bytes())
    return f"{ACTIVE} is now {source}."


@command()
def main(arguments: list[str] | None = None) -> int:
    """The command. Returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m posedive_lib.params.profile", description="Switch to a ready-made study."
    )
    parser.add_argument("name", help="such as smoke, mini or paper")
    print(*switch(parser.parse_args(arguments).name), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
