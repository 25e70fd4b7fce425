"""Where each image of a data set goes in a tree that a given code base reads.

Code bases look for the same data under different names, and their readers have limits that are kept
here: images of Market-1501 trees end in `.jpg`; identity and camera are the first
`<digits>_c<digit>` of the path; MSMT17's camera is the third `_` field of a list's path, and its
identities must count from 0 without gaps in every list.
"""

from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from posedive_lib.datasets import cuhk03, folder, market1501, msmt17
from posedive_lib.datasets.table import KINDS, ReIDDataset
from posedive_lib.errors import StudyError, shown

CODE_BASES = {  # code base -> folders of Market-1501 and of MSMT17 below its root
    "clip-reid": (market1501.FOLDER, "MSMT17"),
    "transreid": ("market1501", "MSMT17"),
    "fast-reid": (market1501.FOLDER, "MSMT17_{version}"),
    "torchreid": (f"market1501/{market1501.FOLDER}", "msmt17/MSMT17_{version}"),
}
LAYOUTS = ("source", *CODE_BASES, "folder")
READ_AS = {
    "market": "market1501",
    "np-labeled": "cuhk03-labeled",
    "np-detected": "cuhk03-detected",
    "folder": "folder",
}


def market_name(pid: int, camid: int, index: int, suffix: str = ".jpg") -> str:
    """Relative path of a generated image in a Market-1501 tree."""
    name = f"{pid:04d}_c{camid + 1}s1_000000_00_gen{index:02d}{suffix}"
    return f"{market1501.SPLITS['train']}/{name}"


def msmt17_name(pid: int, camid: int, index: int, place: str = "train") -> str:
    """Relative path of a generated image in an MSMT17 tree."""
    return f"{place}/{pid:04d}/{pid:04d}_000_{camid + 1:02d}_generated_0000_0_gen{index:02d}.jpg"


def kind_of(dataset: ReIDDataset, layout: str) -> str:
    """Which tree the layout means for this data set; StudyError if it is none of `LAYOUTS`.

    One of market, np-labeled, np-detected, msmt17 and folder.
    """
    if layout not in LAYOUTS:
        raise StudyError(f"Unknown layout '{layout}': use one of {', '.join(LAYOUTS)}.")
    if layout == "folder" or (layout == "source" and dataset.name == "folder"):
        return "folder"
    if dataset.name.startswith("msmt17"):
        return "msmt17"
    if dataset.name.startswith("cuhk03") and layout == "source":
        return "np-" + dataset.name.rsplit("-", 1)[1]
    return "market"


def place_of(dataset: ReIDDataset, kind: str, layout: str) -> tuple[str, dict[str, str]]:
    """(folder below the root, "" for none; inner folders of MSMT17's sides) of a tree."""
    if kind == "folder":
        return "", {}
    if kind.startswith("np-"):
        return f"{cuhk03.FOLDER}/{kind[3:]}", {}
    if kind == "market":
        return CODE_BASES["clip-reid" if layout == "source" else layout][0], {}
    version = dataset.protocol.get("version") or "V1"
    name = CODE_BASES["fast-reid" if layout == "source" else layout][1].format(version=version)
    # Readers of a folder without a version know train and test only.
    return name, msmt17.PLACES[version if "_V" in name else "V1"]


def files(dataset: ReIDDataset, generated: pd.DataFrame, layout: str) -> pd.DataFrame:
    """One row per file of the tree.

    generated: columns image_path, pid, camid, index. Returns the columns source (path), rel (in the
    tree), old (rel in the source, "" if generated), split, pid, camid and generated. StudyError if
    two images would have one place.
    """
    kind = kind_of(dataset, layout)
    inner = place_of(dataset, kind, layout)[1]
    columns = ["source", "rel", "old", "split", "pid", "camid", "generated"]
    real = dataset.images()[["path", "rel", "split", "pid", "camid", "generated"]]
    real = real.rename(columns={"path": "source", "rel": "old"})
    table = real.assign(rel=_real_paths(dataset, real, kind, inner))[columns]
    if len(generated):
        made = generated.rename(columns={"image_path": "source"}).assign(
            rel=_generated_paths(dataset, generated, kind, inner),
            old="",
            split="train",
            generated=True,
        )
        table = pd.concat([table, made[columns]], ignore_index=True)
    # In a folder with a table, an image may be in two splits.
    twice = table.duplicated(["rel", "split"]) | (table.duplicated("rel") & (kind != "folder"))
    if twice.any():
        raise StudyError(
            f"Two images of {dataset.name} would both be written to "
            f"{shown(table.loc[twice, 'rel'].iloc[0])}: "
            "number the generated images anew, beyond those already there."
        )
    return table


