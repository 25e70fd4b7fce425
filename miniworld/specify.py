"""Write the tracked inputs of the mini world: body, motions, identities and cameras.

python -m miniworld.specify data
"""

import sys
from pathlib import Path

import pandas as pd

from miniworld.body import write_body
from miniworld.cameras import sample_camera, write_cameras
from miniworld.motions import write_motions
from miniworld.wardrobe import caption, sample_identities

PEOPLE = {
    "market1501-train": 120,
    "market1501-test": 120,
    "market1501-distractor": 120,
    "msmt17-train": 200,
    "msmt17-test": 200,
    "cuhk03-train": 100,
    "cuhk03-test": 100,
}

# Mean azimuth (degrees) from which each camera sees people: mostly frontal, as entrances and corridors are filmed.
CAMERAS = {
    "market1501": [0, 20, -35, 85, -125, 175],
    "msmt17": [0, 12, -15, 28, -30, 45, -48, 70, -85, 105, -115, 140, -150, 180, 165],
    "cuhk03": [10, 75],
}
VARIETY = 0.4  # of their colours: with more, Re-ID training mainly learns to see past the cameras, and views matter little


def write_world(folder: Path, seed: int = 0) -> None:
    """identities.csv (one row per person, with a description) and cameras.json (a list of cameras per data set)."""
    folder.mkdir(parents=True, exist_ok=True)
    people = pd.concat(
        [sample_identities(role, count, seed) for role, count in PEOPLE.items()], ignore_index=True
    )
    people["description"] = [caption(row, 0) for row in people.to_dict("records")]
    people.to_csv(folder / "identities.csv", index=False)
    write_cameras(
        folder / "cameras.json",
        {
            name: [
                sample_camera(f"{name}-{i}", azimuth, seed, variety=VARIETY)
                for i, azimuth in enumerate(means)
            ]
            for name, means in CAMERAS.items()
        },
    )


def main(folder: str = "data") -> None:
    root = Path(folder)
    write_body(root / "body" / "SMPL_NEUTRAL.npz")
    write_motions(root / "motions")
    write_world(root / "world")
    print(f"wrote body, motions and world below {root}")


if __name__ == "__main__":
    main(*sys.argv[1:])
