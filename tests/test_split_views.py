"""Pictures of the splits."""

import numpy as np
import pandas as pd
from PIL import Image

from posedive_lib.study import split_views


def test_a_rose_s_sectors_begin_at_the_front_and_its_rays_are_where_the_rule_ends():
    views = {"train": np.array([0.0, 14.9, 15.0, -0.1]), "test": np.array([45.0, 180.0])}
    figure, shares = split_views.azimuth_roses(
        {"S": views}, limits={"S": {"train": 30.0, "test": 45.0}}
    )
    own = shares[(shares["side"] == "train") & (shares["share"] > 0)].set_index("azimuth")["share"]
    assert own.to_dict() == {7.5: 0.5, 22.5: 0.25, -7.5: 0.25}
    assert sorted(
        round(float(np.degrees(line.get_xdata()[0]))) for line in figure.axes[0].lines
    ) == [-45, -30, 30, 45]


def test_the_line_of_a_histogram_runs_over_the_bars():
    rng = np.random.default_rng(0)
    fig, _ = split_views.distance_histogram({"all": rng.random(50), "split": rng.random(50)})
    line, bars = fig.axes[0].patches
    assert bars.get_fill() and not line.get_fill() and line.get_zorder() > bars.get_zorder()


def test_pose_groups_are_counted_from_1(tmp_path):
    photo = tmp_path / "a.png"
    Image.new("RGB", (8, 16)).save(photo)
    images = pd.DataFrame({"rel": ["a", "b"], "cluster": [0, 1], "side": ["train", "query"]})
    images = images.assign(split=["train", "query"], pid=1)
    paths = dict.fromkeys(images["rel"], str(photo))
    joints = np.random.default_rng(0).random((2, 24, 3))
    fig = split_views.pose_clusters(images, joints, 1, paths, (16, 8))
    titles = [axes.get_title() for axes in fig.axes if axes.get_title()]
    assert titles == ["group 1 · train\n1 train\n0 test", "group 2 · test\n0 train\n1 test"]
