"""Importing HMR2 results: conventions by round trips, containers, and files that lie."""

import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import yaml
from pipeline import ROOT
from safetensors.numpy import save_file
from scipy.spatial.transform import Rotation

from posedive_lib.body.smpl import cached_smpl
from posedive_lib.body.table import BodyTable
from posedive_lib.errors import StudyError
from posedive_lib.intake.arrays import read_npz, write_npz
from posedive_lib.own_data.hmr2 import READERS, camera_of, export_hmr2, import_hmr2, main, read_hmr2

BODY = str(ROOT / "data/body/SMPL_NEUTRAL.npz")
SIZE = np.array([64.0, 128.0])
COUNT = 3


@pytest.fixture
def table() -> BodyTable:
    rng = np.random.default_rng(0)
    focal = 5000 / 256 * 128
    return BodyTable(
        np.array(["a.jpg", "b.jpg", "c.jpg"]),
        Rotation.random(COUNT, random_state=1).as_rotvec(),
        rng.normal(0, 0.4, (COUNT, 69)),
        rng.normal(0, 1, (COUNT, 10)),
        np.column_stack([rng.normal(0, 0.1, (COUNT, 2)), rng.uniform(36, 44, COUNT)]),
        np.full(COUNT, focal),
        np.zeros((COUNT, 17, 2)),
        np.zeros((COUNT, 17), np.int8),
    )


def write(path, columns):
    plain = {name: value.tolist() for name, value in columns.items()}
    if path.suffix == ".npz":
        np.savez(path, **columns)
    elif path.suffix == ".safetensors":
        tensors = {
            name: np.ascontiguousarray(value) for name, value in columns.items() if name != "path"
        }
        save_file(tensors, path, {"path": json.dumps(plain["path"])})
    elif path.name.startswith("nested"):
        inner = ("global_orient", "body_pose", "betas")
        path.write_text(
            json.dumps(
                [
                    {name: rows[i] for name, rows in plain.items() if name not in inner}
                    | {"pred_smpl_params": {name: plain[name][i] for name in inner}}
                    for i in range(len(plain["path"]))
                ]
            )
        )
    else:
        path.write_text(json.dumps(plain))
    return path


@pytest.mark.parametrize("name", ["a.npz", "a.safetensors", "a.json", "nested.json"])
def test_there_and_back_in_every_container(name, table, tmp_path):
    found = import_hmr2(write(tmp_path / name, export_hmr2(table, SIZE)), cached_smpl(BODY))
    assert found.path.tolist() == table.path.tolist()
    for column in ("global_orient", "body_pose", "betas", "cam_t", "focal"):
        np.testing.assert_allclose(
            getattr(found, column), getattr(table, column), atol=1e-9, err_msg=column
        )


def test_exported_columns_can_be_written_as_they_are(table):
    columns = export_hmr2(table, SIZE)
    assert all(column.flags.c_contiguous for column in columns.values())


def test_a_camera_translation_alone_is_enough(table, tmp_path):
    columns = export_hmr2(table, SIZE)
    np.testing.assert_allclose(
        columns["pred_cam_t"][:, 2], 2 * 5000 / (256 * columns["pred_cam"][:, 0])
    )
    del columns["pred_cam"]
    np.testing.assert_allclose(
        import_hmr2(write(tmp_path / "a.npz", columns), cached_smpl(BODY)).cam_t,
        table.cam_t,
        atol=1e-9,
    )


def test_a_box_in_a_larger_image_is_projected_where_the_crop_saw_it():
    """A point's place in the 256 px crop, by HMR2's camera, is that in the image, by ours."""
    cam, centre, box, size = (
        np.array([0.9, 0.1, -0.2]),
        np.array([300.0, 210.0]),
        150.0,
        np.array([640.0, 480.0]),
    )
    columns = {
        "pred_cam": cam[None],
        "box_center": centre[None],
        "box_size": np.array([box]),
        "img_size": size[None],
    }
    cam_t, focal = camera_of(columns)
    point = np.array([0.3, -0.4, 0.0])  # in the plane of the translation both cameras agree exactly
    crop_t = np.array([cam[1], cam[2], 2 * 5000 / (256 * cam[0])])
    in_crop = (
        (point + crop_t)[:2] / (point + crop_t)[2] * 5000
    )  # pixels of the crop, from its centre
    in_image = (point + cam_t[0])[:2] / (point + cam_t[0])[2] * focal[0] + size / 2
    np.testing.assert_allclose(in_image, centre + in_crop * box / 256, atol=1e-9)


def test_another_focal_length_keeps_the_size(table, tmp_path):
    path = write(tmp_path / "a.npz", export_hmr2(table, SIZE))
    far, near = (
        import_hmr2(path, cached_smpl(BODY)),
        import_hmr2(path, cached_smpl(BODY), focal=2.5),
    )
    np.testing.assert_allclose(near.focal, 320)
    np.testing.assert_allclose(near.focal / near.cam_t[:, 2], far.focal / far.cam_t[:, 2])
    assert (
        np.abs(near.keypoints - far.keypoints).max() < 0.3 * 128
        and np.abs(near.keypoints - far.keypoints).max() > 0
    )


