"""When a model or HMR2's results have changed in their place, the stages that read them run again.

    python -m posedive_lib.bench.input_digests

Such an input may lie anywhere, be on the hub, or be none, so dvc.yaml cannot name it.
`build/inputs/NAME.txt` has a line for each: the parameter and a digest, or the commit of the hub's
copy. Stages depend on these files. They are the output of the stage `inputs`, and `make repro`
writes them before anything else.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from posedive_lib import params as parameters
from posedive_lib.bench.runs import write_text
from posedive_lib.digests import folder_digest
from posedive_lib.errors import StudyError, command
from posedive_lib.model_digests import model_digest

if TYPE_CHECKING:
    from posedive_lib.params import Params

FOLDER = Path("build/inputs")
NONE, RESULTS = "none", "hmr2"  # results are on no hub


def inputs_of(P: Params) -> dict[str, dict[str, str | None]]:
    """Name of a file -> parameter -> the folder or hub id that it names."""
    paths, generator = P.paths, P.generator
    revision = f"@{generator.revision}" if generator.revision else ""
    diffusion = paths.stable_diffusion
    if not Path(diffusion).is_dir() and "@" not in diffusion:
        diffusion += revision
    return {
        "generator": {
            "paths.stable_diffusion": diffusion,
            "paths.phase1": paths.phase1,
            "generator.vae": generator.vae,
            "generator.image_encoder": generator.image_encoder,
        },
        "clip": {"paths.clip": paths.clip},
        "resnet": {"paths.resnet": paths.resnet},
        "pose_estimator": {"paths.pose_estimator": paths.pose_estimator},
        RESULTS: {"bodies.hmr2": P.bodies.hmr2 if P.bodies.source == "hmr2" else None},
    }


def digest(source: str | None) -> str:
    """As `model_digest`; `none` for None."""
    return NONE if source is None else model_digest(source)


def write(P: Params, params_file: str) -> None:
    """Write `build/inputs/NAME.txt` for every group of inputs.

    StudyError, naming the parameter, where an input is missing or cannot be read.
    """
    for name, inputs in inputs_of(P).items():
        lines = []
        for key, source in inputs.items():
            try:
                found = folder_digest(source) if source and name == RESULTS else digest(source)
            except StudyError as error:
                raise StudyError(f"{params_file}: {key}: {error}") from None
            lines.append(f"{key} {found}\n")
        write_text(FOLDER / f"{name}.txt", "".join(lines))


@command()
def main() -> int:
    """Write the digests of params.yaml's inputs. Returns the exit status."""
    write(parameters.load("params.yaml"), "params.yaml")
    return 0


if __name__ == "__main__":
    sys.exit(main())
