"""Reports of one's own data go to their own folder: never over the committed ones, nor into git."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from pipeline import ROOT

from posedive_lib.bench import figures, reports, tables
from posedive_lib.datasets.table import RENDERED
from posedive_lib.errors import StudyError


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The root of a study, with a data set of one's own in ../sets; call it to set `paths`."""
    root = tmp_path / "repository"
    (root / "reports/tables").mkdir(parents=True)
    (root / "reports/tables/old.csv").write_text("committed\n")
    (tmp_path / "sets/photos").mkdir(parents=True)
    monkeypatch.chdir(root)
    monkeypatch.delenv(reports.VARIABLE, raising=False)

    def write(where: str, datasets: str = "../sets") -> Path:
        Path("params.yaml").write_text(f"paths: {{reports: {where}, datasets: {datasets}}}\n")
        return root

    return write


@pytest.mark.parametrize("where", ["reports", "reports/own", ".", "link/there"])
def test_pictures_of_own_data_are_refused_where_git_may_track_them(study, where):
    root = study(where)
    (root / "link").symlink_to(root / "reports")
    with pytest.raises(StudyError, match=f"paths.reports is {where}, but the data sets in ../sets"):
        tables.save(pd.DataFrame({"x": [1]}), "new", caption="A table.")
    assert [path.name for path in root.rglob("*.csv")] == ["old.csv"]


@pytest.mark.parametrize("where", ["build/reports", "../elsewhere"])
def test_reports_of_own_data_go_to_their_own_folder(study, where):
    study(where)
    tables.save(pd.DataFrame({"x": [1]}), "new", caption="A table.")
    fig = figures.image_grid([[None, (255 * tables_picture())]])
    figures.save(fig, "01/people", caption="People.", alt="People.")
    assert Path(where, "tables/new.csv").is_file()
    assert Path(where, "figures/01/people.jpg").is_file()
    assert Path("reports/tables/old.csv").read_text() == "committed\n"
    assert len(list(Path("reports").rglob("*"))) == 2


def tables_picture():
    import numpy as np

    return np.eye(8, dtype=np.uint8)[..., None].repeat(3, -1)


def test_the_mini_world_s_data_are_not_one_s_own(study):
    study("reports", "build/world")
    assert reports.folder() == Path("reports")  # before they are rendered
    rendered = Path("build/world/MSMT17_V1")
    rendered.mkdir(parents=True)
    (rendered / RENDERED).write_text("")
    assert reports.folder() == Path("reports") and not reports.own_data("build/world")
    for companion in ("Thumbs.db", "__MACOSX", "@eaDir", "MSMT17_V1/desktop.ini"):
        Path("build/world", companion).mkdir()
        assert reports.folder() == Path("reports")
    Path("build/world/mine").mkdir()
    with pytest.raises(StudyError, match="are your own"):
        reports.folder()
    assert reports.own_data("nowhere")


def test_a_notebook_s_kernel_writes_where_its_own_parameters_say(tmp_path):
    """`--params` may name another file than params.yaml, which the kernel would read."""
    from test_notebook_runner import write_notebook

    text = (ROOT / "params/smoke.yaml").read_text()
    for name in ("body", "motions", "world", "stable_diffusion", "clip", "pose_estimator"):
        assert f"  {name}: data/" in text
    (tmp_path / "params.yaml").write_text(text)
    own = text.replace("  reports: reports\n", "  reports: build/mine\n").replace(
        "  datasets: build/world\n", "  datasets: sets\n"
    )
    own = own.replace("  world: data/world ", "  world: nowhere ").replace("data/", f"{ROOT}/data/")
    (tmp_path / "own.yaml").write_text(own)
    (tmp_path / "sets/photos").mkdir(parents=True)
    line = "import pandas as pd\nfrom posedive_lib.bench import tables\n"
    write_notebook(tmp_path, [line + "tables.save(pd.DataFrame({'x': [1]}), 'x', caption='X.')"])
    command = [sys.executable, "-m", "posedive_lib.bench.notebook", "00_tiny", "--params"]
    ended = subprocess.run([*command, "own.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert not (tmp_path / "reports").exists()
    assert (tmp_path / "build/mine/tables/x.csv").is_file()
    assert (tmp_path / "build/mine/notebooks/00_tiny.ipynb").is_file()
    (tmp_path / "own.yaml").write_text(own.replace("build/mine", "reports"))
    ended = subprocess.run([*command, "own.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 2 and "must not come into git" in ended.stderr
    assert not (tmp_path / "reports").exists()