def test_the_command_writes_a_table(table, tmp_path, capsys):
    path = write(tmp_path / "a.npz", export_hmr2(table, SIZE))
    assert main([str(path), "--body", BODY, "--out", str(tmp_path / "smpl.npz")]) == 0
    assert len(BodyTable.load(tmp_path / "smpl.npz")) == COUNT
    assert (
        main([str(tmp_path / "none.npz"), "--body", BODY, "--out", str(tmp_path / "no.npz")]) == 2
    )
    assert "none.npz" in capsys.readouterr().err and not (tmp_path / "no.npz").exists()


def test_the_command_takes_body_and_focal_length_from_the_parameters(table, tmp_path):
    path = write(tmp_path / "a.npz", export_hmr2(table, SIZE))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["conditions"]["focal"] = 3.0
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    for name, options in (("said.npz", ["--body", BODY, "--focal", "2.0"]), ("params.npz", [])):
        words = ["--params", str(tmp_path / "params.yaml"), *options]
        assert main([str(path), *words, "--out", str(tmp_path / name)]) == 0
    np.testing.assert_allclose(BodyTable.load(tmp_path / "said.npz").focal, 2 * 128)
    np.testing.assert_allclose(BodyTable.load(tmp_path / "params.npz").focal, 3 * 128)


@pytest.mark.parametrize("focal", ["nan", "0", "-2", "inf"])
def test_a_focal_length_that_cannot_be_is_refused(focal, table, tmp_path, capsys):
    path = write(tmp_path / "a.npz", export_hmr2(table, SIZE))
    assert (
        main([str(path), "--body", BODY, "--focal", focal, "--out", str(tmp_path / "smpl.npz")])
        == 2
    )
    assert (
        "image heights above 0" in capsys.readouterr().err and not (tmp_path / "smpl.npz").exists()
    )


def test_a_table_that_is_there_is_not_replaced_and_a_place_that_cannot_be_written_is_named(
    table, tmp_path, capsys
):
    path = write(tmp_path / "a.npz", export_hmr2(table, SIZE))
    before = path.read_bytes()
    for out, said in (
        (path, "exists: name another table"),
        (path / "smpl.npz", "smpl.npz cannot be written"),
    ):
        assert main([str(path), "--body", BODY, "--out", str(out)]) == 2
        printed = capsys.readouterr().err
        assert said in printed and printed.count("\n") == 1
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    assert (
        main([str(path), "--body", BODY, "--out", str(tmp_path / "new/smpl.npz")]) == 0
    )  # a folder that is missing is made, as by augment.fit
    assert len(BodyTable.load(tmp_path / "new/smpl.npz")) == COUNT and [
        file.name for file in (tmp_path / "new").iterdir()
    ] == ["smpl.npz"]


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"body_pose": np.zeros((COUNT, 21, 3, 3))}, "24 joints"),
        ({"body_pose": np.zeros((COUNT, 69))}, "24 joints"),
        ({"betas": np.full((COUNT, 10), np.nan)}, "betas of a.jpg is not finite"),
        ({"body_pose": np.ones((COUNT, 23, 3, 3))}, "no rotation"),
        ({"pred_cam": np.zeros((COUNT, 3))}, "behind the camera"),
        ({"img_size": None}, "lacks img_size"),
        ({"pred_cam": None, "pred_cam_t": None}, "lacks pred_cam"),
        ({"img_size": np.zeros((COUNT, 2))}, "not above 0"),
        ({"path": np.array([])}, "no images"),
        ({"path": np.array("a.jpg")}, "path is no list of texts"),
        ({"path": np.arange(COUNT)}, "path is no list of texts"),
        ({"path": np.array([["a.jpg"], ["b.jpg"], ["c.jpg"]])}, "path is no list of texts"),
        ({"path": np.array(["a.jpg", "b.jpg", "a.jpg"])}, "2 bodies of a.jpg"),
        ({"body_pose": np.full((COUNT, 23, 3, 3), 1e200)}, "no rotation"),
    ],
)
def test_results_that_lie_are_named(changes, said, table, tmp_path):
    columns = {
        name: value
        for name, value in (export_hmr2(table, SIZE) | changes).items()
        if value is not None
    }
    with pytest.raises(StudyError, match=said):
        read_hmr2(write(tmp_path / "bad.npz", columns))


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"path": 3}, "path is no list of texts"),
        ({"path": "a.jpg"}, "path is no list of texts"),
        ({"path": ["a.jpg", None, "c.jpg"]}, "path is no list of texts"),
        ({"path": [["a.jpg"], "b.jpg", "c.jpg"]}, "path is no list of texts"),
        ({"pred_smpl_params": 3}, "pred_smpl_params too"),
        ({"pred_smpl_params": [1, 2]}, "pred_smpl_params too"),
        ({"betas": {"a": 1}}, "betas is not an array of numbers"),
        ({"betas": [[10**400] * 10] * COUNT}, "betas is not an array of numbers"),
    ],
)
def test_json_that_lies_is_named(changes, said, table, tmp_path):
    path = write(tmp_path / "bad.json", export_hmr2(table, SIZE))
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(StudyError, match=said):
        read_hmr2(path)
    boxed = {"box_center": [[10, 10]] * COUNT, "box_size": [50] * COUNT}
    columns = {n: v.tolist() for n, v in export_hmr2(table, SIZE).items()} | boxed
    rows = [{name: values[row] for name, values in columns.items()} for row in range(COUNT)]
    for name in boxed:
        del rows[0][name]  # the first alone has none
    path.write_text(json.dumps(rows))
    with pytest.raises(StudyError, match="box_center is not an array of numbers"):
        read_hmr2(path)
    path.write_text(json.dumps([{"path": "a.jpg", "pred_smpl_params": "b"}]))
    with pytest.raises(StudyError, match="pred_smpl_params too"):
        read_hmr2(path)


