"""Photos whose crops are not 2:1 are stretched to the study's size, and so are their bodies."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pipeline import ROOT

from posedive_lib import datasets, params
from posedive_lib.augment import photo_arrays
from posedive_lib.body import camera
from posedive_lib.body.conditions import ConditionRenderer
from posedive_lib.body.poses import load_poses
from posedive_lib.body.rendering import Rendering, render_many
from posedive_lib.body.table import BodyTable
from posedive_lib.datasets.write import write_augmented
from posedive_lib.errors import StudyError
from posedive_lib.own_data.fit import estimate
from posedive_lib.study import condition_views

BODY = str(ROOT / "data/body/SMPL_NEUTRAL.npz")
H, W, FOCAL = 128, 64, 2.5
ASPECTS = (1.5, 2.0, 2.37, 2.98, 3.5)  # height / width of the crops
EACH = 4


def iou(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N,) of masks (N, H, W)."""
    return (one & other).sum((1, 2)) / (one | other).sum((1, 2))


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> pd.DataFrame:
    """White people before black, in crops of the aspects, with their bodies in `smpl.npz`.

    Each person is drawn by a camera of the crop's own size, off the crop's centre.
    """
    folder, source = tmp_path_factory.mktemp("photos"), load_poses(ROOT / "data/motions", fps=2)
    rng = np.random.default_rng(0)
    rows, bodies = [], []
    for aspect in ASPECTS:
        height = 300
        width = round(height / aspect)
        draw = ConditionRenderer(BODY, height, width, near=2.5, far=10.5, focal=FOCAL)
        for number in range(EACH):
            frame = rng.choice(np.flatnonzero(source.domain == "in"))
            betas, view = rng.normal(0, 0.7, 10), (rng.uniform(-180, 180), rng.uniform(0, 30))
            orientation, cam_t, vertices, joints = draw.place(
                source.root_tilt[frame], source.body_pose[frame], betas, *view, shift=(0.02, 0.01)
            )
            drawn = draw.draw(vertices, joints)
            rel = f"{aspect}_{number}.png"
            picture = np.repeat(drawn.mask[..., None], 3, axis=-1).astype(np.uint8) * 255
            Image.fromarray(picture).save(folder / rel)
            rows.append(
                (str(folder / rel), rel, str(folder / "smpl.npz"), 0, 0, True, True, aspect)
            )
            bodies.append(
                (rel, orientation, source.body_pose[frame], betas, cam_t, FOCAL * height)
                + (drawn.keypoints, drawn.visible)
            )
    BodyTable(*(np.array(column) for column in zip(*bodies, strict=True))).save(folder / "smpl.npz")
    roles = ["reference_ok", "target_ok"]
    return pd.DataFrame(
        rows, columns=["path", "rel", "bodies", "pid", "camid", *roles, "aspect"]
    ).sample(frac=1, random_state=0)


def parameters() -> params.Params:
    return params.load(
        ROOT / "params.yaml",
        overrides={
            "image.height": H,
            "image.width": W,
            "world.workers": 1,
            "conditions.focal": FOCAL,
            "paths.body": BODY,
        },
    )


def test_conditions_lie_on_the_person_whatever_the_crops_shape(photos, monkeypatch):
    """At every aspect, through what encodes photos for the generator."""
    taken = []

    def take(images, *_, **__):
        taken.append(images)
        raise InterruptedError

    monkeypatch.setattr(photo_arrays, "encode", take)
    with pytest.raises(InterruptedError):
        photo_arrays.PhotoEncoder(parameters(), None).arrays(photos, progress=False)
    (images,) = taken
    person, condition = images.photos[..., 0] > 127, images.depth[..., 0] > 0
    overlap = pd.Series(iou(person, condition), photos["aspect"])
    assert overlap.groupby(level=0).min().index.tolist() == list(ASPECTS)
    assert overlap.min() >= 0.85 and overlap.median() > 0.93
    skeleton = images.skeleton.any(-1)
    on_person = (skeleton & person).sum((1, 2)) / skeleton.sum((1, 2))
    assert on_person.min() > 0.8


def test_pictures_of_training_photos_show_their_conditions_on_the_person(photos):
    class Dataset:
        bodies, train = Path(photos["bodies"].iloc[0]), photos

    draw = condition_views.renderer(parameters())
    rows = [photos["aspect"].tolist().index(aspect) for aspect in ASPECTS]
    for photo, *_, normals in condition_views.training_strips(draw, Dataset, rows):
        assert iou((photo[..., 0] > 127)[None], normals.any(-1)[None]) >= 0.85


