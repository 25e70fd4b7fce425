"""Figures and tables: every picture has its texts and data beside it.

Equal results give equal bytes, whatever the user's matplotlibrc says.
"""

import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from posedive_lib.bench import figures, tables
from posedive_lib.errors import StudyError
from posedive_lib.study.names import WORDS


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@figures.style()
def line() -> plt.Figure:
    fig, axes = plt.subplots()
    axes.plot([0, 1], **figures.arm_style("pose-dive"))
    return fig


def test_a_figure_comes_with_everything(inside):
    others = plt.get_fignums()
    table = pd.DataFrame({"x": [1, 2], "y": [1 / 3, 2.0]})
    figures.save(line(), "05/gain", data=table, caption="mAP\n  by arm.", alt="A rising line.")
    folder = inside / "reports/figures/05"
    assert sorted(path.name for path in folder.iterdir()) == [
        "gain.csv",
        "gain.md",
        "gain.png",
        "gain.svg",
    ]
    assert (
        (folder / "gain.md").read_text().startswith("![A rising line.](gain.png)\n\nmAP by arm.\n")
    )
    assert (folder / "gain.csv").read_text() == "x,y\n1,0.333333\n2,2\n"
    before = {path: path.read_bytes() for path in folder.iterdir()}
    figures.save(line(), "05/gain", data=table, caption="mAP by arm.", alt="A rising line.")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert plt.get_fignums() == others


DRAWN = """
import matplotlib
matplotlib.use("Agg")
import numpy as np, pandas as pd
from posedive_lib.bench import figures
from posedive_lib.bench.charts import estimates
row = {"dataset": "a", "arm": "oracle", "difference": 2.0, "ci_low": 1.0, "ci_high": 3.0}
table = pd.DataFrame([{**row, "metric": "mAP", "baseline": "real"}])
pixels = np.arange(96, dtype=np.uint8).reshape(8, 4, 3)
photos = figures.image_grid([[pixels]], row_labels=["r"], captions=[["c"]], title="t")
figures.save(estimates.forest(table), "forest", caption="c", alt="a")
figures.save(photos, "photos", caption="c", alt="a")
"""


def test_a_users_matplotlibrc_changes_no_figure(inside, monkeypatch):
    drawn = []
    for settings in ("", "font.size: 30\nsavefig.transparent: True\nsavefig.bbox: tight\n"):
        (inside / "matplotlibrc").write_text(settings)
        monkeypatch.setenv("MATPLOTLIBRC", str(inside / "matplotlibrc"))
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        subprocess.run([sys.executable, "-c", DRAWN], check=True)
        drawn.append({p.name: p.read_bytes() for p in (inside / "reports/figures").iterdir()})
    assert drawn[0] == drawn[1]
    assert set(drawn[0]) == {"forest.md", "forest.png", "forest.svg", "photos.jpg", "photos.md"}


def test_the_look_of_figures_is_nobody_elses():
    before = dict(matplotlib.rcParams)
    with figures.style():
        assert matplotlib.rcParams["axes.titlesize"] == 12
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("texts", [{"caption": " ", "alt": "a"}, {"caption": "c", "alt": ""}])
def test_a_figure_needs_its_texts(inside, texts):
    with pytest.raises(StudyError, match="Figure f has no"):
        figures.save(line(), "f", **texts)
    assert not (inside / "reports").exists()


def test_unwritable_reports_are_named(inside):
    (inside / "reports").write_text("")
    with pytest.raises(StudyError, match="reports/figures/f.png cannot be written"):
        figures.save(line(), "f", caption="c", alt="a")


def test_arms_differ_in_colour_marker_and_line():
    styles = [figures.arm_style(arm) for arm in figures.ARMS]
    for key in ("color", "marker", "linestyle"):
        assert len({str(style[key]) for style in styles}) == len(styles)
    with pytest.raises(StudyError, match="is no arm"):
        figures.arm_style("posedive")


def test_a_number_stays_with_its_word():
    assert figures.wrapped("walk_fast_1", 11) == "walk fast 1"
    assert figures.wrapped("walk_fast_1") == "walk\nfast 1"
    assert figures.wrapped("raised_arms") == "raised\narms"


def test_image_grid_keeps_the_shape_of_its_images(inside):
    image = np.zeros((128, 64, 3), dtype=np.uint8)
    fig = figures.image_grid(
        [[image, None], [image[..., :1], image]],
        row_labels=["a", "b"],
        column_labels=["x", "y"],
        captions=[["1", None], [None, "2"]],
    )
    fig.canvas.draw()
    boxes = [axes.get_window_extent() for axes in fig.axes]
    assert all(box.height / box.width == pytest.approx(2, rel=0.02) for box in boxes)
    figures.save(fig, "grid", caption="c", alt="a")
    assert not (inside / "reports/figures/grid.svg").exists()


