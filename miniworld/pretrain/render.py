"""Render the people that the models are trained on, in every pose and viewpoint.

Their identities appear in no data set.

Run: python -m miniworld.pretrain.render
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.lib.format import open_memmap
from tqdm import tqdm

from miniworld.cameras import sample_camera
from miniworld.photography import Shot, photograph
from miniworld.pretrain.common import settings
from miniworld.wardrobe import caption, sample_identities
from posedive_lib.body.poses import load_poses
from posedive_lib.params import load
from posedive_lib.seeds import rng_for

if TYPE_CHECKING:
    from miniworld.cameras import Camera
    from posedive_lib.body.poses import PoseSource

SHAPES = {"images": 3, "skeleton": 3, "depth": 1, "normals": 3, "neutral": 3}
NAMES = {"images": "image"}


def roles(config: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Role -> (persons, images each), training persons first."""
    return {
        "pretrain": (config["persons"], config["frames"]),
        "pretrain-test": (config["held_out"], config["held_out_frames"]),
    }


def cast(config: dict[str, Any], seed: int) -> pd.DataFrame:
    """Identities of both roles, training persons first."""
    return pd.concat(
        [sample_identities(role, count, seed) for role, (count, _) in roles(config).items()],
        ignore_index=True,
    )


def clip(
    person: int, frames: int, poses: PoseSource, camera: Camera, key: tuple[Any, ...]
) -> list[Shot]:
    """One person before one camera: a short video (§B, first phase), sampled at `frames` moments.

    The person turns once around, in another pose at each moment, while what stands behind drifts
    by a share of the scene that is the clip's own.
    """
    rng = rng_for(*key, "clip")
    turn = rng.choice([-1, 1]) * np.arange(frames) * 360 / frames
    azimuth = rng.uniform(-180, 180) + turn + rng.uniform(-6, 6, frames)
    elevation = np.clip(rng.uniform(0, 30) + rng.uniform(-4, 4, frames), 0, 30)
    fill = np.clip(rng.uniform(0.80, 0.90) + rng.uniform(-0.02, 0.02, frames), 0.78, 0.92)
    start, end, down = rng.uniform(0, 1, 3)
    across = np.linspace(start, end, frames)
    return [
        Shot(
            person,
            int(rng.integers(len(poses.frame))),
            azimuth=float((azimuth[i] + 180) % 360 - 180),
            elevation=float(elevation[i]),
            camera=camera,
            key=(*key, i, "photo"),
            fill=float(fill[i]),
            shift=(float(rng.normal(0, 0.01)), float(rng.normal(0, 0.012))),
            low_quality=bool(rng.random() < 0.04),
            window=(float(across[i]), float(down)),
        )
        for i in range(frames)
    ]


def plan(config: dict[str, Any], poses: PoseSource, seed: int) -> list[Shot]:
    """One clip of every person, each before a camera of its own, training persons first."""
    shots, offset = [], 0
    for role, (count, frames) in roles(config).items():
        for person in range(count):
            camera = sample_camera(f"{role}-{person}", 0.0, seed)
            key = (role, seed, person)
            shots += clip(person + offset, frames, poses, camera, key)
        offset += count
    return shots


def open_arrays(folder: Path, count: int, height: int, width: int) -> dict[str, np.memmap]:
    """Memory-mapped .npy files for `count` samples; those of that size go on being filled."""
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        name: ((count, height, width, channels), np.uint8) for name, channels in SHAPES.items()
    }
    shapes |= {
        "keypoints": ((count, 17, 2), np.float32),
        "visible": ((count, 17), np.int8),
        "person": ((count,), np.int32),
        "azimuth": ((count,), np.float32),
        "elevation": ((count,), np.float32),
    }
    arrays = {}
    for name, (shape, dtype) in shapes.items():
        path = folder / f"{name}.npy"
        fresh = not path.exists() or np.load(path, mmap_mode="r").shape != shape
        arrays[name] = open_memmap(path, "w+", dtype, shape) if fresh else open_memmap(path, "r+")
    return arrays


def main() -> None:
    """Render all people; a stopped run goes on where it was."""
    everything, study = settings(), load()
    config, seed = everything["people"], everything["seed"]
    folder = Path(everything["people_folder"])
    folder.mkdir(parents=True, exist_ok=True)
    identities = cast(config, seed)
    looks = identities.to_dict("records")
    poses = load_poses(study.paths.motions)
    shots = plan(config, poses, seed)
    arrays = open_arrays(folder, len(shots), study.image.height, study.image.width)
    progress = folder / "captions.partial"
    captions = progress.read_text().splitlines() if progress.exists() else []
    done = len(captions)
    photos = photograph(
        identities,
        poses,
        shots[done:],
        body=study.paths.body,
        height=study.image.height,
        width=study.image.width,
        focal=study.conditions.focal,
        depth_range=(study.conditions.depth_near, study.conditions.depth_far),
        workers=config["workers"],
    )
    bar = tqdm(photos, initial=done, total=len(shots), desc="render", mininterval=5)
    with progress.open("a") as file:
        for row, photo in enumerate(bar, done):
            for name, array in arrays.items():
                array[row] = shots[row].person if name == "person" else photo[NAMES.get(name, name)]
            captions.append(caption(looks[shots[row].person], photo["azimuth"]))
            file.write(captions[-1] + "\n")
            if row % 480 == 479:
                for array in arrays.values():
                    array.flush()
                file.flush()
    for array in arrays.values():
        array.flush()
    (folder / "captions.json").write_text(json.dumps(captions))


if __name__ == "__main__":
    main()
