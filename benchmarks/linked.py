"""Data of true size that takes no space: MSMT17 and AMASS, of hard links to a few small files."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from posedive_lib.body.camera import orient
from posedive_lib.body.poses import load_poses
from posedive_lib.body.table import BodyTable

TRAIN, VAL, QUERY, GALLERY = 32_621, 2_373, 11_659, 82_161  # val is a part of train
IMAGES = TRAIN + QUERY + GALLERY
PEOPLE = {"train": 1041, "test": 3060}
CAMERAS = 15
FRAMES, MOTIONS = 1200, 15_000  # of a motion, and motions, about as in AMASS
AMASS = FRAMES * MOTIONS
PICTURES = 400  # of each side and kind: a file may have 65,000 links


def msmt17(root: Path, share: float, motions: Path) -> None:
    """`MSMT17_V1` below `root` with a share of MSMT17's photos, and a body for each.

    Training, queries and gallery show different pictures. Poses are those of `motions`.
    """
    folder, rng = root / "MSMT17_V1", np.random.default_rng(0)
    rels: list[str] = []
    for kind, whole in {"train": TRAIN, "query": QUERY, "gallery": GALLERY}.items():
        side = "train" if kind == "train" else "test"
        people = max(4, round(PEOPLE[side] * share))
        pids = np.sort(np.arange(round(whole * share)) % people)
        pictures = _pictures(root / f"pictures-{kind}", rng)
        lines = []
        for number, pid in enumerate(pids.tolist()):
            camera = number % CAMERAS + 1
            name = f"{pid:04d}/{pid:04d}_{number:06d}_{camera:02d}_{kind}_0008_0.jpg"
            file = folder / side / name
            file.parent.mkdir(parents=True, exist_ok=True)
            os.link(pictures[number % PICTURES], file)
            lines.append(f"{name} {pid}\n")
            rels.append(f"{side}/{name}")
        held = round(VAL * share) if kind == "train" else 0
        (folder / f"list_{kind}.txt").write_text("".join(lines[held:]))
        if kind == "train":
            (folder / "list_val.txt").write_text("".join(lines[:held]))
    _bodies(rels, motions, rng).save(folder / "smpl.npz")


def _pictures(folder: Path, rng: np.random.Generator) -> list[Path]:
    """Small pictures that do not look like each other."""
    folder.mkdir(parents=True)
    coarse = rng.integers(0, 256, (PICTURES, 16, 8, 3), dtype=np.uint8)
    paths = [folder / f"{number}.jpg" for number in range(PICTURES)]
    for path, colours in zip(paths, coarse, strict=True):
        Image.fromarray(colours).resize((64, 128), Image.Resampling.BICUBIC).save(path)
    return paths


def _bodies(rels: list[str], motions: Path, rng: np.random.Generator) -> BodyTable:
    """A body per photo in any pose of the motions, a little varied; training sees the front."""
    source, count = load_poses(motions), len(rels)
    rows = rng.integers(0, len(source), count)
    azimuth = rng.uniform(-180, 180, count)
    azimuth[[rel.startswith("train") for rel in rels]] /= 3
    varied = source.body_pose[rows]
    varied[:, :63] += rng.normal(0, 0.05, (count, 63))
    return BodyTable(
        path=np.array(rels),
        global_orient=orient(source.root_tilt[rows], azimuth, rng.uniform(0, 30, count)),
        body_pose=varied,
        betas=np.zeros((count, 10)),
        cam_t=np.tile([0.0, 0.0, 4.5], (count, 1)),
        focal=np.full(count, 320.0),
        keypoints=np.zeros((count, 17, 2)),
        visible=np.full((count, 17), 2),
    )


def amass(root: Path, share: float) -> None:
    """`AMASS` below `root`: a share of its motions, each the same walk of 1,200 frames."""
    rng, walk = np.random.default_rng(0), root / "walk.npz"
    poses = np.zeros((FRAMES, 156))
    poses[:, 0] = np.pi / 2  # upright, where z is up
    poses[:, 3:66] = rng.normal(0, 0.2, (FRAMES, 63))
    np.savez(walk, poses=poses, trans=poses[:, :3], betas=np.zeros(16), mocap_framerate=120.0)
    for number in range(round(MOTIONS * share)):
        domain = ("in-domain", "out-of-domain")[number % 2]
        file = root / f"AMASS/{domain}/subject{number // 30:04d}/{number}_poses.npz"
        file.parent.mkdir(parents=True, exist_ok=True)
        os.link(walk, file)
