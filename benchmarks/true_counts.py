"""Memory and time at the real data sets' counts, with files that are links and small networks.

    python -m benchmarks.true_counts                     # MSMT17's and AMASS's counts
    python -m benchmarks.true_counts --shares 0.0625     # a sixteenth of them, to try the command
    python -m benchmarks.true_counts --only reading retrieval

Photos are hard links to a few small pictures, in MSMT17's layout: 126,441 files. Bodies, looks and
features are drawn at random. AMASS is one motion under 15,000 names: 18 million frames. Every part
runs in a process of its own, by default at a quarter, at half and at the whole of the counts.
"""

import argparse
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import yaml

from benchmarks.linked import AMASS, GALLERY, IMAGES, QUERY, TRAIN, amass, msmt17
from benchmarks.measure import RESULTS, alone, features, peaks, report, table, used
from posedive_lib import datasets, params
from posedive_lib.augment.distribution import pose_cells
from posedive_lib.augment.photo_arrays import encoded_in_blocks
from posedive_lib.bench import plan, preflight, rates
from posedive_lib.body import motions
from posedive_lib.body.poses import load_poses
from posedive_lib.datasets import checks
from posedive_lib.datasets.images import read
from posedive_lib.datasets.preflight import preflight as inspect_all
from posedive_lib.generator.arrays import TrainingArrays, TrainingImages, encode
from posedive_lib.generator.encoders import Encoders
from posedive_lib.reid.retrieval import evaluate

ROOT = Path(__file__).resolve().parent.parent
DIM = 1280  # numbers of CLIP-ReID's features, with ViT-B/16
SETS = "sets"  # the folder that MSMT17 is linked into
LIMIT = 8.6  # GB, which is 8 GiB
COLUMNS = ["part", "unit", "count", "seconds", "cpu_seconds", "peak_gigabytes"]


def study(folder: Path) -> params.Params:
    """The default study of MSMT17 alone, in `folder`; its parameters are written there."""
    values = params.load(ROOT / "params.yaml").model_dump()
    own = {name: str(folder / "build" / name) for name in ("bodies", "splits", "reports")}
    data = {n: str(ROOT / p) for n, p in values["paths"].items() if p and p.startswith("data/")}
    values["paths"] |= own | data | {"datasets": str(folder / SETS)}
    names = ["msmt17", "msmt17-s-cam", "msmt17-s-pose"]
    kinds = ("azimuth", "generator", "count", "threshold")
    values["study"] |= {f"{kind}_dataset": names[0] for kind in kinds}
    values["study"] |= {"datasets": names, "arms": {"real": "all", "pose-dive": "all"}}
    values["study"] |= {"resnet_datasets": [], "resnet_arms": []}
    values["study"]["longer"] |= {"datasets": [], "arms": []}
    file = folder / "params.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    return params.load(file)


def reading(folder: Path, share: float) -> None:
    """What `make plan` reads: sizes of the data sets, counts of frames, what would stop it."""
    P = study(folder)
    rate = rates.Measured({name: rates.Rate(1.0) for name in rates.UNITS}, 1.0, 1.0)
    sizes = {"msmt17": plan.size_of(P, "msmt17")}
    plan.table(P, plan.stages_of(P, sizes, rate), rate, {}, 1)
    preflight.problems(P, str(folder / "params.yaml"))


def every_photo(folder: Path, share: float) -> None:
    inspect_all(datasets.load("msmt17", folder / SETS))


def near_duplicates(folder: Path, share: float) -> None:
    images = datasets.load("msmt17", folder / SETS).images()
    looks = np.random.default_rng(0).integers(0, 256, (len(images), 72), dtype=np.uint8)
    digests = [str(row) for row in range(len(images))]
    list(checks.look_alikes(images.assign(look=[*map(bytes, looks)], digest=digests)))


def notebook_01(folder: Path, share: float) -> None:
    """The whole stage: preflight, retrieval by colours, both splits, what proves them."""
    study(folder)
    for name in ("notebooks", "data"):
        (folder / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "posedive_lib.bench.notebook", "01_dataset_splits"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)


