"""Training on several GPUs, outside a notebook:

    accelerate launch -m posedive_lib.generator ARRAYS.npz OUT_DIR [--params params.yaml]

ARRAYS.npz is what `TrainingArrays.save` wrote (the study's own are `runs/generator/*/arrays.npz`).
"""

import argparse
import sys

from posedive_lib import params
from posedive_lib.errors import command
from posedive_lib.generator.arrays import TrainingArrays
from posedive_lib.generator.training import train


@command("Stopped: the same command goes on from here.")
def main(arguments: list[str] | None = None) -> int:
    """Phase 2 from `paths.phase1`, or phase 1 from Stable Diffusion where that is null.

    Returns the exit status.
    """
    summary = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m posedive_lib.generator", description=summary)
    parser.add_argument("arrays", help="training arrays, an .npz file")
    parser.add_argument(
        "out_dir",
        help="folder of the run: losses.csv, checkpoint, samples and the finished generator",
    )
    parser.add_argument("--params", default="params.yaml")
    options = parser.parse_args(arguments)
    P = params.load(options.params)
    data = TrainingArrays.read(options.arrays)
    stable_diffusion, phase1 = P.paths.stable_diffusion, P.paths.phase1
    print(train(stable_diffusion, data, P.generator, options.out_dir, P.seed, init_from=phase1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
