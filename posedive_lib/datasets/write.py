"""Write a data set with generated training images, in its own layout or in another code base's.

Real files are hard-linked where the file system allows, else copied; so are generated images that
are files of their own, and those in archives are written as they lie there. They are named so
that the usual parsers find identity and camera: Market-1501 and CUHK03-NP
`0002_c1s1_000000_00_gen07.jpg`; MSMT17 `0002/0002_000_01_generated_0000_0_gen07.jpg`, with the
camera as third field and a line in list_train.txt. The tree is built beside its place and renamed
at the end: it is whole or not there.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from posedive_lib.datasets import archives, compatibility, folder, msmt17, splits, trees
from posedive_lib.datasets.images import RESAMPLING, read_sizes
from posedive_lib.datasets.loading import load
from posedive_lib.datasets.record import RECORD, check_free, note_names
from posedive_lib.datasets.table import BODIES, TRUTH, ReIDDataset
from posedive_lib.errors import StudyError, unreadable
from posedive_lib.intake.arrays import read_npz, write_npz
from posedive_lib.intake.files import read_bytes
from posedive_lib.intake.images import BROKEN, decode, to_rgb, turn
from posedive_lib.intake.paths import resolved
from posedive_lib.intake.tables import read_table
from posedive_lib.writing import replacing_folder

NEEDED = ("image_path", "pid", "camid", "index")
# How a generated image is saved that is not linked: PNG without loss, JPEG of high quality.
JPEG: dict[str, Any] = {"format": "JPEG", "quality": 95, "subsampling": 0}
FORMATS: dict[str, dict[str, Any]] = {".jpg": JPEG, ".jpeg": JPEG, ".png": {"format": "PNG"}}


def write_augmented(
    dataset: ReIDDataset,
    generated: pd.DataFrame,
    out_root: str | Path,
    *,
    layout: str = "source",
    overwrite: bool = False,
    also: Callable[[Path], None] | None = None,
) -> ReIDDataset:
    """§B: write `dataset` plus `generated` as a complete tree below `out_root`.

    generated: columns image_path, pid, camid (from 0) and index. With the column reference (`rel`
    of a training photo), an image gets that photo's size: the stretch of reading is undone. With
    the columns offset and length, images lie in archives (see `datasets.archives`).
    layout: "source" (the data set's own; CUHK03 always as CUHK03-NP); the root that "clip-reid",
    "transreid", "fast-reid" or "torchreid" is to be given (CUHK03 and one's own data become a
    Market-1501 tree, because those code bases have no other reader); or "folder" (images.csv).
    MSMT17-S becomes an MSMT17 tree with only its images, beside the lists of the split. Files of
    a PNG data set keep their content where a reader wants names in .jpg.
    overwrite: replace an `out_root` that was written here. also: is given the tree's root before
    the tree is put in place, to write further files into it.

    Returns the tree as `datasets.load` reads it. An interruption leaves no half-written `out_root`.
    StudyError if `out_root` exists or cannot be written, the table of generated images is wrong,
    or the code base named in `layout` would misread or refuse the tree (a camera of two digits,
    `exp_12_c3` in the path, no test images).
    """
    generated = check(dataset, generated)
    trees.kind_of(dataset, layout)
    if layout in trees.CODE_BASES:
        dataset.require_test()
    out_root = resolved(out_root)
    check_free(dataset, out_root, overwrite)
    train_val = dataset.protocol.get("train_val") is not False
    with replacing_folder(out_root) as draft:
        try:
            name = _write_tree(dataset, generated, draft, layout)
            written = load(name, draft, train_val=train_val)  # what cannot be read is not published
            if layout in trees.CODE_BASES:
                _refuse_misread(written, layout, draft, out_root)
            if also:
                also(draft)
            note_names(draft)
        except OSError as error:
            raise StudyError(
                f"Cannot write the augmented data set to {out_root} ({error}): "
                "free space or choose a writable folder."
            ) from error
    return load(name, out_root, train_val=train_val)


def _refuse_misread(written: ReIDDataset, layout: str, draft: Path, out_root: Path) -> None:
    for trouble in compatibility.misread(written):
        text = trouble.replace(str(draft), str(out_root))
        raise StudyError(f"The tree for {layout} is not written. {text}")


def check(dataset: ReIDDataset, generated: pd.DataFrame) -> pd.DataFrame:
    """The columns of the table of generated images that are used, numbers as int64 ('1' means 1).

    StudyError if a column is missing, a number is none, a name would be used twice, or an identity
    or a reference is not in the training set.
    """
    missing = [column for column in NEEDED if column not in generated.columns]
    if missing:
        raise StudyError(
            f"The table of generated images lacks the column(s) {', '.join(missing)}: "
            f"it needs {', '.join(NEEDED)}."
        )
    more = generated.columns.intersection(["reference", *archives.PLACE])
    table = generated[[*NEEDED, *more]].copy()
    numbers = ["pid", "camid", "index"]
    for column in numbers:
        values = pd.to_numeric(table[column], errors="coerce")
        if values.dtype != "int64":  # which keeps all 18 digits
            values = values.astype("float64")
            values = values.where(values.eq(values.round()) & values.abs().lt(2**53), -1)
        bad = values < 0
        if bad.any():
            raise StudyError(
                f"The table of generated images has {column} '{table.loc[bad, column].iloc[0]}': "
                "expected a whole number from 0."
            )
        table[column] = values.astype("int64")
    twice = table.duplicated(numbers)
    if twice.any():
        pid, camid, index = table.loc[twice, numbers].iloc[0]
        raise StudyError(
            f"Two generated images share identity {pid}, camera {camid} and index {index}: "
            "number them anew."
        )
    strangers = set(table["pid"]) - set(dataset.train["pid"])
    if strangers:
        raise StudyError(
            f"Generated images of identity {min(strangers)}, which is not in the training set of "
            f"{dataset.name}: use the data set's own identities."
        )
    unknown = set(table.get("reference", [])) - set(dataset.train["rel"])
    if unknown:
        raise StudyError(
            f"The table of generated images has reference '{min(unknown)}', which is not in the "
            f"training set of {dataset.name}: give its photos' paths, or leave the column out."
        )
    return table


def _write_tree(dataset: ReIDDataset, generated: pd.DataFrame, root: Path, layout: str) -> str:
    """Write all files below `root`; returns the name that `datasets.load` reads the tree by."""
    kind = trees.kind_of(dataset, layout)
    name, inner = trees.place_of(dataset, kind, layout)
    where = root / name
    table = trees.files(dataset, generated, layout)
    files = table.drop_duplicates("rel")
    sizes, places = _reference_sizes(dataset, generated), _places(generated)
    for source, rel, old in zip(files["source"], files["rel"], files["old"], strict=True):
        if old:
            _link(source, where / rel)
        else:
            _place_generated(source, where / rel, sizes.get(source), places.get(source))
    if kind == "msmt17":
        _write_lists(dataset, table, root, where, inner)
    if kind == "folder":
        listed = trees.folder_table(dataset, table)
        listed.to_csv(where / folder.TABLE, index=False, lineterminator="\n", mode="x")
    _write_truth(dataset, table, where)
    record = {
        "dataset": dataset.name,
        "layout": layout,
        "protocol": dataset.protocol,
        "real": int((~table["generated"]).sum()),
        "generated": int(table["generated"].sum()),
    }
    _write_new(root / RECORD, json.dumps(record, indent=1) + "\n")
    return trees.READ_AS.get(kind, dataset.name)


def _reference_sizes(dataset: ReIDDataset, generated: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Width and height of the reference photo of each generated image, by the image's path."""
    if "reference" not in generated:
        return {}
    references, row = np.unique(generated["reference"], return_inverse=True)
    photos = dataset.train.drop_duplicates("rel").set_index("rel")["path"]
    sizes = read_sizes(photos.loc[references].tolist())[row]
    return dict(zip(generated["image_path"], map(tuple, sizes.tolist()), strict=True))


def _places(generated: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Offset and length of each generated image in its archive, by its path; else nothing."""
    if not {*archives.PLACE} <= {*generated}:
        return {}
    pairs = generated[archives.PLACE].to_numpy(np.int64).tolist()
    return dict(zip(generated["image_path"], map(tuple, pairs), strict=True))


def _write_lists(
    dataset: ReIDDataset, table: pd.DataFrame, root: Path, where: Path, inner: dict[str, str]
) -> None:
    """MSMT17's lists in `where`, those of MSMT17-S in `root`, and the version if names hide it."""
    for file, text in trees.lists(dataset, table).items():
        _write_new(where / file, text)
    version = dataset.protocol.get("version") or "V1"
    if inner != msmt17.PLACES[version]:
        _write_new(where / msmt17.VERSION_FILE, version + "\n")
    if dataset.name.startswith("msmt17-s-"):
        own = root / msmt17.S_FOLDER / dataset.name.rsplit("-", 1)[1]
        splits.write_lists(own, {str(split): rows for split, rows in table.groupby("split")})


def _write_truth(dataset: ReIDDataset, table: pd.DataFrame, where: Path) -> None:
    """`truth.csv` and `smpl.npz` beside the tree, under the images' new names if they changed."""
    truth, bodies = dataset.folder / TRUTH, dataset.bodies
    new = dict(zip(table["old"], table["rel"], strict=True))
    if all(old == rel for old, rel in new.items() if old):
        for file, name in ((truth, TRUTH), (bodies, BODIES)):
            if file.is_file():
                _link(file, where / name)
        return

    def rename(path: str) -> str:
        return new.get(path, path)

    if truth.is_file():
        known = read_table(truth)
        known["path"] = known["path"].map(rename)
        known.to_csv(where / TRUTH, index=False, mode="x")
    if bodies.is_file():
        columns = read_npz(bodies, what="a table of bodies")
        if "path" not in columns:
            raise StudyError(
                f"{bodies} cannot be read as a table of bodies (it has no 'path'): write it again."
            )
        columns["path"] = np.array([rename(path) for path in columns["path"].tolist()])
        write_npz(where / BODIES, columns, compressed=True)


def _link(source: str | Path, target: Path) -> None:
    """Link or copy a file; FileExistsError where the tree has it already.

    A copy would go through an earlier link, into the source's own file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    source = os.path.realpath(source)  # the photo, not a link that leads nowhere from the tree
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def _write_new(path: Path, text: str) -> None:
    with open(path, "x", encoding="utf-8") as file:  # never through a link
        file.write(text)


def _place_generated(
    source: str | Path,
    target: Path,
    size: tuple[int, int] | None,
    place: tuple[int, int] | None,
) -> None:
    """Link or copy an image that every reader sees alike, in the tree's format; else encode it.

    size: width and height that it is to have; None for its own. place: offset and length in the
    archive that holds it; None for a file of its own.
    """
    options = FORMATS[target.suffix.lower()]
    try:
        content = archives.content(Path(source).parent, *place) if place else read_bytes(source)
        image = decode(content)
        same_format = image.format == options["format"]
        plain = same_format and not turn(image) and not image.has_transparency_data
        rgb = to_rgb(image)
    except StudyError:
        raise
    except BROKEN as error:
        raise unreadable(
            f"The generated image {source}", error, "cannot be read", "generate it again"
        ) from None
    size = size or rgb.size
    plain = plain and rgb.size == size
    if plain and not place:
        _link(source, target)
        return
    if rgb.size != size:
        rgb = rgb.resize(size, RESAMPLING["bicubic"])
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "xb") as file:
        if plain:
            file.write(content)
        else:
            rgb.save(file, **options)