def _generated_paths(
    dataset: ReIDDataset, generated: pd.DataFrame, kind: str, inner: dict[str, str]
) -> list[str]:
    rows = zip(generated["pid"], generated["camid"], generated["index"], strict=True)
    if kind == "msmt17":
        return [msmt17_name(*row, inner["train"]) for row in rows]
    names = [market_name(*row, _suffix(dataset, kind)) for row in rows]
    if kind == "folder":
        return ["generated/" + PurePosixPath(name).name for name in names]
    return names


def _real_paths(
    dataset: ReIDDataset, real: pd.DataFrame, kind: str, inner: dict[str, str]
) -> list[str]:
    """New relative paths of the real images, in the order of their rows."""
    if kind == "folder":
        return real["old"].tolist()
    if kind == "msmt17":
        sides = ["train" if split == "train" else "test" for split in real["split"]]
        return [
            f"{inner[side]}/{rel.split('/', 1)[1]}"
            for side, rel in zip(sides, real["old"], strict=True)
        ]
    suffix = _suffix(dataset, kind)
    rows = enumerate(real.to_dict("records"))
    stems = [_market_stem(dataset, number, row) for number, row in rows]
    return [
        f"{market1501.SPLITS[split]}/{stem}{suffix}"
        for split, stem in zip(real["split"], stems, strict=True)
    ]


def _suffix(dataset: ReIDDataset, kind: str) -> str:
    """Market-1501's readers look for .jpg only; CUHK03-NP keeps the suffix of its own images."""
    if kind.startswith("np-"):
        return Path(dataset.train["rel"].iloc[0]).suffix
    return ".jpg"


def _market_stem(dataset: ReIDDataset, number: int, row: dict[Any, Any]) -> str:
    """Market-1501's own names stay, but for their ending; others get a name that says the same."""
    name = PurePosixPath(row["old"])
    person = f"{row['pid']:04d}_c{row['camid'] + 1}"
    if dataset.name.startswith("cuhk03") and market1501.NAME.match(name.name) is None:
        return f"{person}_{int(name.stem.split('_')[3])}"  # 1_001_1_01.png of the .mat files
    if dataset.name == folder.FOLDER:
        return f"{person}s1_{number:06d}_00" + ("_gen00" if row["generated"] else "")
    return name.stem


def lists(dataset: ReIDDataset, table: pd.DataFrame) -> dict[str, str]:
    """Contents of MSMT17's four list files, from the rows that `files` gives.

    The usual readers insist that the identities of each list are 0, 1, 2, …. MSMT17-S drops
    identities, so they are numbered anew here, while file names keep the original numbers (as the
    lists under MSMT17-S do).
    """
    val = set()
    if dataset.name == "msmt17" and dataset.protocol.get("train_val"):
        val = {name for name, _ in msmt17.read_list(dataset.folder / msmt17.LISTS["val"])}
    lines: dict[str, list[str]] = {file: [] for file in msmt17.LISTS.values()}
    for side in (["train"], ["query", "gallery"]):
        rows = table[table["split"].isin(side)]
        label = {pid: pid for pid in rows["pid"]}
        if dataset.name != "msmt17":
            label = {pid: number for number, pid in enumerate(sorted(label))}
        for rel, pid, split, made in zip(
            rows["rel"], rows["pid"], rows["split"], rows["generated"], strict=True
        ):
            name = rel.split("/", 1)[1]
            file = "val" if split == "train" and not made and name in val else split
            lines[msmt17.LISTS[file]].append(f"{name} {label[pid]}\n")
    return {file: "".join(own) for file, own in lines.items()}


def folder_table(dataset: ReIDDataset, table: pd.DataFrame) -> pd.DataFrame:
    """`images.csv` of one's own data, from the rows that `files` gives.

    The four columns, `generated`, and what the source knows of its real images. Train and test
    share one numbering there: MSMT17's test identities, which count anew, move behind the
    training's.
    """
    if not dataset.shared_pids:
        train = table["split"] == "train"
        step = int(table.loc[train, "pid"].max()) + 1
        table = table.assign(pid=table["pid"].where(train, table["pid"] + step))
    known = pd.concat([frame.assign(split=split) for split, frame in dataset.tables.items()])
    known = known.set_index(["rel", "split"])
    known = known.drop(columns=["path", "pid", "camid", "generated"])
    # Generated images lack these columns, and 7 is to stay 7 beside a gap, not 7.0.
    with_gaps = dict(KINDS.values())
    kinds = {name: with_gaps.get(str(dtype)) for name, dtype in known.dtypes.items()}
    known = known.astype({name: kind for name, kind in kinds.items() if kind})
    known = known.reindex(pd.MultiIndex.from_frame(table[["old", "split"]])).set_axis(table.index)
    own = table[["rel", "pid", "camid", "split", "generated"]].rename(columns={"rel": "path"})
    return pd.concat([own, known], axis=1)