def poses(folder: Path, share: float) -> None:
    """Thin AMASS, load what is left, and divide pose space by it."""
    most = int(motions.MOST * min(1.0, 4 * share))
    motions.thin(folder / "AMASS", folder / "thin", most)
    pose_cells(load_poses(folder / "thin").body_pose)


def retrieval(folder: Path, share: float) -> None:
    count = partial(round, ndigits=None)
    sizes = count(QUERY * share), count(GALLERY * share), count(3060 * share)
    evaluate(*features(*sizes, 15, dim=DIM, noise=3.0))


def encoding(folder: Path, share: float) -> None:
    """VAE and CLIP of the mini world into memory maps; the maps of conditions are black."""
    P = study(folder)
    size = P.image.height, P.image.width
    encoders = Encoders.from_stable_diffusion(P.paths.stable_diffusion)
    train = datasets.load("msmt17", folder / SETS).train

    def make(rows: pd.DataFrame) -> TrainingArrays:
        black = np.zeros((len(rows), *size, 3), np.uint8)
        labels = rows["pid"].to_numpy(), rows["camid"].to_numpy()
        photos = read(rows["path"].tolist(), *size)
        images = TrainingImages(photos, black[..., :1], black, black, *labels)
        return encode(images, encoders, progress=False)

    made = TrainingArrays.read(encoded_in_blocks(train, folder / "arrays", make, progress=False))
    assert len(made) == len(train)


PARTS = {  # what runs, its unit, and how many there are
    "reading": (reading, "photo", IMAGES),
    "every-photo": (every_photo, "photo", IMAGES),
    "near-duplicates": (near_duplicates, "photo", IMAGES),
    "notebook-01": (notebook_01, "photo", IMAGES),
    "poses": (poses, "frame", AMASS),
    "retrieval": (retrieval, "query x photo", QUERY * GALLERY),
    "encoding": (encoding, "photo", TRAIN),
}


def measured(name: str, folder: Path, share: float) -> tuple[float, float, float]:
    """Wall-clock seconds, processor seconds and peak GB of a part, in this process alone."""
    wall, cpu = used(partial(PARTS[name][0], folder, share))
    return wall, cpu, peaks()


def rows_of(names: list[str], shares: list[float]) -> list[list]:
    """A row (COLUMNS) per part and share."""
    rows: list[list] = []
    for share in shares:
        with TemporaryDirectory() as place:
            folder = Path(place)
            if "poses" in names:
                amass(folder, share)
            if {*names} - {"poses", "retrieval"}:
                msmt17(folder / SETS, share, ROOT / "data/motions")
            for name in names:
                wall, cpu, peak = alone(measured, name, folder, share)
                # Retrieval compares all queries with all photos: both shrink.
                count = PARTS[name][2] * (share**2 if name == "retrieval" else share)
                rows.append([name, PARTS[name][1], round(count), wall, cpu, peak])
                print(f"{name}, {rows[-1][2]:,}: {cpu:.0f} s, {peak:.2f} GB", file=sys.stderr)
    return sorted(rows, key=lambda row: names.index(row[0]))


def shown(rows: list[list]) -> str:
    """The table for reading, with how far time per unit grows from the first share on."""
    lines, first = [], {}
    for name, unit, count, wall, cpu, peak in rows:
        each = cpu / count
        growth = each / first.setdefault(name, each)
        times = f"{wall:.0f} s ({cpu:.0f})"
        lines.append([name, f"{count:,}", unit, times, f"{growth:.2f}", f"{peak:.2f} GB"])
    header = ["part", "count", "of", "time", "time per unit, against the first", "peak memory"]
    highest = max(row[-1] for row in rows)
    said = "No part takes" if highest <= LIMIT else "**Not** every part takes less than"
    limit = f"{said} more than 8 GiB." if highest <= LIMIT else f"{said} 8 GiB."
    return f"{limit}\n\n{table(header, lines)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--shares", type=float, nargs="+", default=[0.25, 0.5, 1.0], help="of the true counts"
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    given = parser.parse_args()
    rows = rows_of(given.only, given.shares)
    report("true_counts", shown(rows))
    frame = pd.DataFrame(rows, columns=COLUMNS).round({name: 2 for name in COLUMNS[3:]})
    frame.to_csv(RESULTS / "true_counts.csv", index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
