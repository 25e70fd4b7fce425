"""What would spoil a result of a data set: one function per check, one sentence per finding."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from posedive_lib.datasets.folder import FOLDER
from posedive_lib.datasets.images import FLAT
from posedive_lib.datasets.table import ReIDDataset
from posedive_lib.datasets.unread import unread_files
from posedive_lib.errors import StudyError, shown

ALIKE = 2  # grey levels that the 72 means of two copies of a photo differ on average, at most
SMALLEST = 16  # pixels: a side below it shows no person
# Kind of equal files -> whether it is a problem, and what to say.
EQUAL = {
    "leak": (True, "are in training and in test: remove them from one side"),
    "self": (
        True,
        "are query and gallery at once, under two cameras, and find themselves: "
        "remove them from the gallery",
    ),
    "labels": (False, "carry two identities: find out which is right"),
    "twice": (False, "occur more than once"),
}


@dataclass(frozen=True)
class Finding:
    """One sentence about a data set; `problem` if results would be wrong or a run would fail."""

    problem: bool
    text: str

    def __str__(self) -> str:
        return f"{'PROBLEM' if self.problem else 'note'}: {self.text}"


def problem(text: str) -> Finding:
    """A finding that makes results wrong or a run fail."""
    return Finding(True, text)


def note(text: str) -> Finding:
    """A finding that a reader of the numbers should know."""
    return Finding(False, text)


def _some(items: Iterable[object], count: int = 3) -> str:
    """The first items, and how many more there are."""
    names = [shown(item) for item in items]
    more = f" and {len(names) - count:,} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def unreadable(images: pd.DataFrame) -> Iterator[Finding]:
    """Files that cannot be read, or hold no image."""
    bad = images[images["error"] != ""].drop_duplicates("path")
    denied = bad["error"] == "Permission denied"
    for files, text, mend in (
        (bad[denied], "cannot be read", "make them readable"),
        (
            bad[~denied],
            "is not a readable image",
            "restore them, or remove them and their lines in the lists",
        ),
    ):
        if len(files):
            first, *others = files["path"]
            more = f", and {len(others):,} more: {_some(others)}" if others else ""
            reason = files["error"].iloc[0]
            yield problem(f"{shown(first)} {text} ({reason}){more}: {mend}.")


def unread(dataset: ReIDDataset) -> Iterator[Finding]:
    """Pictures in the data set's folders that are in none of its tables, and companion files."""
    try:
        found = unread_files(dataset)
    except StudyError as error:  # a folder that may not be read; the other checks go on
        yield problem(str(error))
        return
    if found.pictures:
        # Where a table or a list chooses the images, others may lie beside them on purpose.
        chosen = dataset.name == FOLDER or dataset.name.startswith("msmt17")
        yield Finding(
            not chosen,
            f"{len(found.pictures):,} images are there but not read "
            f"({_some(found.pictures, 1)}): {found.mend}.",
        )
    if found.companions:
        yield note(
            f"{len(found.companions):,} hidden files and files of file managers are skipped "
            f"({_some(found.companions, 1)})."
        )


