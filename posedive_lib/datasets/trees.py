"""Where each image of a data set goes in a tree that a given code base reads: one table of files per tree.

Code bases look for the same data under different names, and their readers have limits that are kept here: images of Market-1501 trees
end in `.jpg`; identity and camera are the first `<digits>_c<digit>` of the path; MSMT17's camera is the third `_` field of a list's
path, and its identities must count from 0 without gaps in every list.
"""

from pathlib import Path, PurePosixPath

import pandas as pd

from posedive_lib.datasets import cuhk03, folder, market1501, msmt17
from posedive_lib.datasets.table import KINDS, SPLITS, ReIDDataset
from posedive_lib.errors import StudyError

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
    return f"{market1501.SPLITS['train']}/{pid:04d}_c{camid + 1}s1_000000_00_gen{index:02d}{suffix}"


def msmt17_name(pid: int, camid: int, index: int, place: str = "train") -> str:
    """Relative path of a generated image in an MSMT17 tree."""
    return f"{place}/{pid:04d}/{pid:04d}_000_{camid + 1:02d}_generated_0000_0_gen{index:02d}.jpg"


def kind_of(dataset: ReIDDataset, layout: str) -> str:
    """Which tree the layout means for this data set: market, np-labeled, np-detected, msmt17 or folder."""
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
    """(folder below the root "" for none, inner folders of MSMT17's sides) of a tree."""
    version = dataset.protocol.get("version") or "V1"
    if kind == "folder":
        return "", {}
    if kind.startswith("np-"):
        return f"{cuhk03.FOLDER}/{kind[3:]}", {}
    if kind == "market":
        return CODE_BASES["clip-reid" if layout == "source" else layout][0], {}
    name = CODE_BASES["fast-reid" if layout == "source" else layout][1].format(version=version)
    return name, msmt17.PLACES[
        version if "_V" in name else "V1"
    ]  # readers of a folder without a version know train and test only


def files(dataset: ReIDDataset, generated: pd.DataFrame, layout: str) -> pd.DataFrame:
    """One row per file of the tree: source, rel (new), old (rel in the source, "" if generated), split, pid, camid, generated."""
    kind = kind_of(dataset, layout)
    inner = place_of(dataset, kind, layout)[1]
    real = dataset.images()
    suffix = _suffix(dataset, kind, layout)
    if kind == "msmt17":
        rel = [
            f"{inner['train' if row.split == 'train' else 'test']}/{row.rel.split('/', 1)[1]}"
            for row in real.itertuples()
        ]
        name = lambda row: msmt17_name(row.pid, row.camid, row.index, inner["train"])
    elif kind == "folder":
        rel = [row.rel for row in real.itertuples()]
        name = lambda row: (
            "generated/" + market_name(row.pid, row.camid, row.index).rsplit("/", 1)[1]
        )
    else:
        rel = _market_paths(dataset, real, suffix)
        name = lambda row: market_name(row.pid, row.camid, row.index, suffix)
    table = pd.DataFrame(
        {
            "source": real["path"],
            "rel": rel,
            "old": real["rel"],
            "split": real["split"],
            "pid": real["pid"],
            "camid": real["camid"],
            "generated": real["generated"],
        }
    )
    rows = [
        (row.image_path, name(row), "", "train", row.pid, row.camid, True)
        for row in generated.itertuples(index=False, name="Row")
    ]
    table = (
        pd.concat([table, pd.DataFrame(rows, columns=table.columns)], ignore_index=True)
        if rows
        else table
    )
    twice = table[
        table.duplicated(["rel", "split"]) | (table.duplicated("rel") & (kind != "folder"))
    ]
    if len(twice):
        raise StudyError(
            f"Two images of {dataset.name} would both be written to {twice['rel'].iloc[0]}: number the generated images anew, beyond those already there."
        )
    return table


