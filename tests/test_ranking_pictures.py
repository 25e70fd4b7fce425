"""Ranked-gallery lists against their definition, and what the pictures show."""

import io

import numpy as np
import pytest

from posedive_lib.errors import StudyError
from posedive_lib.reid.image_set import ImageSet
from posedive_lib.reid.ranking_pictures import (
    MARKS,
    PER_LINE,
    picture,
    ranked_gallery,
    typical_queries,
)
from posedive_lib.reid.retrieval import evaluate


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(9, 16))

    def draw(n):
        pids = rng.integers(-1, 8, n)
        return centres[pids] + rng.normal(size=(n, 16)), ImageSet(
            rng.integers(0, 255, (n, 48, 24, 3), dtype=np.uint8), pids, rng.integers(0, 4, n)
        )

    return *draw(20), *draw(80)


def test_lists_are_the_ranking(case):
    qf, query, gf, gallery = case
    result = evaluate(qf, query.pids, query.camids, gf, gallery.pids, gallery.camids)
    chosen = np.flatnonzero(result.valid)[[5, 2]]
    table = ranked_gallery(*case, queries=chosen, top=80)
    assert table["query"].unique().tolist() == chosen.tolist()
    for number, found in table.groupby("query"):
        assert sorted(found.gallery) == list(range(80)) and found.place.tolist() == list(
            range(1, 81)
        )
        cosine = gf[found.gallery] @ qf[number] / np.linalg.norm(gf[found.gallery], axis=1)
        assert (np.diff(cosine) <= 1e-9).all()
        pids, cams = gallery.pids[found.gallery], gallery.camids[found.gallery]
        removed = (pids == -1) | ((pids == query.pids[number]) & (cams == query.camids[number]))
        assert found.kind.tolist() == [
            "not counted" if r else "right" if p == query.pids[number] else "wrong"
            for p, r in zip(pids, removed, strict=True)
        ]
        assert found["rank"].isna().tolist() == removed.tolist() and found[
            "rank"
        ].dropna().tolist() == list(range(1, (~removed).sum() + 1))
        first = found[found.kind == "right"]["rank"].min() - 1
        assert first == result.first_rank[result.valid.cumsum()[number] - 1]


def test_photos_that_do_not_count_can_be_left_out(case):
    whole = ranked_gallery(*case, queries=[0], top=80)
    assert (whole.kind == "not counted").any()
    left = ranked_gallery(*case, queries=[0], top=10, removed=False)
    counted = whole[whole.kind != "not counted"][:10]
    assert left.gallery.tolist() == counted.gallery.tolist()
    assert left.place.tolist() == left["rank"].tolist() == list(range(1, 11))
    legend = picture(left, case[1], case[3]).legends[0].get_texts()
    assert [text.get_text() for text in legend] == ["✓ right", "✗ wrong"]


def test_typical_queries_are_not_the_worst():
    precision = np.array([0.1, np.nan, 0.9, 0.5, 0.7, 0.3, np.nan, 0.2, 0.4])
    assert precision[typical_queries(precision, 3)].tolist() == [0.7, 0.4, 0.2]
    assert typical_queries(precision, 1).tolist() == [8]  # the median of the seven valid ones
    assert sorted(typical_queries(precision, 50)) == [0, 2, 3, 4, 5, 7, 8]


def test_picture_marks_by_sign_and_line_and_keeps_the_aspect(case):
    table = ranked_gallery(*case, count=3, top=10)
    figure = picture(table, case[1], case[3])
    figure.savefig(io.BytesIO())  # lays it out
    shown = [ax for ax in figure.axes if ax.images]
    assert len(shown) == 3 * 11
    for ax in shown:
        box = ax.get_window_extent()
        assert box.height / box.width == pytest.approx(2, rel=0.02)
    assert figure.get_figwidth() < 7  # as wide as a page, so that its words stay large
    lines = {round(ax.get_position().y0, 3) for ax in shown}
    assert len(lines) == 3 * 10 / PER_LINE
    for ax, row in zip(
        [ax for i, ax in enumerate(shown) if i % 11], table.itertuples(), strict=True
    ):
        assert ax.get_title().startswith(MARKS[row.kind][2])
        of_gallery = case[3].pids[row.gallery], case[3].camids[row.gallery]
        assert (row.pid, row.camid) == of_gallery
        assert np.array_equal(ax.images[0].get_array(), case[3].images[row.gallery])
    assert (
        len({str(line) for _, line, _ in MARKS.values()})
        == len({sign for *_, sign in MARKS.values()})
        == 3
    )
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "✓ right",
        "✗ wrong",
        "– not counted",
    ]


def test_a_gallery_shorter_than_the_list(case):
    qf, query, gf, gallery = case
    few = gallery.take(np.flatnonzero(gallery.pids == query.pids[0])[:4])
    table = ranked_gallery(qf, query, gf[:4] * 0 + 1, few, queries=[0])
    assert len(table) == 4 and len(picture(table, query, few).axes) == 5


def test_wrong_queries_are_refused(case):
    with pytest.raises(StudyError, match="from 0 to 19"):
        ranked_gallery(*case, queries=[20])
    with pytest.raises(StudyError, match="top is 0"):
        ranked_gallery(*case, top=0)