def test_image_grid_refuses_mixed_sizes_and_types():
    with pytest.raises(StudyError, match="images of one size"):
        figures.image_grid([[np.zeros((4, 2, 3), np.uint8), np.zeros((8, 4, 3), np.uint8)]])
    with pytest.raises(StudyError, match="uint8"):
        figures.image_grid([[np.zeros((4, 2, 3))]])


@pytest.mark.parametrize("rows, folded", [(12, False), (13, True)])
def test_a_long_table_is_folded_in_a_notebook(rows, folded, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.get_ipython", lambda: object())
    monkeypatch.setattr("IPython.display.display", lambda page: shown.append(page.data))
    tables.show(pd.DataFrame({"x": range(rows)}), caption="All of\n them.")
    assert len(shown) == 1 and shown[0].count("<tr") == rows + 1
    assert ("<summary>All of them. (13 rows)</summary>" in shown[0]) == folded
    assert ("<caption>All of them.</caption>" in shown[0]) == (not folded)


def test_a_page_may_show_fewer_columns_than_the_file_has(inside, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.get_ipython", lambda: object())
    monkeypatch.setattr("IPython.display.display", lambda page: shown.append(page.data))
    tables.save(pd.DataFrame({"a": [1], "b": [2], "c": [3]}), "t", caption="T.", columns=["c", "a"])
    assert (inside / "reports/tables/t.csv").read_text() == "a,b,c\n1,2,3\n"
    assert re.findall("<t[hd]>(.)</t[hd]>", shown[0]) == ["c", "a", "3", "1"]


def test_a_page_may_call_things_otherwise_than_the_file(inside, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.get_ipython", lambda: object())
    monkeypatch.setattr("IPython.display.display", lambda page: shown.append(page.data))
    table = pd.DataFrame({"dataset": ["msmt17"], "metric": ["rank1"], "n": [3]})
    tables.save(table, "t", caption="T.", names=WORDS)
    assert (inside / "reports/tables/t.csv").read_text() == "dataset,metric,n\nmsmt17,rank1,3\n"
    assert re.findall("<td>(.*)</td>", shown[0]) == ["MSMT17", "rank-1", "3"]
    assert table.loc[0, "dataset"] == "msmt17"


def test_a_page_joins_what_a_row_compares_and_folds_the_whole_table(inside, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.get_ipython", lambda: object())
    monkeypatch.setattr("IPython.display.display", lambda page: shown.append(page.data))
    known = {"dataset": ["msmt17"] * 2, "arm": ["oracle", "pose"], "baseline": ["real"] * 2}
    gains = {"difference": [1.234, np.nan], "ci_low": [-1.0, np.nan], "ci_high": [2.0, np.nan]}
    table = pd.DataFrame(known | gains | {"verdict": ["gain", "–"], "p": [0.031, 1.0]})
    first, columns = "{dataset}: {arm} against {baseline}", ["verdict", "difference", "p"]
    page = tables.brief(table, first, columns, names=WORDS)
    assert page.columns.tolist() == ["comparison", "verdict", "difference [95 %]", "p"]
    assert page.iloc[0, :3].tolist() == [
        "MSMT17: oracle against real",
        "gain",
        "+1.23 [-1.00, +2.00]",
    ]
    assert page.iloc[1, 2] == "–"
    tables.save(table, "t", caption="T.", page=page, names=WORDS)
    seen, whole = shown[0].split("<details>")
    assert "<caption>T.</caption>" in seen and "ci_low" not in seen
    assert "<summary>All 8 columns of this table</summary>" in whole and "ci_low" in whole
    assert (inside / "reports/tables/t.csv").read_text().startswith("dataset,arm,baseline,diff")
    share = pd.DataFrame({"kind": ["bag"], "rate": [0.5], "low": [0.25], "high": [0.75]})
    assert tables.brief(share, "{kind}", ["rate"], title="kind").to_numpy().tolist() == [
        ["bag", "0.50 [0.25, 0.75]"]
    ]
    assert tables.brief(table[:0], first, columns).columns.tolist() == page.columns.tolist()


def test_a_folded_text_is_markdown_still():
    assert tables.folded("More", "* one\n") == (
        "<details><summary>More</summary>\n\n* one\n\n</details>"
    )


def test_tables(inside):
    tables.save(
        pd.DataFrame({"dataset": ["msmt17"], "mAP": [12.3456789]}), "comparison", caption="Gain."
    )
    assert (inside / "reports/tables/comparison.csv").read_text() == "dataset,mAP\nmsmt17,12.3457\n"
    with pytest.raises(StudyError, match="Table comparison has no caption"):
        tables.save(pd.DataFrame(), "comparison", caption="")
    with pytest.raises(StudyError, match="A table of a, b has no caption"):
        tables.show(pd.DataFrame({"a": [1], "b": [2]}), caption=" ")
