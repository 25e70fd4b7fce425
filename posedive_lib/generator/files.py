"""Images drawn to a folder, one file each: a stopped run goes on, and a finished image is never made twice."""

from pathlib import Path

import numpy as np
from PIL import Image

from posedive_lib.errors import StudyError
from posedive_lib.generator.processes import processes
from posedive_lib.generator.sampling import Generator
from posedive_lib.writing import replacing


def generate_files(
    generator: Generator,
    names,
    folder: str | Path,
    references,
    reference_index,
    skeleton,
    depth,
    normals,
    seeds,
    *,
    block: int = 256,
    **options,
) -> list[Path]:
    """`Generator.generate` for N names; returns the N paths `folder/<name>.png`. Names are distinct and stable: they say what is finished.

    block: images drawn between two writes. Under `accelerate launch` the processes share each block, and the first one writes.
    StudyError when names repeat or leave the folder, or when a file cannot be written (those written before stay).
    """
    folder, team = Path(folder), processes()
    paths = [folder / f"{name}.png" for name in names]
    if len(set(paths)) < len(paths) or any(
        not path.resolve().is_relative_to(folder.resolve()) for path in paths
    ):
        raise StudyError(
            "Names of images to generate must be distinct and lie within the folder: give each its own."
        )
    missing = np.array([row for row, path in enumerate(paths) if not path.is_file()], dtype=int)
    team.wait_for_everyone()  # all have looked before the first one writes
    columns = [np.asarray(column) for column in (reference_index, skeleton, depth, normals, seeds)]
    if any(len(column) != len(paths) for column in columns):
        raise StudyError(
            "reference_index, skeleton, depth, normals and seeds must have one entry per name."
        )
    missing = missing[
        np.argsort(columns[0][missing], kind="stable")
    ]  # images of one person in one block, for one reference pass
    for start in range(0, len(missing), block):
        rows = missing[start : start + block]
        images = generator.generate(
            references, *(column[rows] for column in columns), **{"progress": False, **options}
        )
        if team.is_main_process:
            for row, image in zip(rows, images):
                with replacing(paths[row]) as draft:
                    Image.fromarray(image).save(draft, format="PNG")
    team.wait_for_everyone()
    return paths