def valid_queries(query: pd.DataFrame, gallery: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """(has a true match at all, has one from another camera), boolean per query row."""
    seen = gallery[["pid", "camid"]].drop_duplicates()
    cameras = query["pid"].map(seen["pid"].value_counts()).fillna(0)
    same_camera = query[["pid", "camid"]].merge(
        seen.assign(own=1), on=["pid", "camid"], how="left"
    )["own"]
    return cameras > 0, cameras - same_camera.fillna(0).to_numpy() > 0


def matches(dataset: ReIDDataset) -> Iterator[Finding]:
    """Queries that cannot be scored: all true matches come from their own camera, or none is."""
    if dataset.query.empty:
        yield note(
            "There are training images only: they can be augmented and trained on, but nothing "
            "can be evaluated; for that add query and gallery images."
        )
        return
    known, valid = valid_queries(dataset.query, dataset.gallery)
    count, same, none = len(valid), int((known & ~valid).sum()), int((~known).sum())
    if same == count:
        cams = sorted({*dataset.query["camid"] + 1, *dataset.gallery["camid"] + 1})
        one = f" (all are camera {cams[0]})" if len(cams) == 1 else ""
        yield problem(
            f"All {count:,} queries share their camera with every true match{one}, so none can be "
            "scored: camera numbers were lost or never set; give each camera its own, in query "
            "and gallery alike."
        )
    elif none == count:
        yield problem(
            f"None of the {count:,} queries has its identity in the gallery: query and gallery "
            "must number identities alike, so check the names or lists of both."
        )
    elif not valid.any():
        yield problem(
            f"None of the {count:,} queries can be scored: {same:,} share their camera with every "
            f"true match, and {none:,} have no image of their identity in the gallery; check "
            "identities and cameras."
        )
    elif same + none:
        yield note(
            f"{same + none:,} of {count:,} queries have no valid match ({same:,} share their "
            f"camera with every true match, {none:,} have none in the gallery) and do not count "
            "in mAP and ranks."
        )


def shared_identities(dataset: ReIDDataset) -> Iterator[Finding]:
    """People who are in training and in test, where the numbers say so."""
    if not dataset.shared_pids:
        return
    tested = {*dataset.query["pid"], *dataset.gallery["pid"]}
    if dataset.name == "market1501":
        tested -= {0}  # distractors
    both = sorted(set(dataset.train["pid"]) & tested)
    if both:
        yield problem(
            f"{len(both):,} identities are in training and in test ({_some(both)}): "
            "results would be too good; remove them from one side, "
            "or number the test anew if they are other people."
        )


def sampler(dataset: ReIDDataset, batch_size: int, instances: int) -> Iterator[Finding]:
    """Whether training can draw batches of P identities × K images."""
    per_person = dataset.train["pid"].value_counts()
    people = batch_size // instances
    if len(per_person) < 2:
        yield problem(
            f"Training has {len(per_person)} identity: Re-ID training needs at least two, "
            "so add people to the training set."
        )
    elif len(per_person) < people:
        yield note(
            f"Training has {len(per_person):,} identities, fewer than the {people} of a batch "
            f"(P = {batch_size} / {instances}): batches hold more images of each here, but other "
            "code bases draw no batch at all; lower the batch size there."
        )
    few = int((per_person < instances).sum())
    if few:
        yield note(
            f"{few:,} training identities have fewer than {instances} images (K of PK sampling): "
            "some of theirs repeat within a batch."
        )


def cameras(dataset: ReIDDataset) -> Iterator[Finding]:
    """Cameras that a camera embedding (SIE) would not know."""
    trained = sorted(set(dataset.train["camid"]))
    new = sorted({*dataset.query["camid"], *dataset.gallery["camid"]} - set(trained))
    if new:
        yield note(
            f"Test cameras (camid + 1) {_some([camera + 1 for camera in new], 6)} are not in "
            "training: a camera embedding (SIE) has nothing learned for them, so leave it off."
        )
    if trained[-1] + 1 != len(trained):
        yield note(
            f"Training cameras (camid + 1) are {_some([camera + 1 for camera in trained], 8)}: "
            "numbers are left out, and code bases that count cameras for their embedding (SIE) "
            "would fail; number them 1, 2, …."
        )


def duplicates(images: pd.DataFrame) -> Iterator[Finding]:
    """Equal files: in training and test, in query and gallery, of two identities, or just twice."""
    files = images[(images["digest"] != "") & images.duplicated("digest", keep=False)]
    found: dict[str, list[str]] = {kind: [] for kind in EQUAL}
    for _, group in files.groupby("digest", sort=False):
        found[_equality(group)].append(" = ".join(map(shown, group["rel"].iloc[:2])))
    for kind, (wrong, text) in EQUAL.items():
        if found[kind]:
            files_of = f"{len(found[kind]):,} files with equal content {text}"
            yield Finding(wrong, f"{files_of} ({_some(found[kind], 2)}).")


def _equality(group: pd.DataFrame) -> str:
    """Which kind of `EQUAL` the rows of one content are, the worst first."""
    splits = set(group["split"])
    if "train" in splits and len(splits) > 1:
        return "leak"
    query, gallery = (group[group["split"] == split] for split in ("query", "gallery"))
    crossing = query.merge(gallery, on="identity")
    if (crossing["camid_x"] != crossing["camid_y"]).any():
        return "self"
    return "labels" if group["identity"].nunique() > 1 else "twice"


def look_alikes(images: pd.DataFrame) -> Iterator[Finding]:
    """Photos in training and in test that look the same but are stored as different files.

    The difference hash of a photo's 8 x 9 grey means says where a mean rises to the right. Photos
    meet where half of its rows are equal. Of each half only one photo per side is compared, so time
    grows with the number of photos alone.
    """
    seen = images[images["look"] != b""]
    look = np.frombuffer(b"".join(seen["look"]), np.uint8).astype(int).reshape(-1, 8, 9)
    seen = seen.assign(row=np.arange(len(seen)))[np.ptp(look, axis=(1, 2)) >= FLAT]
    rows_of_hash = np.packbits(np.diff(look) > 0, axis=2)[seen["row"], :, 0]  # (N, 8) bytes
    train = seen["split"] == "train"
    found = []
    for quarters in combinations(range(4), 2):
        half = np.ascontiguousarray(rows_of_hash.reshape(-1, 4, 2)[:, quarters].reshape(-1, 4))
        keyed = seen.assign(half=half.view(np.uint32)[:, 0])
        one, other = (side.drop_duplicates("half") for side in (keyed[train], keyed[~train]))
        found.append(one.merge(other, on="half", suffixes=("", "_test")))
    pairs = pd.concat(found).drop_duplicates("row_test")
    apart = np.abs(look[pairs["row"]] - look[pairs["row_test"]]).mean(axis=(1, 2))
    pairs = pairs[(apart <= ALIKE) & (pairs["digest"] != pairs["digest_test"])]
    if len(pairs):
        names = [f"{a} and {b}" for a, b in zip(pairs["rel"], pairs["rel_test"], strict=True)]
        yield note(
            f"{len(pairs):,} pairs of photos in training and in test look the same though their "
            f"files differ ({_some(names, 1)}): look at them, and remove copies from one side."
        )


def sizes(images: pd.DataFrame) -> Iterator[Finding]:
    """Boxes that hold no upright person."""
    good = images[images["error"] == ""].drop_duplicates("path")
    wide = good[good["width"] > good["height"]]
    small = good[good[["width", "height"]].min(axis=1) < SMALLEST]
    for odd, text in (
        (wide, "are wider than tall: whole scenes, or boxes turned by 90°"),
        (small, f"have a side below {SMALLEST} pixels: boxes of almost nothing"),
    ):
        if len(odd):
            row = odd.iloc[0]
            yield note(
                f"{len(odd):,} images {text} ({shown(row['rel'])} is {row['height']} x "
                f"{row['width']}, height x width); look at them, and remove what shows no person."
            )


def turned(images: pd.DataFrame) -> Iterator[Finding]:
    """Photos that other code bases see lying on their side."""
    odd = images[images["turned"]].drop_duplicates("path")
    if len(odd):
        yield note(
            f"{len(odd):,} images are turned by their EXIF orientation here and in fast-reid, "
            "but not in CLIP-ReID, TransReID and torchreid "
            f"({shown(odd['rel'].iloc[0])}); save them upright for those."
        )


def version(dataset: ReIDDataset) -> Iterator[Finding]:
    """MSMT17's version 2."""
    if dataset.protocol.get("version") == "V2":
        yield note(
            "This is MSMT17 version 2, with masked faces: results differ by 2 to 5 points of mAP "
            "from version 1, so never compare the two."
        )
