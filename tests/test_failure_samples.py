"""Inspected images (§G): every row's pictures are its own, in whatever order rows are asked for."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pipeline import ROOT

from posedive_lib import params
from posedive_lib.body.table import SHAPES, BodyTable
from posedive_lib.study import failure_samples


@pytest.fixture
def mixed(monkeypatch):
    """Rows of two data sets, one after the other in turn; a row's number is in all it has."""
    table = pd.DataFrame(
        {
            "dataset": ["one", "two", "one", "two"],
            "number": [0, 1, 2, 3],
            "path": ["a", "b", "c", "d"],
            "reference_path": ["0.jpg", "1.jpg", "2.jpg", "3.jpg"],
        }
    )

    def filled(numbers, *shape):
        shaped = np.asarray(numbers, float).reshape(-1, *[1] * len(shape))
        return np.tile(shaped, (1, *shape))

    def bodies(rows, folder):
        columns = {name: filled(rows["number"], *shape) for name, shape in SHAPES.items()}
        columns["path"] = rows["path"].to_numpy(str)
        return BodyTable(**columns), filled(rows["number"], 17, 2)

    def rendered(orient, *_):
        return SimpleNamespace(normals=filled([orient[0]], 4, 2, 3)[0], mask=np.ones((4, 2), bool))

    monkeypatch.setattr(failure_samples, "load_bodies", bodies)
    monkeypatch.setattr(
        failure_samples.candidate_files,
        "candidate_images",
        lambda name, rows, size: filled(rows["number"], 4, 2, 3),
    )
    monkeypatch.setattr(failure_samples, "renderer", lambda P: SimpleNamespace(render=rendered))
    monkeypatch.setattr(
        failure_samples,
        "read_images",
        lambda paths, *_: filled([int(path[0]) for path in paths], 4, 2, 3),
    )
    return table


def test_rows_of_several_data_sets_keep_what_is_theirs(mixed):
    samples, studio = failure_samples.inspect(params.load(ROOT / "params.yaml"), mixed)
    assert studio is None and sorted(samples.table["number"]) == [0, 1, 2, 3]
    wanted = samples.table["number"].to_numpy(float)
    for name in ("estimated", "references", "generated", "normals"):
        own = getattr(samples, name).reshape(len(wanted), -1)
        assert (own == wanted[:, None]).all(), name
    assert (samples.bodies.cam_t[:, 0] == wanted).all()