def _suffix(dataset: ReIDDataset, kind: str, layout: str) -> str:
    """Market-1501's readers look for .jpg only; CUHK03-NP keeps the suffix of its own images, so that one pattern finds all."""
    if kind.startswith("np-"):
        return Path(dataset.train["rel"].iloc[0]).suffix
    return ".jpg"


def _market_paths(dataset: ReIDDataset, real: pd.DataFrame, suffix: str) -> list[str]:
    """Market-1501's own names stay, but for their ending; others get a name that says the same."""
    paths = []
    for number, row in enumerate(real.itertuples()):
        name = PurePosixPath(row.rel)
        if (
            dataset.name.startswith("cuhk03") and market1501.NAME.match(name.name) is None
        ):  # 1_001_1_01.png of the .mat files
            stem = f"{row.pid:04d}_c{row.camid + 1}_{int(name.stem.split('_')[3])}"
        elif dataset.name == folder.FOLDER:
            stem = f"{row.pid:04d}_c{row.camid + 1}s1_{number:06d}_00" + (
                "_gen00" if row.generated else ""
            )
        else:
            stem = name.stem
        paths.append(f"{market1501.SPLITS[row.split]}/{stem}{suffix}")
    return paths


def lists(dataset: ReIDDataset, table: pd.DataFrame) -> dict[str, str]:
    """Contents of MSMT17's four list files.

    The usual readers insist that the identities of each list are 0, 1, 2, …: for MSMT17-S, which drops identities, they are numbered anew
    here, while file names keep the original numbers (the lists under MSMT17-S do so, too).
    """
    val = set()
    if dataset.name == "msmt17" and dataset.protocol.get("train_val"):
        val = {name for name, _ in msmt17.read_list(dataset.folder / msmt17.LISTS["val"])}
    anew = dataset.name != "msmt17"
    texts = dict.fromkeys(msmt17.LISTS.values(), "")
    for side in (["train"], ["query", "gallery"]):
        rows = table[table["split"].isin(side)]
        label = {
            pid: number if anew else pid for number, pid in enumerate(sorted(rows["pid"].unique()))
        }
        for split in side:
            own = rows[rows["split"] == split]
            below = [rel.split("/", 1)[1] for rel in own["rel"]]
            in_val = (
                [
                    not made and name in val
                    for name, made in zip(below, own["generated"], strict=True)
                ]
                if split == "train"
                else [False] * len(own)
            )
            for file, chosen in ((msmt17.LISTS[split], False), (msmt17.LISTS["val"], True)):
                texts[file] += "".join(
                    f"{name} {label[pid]}\n"
                    for name, pid, v in zip(below, own["pid"], in_val, strict=True)
                    if v == chosen
                )
    return texts


def folder_table(dataset: ReIDDataset, table: pd.DataFrame) -> pd.DataFrame:
    """`images.csv` of one's own data: the four columns, `generated`, and what the source knows of its real images."""
    known = pd.concat([getattr(dataset, split).assign(split=split) for split in SPLITS]).set_index(
        ["rel", "split"]
    )
    known, with_gaps = (
        known.drop(columns=["path", "pid", "camid", "generated"]),
        dict(KINDS.values()),
    )
    known = known.astype(
        {
            name: with_gaps[str(dtype)]
            for name, dtype in known.dtypes.items()
            if str(dtype) in with_gaps
        }
    )  # 7 stays 7, not 7.0
    known = known.reindex(pd.MultiIndex.from_frame(table[["old", "split"]])).set_axis(table.index)
    return pd.concat(
        [
            table[["rel", "pid", "camid", "split", "generated"]].rename(columns={"rel": "path"}),
            known,
        ],
        axis=1,
    )


def shared_numbers(dataset: ReIDDataset, table: pd.DataFrame) -> pd.DataFrame:
    """In a folder's table train and test share one numbering: MSMT17's test identities, which count anew, move behind the training's."""
    if dataset.shared_pids:
        return table
    step = int(table.loc[table["split"] == "train", "pid"].max()) + 1
    return table.assign(pid=table["pid"].where(table["split"] == "train", table["pid"] + step))
