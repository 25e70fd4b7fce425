"""An SMPL body under any name, or a pickle of it, as an `.npz` with plain arrays:

    python -m posedive_lib.body.convert FILE --out BODY.npz

The study reads the official `.pkl` as it is. Other tools want plain arrays, or cannot read Python
2's pickles. Nothing in the file is executed.
"""

import argparse
import sys
from os.path import expanduser
from pathlib import Path

from posedive_lib.body.smpl_file import read_smpl
from posedive_lib.errors import StudyError, command, require_readable
from posedive_lib.intake.arrays import write_npz


def convert(source: Path, out: Path) -> int:
    """Write the arrays of a body; returns its number of vertices.

    StudyError: no body, `out` exists or is no name of an `.npz`, or cannot be written.
    """
    require_readable(source)
    if not source.is_file():
        raise StudyError(f"{source} is missing: give the file of an SMPL body.")
    if out.suffix != ".npz":
        raise StudyError(f"{out} is no name of an .npz: give one that ends so.")
    if out.exists():
        raise StudyError(f"{out} is there already: give a new name.")
    data = read_smpl(source, any_name=True)
    write_npz(out, data)
    return len(data["v_template"])


@command("Stopped: nothing was written.")
def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when the file is written."""
    parser = argparse.ArgumentParser(
        prog="python -m posedive_lib.body.convert", description="Write an SMPL body as an .npz."
    )
    parser.add_argument("file", type=expanduser, help="an SMPL body, under any name")
    parser.add_argument("--out", type=expanduser, required=True, help="a new file, for paths.body")
    given = parser.parse_args(arguments)
    vertices = convert(Path(given.file), Path(given.out))
    print(f"{given.out}: a body of {vertices:,} vertices")
    return 0


if __name__ == "__main__":
    sys.exit(main())
