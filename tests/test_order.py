"""With several workers the long tests start first."""

import subprocess
import sys
from pathlib import Path

from order import long_first

COSTS = {"b": 3.0, "e": 9.0, "f": 5.0}
COLLECT = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]


def test_each_worker_begins_with_its_share_of_the_long_ones():
    ordered = long_first(list("abcdefghij"), lambda item: COSTS.get(item, 0.0), 2)
    assert "".join(ordered) == "eacdg" + "fbhij"  # 9 beside 5 + 3; the others in their order
    assert "".join(long_first(list("abcdefghij"), lambda item: COSTS.get(item, 0.0), 1)) == (
        "efbacdghij"
    )
    assert long_first(list("abc"), lambda item: 1.0, 2) == ["a", "c", "b"]
    assert long_first([], lambda item: 1.0, 2) == []


def test_what_follows_a_long_one_stands_behind_it():
    def follows(item: str, leader: str) -> bool:
        return leader == "b" and item in "hi"

    ordered = long_first(list("abcdefghij"), lambda item: COSTS.get(item, 0.0), 2, follows)
    assert "".join(ordered) == "eacdg" + "fbhij"
    ordered = long_first(list("ahbcdefgij"), lambda item: COSTS.get(item, 0.0), 1, follows)
    assert "".join(ordered) == "efbhiacdgj"


def test_the_longest_test_is_the_first_and_those_of_the_book_are_one_worker_s():
    tests = Path(__file__).parent
    files = [tests / f"test_{name}.py" for name in ("captions", "site", "pretrain")]
    shown = subprocess.run([*COLLECT, *files], cwd=tests.parent, capture_output=True, text=True)
    names = [line.split("::")[1] for line in shown.stdout.splitlines() if "::" in line]
    assert names[0] == "test_all_models_are_trained_measured_and_published", shown.stderr
    assert names[1] == "test_every_page_loads_cleanly_and_is_readable_on_a_phone"
    assert names.index("test_claims_tables_and_stages_are_all_there") < 11
