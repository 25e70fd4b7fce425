"""Readers, MSMT17-S rules and the writer, on tiny trees made here."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from posedive_lib import datasets
from posedive_lib.datasets import splits
from posedive_lib.datasets.write import write_augmented
from posedive_lib.errors import StudyError


def paint(path, shade=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((16, 8, 3), shade % 256, np.uint8)).save(path)


def market_tree(folder):
    for name in ("0002_c1s1_000451_03", "0002_c2s1_000551_01", "0007_c12s1_000001_00"):
        paint(folder / "bounding_box_train" / f"{name}.jpg")
    paint(folder / "query" / "0001_c1s1_001051_00.jpg")
    for name in ("0001_c3s1_001051_00", "-1_c2s1_000401_03", "0000_c4s2_000001_01"):
        paint(folder / "bounding_box_test" / f"{name}.jpg")
    (folder / "bounding_box_test" / "Thumbs.db").write_bytes(b"not an image")


def msmt17_tree(folder, people=3, images=6, cameras=3):
    lists = {"train": [], "val": [], "query": [], "gallery": []}
    for pid in range(people):
        for number in range(images):
            camera = number % cameras + 1
            name = f"{pid:04d}/{pid:04d}_{number:03d}_{camera:02d}_0303morning_{number:04d}_0.jpg"
            paint(folder / "train" / name, pid * 40)
            paint(folder / "test" / name, pid * 40 + 9)
            lists["val" if number == images - 1 else "train"].append(f"{name} {pid}\n")
            lists["query" if number < cameras else "gallery"].append(f"{name} {pid}\n")
    for name, lines in lists.items():
        (folder / f"list_{name}.txt").write_text("".join(lines))


@pytest.fixture
def root(tmp_path):
    # a folder name that a careless pattern would read as identity 12 of camera 3
    root = tmp_path / "exp_12_c3"
    market_tree(root / "Market-1501-v15.09.15")
    market_tree(root / "cuhk03-np" / "labeled")
    msmt17_tree(root / "MSMT17_V1")
    return root


def test_market_names_junk_and_distractors(root):
    data = datasets.load("market1501", root)
    assert data.train[["pid", "camid"]].values.tolist() == [[2, 0], [2, 1], [7, 11]]
    assert data.gallery["pid"].tolist() == [0, 1]  # junk is gone, the distractor stays
    assert data.train["rel"].tolist() == sorted(data.train["rel"])
    assert all(path.startswith("/") for path in data.train["path"])
    assert data.counts()["images"].tolist() == [3, 1, 2]


def test_cuhk03_needs_its_own_boxes(root):
    assert len(datasets.load("cuhk03-labeled", root).train) == 3
    with pytest.raises(StudyError, match="detected"):
        datasets.load("cuhk03-detected", root)


def test_msmt17_joins_val_and_reads_cameras(root):
    data = datasets.load("msmt17", root)
    assert len(data.train) == 18 and len(data.query) == 9 and len(data.gallery) == 9
    assert set(data.train["camid"]) == {0, 1, 2}
    assert (
        data.train["rel"].str.startswith("train/").all()
        and data.query["rel"].str.startswith("test/").all()
    )


def test_truth_is_joined_without_twins(root):
    folder = root / "Market-1501-v15.09.15"
    truth = pd.DataFrame(
        {
            "path": ["bounding_box_train/0002_c2s1_000551_01.jpg"],
            "split": ["train"],
            "pid": [999],
            "camid": [9],
            "azimuth": [33.0],
        }
    )
    truth.to_csv(folder / "truth.csv", index=False)
    train = datasets.load("market1501", root).train
    assert list(train.columns).count("pid") == 1 and train["pid"].tolist() == [2, 2, 7]
    assert train["azimuth"].isna().tolist() == [True, False, True]
    truth = pd.concat([truth, truth])
    truth.to_csv(folder / "truth.csv", index=False)
    with pytest.raises(StudyError, match=r"truth\.csv"):
        datasets.load("market1501", root)


def test_a_truth_about_other_photos_is_named(root):
    path = root / "Market-1501-v15.09.15" / "truth.csv"
    path.write_text("path,azimuth\nMarket/bounding_box_train/0002_c1s1_000451_03.jpg,5\n")
    said = r"truth\.csv names none of the data set's images: it begins with Market/bounding_box"
    with pytest.raises(StudyError, match=said):
        datasets.load("market1501", root)
    path.write_text("path, azimuth\nbounding_box_train/0002_c2s1_000551_01.jpg, 5\n")
    assert datasets.load("market1501", root).train["azimuth"].dropna().tolist() == [5]


@pytest.mark.parametrize(
    "content", [b"", b"path,azimuth\n\xff\xfe,1\n", b"path,azimuth\na.jpg,1,2\n", b"path;azimuth\n"]
)
def test_a_truth_that_is_no_table_is_named(root, content):
    (root / "Market-1501-v15.09.15" / "truth.csv").write_bytes(content)
    with pytest.raises(StudyError, match=r"truth\.csv") as caught:
        datasets.load("market1501", root)
    assert "\n" not in str(caught.value)


def test_errors_name_what_is_wrong(root, tmp_path):
    with pytest.raises(StudyError, match="cuhk03-labeled"):
        datasets.load("market", root)
    with pytest.raises(StudyError, match="Market-1501-v15.09.15"):
        datasets.load("market1501", tmp_path / "nowhere")
    (root / "MSMT17_V1" / "list_val.txt").unlink()
    with pytest.raises(StudyError, match=r"list_val\.txt is missing"):
        datasets.load("msmt17", root)
    (root / "MSMT17_V1" / "train" / "0001" / "0001_002_03_0303morning_0002_0.jpg").unlink()
    with pytest.raises(StudyError, match=r"list_train\.txt names the image train/0001/0001_002_03"):
        datasets.load("msmt17", root)
    folder = root / "Market-1501-v15.09.15"
    paint(folder / "query" / "cat.jpg")
    with pytest.raises(StudyError, match=r"'cat\.jpg'"):
        datasets.load("market1501", root)
    (folder / "query" / "cat.jpg").unlink()
    (folder / "query" / "0001_c1s1_001051_00.jpg").unlink()
    with pytest.raises(StudyError, match="query split of market1501"):
        datasets.load("market1501", root)


def test_list_line_without_identity(root):
    path = root / "MSMT17_V1" / "list_query.txt"
    path.write_text(path.read_text() + "0000/0000_000_01_0303morning_0000_0.jpg\n")
    with pytest.raises(StudyError, match="Line 10 of"):
        datasets.load("msmt17", root)


def test_cam_sides_are_disjoint():
    azimuth = np.array([0, -60, 61, 179, 89, -91, 91, 10.0])
    is_train = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
    kept = splits.cam_sides(azimuth, is_train, train_max_azimuth=60, test_min_azimuth=90)
    assert kept.tolist() == [True, True, False, False, False, True, True, False]
    edge = splits.cam_sides(
        np.array([90.0, 90.0]), np.array([True, False]), train_max_azimuth=90, test_min_azimuth=90
    )
    assert edge.tolist() == [True, False]  # without a margin, the border belongs to the training
    with pytest.raises(StudyError, match="overlap"):
        splits.cam_sides(azimuth, is_train, train_max_azimuth=90, test_min_azimuth=89)


def test_pose_sides_put_the_common_clusters_in_training():
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 2, 3], [40, 10, 30, 20])
    joints = rng.normal(size=(4, 5, 3))[group] * 5 + rng.normal(size=(100, 5, 3)) * 0.01
    is_train = rng.random(100) < 0.5
    kept, cluster = splits.pose_sides(joints, is_train, clusters=4, train_clusters=2)
    again = splits.pose_sides(joints, is_train, clusters=4, train_clusters=2)
    assert np.array_equal(cluster, again[1])
    assert set(cluster[kept & is_train]).isdisjoint(cluster[kept & ~is_train])
    counts = np.bincount(cluster[is_train], minlength=4)
    assert (np.diff(counts) <= 0).all()
    with pytest.raises(StudyError, match="train_clusters"):
        splits.pose_sides(joints, is_train, clusters=4, train_clusters=4)


def test_every_query_keeps_a_match_from_another_camera():
    rng = np.random.default_rng(1)
    test = pd.DataFrame(
        {
            "pid": rng.integers(0, 12, 60),
            "camid": rng.integers(0, 4, 60),
            "rel": [f"test/x/{i}.jpg" for i in range(60)],
            "was_query": rng.random(60) < 0.3,
        }
    )
    query, gallery = splits.arrange_test(test)
    assert not query.duplicated(["pid", "camid"]).any()
    assert set(query["rel"]).isdisjoint(gallery["rel"])
    for row in query.itertuples():
        assert ((gallery["pid"] == row.pid) & (gallery["camid"] != row.camid)).any()
    kept = test.groupby("pid")["camid"].nunique()
    assert set(query["pid"]) == set(kept[kept >= 2].index)


def write_s(root, kind="cam"):
    data = datasets.load("msmt17", root)
    pool = splits.pool_of(data)
    azimuth = np.where(pool.index % 2 == 0, 0.0, 120.0)
    kept = splits.cam_sides(
        azimuth, (pool["split"] == "train").to_numpy(), train_max_azimuth=60, test_min_azimuth=90
    )
    kept |= (pool["split"] == "train").to_numpy() & (
        pool["pid"] == 0
    ).to_numpy()  # all of one identity: the others fall below four images
    tables = splits.select(data, kept, pool)
    splits.write_lists(root / "MSMT17-S" / kind, tables)
    return tables


def test_msmt17_s_is_read_back_as_written(root):
    tables = write_s(root)
    data = datasets.load("msmt17-s-cam", root)
    assert data.train["rel"].tolist() == tables["train"]["rel"].tolist()
    assert set(data.train["pid"]) == {0}
    assert data.gallery["rel"].tolist() == tables["gallery"]["rel"].tolist()
    with pytest.raises(StudyError, match="MSMT17-S"):
        datasets.load("msmt17-s-pose", root)


def test_a_rule_that_leaves_nothing_is_refused(root):
    data = datasets.load("msmt17", root)
    with pytest.raises(StudyError, match="leaves no train images"):
        splits.select(
            data,
            np.zeros(len(splits.pool_of(data)), bool)
            | (splits.pool_of(data)["split"] != "train").to_numpy(),
            splits.pool_of(data),
        )


def test_write_msmt17_s_from_bodies(root, monkeypatch):
    table = pytest.importorskip("posedive_lib.body.table")
    pytest.importorskip("posedive_lib.body.camera")
    data = datasets.load("msmt17", root)
    pool = splits.pool_of(data)
    n, rng = len(pool), np.random.default_rng(0)
    # turned about the vertical axis only: half seen from the front, half from behind
    # (OpenCV axes, so upright is a half turn about x)
    orient = np.where((np.arange(n) % 2 == 0)[:, None], [[np.pi, 0.0, 0.0]], [[0.0, 0.0, np.pi]])
    bodies = table.BodyTable(
        path=np.array(pool["rel"].tolist()),
        global_orient=orient,
        body_pose=rng.normal(size=(n, 69)),
        betas=np.zeros((n, 10)),
        cam_t=np.tile([0.0, 0.0, 5.0], (n, 1)),
        focal=np.full(n, 512.0),
        keypoints=np.zeros((n, 17, 2)),
        visible=np.full((n, 17), 2),
    )
    bodies.save(data.folder / "smpl.npz")
    pid = pool["pid"].to_numpy()
    poses = np.where(np.random.default_rng(3).random(n) < 0.45, 1.0, -1.0)
    monkeypatch.setattr(splits, "drop_rare", lambda train: train.reset_index(drop=True))
    monkeypatch.setattr(
        splits, "body_joints", lambda pose, path: np.stack([poses, pid * 1e-3], 1)[:, None, :]
    )
    params = SimpleNamespace(
        cam=SimpleNamespace(train_max_azimuth=60.0, test_min_azimuth=90.0),
        pose=SimpleNamespace(clusters=2, train_clusters=1),
    )
    written = splits.write_msmt17_s(root, params, "unused.npz")
    for kind in ("cam", "pose"):
        data_s = datasets.load(f"msmt17-s-{kind}", root)
        assert len(data_s.train) == len(written[kind]["train"])
    azimuths = pd.read_csv(root / "MSMT17-S" / "cam" / "azimuths.csv")
    used = azimuths[azimuths["side"].notna()]
    assert (used.loc[used["side"] == "train", "azimuth"].abs() <= 60).all()
    assert (used.loc[used["side"].isin(["query", "gallery"]), "azimuth"].abs() >= 90).all()
    clusters = pd.read_csv(root / "MSMT17-S" / "pose" / "clusters.csv").dropna(subset=["side"])
    assert set(clusters.loc[clusters["side"] == "train", "cluster"]) == {0}
    assert set(clusters.loc[clusters["side"] != "train", "cluster"]) == {1}


def generated_for(data, tmp_path, suffix="png"):
    rows = []
    for index, row in enumerate(data.train.groupby("pid").head(1).itertuples()):
        path = tmp_path / "generated" / f"{index}.{suffix}"
        paint(path, 200)
        rows.append(
            {"image_path": str(path), "pid": row.pid, "camid": row.camid, "index": index + 7}
        )
    return pd.DataFrame(rows)


@pytest.mark.parametrize("name", ["market1501", "cuhk03-labeled", "msmt17", "msmt17-s-cam"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_augmented_tree_reads_back(root, tmp_path, name, suffix):
    if name == "msmt17-s-cam":
        write_s(root)
    data = datasets.load(name, root)
    pd.DataFrame({"path": data.train["rel"], "azimuth": 1.0}).to_csv(
        data.folder / "truth.csv", index=False
    )
    generated = generated_for(data, tmp_path, suffix)
    out = write_augmented(data, generated, tmp_path / "out")
    assert out.train["generated"].sum() == len(generated)
    made = out.train[out.train["generated"]]
    assert sorted(zip(made["pid"], made["camid"], strict=True)) == sorted(
        zip(generated["pid"], generated["camid"], strict=True)
    )
    assert made["azimuth"].isna().all()
    assert set(out.train.loc[~out.train["generated"], "rel"]) == set(data.train["rel"])
    assert out.query["rel"].tolist() == data.query["rel"].tolist()
    assert all(Image.open(path).format == "JPEG" for path in out.train["path"])
    assert not list(tmp_path.glob(".out*"))
    if name.startswith("msmt17"):
        assert len(datasets.load("msmt17", tmp_path / "out").train) == len(out.train)
        lines = (tmp_path / "out" / "MSMT17_V1" / "list_train.txt").read_text().split("\n")
        gen = [line for line in lines if "_gen" in line]
        assert len(gen) == len(generated)
        assert [int(line.split("_")[2]) - 1 for line in gen] == generated[
            "camid"
        ].tolist()  # as the usual code bases read it


def test_augmented_tree_is_whole_or_absent(root, tmp_path):
    data = datasets.load("market1501", root)
    generated = generated_for(data, tmp_path)
    generated.loc[1, "image_path"] = str(tmp_path / "gone.png")
    with pytest.raises(StudyError, match=r"gone\.png"):
        write_augmented(data, generated, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))
    generated = generated_for(data, tmp_path)
    with pytest.raises(StudyError, match="lacks the column"):
        write_augmented(data, generated.drop(columns="index"), tmp_path / "out")
    with pytest.raises(StudyError, match="share identity"):
        write_augmented(data, pd.concat([generated, generated]), tmp_path / "out")
    with pytest.raises(StudyError, match="not in the training set"):
        write_augmented(data, generated.assign(pid=4321), tmp_path / "out")
    write_augmented(data, generated, tmp_path / "out")
    with pytest.raises(StudyError, match="already exists"):
        write_augmented(data, generated, tmp_path / "out")
    assert len(write_augmented(data, generated[:0], tmp_path / "out", overwrite=True).train) == len(
        data.train
    )
