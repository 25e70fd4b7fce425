"""Render the mini world into Market-1501, MSMT17 and CUHK03-NP trees, with the truth beside each.

    python -m miniworld.build --params params.yaml

Data that somebody else made are left alone: the mini world is rendered below `build/` only, and
replaces only folders that carry its own mark.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from miniworld.planning import Entry, Plan, photos_of, plans
from miniworld.truth import save_masks
from posedive_lib import params as parameters
from posedive_lib.body.poses import load_poses
from posedive_lib.body.table import BodyTable
from posedive_lib.datasets.table import RENDERED as MARK
from posedive_lib.errors import StudyError, command
from posedive_lib.workers import worker_pool
from posedive_lib.writing import replacing_folder

if TYPE_CHECKING:
    from posedive_lib.body.poses import PoseSource
    from posedive_lib.params import Params

BUILD = Path("build")  # of the repository; nothing is rendered elsewhere
MARK_TEXT = "The mini world made this folder, and replaces it when it is rendered again.\n"
OUTPUTS = ("Market-1501-v15.09.15", "MSMT17_V1", "cuhk03-np")  # of the stage, below build/world
BODY_ARRAYS = ("global_orient", "body_pose", "betas", "cam_t", "focal", "keypoints")


class OwnData(StudyError):
    """The data sets are the user's own."""


def write_lists(folder: Path, entries: list[Entry]) -> None:
    """MSMT17's four list files, lines `<path below train/ or test/> <pid>`."""
    for split in ("train", "val", "query", "gallery"):
        lines = [f"{e.path.split('/', 1)[1]} {e.pid}\n" for e in entries if e.split == split]
        (folder / f"list_{split}.txt").write_text("".join(lines))


def truth_row(
    entry: Entry, photo: dict[str, Any], people: pd.DataFrame, poses: PoseSource
) -> dict[str, Any]:
    """One row of `truth.csv`."""
    shot = entry.shot
    return {
        "path": entry.path,
        "split": "train" if entry.split == "val" else entry.split,
        "pid": entry.pid,
        "camid": entry.camid,
        "person": people.person[shot.person],
        "azimuth": round(photo["azimuth"], 3),
        "elevation": round(photo["elevation"], 3),
        "motion": poses.name[shot.pose],
        "frame": poses.frame[shot.pose],
        "domain": poses.domain[shot.pose],
        "occluded": photo["occluded"],
        "hidden": round(photo["hidden"], 3),
        "low_quality": shot.low_quality,
    }


def write_truth(
    folder: Path, people: pd.DataFrame, rows: list[dict[str, Any]], photos: list[dict[str, Any]]
) -> None:
    """Write `truth.csv`, `people.csv`, `smpl.npz` and `masks.npz` of photos without pixels."""
    pd.DataFrame(rows).to_csv(folder / "truth.csv", index=False)
    shown = people[people.person.isin({row["person"] for row in rows})]
    shown.to_csv(folder / "people.csv", index=False)
    paths = np.array([row["path"] for row in rows])
    visible = np.stack([photo["visible"] for photo in photos])
    bodies = {
        key: np.stack([np.asarray(photo[key], np.float32) for photo in photos])
        for key in BODY_ARRAYS
    }
    BodyTable(path=paths, visible=visible, **bodies).save(folder / "smpl.npz")
    save_masks(folder / "masks.npz", paths, _stacked([photo["mask"] for photo in photos]))


def _stacked(masks: list[np.ndarray]) -> np.ndarray:
    """Masks (H, W) as one array; narrower ones are filled up on the right."""
    widest = max(mask.shape[1] for mask in masks)
    return np.stack([np.pad(mask, ((0, 0), (0, widest - mask.shape[1]))) for mask in masks])


def render(folder: Path, plan: Plan, poses: PoseSource, P: Params) -> None:
    """Render one data set into a new folder, which replaces `folder` when it is complete.

    StudyError (`OwnData`) for a folder that the mini world did not make.
    """
    require_ours(folder)
    people = plan.planner.people
    rows, truths = [], []
    with replacing_folder(folder) as draft:
        (draft / MARK).write_text(MARK_TEXT)
        for parent in {str(Path(entry.path).parent) for entry in plan.entries}:
            (draft / parent).mkdir(parents=True)
        # Closed at once, so that no bar is open when the message of an error is printed.
        with closing(photos_of(P, plan, plan.entries, poses, progress=plan.label)) as photos:
            for entry, photo in zip(plan.entries, photos, strict=True):
                Image.fromarray(photo.pop("image")).save(draft / entry.path, quality=92)
                rows.append(truth_row(entry, photo, people, poses))
                truths.append(photo)
        if plan.label == "MSMT17":
            write_lists(draft, plan.entries)
        write_truth(draft, people, rows, truths)


def require_below_build(folder: Path) -> None:
    """StudyError (`OwnData`) where a folder, or what it links to, lies outside `build/`."""
    if not folder.resolve().is_relative_to(BUILD.resolve()):
        raise OwnData(
            f"{folder} lies outside {BUILD}/: these are your own data, "
            "the mini world is not rendered there."
        )


def require_ours(folder: Path) -> None:
    """StudyError (`OwnData`) where a folder is not the mini world's to replace."""
    require_below_build(folder)
    empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not empty and not (folder / MARK).is_file():
        raise OwnData(
            f"{folder} has no file {MARK}: these are your own data, the mini world is not rendered "
            "there (if an earlier version of this study rendered it, remove the folder)."
        )


def build(P: Params) -> None:
    """All data sets of the mini world, at the sizes of `P.world`.

    StudyError (`OwnData`), and nothing written, where one of their folders is the user's own.
    """
    root = Path(P.paths.datasets)
    require_below_build(root)  # first, because real data need no inputs of the mini world
    poses = load_poses(P.paths.motions)
    wanted = plans(P, poses)
    for plan in wanted:
        require_ours(root / plan.folder)
    with worker_pool(P.world.workers):  # one for all data sets: to start processes takes seconds
        for plan in wanted:
            render(root / plan.folder, plan, poses, P)


def leave_outputs() -> None:
    """Make the stage's outputs as empty folders where there are none: DVC wants all to exist."""
    for name in OUTPUTS:
        folder = BUILD / "world" / name
        if not folder.exists():
            folder.mkdir(parents=True)
            (folder / MARK).write_text(MARK_TEXT)


@command()
def main() -> int:
    """Render the mini world, or say in one sentence why not. Returns the exit status.

    The user's own data are no error: the pipeline goes on with them.
    """
    parser = argparse.ArgumentParser(description="Render the mini world's data sets.")
    parser.add_argument("--params", default="params.yaml")
    try:
        build(parameters.load(parser.parse_args().params))
    except OwnData as reason:
        print(reason)
        leave_outputs()
    return 0


if __name__ == "__main__":
    sys.exit(main())