@pytest.mark.parametrize("backend", ["opengl", "zbuffer"])
def test_a_stretched_body_is_the_body_in_a_stretched_picture(photos, backend):
    """Against a camera of the crop's size: key points, visibility, depth and normals."""
    width, height = 200, 300
    table = BodyTable.load(photos["bodies"].iloc[0]).select(["1.5_0.png"])
    own = Rendering(BODY, height, width, 2.5, 10.5, FOCAL)
    resized = Rendering(BODY, height, height // 2, 2.5, 10.5, FOCAL)
    one = render_many(table, own, backend=backend)
    other = render_many(table, resized, sizes=np.array([[width, height]]), backend=backend)
    np.testing.assert_allclose(other.keypoints, one.keypoints * [0.75, 1], atol=1e-3)
    np.testing.assert_array_equal(other.visible, one.visible)
    columns = np.floor((np.arange(height // 2) + 0.5) / 0.75).astype(int)
    both = one.mask[0][:, columns] & other.mask[0]
    for name, limit in (("depth", 1), ("normals", 12)):
        expected = getattr(one, name)[0][:, columns][both].astype(int)
        difference = np.abs(getattr(other, name)[0][both] - expected)
        assert np.percentile(difference, 90) <= limit


def test_bodies_of_another_focal_length_are_refused(photos):
    table = BodyTable.load(photos["bodies"].iloc[0]).select(["1.5_0.png"])
    rendering = Rendering(BODY, H, W, 2.5, 10.5, 5.0)
    with pytest.raises(
        StudyError, match=r"body of 1.5_0.png .* of 2.5 image .*focal is 5 \(1 of 1"
    ):
        render_many(table, rendering, sizes=np.array([[200, 300]]))


def test_equal_proportions_are_not_stretched_at_all():
    sizes = np.array([[64, 128], [192, 384], [50, 150]])
    assert camera.stretch_of(sizes, 128, 64).tolist() == [1.0, 1.0, 1.5]


@pytest.fixture
def market(tmp_path) -> datasets.ReIDDataset:
    """Market-1501 with photos of two sizes, one of them on its side by its EXIF orientation."""
    sizes = {"bounding_box_train/0002": (64, 128), "bounding_box_train/0007": (50, 149)}
    sizes |= {"query/0003": (64, 128), "bounding_box_test/0003": (64, 128)}
    for stem, size in sizes.items():
        for number in (1, 2):
            path = tmp_path / f"data/Market-1501-v15.09.15/{stem}_c{number}s1_000001_00.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            image, exif = Image.new("RGB", size, (90, 80, 70)), Image.Exif()
            if size == (50, 149):
                image, exif[274] = image.transpose(Image.Transpose.ROTATE_90), 6
            image.save(path, exif=exif)
    return datasets.load("market1501", tmp_path / "data")


def made_for(data: datasets.ReIDDataset, folder: Path) -> pd.DataFrame:
    """A picture of 192 x 96 for each training photo: left half red, right half blue."""
    pixels = np.zeros((192, 96, 3), np.uint8)
    pixels[:, :48, 0] = pixels[:, 48:, 2] = 200
    rows = data.train[["pid", "camid"]].assign(reference=data.train["rel"], index=3)
    rows["image_path"] = [str(folder / f"{number}.jpg") for number in range(len(rows))]
    for path in rows["image_path"]:
        Image.fromarray(pixels).save(path, quality=95, subsampling=0)
    return rows


def test_generated_images_come_back_in_the_size_of_their_references(market, tmp_path):
    out = write_augmented(market, made_for(market, tmp_path), tmp_path / "out")
    made = out.train[out.train["generated"]]
    sizes = [(pid, Image.open(path).size) for pid, path in made[["pid", "path"]].to_numpy()]
    assert sorted(sizes) == 2 * [(2, (64, 128))] + 2 * [(7, (50, 149))]
    for _, path in made[["pid", "path"]].to_numpy():
        pixels = np.asarray(Image.open(path)).astype(int)
        middle = pixels.shape[1] // 2
        assert np.abs(pixels[:, : middle - 3] - (200, 0, 0)).max() < 12
        assert np.abs(pixels[:, middle + 3 :] - (0, 0, 200)).max() < 12


def test_images_of_the_right_size_and_those_without_reference_stay_as_they_are(market, tmp_path):
    made = made_for(market, tmp_path)
    for path in made["image_path"]:
        Image.open(path).resize((64, 128)).save(path)
    made = made[made["pid"] == 2]
    for number, table in enumerate((made, made.drop(columns="reference"))):
        out = write_augmented(market, table, tmp_path / f"out{number}").train
        written = [Path(path).read_bytes() for path in out.loc[out["generated"], "path"]]
        assert written == [Path(path).read_bytes() for path in made["image_path"]]


def test_an_unknown_reference_is_named(market, tmp_path):
    made = made_for(market, tmp_path).assign(reference="bounding_box_train/gone.jpg")
    with pytest.raises(StudyError, match="reference 'bounding_box_train/gone.jpg'.*leave the col"):
        write_augmented(market, made, tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Corner:
    """An estimator that finds all key points of an image at its lower right corner."""

    def __init__(self, input_size: tuple[int, int]):
        self.input_size, self.seen = input_size, set()

    def estimate(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        count, height, width = images.shape[:3]
        self.seen.add((height, width))
        points = np.broadcast_to(np.float32([width, height]), (count, 17, 2))
        return points, np.ones((count, 17), np.float32)


@pytest.mark.parametrize("input_size", [(128, 64), (256, 192)])
def test_key_points_are_found_on_crops_as_the_estimator_knows_them(photos, input_size):
    """Stretched for an input of 2:1, else as they are; in pixels of the files in any case."""
    estimator = Corner(input_size)
    found = estimate(photos["path"].tolist(), estimator)
    sizes = [Image.open(path).size for path in photos["path"]]
    np.testing.assert_array_equal(found["size"], [size[::-1] for size in sizes])
    corner = np.broadcast_to(np.array(sizes)[:, None], (len(sizes), 17, 2))
    np.testing.assert_allclose(found["keypoints"], corner, rtol=1e-6)
    own = {size[::-1] for size in sizes}
    assert estimator.seen == ({(300, 150)} if input_size == (128, 64) else own)
