"""Sentences and tables agree: the README's results, and the executed notebooks' findings."""

import html
import re

import numpy as np
import pandas as pd
import pytest
from pipeline import ROOT

README = (ROOT / "README.md").read_text()
RESULTS = README[README.index("## What came out") : README.index("## Change something")]
MARKED = re.findall(r"([+-]?\d+(?:\.\d+)?)<!--= (.*?) -->", RESULTS)
CHOOSE = {
    "min": np.min,
    "max": np.max,
    "mean": np.mean,
    "count": len,
    "first": lambda values: values[0],
}


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / f"reports/tables/{name}.csv")


def value_of(mark: str) -> str:
    """The text that a mark "table column key=value ... min|max|mean|count|first [factor] format" stands for."""
    name, column, *rest = mark.split()
    rows = table(name)
    while "=" in rest[0]:
        key, value = rest.pop(0).split("=")
        rows = rows[rows[key].astype(str) == value]
    values = rows[column].to_numpy()
    assert len(values), f"no row of {name}.csv fits {mark}"
    number = CHOOSE[rest[0]](values) * (float(rest[1]) if len(rest) == 3 else 1)
    return format(number, rest[-1])


@pytest.mark.parametrize("said, mark", MARKED)
def test_a_number_of_the_readme_is_its_table_cell(said, mark):
    assert said == value_of(mark), f"the README says {said}; {mark} is {value_of(mark)}"


def test_no_result_in_the_readme_goes_without_its_table():
    plain = re.sub(
        r"<!--.*?-->|\[[^\]]*\]\([^)]*\)|`[^`]*`",
        lambda match: match[0] if match[0].startswith("<!--=") else "",
        RESULTS,
        flags=re.DOTALL,
    )
    numbers = re.findall(
        r"(?<![\w.=+-])[+-]?\d+(?:\.\d+)?(?![\w.]*\w)(<!--=)?",
        re.sub(r"(?<=<!--=) .*? -->", "", plain),
    )
    assert len(numbers) == len(MARKED) > 0 and all(numbers), "a number of the section has no mark"


def test_what_the_readme_says_of_the_cost_is_measured():
    minutes, gigabytes = re.search(
        r"the stages took (\d+) minutes together and at most (\d\.\d) GB", README
    ).groups()
    costs = pd.read_csv(ROOT / "reports/costs.csv")
    assert (
        minutes == f"{costs['wall_seconds'].sum() / 60:.0f}"
        and gigabytes == f"{costs['peak_gigabytes'].max():.1f}"
    )


def page(name: str) -> str:
    text = re.sub(
        r"<[^>]+>",
        "",
        re.sub(
            r"<img\b[^>]*>|<style.*?</style>",
            "",
            (ROOT / f"reports/notebooks/{name}.html").read_text(),
            flags=re.DOTALL,
        ),
    )
    return " ".join(html.unescape(text).split())


def test_the_findings_of_notebook_05_are_its_table():
    text, rows = page("05_reid_comparison"), table("comparison").query("metric == 'mAP'")
    for row in rows.itertuples():
        sentence = f"{row.dataset}, {row.arm}: {row.difference:+.2f} mAP [{row.ci_low:+.2f}, {row.ci_high:+.2f}] over {row.seeds} seeds: {row.verdict}."
        assert sentence in text, sentence


@pytest.mark.parametrize(
    "name, saved, column",
    [
        ("06_images_per_identity", "images_per_pid", "images_per_pid"),
        ("07_threshold_sweep", "threshold_sweep", "threshold"),
    ],
)
def test_the_peaks_of_notebooks_06_and_07_are_those_of_their_tables(name, saved, column):
    text, rows = page(name), table(saved)
    for metric, part in rows.groupby("metric"):
        best = part.loc[part["mean"].idxmax()]
        assert f"Highest mean {metric}: {best['mean']:.2f} at {best[column]:g};" in text


def test_the_findings_of_notebook_03_are_its_table():
    value = table("generator_quality").set_index(["method", "metric"])["value"]
    text = page("03_generator_training")
    assert (
        f"PCK {value['generated', 'pck']:.2f} on generated images, {value['true-render', 'pck']:.2f} on true renderings"
        in text
    )
    assert (
        f"{value['generated', 'psnr']:.1f} dB generated, {value['copy-reference', 'psnr']:.1f} dB copied"
        in text
    )
