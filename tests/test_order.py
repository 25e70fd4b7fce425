"""With several workers the long tests start first."""

import subprocess
import sys
from pathlib import Path

from order import long_first

COSTS = {"b": 3.0, "e": 9.0, "f": 5.0}


def test_each_worker_begins_with_its_share_of_the_long_ones():
    ordered = long_first(list("abcdefghij"), lambda item: COSTS.get(item, 0.0), 2)
    assert "".join(ordered) == "eacdg" + "fbhij"  # 9 beside 5 + 3; the others in their order
    assert "".join(long_first(list("abcdefghij"), lambda item: COSTS.get(item, 0.0), 1)) == (
        "efbacdghij"
    )
    assert long_first(list("abc"), lambda item: 1.0, 2) == ["a", "c", "b"]
    assert long_first([], lambda item: 1.0, 2) == []


def test_the_longest_test_is_the_first():
    tests = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    files = [tests / "test_captions.py", tests / "test_pretrain.py"]
    shown = subprocess.run([*command, *files], cwd=tests.parent, capture_output=True, text=True)
    assert shown.stdout.startswith("tests/test_pretrain.py::"), shown.stdout + shown.stderr
