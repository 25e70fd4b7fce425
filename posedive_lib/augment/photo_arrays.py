"""Photos with SMPL bodies as the generator's training arrays, and what determines those (§B).

The key of the arrays follows the code of this module and of all that it imports. So nothing is
imported here that encoding does not use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from posedive_lib.augment.targets import rendering_of
from posedive_lib.body.camera import viewpoint
from posedive_lib.body.rendering import render_many
from posedive_lib.body.table import BodyTable
from posedive_lib.datasets.images import read as read_images
from posedive_lib.datasets.images import read_sizes
from posedive_lib.devices import processes
from posedive_lib.digests import code_digest, file_digest
from posedive_lib.generator.arrays import TrainingArrays, TrainingImages, encode, join
from posedive_lib.generator.encoders import Encoders
from posedive_lib.model_digests import model_digest
from posedive_lib.weights import local_folder
from posedive_lib.writing import writing

if TYPE_CHECKING:
    import pandas as pd

    from posedive_lib.cluster import Spread, Work
    from posedive_lib.params import Params


BLOCK = 512  # photos that are encoded at a time: what is in memory, and what a stop may lose


def stable_diffusion_folder(P: Params) -> Path:
    """Local folder of Stable Diffusion, at the pinned revision where it is a hub id."""
    return local_folder(P.paths.stable_diffusion, P.generator.revision)


def encoding_inputs(P: Params, images: pd.DataFrame) -> dict[str, Any]:
    """Everything that determines the arrays of images but for the table's own columns."""
    weights = [stable_diffusion_folder(P)]
    weights += [local_folder(w) for w in (P.generator.vae, P.generator.image_encoder) if w]
    return {
        **P.pick("image", "conditions", "generator.clip_tokens"),
        "photos": [file_digest(path) for path in images["path"]],
        "bodies": [file_digest(file) for file in images["bodies"].unique()],
        "body": file_digest(P.paths.body),
        "weights": [model_digest(folder) for folder in weights],
        "code": code_digest(__name__),
    }


@dataclass(frozen=True)
class PhotoEncoder:
    """Encodes photos, and the conditions of their bodies in the photos' own cameras."""

    params: Params
    encoders: Encoders

    @classmethod
    def of(cls, P: Params) -> PhotoEncoder:
        """With the VAE and CLIP that the parameters name, on this process's device."""
        parts = {"vae": P.generator.vae, "image_encoder": P.generator.image_encoder}
        folder, device = stable_diffusion_folder(P), processes().device
        return cls(P, Encoders.from_stable_diffusion(folder, device, **parts))

    def __reduce__(self) -> tuple:
        """Another process loads it from its folders, on its own device."""
        return PhotoEncoder.of, (self.params.alone(),)

    def arrays(self, images: pd.DataFrame, *, progress: bool = True) -> TrainingArrays:
        """images: path, rel, bodies (their file), pid, camid, reference_ok and target_ok.

        The rows of one file of bodies stand together.
        """
        P = self.params
        tables = [
            BodyTable.load(str(file)).select(rows["rel"].tolist())
            for file, rows in images.groupby("bodies", sort=False)
        ]
        bodies = BodyTable.joined(tables)
        drawn = render_many(
            bodies,
            rendering_of(P),
            sizes=read_sizes(images["path"].tolist()),
            progress="conditions" if progress else None,
        )
        photos = TrainingImages(
            photos=read_images(images["path"].tolist(), P.image.height, P.image.width),
            depth=drawn.depth,
            normals=drawn.normals,
            skeleton=drawn.skeleton,
            pid=images["pid"].to_numpy(),
            camid=images["camid"].to_numpy(),
        )
        tokens = P.generator.clip_tokens
        return replace(
            encode(photos, self.encoders, clip_tokens=tokens, progress=progress),
            reference_ok=images["reference_ok"].to_numpy(),
            target_ok=images["target_ok"].to_numpy(),
            azimuth=viewpoint(bodies.global_orient, bodies.cam_t)[0],
        )


def in_order(work: Work, jobs: Iterable[tuple]) -> Iterator[tuple[int, Any]]:
    """The jobs one after another, in this process (`cluster.Spread`)."""
    return enumerate(starmap(work, jobs))


def encoded_in_blocks(
    images: pd.DataFrame,
    folder: Path,
    make: Callable[[pd.DataFrame], TrainingArrays],
    *,
    spread: Spread = in_order,
    progress: bool = True,
) -> Path:
    """`make(images)`, a block at a time, as a folder of arrays (`join`), or what is there already.

    The processes of a launch share the blocks, or those that `spread` gives them to. Blocks of a
    stopped call, `folder`-00000.npz and so on, are used again.
    """
    team = processes()
    blocks = [images.iloc[start : start + BLOCK] for start in range(0, len(images), BLOCK)]
    paths = [folder.with_name(f"{folder.name}-{i:05d}.npz") for i in range(len(blocks))]
    if folder.is_dir():
        if team.is_main_process:
            _remove(paths)  # of a call that was killed when it had joined them
        return folder
    own = range(team.process_index, len(blocks), team.num_processes)
    hidden = not (progress and team.is_main_process)
    jobs = [(blocks[i], paths[i]) for i in own if not paths[i].exists()]
    with tqdm(total=len(own), desc="encode", unit="block", disable=hidden) as bar:
        bar.update(len(own) - len(jobs))
        for _ in spread(partial(_save_block, make), jobs):
            bar.update()
    team.wait_for_everyone()
    if team.is_main_process:
        join(paths, len(images), folder)
        _remove(paths)
    team.wait_for_everyone()
    return folder


def _remove(paths: list[Path]) -> None:
    for path in paths:
        with writing(path):
            path.unlink(missing_ok=True)


def _save_block(
    make: Callable[[pd.DataFrame], TrainingArrays], images: pd.DataFrame, path: Path
) -> None:
    if not path.exists():  # the worker that wrote it may be lost since
        make(images).save(path)
