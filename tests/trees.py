"""Tiny data sets on disk for the tests of readers, writers and preflight; no two images alike."""

from zlib import crc32

import h5py
import numpy as np
from PIL import Image
from scipy.io import savemat

from posedive_lib.body.table import BodyTable

CAMERAS = (1, 2, 3)


def paint(path, key=None, size=(16, 32)):
    """A photo (width, height) of random pixels, so that no two files are alike.

    key: what the pixels depend on (default: the path).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(crc32(str(key if key is not None else path).encode()))
    Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return path


def standing(rels, focal):
    """Bodies of photos: at rest, of mean shape, 4 m before a camera; focal: in pixels."""
    n = len(rels)
    return BodyTable(
        np.asarray(rels, str),
        np.zeros((n, 3)),
        np.zeros((n, 69)),
        np.zeros((n, 10)),
        np.tile([0.0, 0, 4], (n, 1)),
        np.full(n, focal),
        np.zeros((n, 17, 2)),
        np.full((n, 17), 2),
    )


def market(folder, people=(2, 7, 9), test=(1, 3), suffix=".jpg", cameras=CAMERAS, distractor=True):
    """Train: two images of each person and camera; test: one query and one gallery image each."""
    for pid in people:
        for cam in cameras:
            for frame in (1, 2):
                paint(folder / "bounding_box_train" / f"{pid:04d}_c{cam}s1_{frame:06d}_00{suffix}")
    for pid in test:
        for cam in cameras:
            paint(folder / "query" / f"{pid:04d}_c{cam}s1_000001_00{suffix}")
            paint(folder / "bounding_box_test" / f"{pid:04d}_c{cam}s1_000002_01{suffix}")
    if distractor:
        paint(folder / "bounding_box_test" / f"0000_c1s1_000009_00{suffix}")
        paint(folder / "bounding_box_test" / f"-1_c2s1_000009_00{suffix}")
    return folder


def msmt17(folder, version="V1", people=3, images=6, cameras=CAMERAS):
    """People 0.. in both halves; the last image of each is in list_val."""
    train, test = ("train", "test") if version == "V1" else ("mask_train_v2", "mask_test_v2")
    lists = {"train": "", "val": "", "query": "", "gallery": ""}
    for pid in range(people):
        for number in range(images):
            camera = cameras[number % len(cameras)]
            name = f"{pid:04d}/{pid:04d}_{number:03d}_{camera:02d}_0303morning_{number:04d}_0.jpg"
            paint(folder / train / name)
            paint(folder / test / name)
            lists["val" if number == images - 1 else "train"] += f"{name} {pid}\n"
            lists["query" if number < len(cameras) else "gallery"] += f"{name} {pid}\n"
    for name, text in lists.items():
        (folder / f"list_{name}.txt").write_text(text)
    return folder


def cuhk03_mat(folder, boxes="labeled", pairs=2, people=3, images=4, empty=((0, 1, 3),)):
    """`cuhk-03.mat` and the protocol file, half of the people to train; returns {name: pixels}."""
    rng, made, slots = np.random.default_rng(5), {}, [0, 1, 5, 6][:images]
    for pair in range(pairs):
        for person in range(people):
            for number, slot in enumerate(slots):
                if (pair, person, number) not in empty:
                    size = rng.integers(20, 30), 12, 3  # heights differ, as in the real one
                    name = f"{pair + 1}_{person + 1:03d}_{1 if slot < 5 else 2}_{slot + 1:02d}.png"
                    made[name] = rng.integers(0, 255, size, dtype=np.uint8)
    release = folder / "cuhk03_release"
    release.mkdir(parents=True, exist_ok=True)
    mat73(release / "cuhk-03.mat", {boxes: made})
    names = sorted(made)
    label = {
        name[:5]: number for number, name in enumerate(sorted({n[:5] for n in names}), start=1)
    }
    labels, cameras = (
        np.array([label[n[:5]] for n in names]),
        np.array([int(n.split("_")[2]) for n in names]),
    )
    testing = labels > len(label) // 2
    first = np.array(
        [
            i
            for i in range(len(names))
            if (labels[i], cameras[i]) not in set(zip(labels[:i], cameras[:i], strict=True))
        ]
    )
    query = np.isin(np.arange(len(names)), first) & testing
    rows = {"train": ~testing, "query": query, "gallery": testing & ~query}
    cuhk03_protocol(folder, boxes, names, labels, rows)
    return made


def mat73(path, boxes):
    """`cuhk-03.mat`, as MATLAB 7.3 writes it: axes reversed, cells as references.

    boxes: kind of boxes -> {name: pixels}; a name is pair_person_view_slot.png, counted from 1.
    """
    with h5py.File(path, "w") as mat:
        for kind, images in boxes.items():
            at = {
                tuple(int(n) - 1 for n in np.array(name[:-4].split("_"))[[0, 1, 3]]): pixels
                for name, pixels in images.items()
            }
            pairs, people = (1 + max(key[axis] for key in at) for axis in (0, 1))
            outer = mat.create_dataset(kind, (1, pairs), dtype=h5py.ref_dtype)
            for pair in range(pairs):
                place = f"#refs#/{kind}{pair}"
                cell = mat.create_dataset(place, (10, people), dtype=h5py.ref_dtype)
                for person, slot in np.ndindex(people, 10):
                    key, pixels = f"{place}_{person}_{slot}", at.get((pair, person, slot))
                    mat[key] = np.zeros(2, np.uint64) if pixels is None else pixels.T
                    cell[slot, person] = mat[key].ref
                outer[0, pair] = cell.ref


def cuhk03_protocol(folder, boxes, names, labels, rows):
    """The new protocol's file of some boxes. rows: split -> which of the names, a mask."""

    def column(values):
        return np.asarray(values, np.uint16).reshape(-1, 1)

    cells = np.empty((len(names), 1), dtype=object)
    cells[:, 0] = names
    split = {f"{part}_idx": column(np.flatnonzero(mask) + 1) for part, mask in rows.items()}
    cameras = column([int(name.split("_")[2]) for name in names])
    savemat(
        folder / f"cuhk03_new_protocol_config_{boxes}.mat",
        {"filelist": cells, "labels": column(labels), "camId": cameras, **split},
    )


def folder(where, extra=""):
    """images.csv with a column more; returns its lines."""
    lines = ["path,pid,camid,split,azimuth"]
    for pid, split in ((4, "train"), (5, "train"), (8, "query"), (8, "gallery")):
        for cam in (0, 11):
            rel = f"{split}/p{pid}/{cam}.png"
            paint(where / rel)
            lines.append(f"{rel},{pid},{cam},{split},{pid * 10.5}")
    (where / "images.csv").write_text("\n".join(lines) + "\n" + extra)
    return lines
