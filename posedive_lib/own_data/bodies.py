"""SMPL bodies of all photos of the study (§B), as `bodies.source` says: the stage `bodies`.

    python -m posedive_lib.own_data.bodies

Writes `bodies.csv` into `paths.bodies`, one row per data set: where its bodies come from. With
`fit` and `hmr2` the tables lie beside it, NAME.npz; nothing is written into a data set's folder.
Fits are kept in runs/bodies, so a stopped stage goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from posedive_lib import datasets
from posedive_lib import params as parameters
from posedive_lib.body.smpl import load_smpl
from posedive_lib.body.table import BodyTable
from posedive_lib.datasets.images import read_sizes
from posedive_lib.datasets.table import BODIES
from posedive_lib.errors import StudyError, command, shown
from posedive_lib.own_data import fit
from posedive_lib.own_data.hmr2 import READERS, import_hmr2, read_hmr2
from posedive_lib.places import claim_reports, has_header, require_kept
from posedive_lib.writing import replacing_folder

if TYPE_CHECKING:
    from posedive_lib.params import Params

RUNS, LIST = Path("runs/bodies"), "bodies.csv"
LISTED = ["dataset", "source", "given", "fitted"]


def make(P: Params) -> pd.DataFrame:
    """The tables of all data sets of the study; returns `bodies.csv`.

    `paths.reports` becomes the study's here, for this is the first stage of one that DVC runs with
    a new place. StudyError where it or `paths.bodies` holds something else, or an input is missing
    or does not fit.
    """
    out, rows = Path(P.paths.bodies), []
    if out.is_dir() and any(out.iterdir()) and not has_header(out / LIST, LISTED):
        raise StudyError(
            f"{out} has no {LIST} with the columns {', '.join(LISTED)}, so it is no folder of "
            "bodies: change paths.bodies."
        )
    claim_reports(P.paths.reports)
    found = [_results(P, name) for name in P.study.whole]
    if P.bodies.source == "hmr2" and not any(found):
        raise StudyError(
            f"bodies.hmr2, {P.bodies.hmr2}, has results of none of {', '.join(P.study.whole)}: "
            f"put a file such as {P.study.whole[0]}.npz there."
        )
    inputs = {
        "body": P.paths.body,
        "motions": P.paths.motions,
        "estimator": P.paths.pose_estimator,
        "focal": P.conditions.focal,
    }
    with replacing_folder(out) as draft:
        for name in P.study.whole:
            dataset = datasets.of_study(name, P.paths)
            photos = fit.images_of(dataset, fit.SPLITS)
            known = _known(P, dataset, photos)
            taken = set() if known is None else set(known.path.tolist())
            rest = photos[~photos["rel"].isin(taken)].reset_index(drop=True)
            if P.bodies.source != "truth":
                parts = known, _fitted(name, rest, inputs, P.scale.scheduler)
                table = BodyTable.joined([part for part in parts if part is not None])
                table.save(draft / f"{name}.npz")
            rows.append((name, P.bodies.source, len(photos) - len(rest), len(rest)))
        listed = pd.DataFrame(rows, columns=LISTED)
        listed.to_csv(draft / LIST, index=False, lineterminator="\n")
    return listed


def _known(P: Params, dataset: datasets.ReIDDataset, photos: pd.DataFrame) -> BodyTable | None:
    """Bodies that need no fit: those beside the images, or HMR2's; None where there are none."""
    if P.bodies.source == "truth":
        own = dataset.folder / BODIES
        if not own.is_file():
            raise StudyError(
                f"{own} is missing: set bodies.source to fit in the parameters, or to hmr2."
            )
        return BodyTable.load(own).select(photos["rel"])
    file = _results(P, dataset.name)
    if file is None:
        return None
    _check(file, dataset)
    table = import_hmr2(file, load_smpl(P.paths.body), focal=P.conditions.focal)
    return table.select(sorted({*table.path.tolist()} & {*photos["rel"]}))


def _results(P: Params, name: str) -> Path | None:
    """The file of HMR2's results of a data set, if they are asked for and there is one."""
    if P.bodies.source != "hmr2":
        return None
    files = [Path(P.bodies.hmr2 or "") / f"{name}{suffix}" for suffix in READERS]
    return next(filter(Path.is_file, files), None)


def _check(file: Path, dataset: datasets.ReIDDataset) -> None:
    """StudyError where HMR2's results are of other photos than the data set's.

    They may be of photos that lie there and are not read, such as Market-1501's junk.
    """
    columns = read_hmr2(file)
    paths = {rel: dataset.folder / rel for rel in columns["path"].tolist()}
    strange = [rel for rel, path in paths.items() if not path.is_file()]
    if strange:
        raise StudyError(
            f"{file} has {len(strange):,} bodies of photos that {dataset.name} lacks "
            f"({shown(strange[0])}): give paths relative to {dataset.folder}, and leave others out."
        )
    sizes = read_sizes([*paths.values()])
    other = (sizes != columns["img_size"]).any(1)
    if other.any():
        row = int(np.argmax(other))
        width, height = sizes[row]
        raise StudyError(
            f"{file}: img_size of {shown(columns['path'][row])} is not that of the photo, "
            f"{width} x {height}: write width and height of the files as they are."
        )


def _fitted(
    name: str, photos: pd.DataFrame, inputs: dict[str, Any], scheduler: str
) -> BodyTable | None:
    """Bodies fitted to the photos, once; None where there are no photos."""
    if photos.empty:
        return None
    out = RUNS / f"{name}-{fit.key_of(photos, **inputs)}.npz"
    if out.is_file():
        return BodyTable.load(out)
    return fit.fit_images(photos, out, **inputs, scheduler=scheduler)


@command("Stopped: the stage goes on from here.")
def main(arguments: list[str] | None = None) -> int:
    argparse.ArgumentParser(
        prog="python -m posedive_lib.own_data.bodies",
        description="Make the bodies of all photos of the study, as bodies.source says.",
    ).parse_args(arguments)
    P = parameters.load("params.yaml")
    for name in ("bodies", "splits"):
        require_kept(getattr(P.paths, name), f"params.yaml: paths.{name}")
    print(make(P).to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
