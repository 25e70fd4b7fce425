"""The check of an exercise says "not yet", "right", or which case is wrong."""

import numpy as np
import pytest

from posedive_lib.bench.exercise import check
from posedive_lib.errors import StudyError


def library(values):
    return np.mean(values)


def untouched(values):
    """Nothing yet."""


CASES = ([1.0, 2.0],), ([0.0, 0.0, 3.0],)


def test_an_untouched_exercise_is_no_error(capsys):
    check(untouched, library, *CASES)
    assert capsys.readouterr().out == "untouched is not filled in yet.\n"


def test_a_right_answer_is_told_so(capsys):
    check(lambda values: sum(values) / len(values), library, *CASES)
    assert "is right: it agrees with the library in 2 cases" in capsys.readouterr().out


def test_a_wrong_answer_names_its_case():
    with pytest.raises(AssertionError, match="Case 2: <lambda> gives 0.0, the library 1.0"):
        check(lambda values: float(np.median(values)), library, *CASES)


@pytest.mark.parametrize("answer", [None, "text", [1.0, 1.0], (1.0, 1.0)])
def test_what_is_no_answer_is_wrong(answer):
    with pytest.raises(AssertionError):
        check(lambda values: 1.5 if len(values) == 2 else answer, library, *CASES)


def test_several_results_are_all_compared():
    both = lambda values: (min(values), max(values))  # noqa: E731
    check(both, both, *CASES)
    with pytest.raises(AssertionError, match="Case 1"):
        check(lambda values: (min(values), min(values)), both, *CASES)
    with pytest.raises(AssertionError, match="Case 1"):
        check(lambda values: (min(values),), both, *CASES)


def test_nothing_to_check_is_refused():
    with pytest.raises(StudyError, match="untouched is checked on no case"):
        check(untouched, library)
