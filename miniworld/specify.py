"""Write the tracked inputs of the mini world: body, motions, identities and cameras.

    python -m miniworld.specify FOLDER

A file that is there already with another content is left alone, and named.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import pandas as pd

from miniworld.body import write_body
from miniworld.cameras import sample_camera, write_cameras
from miniworld.motions import write_motions
from miniworld.wardrobe import caption, sample_identities
from posedive_lib.errors import StudyError, command
from posedive_lib.writing import replacing

PEOPLE = {
    "market1501-train": 120,
    "market1501-test": 120,
    "market1501-distractor": 120,
    "msmt17-train": 200,
    "msmt17-test": 200,
    "cuhk03-train": 100,
    "cuhk03-test": 100,
}

# Mean azimuth (degrees) from which each camera sees people: mostly frontal, as entrances and
# corridors are filmed.
CAMERAS = {
    "market1501": [0, 20, -35, 85, -125, 175],
    "msmt17": [0, 12, -15, 28, -30, 45, -48, 70, -85, 105, -115, 140, -150, 180, 165],
    "cuhk03": [10, 75],
}
# How far the cameras' colours differ. With more, Re-ID training mainly learns to see past the
# cameras, and views matter little.
VARIETY = 0.4


def write_world(folder: Path, seed: int = 0) -> None:
    """identities.csv (a row per person, with a description) and cameras.json."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [sample_identities(role, count, seed) for role, count in PEOPLE.items()]
    people = pd.concat(parts, ignore_index=True)
    people["description"] = [caption(row, 0) for row in people.to_dict("records")]
    people.to_csv(folder / "identities.csv", index=False)
    cameras = {
        name: [
            sample_camera(f"{name}-{i}", azimuth, seed, variety=VARIETY)
            for i, azimuth in enumerate(means)
        ]
        for name, means in CAMERAS.items()
    }
    write_cameras(folder / "cameras.json", cameras)


def write_inputs(root: Path) -> int:
    """Write the inputs that are missing below a folder; returns how many.

    StudyError that names those that have another content: they may be the user's own, such as a
    real SMPL file in the body's place.
    """
    with tempfile.TemporaryDirectory() as draft:
        write_body(Path(draft) / "body" / "SMPL_NEUTRAL.npz")
        write_motions(Path(draft) / "motions")
        write_world(Path(draft) / "world")
        made = [path for path in sorted(Path(draft).rglob("*")) if path.is_file()]
        content = {root / path.relative_to(draft): path.read_bytes() for path in made}
    missing = [path for path in content if not path.exists()]
    for path in missing:
        with replacing(path) as part:
            part.write_bytes(content[path])
    other = [str(path) for path in content if path.read_bytes() != content[path]]
    if other:
        raise StudyError(
            f"{', '.join(other)}: another content is there already and was left alone; "
            "name another folder, or move it away."
        )
    return len(missing)


@command()
def main(arguments: list[str] | None = None) -> int:
    """Write the inputs below a folder. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m miniworld.specify",
        description="Write the mini world's body, motions, people and cameras, where missing.",
    )
    parser.add_argument("folder", nargs="?", default="data", help="default: %(default)s")
    folder = parser.parse_args(arguments).folder
    written = write_inputs(Path(folder))
    print(f"{written} files of body, motions and world written below {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
