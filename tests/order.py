"""The order of the tests: with several workers the long ones start first, on all of them."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest

T = TypeVar("T")


def seconds(item: pytest.Item) -> float:
    """About how long a test takes, by its mark `slow`; 0 without one."""
    marker = item.get_closest_marker("slow")
    return marker.kwargs["seconds"] if marker else 0.0


def follows(item: pytest.Item, leader: pytest.Item) -> bool:
    """Whether a test uses the fixture that the mark of a long test names: what makes that long."""
    shared = leader.get_closest_marker("slow").kwargs.get("fixture")
    return shared in item.fixturenames and item.path == leader.path and not seconds(item)


def long_first(
    items: Sequence[T],
    cost: Callable[[T], float],
    workers: int,
    follows: Callable[[T, T], bool] = lambda item, leader: False,
) -> list[T]:
    """Items in the order in which `--dist worksteal` should get them.

    It cuts the list into `workers` equal runs, and an idle worker takes from the end of another's
    run. So each run begins with its share of the items that cost something, the longest first. The
    items that follow such a one stand behind it: the others would wait for what it makes. The rest
    keep their order.
    """
    rest = [item for item in items if not cost(item)]
    heads: list[list[T]] = [[] for _ in range(workers)]
    for leader in sorted(filter(cost, items), key=cost, reverse=True):
        group = [item for item in rest if follows(item, leader)]
        rest = [item for item in rest if item not in group]
        min(heads, key=lambda head: sum(map(cost, head))).extend([leader, *group])
    ordered: list[T] = []
    for number, head in enumerate(heads):
        end = len(items) * (number + 1) // workers
        others = max(0, end - len(ordered) - len(head))
        ordered += head + rest[:others]
        del rest[:others]
    return ordered + rest
