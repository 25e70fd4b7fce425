"""Write a data set with generated training images in the source's own layout, so that every Re-ID code base reads it as it is.

Real files are hard-linked where the file system allows, else copied. Generated images are named so that the usual parsers find identity
and camera: Market-1501 and CUHK03-NP `0002_c1s1_000000_00_gen07.jpg`; MSMT17 `0002/0002_000_01_generated_0000_0_gen07.jpg`, with the camera
as third field and a line in list_train.txt. The tree is built beside its place and renamed at the end: it is whole or not there.
"""

import os
import shutil
from pathlib import Path

import pandas as pd
from PIL import Image, UnidentifiedImageError

from posedive_lib.datasets import cuhk03, market1501, msmt17, splits
from posedive_lib.datasets.table import ReIDDataset
from posedive_lib.errors import StudyError

NEEDED = ("image_path", "pid", "camid", "index")
FOLDERS = {
    "market1501": market1501.FOLDER,
    "cuhk03-labeled": f"{cuhk03.FOLDER}/labeled",
    "cuhk03-detected": f"{cuhk03.FOLDER}/detected",
}


def _link(source: str | Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:   # another file system, or one without hard links
        shutil.copy2(source, target)


def _place_generated(source: str | Path, target: Path) -> None:
    """The parsers look for .jpg only: a JPEG is linked, anything else is written as JPEG of high quality."""
    try:
        with Image.open(source) as image:
            if image.format == "JPEG":
                _link(source, target)
                return
            target.parent.mkdir(parents=True, exist_ok=True)
            image.convert("RGB").save(target, format="JPEG", quality=95, subsampling=0)
    except (OSError, UnidentifiedImageError) as error:
        raise StudyError(f"Cannot read the generated image {source} ({error}): generate it again.") from None


def market_name(pid: int, camid: int, index: int) -> str:
    """Relative path of a generated image in a Market-1501 tree."""
    return f"{market1501.SPLITS['train']}/{pid:04d}_c{camid + 1}s1_000000_00_gen{index:02d}.jpg"


def msmt17_name(pid: int, camid: int, index: int) -> str:
    """Relative path of a generated image in an MSMT17 tree."""
    return f"train/{pid:04d}/{pid:04d}_000_{camid + 1:02d}_generated_0000_0_gen{index:02d}.jpg"


def check(dataset: ReIDDataset, generated: pd.DataFrame) -> None:
    """StudyError if a column is missing, a name would be used twice, or an identity is not in the training set."""
    missing = [column for column in NEEDED if column not in generated.columns]
    if missing:
        raise StudyError(f"The table of generated images lacks the column(s) {', '.join(missing)}: it needs {', '.join(NEEDED)}.")
    if generated.duplicated(["pid", "camid", "index"]).any():
        row = generated[generated.duplicated(["pid", "camid", "index"])].iloc[0]
        raise StudyError(f"Two generated images share identity {row['pid']}, camera {row['camid']} and index {row['index']}: number them anew.")
    strangers = sorted(set(generated["pid"]) - set(dataset.train["pid"]))
    if strangers:
        raise StudyError(f"Generated images of identity {strangers[0]}, which is not in the training set of {dataset.name}: use the data set's own identities.")


def _write_market(dataset: ReIDDataset, generated: pd.DataFrame, folder: Path) -> None:
    for frame in (dataset.train, dataset.query, dataset.gallery):
        for path, rel in zip(frame["path"], frame["rel"], strict=True):
            _link(path, folder / rel)
    for row in generated.itertuples(index=False):
        _place_generated(row.image_path, folder / market_name(int(row.pid), int(row.camid), int(row.index)))


def _msmt17_rel(rel: str, side: str) -> str:
    """Masked images of version 2 come from other folders; the tree written here has `train` and `test`."""
    return f"{side}/{rel.split('/', 1)[1]}"


def _write_msmt17(dataset: ReIDDataset, generated: pd.DataFrame, folder: Path) -> None:
    lists: dict[str, list[str]] = {"list_train.txt": [], "list_val.txt": [], "list_query.txt": [], "list_gallery.txt": []}
    val = set()
    if dataset.name == "msmt17":
        val = {name for name, _ in msmt17.read_list(dataset.folder / "list_val.txt")}
    for split, frame in (("train", dataset.train), ("query", dataset.query), ("gallery", dataset.gallery)):
        side = "train" if split == "train" else "test"
        for path, rel, pid in zip(frame["path"], frame["rel"], frame["pid"], strict=True):
            target = _msmt17_rel(rel, side)
            _link(path, folder / target)
            name = target.split("/", 1)[1]
            file = "list_val.txt" if split == "train" and name in val else f"list_{split}.txt"
            lists[file].append(f"{name} {pid}\n")
    for row in generated.itertuples(index=False):
        target = msmt17_name(int(row.pid), int(row.camid), int(row.index))
        _place_generated(row.image_path, folder / target)
        lists["list_train.txt"].append(f"{target.split('/', 1)[1]} {int(row.pid)}\n")
    for file, lines in lists.items():
        (folder / file).write_text("".join(lines))


def _write_s_lists(dataset: ReIDDataset, generated: pd.DataFrame, where: Path) -> None:
    columns = ["rel", "pid"]
    new = pd.DataFrame([(msmt17_name(int(r.pid), int(r.camid), int(r.index)), int(r.pid)) for r in generated.itertuples(index=False)], columns=columns)
    train = pd.concat([dataset.train[columns], new], ignore_index=True) if len(new) else dataset.train[columns]
    splits.write_lists(where, {"train": train, "query": dataset.query, "gallery": dataset.gallery})


def _write_tree(dataset: ReIDDataset, generated: pd.DataFrame, root: Path) -> None:
    if dataset.name in FOLDERS:
        folder = root / FOLDERS[dataset.name]
        _write_market(dataset, generated, folder)
    else:
        folder = root / msmt17.FOLDER
        _write_msmt17(dataset, generated, folder)
        if dataset.name.startswith("msmt17-s-"):
            _write_s_lists(dataset, generated, root / msmt17.S_FOLDER / dataset.name.rsplit("-", 1)[1])
    for name in ("truth.csv", "smpl.npz"):
        if (dataset.folder / name).is_file():
            _link(dataset.folder / name, folder / name)


def write_augmented(dataset: ReIDDataset, generated: pd.DataFrame, out_root: str | Path, *, overwrite: bool = False) -> ReIDDataset:
    """§B: write `dataset` plus `generated` (columns image_path, pid, camid 0-based, index) as a complete tree below `out_root`.

    Returns the tree as `datasets.load` reads it. An existing `out_root` is refused unless `overwrite`; an interruption leaves no
    half-written `out_root`. MSMT17-S becomes an MSMT17 tree with only its images, beside the lists of the split.
    """
    from posedive_lib import datasets

    check(dataset, generated)
    out_root = Path(out_root).expanduser().resolve()
    if out_root.exists() and not overwrite and any(out_root.iterdir()):
        raise StudyError(f"{out_root} already exists: remove it or choose another folder for the augmented data set.")
    partial = out_root.with_name(f".{out_root.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write_tree(dataset, generated, partial)
        datasets.load(dataset.name, partial)   # what cannot be read back is not published
        if out_root.exists():
            shutil.rmtree(out_root)
        partial.rename(out_root)
    except OSError as error:
        raise StudyError(f"Cannot write the augmented data set to {out_root} ({error}): free space or choose a writable folder.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return datasets.load(dataset.name, out_root)
