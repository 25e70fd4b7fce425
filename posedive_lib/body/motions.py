"""Pose sources of any size: counted before they are loaded, thinned where they are too large.

    python -m posedive_lib.body.motions AMASS --out MOTIONS

All of AMASS is 18 million frames, and `load_poses` holds every frame of a folder. So the study
takes at most `MOST` (`posedive_lib.intake.frames` refuses more). The command writes a folder with
so many of them, evenly spaced over all motions, and holds one motion at a time. The motions of a
folder become one file, named after it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import accumulate
from os.path import expanduser
from pathlib import Path

import numpy as np
from tqdm import tqdm

from posedive_lib.body.poses import load_motion, load_poses
from posedive_lib.errors import StudyError, command
from posedive_lib.intake.arrays import write_npz
from posedive_lib.intake.frames import FOLDERS, MOST, domain_of, frames_of, motion_files
from posedive_lib.writing import replacing_folder

DOMAINS = {short: folder for folder, short in FOLDERS.items()}


def thin(folder: str | Path, out: str | Path, most: int = MOST) -> list[str]:
    """Write `most` frames of the motions below `folder` into the new folder `out`.

    They are evenly spaced over all motions in the order of `load_poses`. Their heading is removed,
    and their domain is kept. Returns a sentence for each motion that is left out, because
    `load_poses` would refuse it. StudyError where there is nothing to thin, or `out` exists.
    """
    folder, out = Path(folder), Path(out)
    if out.exists():
        raise StudyError(f"{out} exists: name a new folder with --out, or remove it first")
    files = motion_files(folder)
    if not files:
        load_poses(folder)  # says what is wrong
    counts = [frames_of(path) for path in files]
    total, refused = sum(counts), list[str]()
    if most < 1:
        raise StudyError(f"--frames is {most}: it must be at least 1")
    if total <= most:
        raise StudyError(
            f"{folder} has {total:,} frames, not more than {most:,}: name it in paths.motions as "
            "it is"
        )
    kept = np.floor((np.arange(most) + 0.5) * (total / most)).astype(int)
    groups: dict[str, list[tuple[Path, np.ndarray]]] = {}
    for path, count, end in zip(files, counts, accumulate(counts), strict=True):
        first, last = np.searchsorted(kept, (end - count, end))
        groups.setdefault(_target(path, folder), []).append((path, kept[first:last] - end + count))
    with replacing_folder(out) as draft:
        for target, members in tqdm(groups.items(), desc="motions", unit="folder"):
            parts = list(_parts(folder, members, refused))
            if parts:
                root, pose = (np.concatenate(columns) for columns in zip(*parts, strict=True))
                write_npz(draft / target, {"global_orient": root, "body_pose": pose})
                try:  # of frames that are upright in most of a motion, few may be kept
                    load_motion(draft / target, draft, None)
                except StudyError:
                    (draft / target).unlink()
                    refused.append(f"{target}: the person lies flat in most of the frames kept")
        if not motion_files(draft):
            raise StudyError(f"Of no motion in {folder} a frame can be read: {refused[0]}")
        load_poses(draft)  # what is written can be read
    return refused


def _target(path: Path, folder: Path) -> str:
    """The file that a motion goes into: that of its folder, in its domain's."""
    parts = path.relative_to(folder).parts[:-1]
    name = "_".join(part for part in parts if part not in FOLDERS) or "motions"
    return f"{DOMAINS[domain_of(path, folder)]}/{name}.npz"


def _parts(
    folder: Path, members: list[tuple[Path, np.ndarray]], refused: list[str]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """root_tilt (n, 3) and body_pose (n, 69) of the chosen frames, a motion at a time."""
    for path, frames in members:
        if len(frames):
            try:
                root, pose, *_ = load_motion(path, folder, None)
            except StudyError as error:
                refused.append(str(error))
                continue
            yield root[frames], pose[frames]


@command("Stopped: nothing was written.")
def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when the folder is written."""
    parser = argparse.ArgumentParser(
        prog="python -m posedive_lib.body.motions",
        description="Thin a folder of motions to what the study holds in memory.",
    )
    parser.add_argument("folder", type=expanduser, help="motions, such as all of AMASS")
    parser.add_argument(
        "--out", type=expanduser, required=True, help="a new folder, for paths.motions"
    )
    parser.add_argument("--frames", type=int, default=MOST, help="default: %(default)s")
    given = parser.parse_args(arguments)
    refused = thin(given.folder, given.out, given.frames)
    print(*(f"left out: {sentence}" for sentence in refused), sep="\n")
    print(f"{given.out}: {len(load_poses(given.out)):,} frames, {len(refused):,} motions left out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
