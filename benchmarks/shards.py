"""Making very many candidates: memory, and what a shard costs beside its images.

    python -m benchmarks.shards [--count 60000] [--rows 1] [--folder FOLDER]

The plan has `count` shards of `rows` candidates each. Rendering, painter and estimator do nothing:
what is left is to plan, cut, hash, write, check and collect. It runs in a process of its own, once
on an empty folder and once where everything is there; a tenth of the shards comes first. Memory may
grow with the plan and the manifest alone, tables with a row for each candidate: their size is the
last column. `--folder` says where the archives lie meanwhile.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.measure import RESULTS, alone, peak_memory, report, table
from posedive_lib import params
from posedive_lib.augment import candidates, shards
from posedive_lib.augment.training_set import Training
from posedive_lib.body.rendering import Rendering
from posedive_lib.body.table import SHAPES, BodyTable
from posedive_lib.datasets.images import BLOCK

H, W = 32, 16


@dataclass(frozen=True)
class Neutral:
    """All of `Conditions` that is asked for here."""

    neutral: np.ndarray


class Nothing:
    """Painter and estimator that do no work."""

    key = "nothing"

    def __call__(self, wanted: shards.Wanted) -> np.ndarray:
        keys = wanted.rows["index"] * 1000 + wanted.rows["pid"]
        draws = (np.random.default_rng(key).integers(0, 255, (H, W, 3), np.uint8) for key in keys)
        return np.stack([*draws])

    def estimate(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((len(images), 17, 2), np.float32), np.full((len(images), 17), 0.9)


def body(count: int) -> BodyTable:
    columns = {name: np.zeros((count, *shape)) for name, shape in SHAPES.items()}
    columns["path"] = np.array([f"{row:04d}.jpg" for row in range(count)])
    return BodyTable(**columns)


def plan_of(count: int, rows: int) -> pd.DataFrame:
    """`count` indices of `rows` identities each, with the columns of a plan that matter here."""
    pid, index = np.tile(np.arange(rows), count), np.repeat(np.arange(count), rows)
    columns = {"dataset": "market1501", "pid": pid, "index": index, "camid": 0}
    more = {"reference": "0000.jpg", "reference_min": 0.9, "azimuth": 0.0, "elevation": 0.0}
    return pd.DataFrame({**columns, **more, "seed": np.arange(len(pid)) * 2**31})


def start_rendering(rows, training, source, rendering, pool):
    many = body(len(rows))
    drawn = Neutral(np.zeros((len(rows), H, W, 3), np.uint8))
    return lambda: (many, drawn)


def made(count: int, rows: int, folder: str) -> tuple[float, float, float, float]:
    """Processor seconds, peak memory, and memory before; memory of plan and manifest. GB."""
    shards.start_rendering = start_rendering
    shards.read_images = lambda paths, *size: np.zeros((len(paths), H, W, 3), np.uint8)
    plan, nothing = plan_of(count, rows), Nothing()
    train = pd.DataFrame({"rel": ["0000.jpg"], "path": "0000.jpg"})
    training = Training(body(1), np.zeros(1), np.zeros(1))
    rendering = Rendering("", H, W, 2.0, 7.0, 4.0, workers=1)
    maker = shards.Maker(train, training, None, nothing, nothing, rendering)  # type: ignore[arg-type]
    limits = params.load("params.yaml").augment
    before, start = peak_memory(), time.process_time()
    manifest = candidates.generate(
        plan, maker, limits, folder, inputs="benchmark", shard=rows, block=BLOCK, progress=False
    )
    seconds = time.process_time() - start
    assert len(manifest) == count * rows
    tables = sum(t.memory_usage(deep=True).sum() for t in (plan, manifest)) / 1e9
    return seconds, peak_memory(), before, tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=60000)
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--folder", default=None, help="default: that of temporary files")
    options = parser.parse_args()
    columns = [
        "run",
        "shards",
        "rows",
        "processor ms per shard",
        "peak GB",
        "GB at the start",
        "tables GB",
    ]
    lines = []
    for count in sorted({max(1, options.count // 10), options.count}):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            for run in ("all made", "all there"):
                seconds, peak, before, tables = alone(made, count, options.rows, folder)
                per = f"{1000 * seconds / count:.2f}"
                found = [f"{peak:.2f}", f"{before:.2f}", f"{tables:.3f}"]
                lines.append([run, count, options.rows, per, *found])
            files = sum(path.is_file() for path in Path(folder, "shards").rglob("*"))
            assert files == 2 * count + 1  # an archive and a table each, and the lock
    pd.DataFrame(lines, columns=columns).to_csv(RESULTS / "shards.csv", index=False)
    report("shards", table(columns, lines))


if __name__ == "__main__":
    main()
