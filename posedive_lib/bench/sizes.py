"""How large the active study's data sets are, also before they are rendered or downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from posedive_lib import datasets
from posedive_lib.bench.reports import own_data
from posedive_lib.errors import StudyError

if TYPE_CHECKING:
    from posedive_lib.params import Params

# Training images, identities, query and gallery images as their authors publish them.
PUBLISHED = {
    "market1501": (12936, 751, 3368, 15913),
    "msmt17": (32621, 1041, 11659, 82161),
    "cuhk03-labeled": (7368, 767, 1400, 5328),
    "cuhk03-detected": (7365, 767, 1400, 5332),
}


@dataclass(frozen=True)
class Size:
    """Images and identities of a data set; source says where the numbers are from."""

    train: int
    pids: int
    query: int
    gallery: int
    source: str = "read"

    @property
    def images(self) -> int:
        return self.train + self.query + self.gallery


def size_of(P: Params, name: str) -> Size:
    """Read where the set is; else of the mini world that will be rendered, or published."""
    try:
        data = datasets.of_study(name, P.paths)
        pids = data.train["pid"].nunique()
        return Size(len(data.train), pids, len(data.query), len(data.gallery))
    except StudyError:
        pass
    if name.startswith("msmt17-s-"):
        whole = size_of(P, "msmt17")
        train, half = whole.train * 3 // 4, (whole.query // 2, whole.gallery // 2)
        return Size(train, whole.pids, *half, "assumed: parts of MSMT17")
    if not own_data(P.paths.datasets):
        part: dict[str, Any] = getattr(P.world, name.split("-")[0]).model_dump()
        each = part.get("images_per_pid")
        train = part["train_pids"] * (each or part["images_per_train_pid"])
        test = part["test_pids"] * (each or part["images_per_test_pid"])
        more = part.get("distractors", 0) + part.get("junk", 0)
        return Size(train, part["train_pids"], test // 5, test - test // 5 + more, "params.world")
    if name in PUBLISHED:
        return Size(*PUBLISHED[name], "published: the set was not found")
    raise StudyError(f"{name} was not found in {P.paths.datasets}: its size is unknown.")
