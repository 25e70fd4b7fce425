"""Charts: the numbers behind them, and what the pictures must show."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from posedive_lib.bench import figures
from posedive_lib.bench.charts import azimuths, curves, estimates, roc, worlds
from posedive_lib.errors import StudyError
from posedive_lib.study.names import in_order


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def differences() -> pd.DataFrame:
    rows = [
        ("a", "repeat", 0.1, -0.2, 0.4),
        ("a", "oracle", 2.0, 1.0, 3.0),
        ("b", "repeat", -1.0, -2.0, -0.5),
        ("b", "pose-dive", 0.3, np.nan, np.nan),
    ]
    return pd.DataFrame(rows, columns=["dataset", "arm", "difference", "ci_low", "ci_high"]).assign(
        metric="mAP", baseline="real"
    )


def test_a_forest_plot_shows_every_row_and_which_exclude_zero():
    fig = estimates.forest(differences())
    (axes,) = fig.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        "repeat",
        "oracle",
        "repeat",
        "pose-dive",
    ]
    points = {
        line.get_xdata()[0]: line.get_markerfacecolor()
        for line in axes.lines
        if len(line.get_xdata()) == 1
    }
    assert (
        points[0.1] == points[0.3] == "white"
        and points[2.0] == figures.arm_style("oracle")["color"]
        and points[-1.0] != "white"
    )
    assert [text.get_text().strip() for text in axes.texts] == ["a", "b"]
    assert axes.get_xlabel() == "mAP against real (percentage points)"


def test_a_forest_plot_goes_by_the_verdict_where_there_is_one():
    """An interval above 0 is no gain where the test does not pass."""
    verdicts = ["no effect shown", "gain", "no effect shown", "no effect shown"]
    (axes,) = estimates.forest(differences().assign(verdict=verdicts)).axes
    faces = [line.get_markerfacecolor() for line in axes.lines if len(line.get_xdata()) == 1]
    assert [face == "white" for face in faces] == [True, False, True, True]


def test_data_sets_stand_in_the_order_of_every_page():
    sets = ["market1501", "my photos", "msmt17-s-cam", "market1501"]
    ordered = in_order(pd.DataFrame({"dataset": sets, "arm": ["b", "x", "y", "a"]}))
    assert ordered["dataset"].tolist() == [sets[2], sets[0], sets[0], sets[1]]
    assert ordered["arm"].tolist() == ["y", "b", "a", "x"]  # else as they came


def test_a_forest_plot_mixes_no_metrics():
    with pytest.raises(StudyError, match="one metric against one baseline"):
        estimates.forest(pd.concat([differences(), differences().assign(metric="rank1")]))


def test_bands_show_mean_and_interval():
    table = pd.DataFrame(
        {
            "n": [0, 5, 0, 5],
            "metric": ["mAP", "mAP", "rank1", "rank1"],
            "mean": [1.0, 2, 3, 4],
            "ci_low": [0.5, 1, 2, 3],
            "ci_high": [2.0, 3, 4, 5],
        }
    )
    for axes in curves.bands(table, "n", xlabel="images").axes:  # noise is no mountain
        assert np.ptp(axes.get_ylim()) == pytest.approx(curves.SPAN)
    fig = curves.bands(table, "n", xlabel="images", before={"mAP": 1.5})
    assert [axes.get_ylabel() for axes in fig.axes] == ["mAP (%)", "rank-1 (%)"]
    assert (
        fig.axes[0].collections
        and fig.axes[0].get_legend().get_texts()[0].get_text() == "real images alone"
    )
    assert fig.axes[0].lines[0].get_marker() != fig.axes[1].lines[0].get_marker()


def test_gains_have_a_line_per_arm_and_a_zero():
    table = pd.DataFrame(
        {
            "border": [30.0, 90.0, 30.0, 90.0],
            "arm": ["pose-dive", "pose-dive", "oracle", "oracle"],
            "difference": [2.0, -1.0, 4.0, 1.0],
            "ci_low": [1.0, -2.0, 3.0, np.nan],
            "ci_high": [3.0, 0.0, 5.0, np.nan],
        }
    )
    (axes,) = curves.gains(table, "border", xlabel="degrees").axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["pose-dive", "oracle"]
    assert axes.get_xticks().tolist() == [30.0, 90.0] and len(axes.collections) >= 2


@pytest.mark.parametrize("verdicts", [[], ["gain", "no effect shown", "no effect shown", "gain"]])
def test_gains_are_open_where_no_effect_is_shown(verdicts):
    """By the verdict, or without one where the interval contains 0."""
    table = pd.DataFrame({"border": [30.0, 90.0] * 2, "arm": ["pose-dive"] * 2 + ["oracle"] * 2})
    table = table.assign(difference=[2.0, 1.0, 4.0, -1.0], ci_low=[1.0, 0.5, 3.0, -2.0])
    table = table.assign(
        ci_high=[3.0, 1.5, 5.0, 0.5], **({"verdict": verdicts} if verdicts else {})
    )
    (axes,) = curves.gains(table, "border", xlabel="degrees").axes
    lines = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert [y for line in lines for y in line.get_ydata()] == ([1.0, 4.0] if verdicts else [-1.0])


def test_the_heat_map_writes_each_number_into_its_cell():
    table = pd.DataFrame(
        {"query": [0, 0, 90], "gallery": [0, -180, 90], "difference": [1.0, -2.0, -0.4]}
    )
    fig = azimuths.heat_map(table, label="gain")
    texts = {(text.get_position()): text.get_text() for text in fig.axes[0].texts}
    assert sorted(texts.values()) == ["+1", "-2", "0"]
    columns = [tick.get_text() for tick in fig.axes[0].get_xticklabels()]
    assert columns == ["180°", "0°", "90°"] and texts[0.5, 0.5] == "-2"


def test_a_heat_map_without_gaps_explains_no_hatching():
    table = pd.DataFrame({"query": [0, 0, 90], "gallery": [0, 90, 0], "difference": [1.0, 2.0, 3]})
    assert "hatched" in str(azimuths.words(table)["hatched"])
    corner = pd.DataFrame({"query": [90], "gallery": [90], "difference": [4.0]})
    assert azimuths.words(pd.concat([table, corner]))["hatched"] == ""


def test_the_heat_map_brackets_cells_of_few_queries_and_takes_a_common_limit():
    table = pd.DataFrame(
        {
            "query": [0, 90],
            "gallery": [0, 90],
            "difference": [2.0, -1.0],
            "queries": [azimuths.FEW, azimuths.FEW - 1],
        }
    )
    fig = azimuths.heat_map(table, label="gain", limit=8.0)
    assert sorted(text.get_text() for text in fig.axes[0].texts) == ["(-1)", "+2"]
    assert fig.axes[0].collections[0].get_clim() == (-8.0, 8.0)


def test_roc_curves_name_their_areas():
    points = {
        "threshold": [np.inf, 0.8, 0.5, 0.2],
        "false_positive_rate": [0.0, 0.1, 0.4, 1.0],
        "true_positive_rate": [0.0, 0.5, 0.9, 1.0],
    }
    table = pd.concat(
        [
            pd.DataFrame(points).assign(score="confidence", auc=0.81),
            pd.DataFrame(points).assign(score="difference", auc=0.52),
        ]
    )
    fig = roc.curves(table)
    drawn = [line.get_xydata().tolist() for line in fig.axes[0].lines[:2]]
    assert drawn == 2 * [list(map(list, zip(*list(points.values())[1:], strict=True)))]
    labels = [text.get_text() for text in fig.axes[0].get_legend().get_texts()]
    assert labels == ["confidence (AUC 0.81)", "difference (AUC 0.52)", "guessing"]


def test_differences_has_a_panel_per_measure_and_marks_what_excludes_zero():
    table = pd.DataFrame(
        {
            "variant": ["a", "b"] * 2,
            "metric": ["pck", "pck", "ssim", "ssim"],
            "difference": [0.1, 0.0, -0.2, 0.3],
            "ci_low": [0.05, -0.1, -0.3, -0.1],
            "ci_high": [0.15, 0.1, -0.1, 0.7],
        }
    )
    fig = estimates.differences(table, "variant", "metric")
    assert [axes.get_title() for axes in fig.axes] == ["key points right (PCK)", "SSIM"]
    filled = [
        [line.get_markerfacecolor() != "white" for line in axes.lines if line.get_marker() == "o"]
        for axes in fig.axes
    ]
    assert filled == [[True, False], [True, False]]


def test_differences_end_where_most_rows_end_and_name_what_lies_beyond():
    low = [-0.1, -0.1, -0.1, -9.0]
    table = pd.DataFrame({"variant": list("abcd"), "metric": "pck", "ci_low": low})
    table = table.assign(difference=table["ci_low"] + 0.05, ci_high=table["ci_low"] + 0.1)
    (axes,) = estimates.differences(table, "variant", "metric").axes
    assert axes.get_xlim() == pytest.approx((-0.12, 0.12))
    assert [text.get_text() for text in axes.texts] == ["◂ -8.95\n[-9.00, -8.90]"]
    (axes,) = estimates.differences(table[:3], "variant", "metric").axes
    assert not axes.texts and axes.get_xlim()[0] < -0.1


def test_an_interval_whose_dot_is_shown_does_not_run_into_the_frame():
    ends = {"ci_low": [-0.1, -0.1, -0.1, -0.2, -9.0], "ci_high": [0.1, 0.1, 0.1, 0.0, -8.9]}
    table = pd.DataFrame({"variant": list("abcde"), "metric": "pck", **ends})
    table["difference"] = table[["ci_low", "ci_high"]].mean(axis=1)
    (axes,) = estimates.differences(table, "variant", "metric").axes
    assert axes.get_xlim() == pytest.approx((-0.21, 0.21))
    assert [text.get_text() for text in axes.texts] == ["◂ -8.95\n[-9.00, -8.90]"]


def test_values_have_a_panel_per_measure_and_a_row_per_label():
    table = pd.DataFrame(
        {
            "method": ["a", "b", "b"],
            "metric": ["pck", "pck", "ssim"],
            "value": [0.5, 0.7, 0.2],
            "ci_low": [0.4, 0.6, 0.1],
            "ci_high": [0.7, 0.8, 0.3],
        }
    )
    fig = estimates.values(table, "method", "metric")
    assert [axes.get_title() for axes in fig.axes] == ["key points right (PCK)", "SSIM"]
    drawn = [axes.containers[0].lines[0].get_xydata().tolist() for axes in fig.axes]
    assert drawn == [[[0.5, 0.0], [0.7, 1.0]], [[0.2, 1.0]]]
    bars = fig.axes[0].containers[0].lines[2][0].get_segments()[0][:, 0].tolist()
    assert bars == pytest.approx([0.4, 0.7])


def test_a_panel_also_says_what_tables_call_its_measure():
    metrics = ["pck", "identity_top1", "print_kept", "print_false", "KID (0: best)"]
    table = pd.DataFrame({"method": "a", "metric": metrics, "value": 0.5})
    fig = estimates.values(table.assign(ci_low=0.4, ci_high=0.6), "method", "metric")
    assert [axes.get_title() for axes in fig.axes] == [
        "key points right (PCK)",
        "person right (top-1)\n(identity_top1)",
        "print kept",
        "print where none is\n(print_false)",
        "KID (0: best)",
    ]


@pytest.mark.parametrize("count, rows", [(3, [0, 0, 0]), (4, [0, 0, 1, 1]), (5, [0, 0, 0, 1, 1])])
def test_no_panel_stands_alone_in_its_line(count, rows):
    table = pd.DataFrame({"method": "a", "metric": list("abcde")[:count], "value": 0.5})
    fig = estimates.values(table.assign(ci_low=0.4, ci_high=0.6), "method", "metric")
    assert [axes.get_subplotspec().rowspan.start for axes in fig.axes] == rows


def test_a_value_far_beyond_the_others_is_an_arrow_with_its_number():
    near = pd.DataFrame({"method": list("abc"), "metric": "kid", "value": [0.01, 0.02, 1.5]})
    fig = estimates.values(
        near.assign(ci_low=near["value"], ci_high=near["value"]), "method", "metric"
    )
    (axes,) = fig.axes
    low, high = axes.get_xlim()
    assert low < 0.01 and 0.02 < high < 1.5
    assert [text.get_text() for text in axes.texts] == ["1.50 ▸ "]


def test_a_curve_in_words():
    table = pd.DataFrame({"n": [2, 0, 5], "metric": "rank1", "mean": [3.0, 1.0, 2.0]})
    assert curves.in_words(table, "n") == "rank-1 from 1.0 at 0 to 2.0 at 5, highest 3.0 at 2"


def test_gains_stand_where_their_quality_is():
    table = pd.DataFrame(
        {
            "arm": ["poor", "good"],
            "pck": [0.2, 0.9],
            "right_percent": [1.0, 80.0],
            "gain": [-1.0, 4.0],
            "gain_low": [-2.0, 3.0],
            "gain_high": [0.5, 6.0],
        }
    )
    fig = estimates.against_quality(table, {"pck": "PCK", "right_percent": "right person (%)"})
    for axes, column in zip(fig.axes, ("pck", "right_percent"), strict=True):
        drawn = [container.lines[0].get_xydata()[0].tolist() for container in axes.containers]
        assert drawn == [[row[column], row["gain"]] for row in table.to_dict("records")]
        bars = [
            container.lines[2][0].get_segments()[0][:, 1].tolist() for container in axes.containers
        ]
        assert bars == [[-2.0, 0.5], [3.0, 6.0]]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["poor", "good"]


def test_an_arm_looks_the_same_in_every_figure_and_others_like_none():
    names = ["25 steps", "100 steps", "pose-dive", "oracle"]
    table = pd.DataFrame({"arm": names, "pck": [0.2, 0.3, 0.8, 0.9], "gain": 1.0})
    fig = estimates.against_quality(table.assign(gain_low=0.0, gain_high=2.0), {"pck": "PCK"})
    looks = {
        container.get_label(): (container.lines[0].get_color(), container.lines[0].get_marker())
        for container in fig.axes[0].containers
    }
    for arm in names[2:]:
        style = figures.arm_style(arm)
        assert looks[arm] == (style["color"], style["marker"])
    assert len(set(looks.values())) == len(names)
    taken = {figures.arm_style(arm)[part] for arm in figures.ARMS for part in ("color", "marker")}
    assert not taken & {part for name in names[:2] for part in looks[name]}


@pytest.mark.parametrize("reach", [1.0, np.nan])
def test_an_arm_far_below_is_an_arrow_and_those_that_gain_are_enlarged(reach):
    """Also of one seed, which has no interval."""
    gains = np.array([-28.0, 5.0, 6.0])
    table = pd.DataFrame({"arm": ["useless", "good", "better"], "pck": [0.2, 0.8, 0.9]})
    table = table.assign(gain=gains, gain_low=gains - reach, gain_high=gains + reach)
    fig = estimates.against_quality(table, {"pck": "PCK"})
    whole, enlarged = fig.axes
    low, high = whole.get_ylim()
    assert -2 < low < 0 < 6 < high < 8 and whole.get_xlim()[0] < 0.2
    assert [text.get_text() for text in whole.texts] == ["▾ useless: -28.0"]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["good", "better"]
    ends = (4.0, 7.0) if reach == 1 else (5.0, 6.0)
    margin = 0.08 * (ends[1] - ends[0])
    assert enlarged.get_ylim() == pytest.approx((ends[0] - margin, ends[1] + margin))
    assert [dot.get_label() for dot in enlarged.containers] == ["good", "better"]


@pytest.mark.parametrize("gains", [[5.0, 6.0, 7.0], [25.0, 26.0, 27.0], [-1.0, -3.0, 2.0]])
def test_nothing_is_cut_off_or_enlarged_without_need(gains):
    table = pd.DataFrame({"arm": list("abc"), "pck": [0.2, 0.8, 0.9], "gain": gains})
    (axes,) = estimates.against_quality(table, {"pck": "PCK"}).axes
    assert not axes.texts and len(axes.containers) == 3
    assert axes.get_ylim()[0] < min(*gains, 0) < max(gains) < axes.get_ylim()[1]


def test_a_measure_with_an_interval_has_it_lying():
    table = pd.DataFrame({"arm": ["a"], "right_percent": [80.0], "gain": [1.0]})
    table = table.assign(right_low=75.0, right_high=83.0, gain_low=0.5, gain_high=2.0)
    (axes,) = estimates.against_quality(table, {"right_percent": "right person (%)"}).axes
    lying, standing = (bar.get_segments()[0].tolist() for bar in axes.containers[0].lines[2])
    assert lying == [[75.0, 1.0], [83.0, 1.0]] and standing == [[80.0, 0.5], [80.0, 2.0]]


def test_worlds_next_to_each_other_do_not_hide_each_other():
    place = {"panel": "set", "pair": "a\nagainst b"}
    each = pd.DataFrame({"difference": [1.0, 3.0, 2.0, 1.01, 1.02, 3.01]}).assign(**place)
    mean = pd.DataFrame([{**place, "difference": 2.0, "ci_low": 1.0, "ci_high": 3.0}])
    (axes,) = worlds.differences(each, mean).axes
    dots = axes.lines[0].get_xydata()
    assert dots[:, 0].tolist() == sorted(each["difference"])
    assert (np.diff(dots[:, 1]) != 0).all()
