"""Ground truth of the rendered data sets: what lies beside the images, and photos taken again.

Beside each data set: `truth.csv` (identity, camera, viewpoint, motion, occlusion), `people.csv`
(clothing factors and description), `smpl.npz` (pose, betas, camera, key points, visibility) and
`masks.npz`. Depth and normals of the dressed person are large and exactly repeatable, so `retake`
renders them again instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from miniworld.planning import photos_of, plans
from posedive_lib.body.poses import load_poses
from posedive_lib.errors import StudyError

if TYPE_CHECKING:
    from posedive_lib.params import Params


def save_masks(path: Path, paths: np.ndarray, masks: np.ndarray) -> None:
    """Write masks (N, H, W) bool of the images `paths` (N,), one bit a pixel."""
    np.savez_compressed(
        path,
        path=paths,
        bits=np.packbits(masks.reshape(len(masks), -1), axis=1),
        size=np.array(masks.shape[1:]),
    )


def load_masks(folder: str | Path, paths: Sequence[str]) -> np.ndarray:
    """(N, H, W) bool: pixels of the person that nothing hides, for images named as in truth.csv.

    W is that of the data set's widest photo; beyond a narrower one its mask is False.
    """
    file = Path(folder) / "masks.npz"
    if not file.is_file():
        raise StudyError(
            f"{file} is missing: only the mini world's data sets have masks; "
            "render them with `dvc repro world`."
        )
    with np.load(file, allow_pickle=False) as data:
        row = {path: i for i, path in enumerate(data["path"].tolist())}
        unknown = [path for path in paths if path not in row]
        if unknown:
            raise StudyError(f"{unknown[0]} is not in {file}.")
        height, width = data["size"]
        wanted = data["bits"][[row[path] for path in paths]]
        bits = np.unpackbits(wanted, axis=1, count=height * width)
    return bits.reshape(-1, height, width).astype(bool)


def retake(P: Params, folder: str, paths: Sequence[str]) -> list[dict[str, Any]]:
    """Photos of a data set taken again, bit for bit, with depth and normals.

    folder: below `paths.datasets`, such as "MSMT17_V1"; paths: images relative to it. Returns what
    `miniworld.photographer.Photographer.shoot` returns.
    """
    poses = load_poses(P.paths.motions)
    plan = next((plan for plan in plans(P, poses) if plan.folder == folder), None)
    entries = {} if plan is None else {entry.path: entry for entry in plan.entries}
    unknown = [path for path in paths if path not in entries]
    if plan is None or unknown:
        raise StudyError(
            f"{folder}/{unknown[0] if unknown else ''} is not an image of the mini world "
            "at the sizes of params.yaml."
        )
    return list(photos_of(P, plan, [entries[path] for path in paths], poses, maps=True))