def test_two_columns_of_one_name_are_refused(table, tmp_path):
    columns = export_hmr2(table, SIZE)
    columns["target/pred_cam"] = columns["pred_cam"] * 2
    with pytest.raises(StudyError, match="two columns pred_cam, pred_cam and target/pred_cam"):
        read_hmr2(write(tmp_path / "two.npz", columns))


def test_a_camera_at_no_finite_place_is_named(table, tmp_path):
    columns = export_hmr2(table, SIZE) | {"box_size": np.array([50, 1e-320, 50])}
    with pytest.raises(StudyError, match="the camera of b.jpg is at no finite place"):
        import_hmr2(write(tmp_path / "far.npz", columns), cached_smpl(BODY))


class Trap:
    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


@pytest.mark.parametrize("name", ["a.pkl", "a.pt", "a.joblib", "a.npz", "a.json", "a.safetensors"])
def test_pickles_and_broken_files_are_refused_and_not_executed(name, tmp_path):
    (tmp_path / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(StudyError, match=name):
        read_hmr2(tmp_path / name)


@pytest.mark.parametrize("name", ["pred_vertices", "pred_smpl_params/pred_vertices"])
def test_meshes_beside_the_columns_are_not_unpacked(name, table, tmp_path):
    """At the counts of a real data set they take many times the memory of a table."""
    path = write(tmp_path / "a.npz", export_hmr2(table, SIZE))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{name}.npy", bytes(4096))
    directory = bytearray(path.read_bytes())
    place = directory.rindex(b"PK\x01\x02")  # of the last member, which is to claim 3 GiB
    directory[place + 24 : place + 28] = (3 << 30).to_bytes(4, "little")
    path.write_bytes(directory)
    assert read_hmr2(path)["path"].tolist() == table.path.tolist()


def test_meshes_of_safetensors_are_not_read(table, tmp_path):
    columns = export_hmr2(table, SIZE) | {"pred_vertices": np.zeros((COUNT, 6890, 3))}
    path = write(tmp_path / "a.safetensors", columns)
    assert "pred_vertices" not in READERS[".safetensors"](path)


# --- archives that lie ---


def test_an_archive_comes_back(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(3.0), y=np.array("text"))
    found = read_npz(tmp_path / "a.npz", ("x",), what="numbers")
    assert list(found) == ["x"]
    np.testing.assert_array_equal(found["x"], [0, 1, 2])


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", poses=np.zeros((100, 1000)))
    with pytest.raises(StudyError, match="bomb.npz unpacks to .* give a smaller file"):
        read_npz(tmp_path / "bomb.npz", what="a motion", limit=100_000)


def test_a_header_that_promises_more_than_there_is(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 156), }"
    header += b" " * (117 - len(header)) + b"\n"
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr(
            "poses.npy",
            b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 64,
        )
    with pytest.raises(StudyError, match="huge.npz: 'poses' claims"):
        read_npz(tmp_path / "huge.npz", what="a motion")


def test_an_archive_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    write_npz(tmp_path / "a.npz", {"x": np.arange(3)})
    monkeypatch.setattr(
        os, "replace", lambda *paths: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(StudyError, match=r"a\.npz cannot be written \(No space left on device\)"):
        write_npz(tmp_path / "a.npz", {"x": np.arange(9)})
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"] and len(
        read_npz(tmp_path / "a.npz", what="numbers")["x"]
    ) == 3


@pytest.mark.parametrize("cut", [0, 30, -40])
def test_empty_and_truncated_archives(cut, tmp_path):
    np.savez(tmp_path / "cut.npz", poses=np.random.default_rng(0).normal(size=(50, 156)))
    content = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[:cut])
    with pytest.raises(StudyError, match="cut.npz"):
        read_npz(tmp_path / "cut.npz", what="a motion")
