"""Render the people the models are trained on: identities that appear in no data set, in every pose and viewpoint.

Run: python -m miniworld.pretrain.render
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.lib.format import open_memmap
from tqdm import tqdm

from miniworld.cameras import sample_camera
from miniworld.photography import Shot, free_shots, photograph
from miniworld.pretrain.common import settings
from miniworld.wardrobe import caption, sample_identities
from posedive_lib.body.poses import load_poses
from posedive_lib.params import load

SHAPES = {"images": 3, "skeleton": 3, "depth": 1, "normals": 3, "neutral": 3}
NAMES = {"images": "image"}


def roles(config: dict) -> dict[str, tuple[int, int]]:
    """Role -> (persons, images each), training persons first."""
    return {
        "pretrain": (config["persons"], config["images_per_person"]),
        "pretrain-test": (config["held_out"], config["held_out_images"]),
    }


def cast(config: dict, seed: int) -> pd.DataFrame:
    """Identities of both roles, training persons first."""
    return pd.concat(
        [sample_identities(role, count, seed) for role, (count, _) in roles(config).items()],
        ignore_index=True,
    )


def plan(config: dict, poses, seed: int) -> list[Shot]:
    """Shots of every person before cameras of their own, training persons first."""
    cameras = [sample_camera(f"pretrain-{i}", 0.0, seed) for i in range(config["cameras"])]
    shots, offset = [], 0
    for role, (count, each) in roles(config).items():
        for shot in free_shots(count, poses, cameras, each, (role, seed)):
            shots.append(replace(shot, person=shot.person + offset))
        offset += count
    return shots


def open_arrays(folder: Path, count: int, height: int, width: int) -> dict[str, np.ndarray]:
    """Memory-mapped .npy files for `count` samples; existing ones of that size go on being filled."""
    shapes = {
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
    everything, study = settings(), load()
    config, seed, folder = (
        everything["people"],
        everything["seed"],
        Path(everything["people_folder"]),
    )
    folder.mkdir(parents=True, exist_ok=True)
    identities = cast(config, seed)
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
    with progress.open("a") as file:
        for row, photo in enumerate(
            tqdm(photos, initial=done, total=len(shots), desc="render", mininterval=5), done
        ):
            for name, array in arrays.items():
                array[row] = shots[row].person if name == "person" else photo[NAMES.get(name, name)]
            captions.append(caption(identities.iloc[shots[row].person], photo["azimuth"]))
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
