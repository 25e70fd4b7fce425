"""Conditions against an independent z-buffer in NumPy, key points against projection (§B, §H)."""

import os
import signal
from dataclasses import dataclass, fields

import numpy as np
import pytest
from pipeline import ROOT
from scipy.ndimage import binary_erosion, maximum_filter, minimum_filter

from posedive_lib.body import backend
from posedive_lib.body.backend import open_rasteriser
from posedive_lib.body.conditions import LIMBS, ConditionRenderer, draw_skeleton
from posedive_lib.body.poses import load_poses
from posedive_lib.body.rendering import Rendering, render_many
from posedive_lib.body.smpl import COCO_FROM_SMPL, pose
from posedive_lib.errors import StudyError
from posedive_lib.workers import worker_pool

H, W, FOCAL, NEAR, FAR = 128, 64, 2.5, 2.5, 10.5
BETAS = np.zeros(10)


@pytest.fixture(scope="module")
def renderer():
    return ConditionRenderer(
        str(ROOT / "data/body/SMPL_NEUTRAL.npz"), H, W, near=NEAR, far=FAR, focal=FOCAL
    )


@pytest.fixture(scope="module")
def bodies(renderer):
    """Four bodies in ordinary and unusual poses, each from another side.

    Rows of (orientation, pose, betas, translation).
    """
    source, rng = load_poses(ROOT / "data/motions", fps=2), np.random.default_rng(0)
    rows = [
        *rng.choice(np.flatnonzero(source.domain == "in"), 2),
        *rng.choice(np.flatnonzero(source.domain == "out"), 2),
    ]
    found = []
    for row, azimuth, elevation in zip(rows, (0, 120, -60, 200), (5, 25, 15, 0), strict=True):
        orientation, cam_t, *_ = renderer.place(
            source.root_tilt[row], source.body_pose[row], BETAS, azimuth, elevation
        )
        found.append((orientation, source.body_pose[row], BETAS, cam_t))
    return found


def face_normals(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) unit normals from sums over faces, written apart from the renderer's."""
    total = np.zeros_like(points)
    for triangle in (0, 1, 2):
        np.add.at(
            total,
            faces[:, triangle],
            np.cross(
                points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]]
            ),
        )
    return total / np.linalg.norm(total, axis=1, keepdims=True)


def z_buffer(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depth (H, W), 0 outside, and unit normals (H, W, 3) at the pixel centres, OpenCV axes."""
    normals = face_normals(points, faces)
    pixel = points[:, :2] / points[:, 2:] * FOCAL * H + [W / 2, H / 2]
    corner = pixel[faces]
    low = np.maximum(np.ceil(corner.min(1) - 0.5).astype(int), 0)
    size = np.maximum(
        np.minimum(np.floor(corner.max(1) - 0.5).astype(int), [W - 1, H - 1]) - low + 1, 0
    )
    face = np.repeat(
        np.arange(len(faces)), size.prod(1)
    )  # every face with every pixel centre of its box
    index = np.arange(len(face)) - np.repeat(np.cumsum(size.prod(1)) - size.prod(1), size.prod(1))
    x, y = low[face, 0] + index % size[face, 0], low[face, 1] + index // size[face, 0]
    a, b, c = corner[face].transpose(1, 2, 0)
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        v = ((x + 0.5 - a[0]) * (c[1] - a[1]) - (y + 0.5 - a[1]) * (c[0] - a[0])) / area
        w = ((b[0] - a[0]) * (y + 0.5 - a[1]) - (b[1] - a[1]) * (x + 0.5 - a[0])) / area
    covered = (abs(area) > 1e-9) & (v >= 0) & (w >= 0) & (v + w <= 1)
    x, y, v, w, face = x[covered], y[covered], v[covered], w[covered], face[covered]
    weight = np.stack([1 - v - w, v, w], 1) / points[faces[face], 2]  # linear in 1/z, not in z
    here, towards = 1 / weight.sum(1), np.einsum("nk,nkc->nc", weight, normals[faces[face]])
    depth, direction = np.zeros((H, W)), np.zeros((H, W, 3))
    order = np.argsort(-here)  # the nearest is written last
    depth[y[order], x[order]], direction[y[order], x[order]] = here[order], towards[order]
    return depth, direction / np.maximum(np.linalg.norm(direction, axis=-1, keepdims=True), 1e-12)


@pytest.fixture(scope="module")
def compared(renderer, bodies):
    """Per body: conditions, the renderer's raw raster, and depth and normals of the z-buffer."""
    found = []
    for body in bodies[1:3]:
        points = pose(renderer.model, *body[:3])[0].astype(float) + body[3]
        found.append(
            (
                renderer.render(*body),
                renderer.rasterise(points, renderer.faces),
                *z_buffer(points, renderer.faces),
            )
        )
    return found


def interior(depth: np.ndarray) -> np.ndarray:
    """Pixels whose neighbours are on the same surface: no silhouette, no edge of an arm."""
    filled = np.where(depth > 0, depth, 100)
    return binary_erosion(depth > 0, np.ones((3, 3))) & (
        maximum_filter(filled, 3) - minimum_filter(filled, 3) < 0.08
    )


def test_silhouettes_agree_to_a_pixel(compared):
    for drawn, _, depth, _ in compared:
        overlap = (drawn.mask & (depth > 0)).sum() / (drawn.mask | (depth > 0)).sum()
        assert overlap > 0.995  # both say whether the pixel's centre is covered
        assert 0.1 < drawn.mask.mean() < 0.6


def test_depth_is_within_a_centimetre(compared):
    for _, raster, depth, _ in compared:
        inside = interior(depth) & (raster.depth > 0)
        assert inside.sum() > 500
        assert (np.abs(raster.depth - depth)[inside] <= 0.01).mean() >= 0.99


def test_the_depth_map_is_metric_over_its_range(compared):
    for drawn, _, depth, _ in compared:
        inside = interior(depth) & drawn.mask
        metres = FAR - drawn.depth[..., 0] / 255 * (FAR - NEAR)
        step = (FAR - NEAR) / 255
        assert (np.abs(metres - depth)[inside] <= 0.01 + step / 2).mean() >= 0.99
        assert (
            (drawn.depth[~drawn.mask] == 0).all()
            and drawn.depth.dtype == np.uint8
            and drawn.depth.shape == (H, W, 1)
        )


def test_normals_agree_with_the_z_buffer(compared):
    """As drawn, in 8 bits: within 3° on 99 % of the interior; the raw raster is far closer."""
    for drawn, raw, depth, direction in compared:
        inside = interior(depth) & drawn.mask
        image = drawn.normals / 255.0 * 2 - 1
        image /= np.linalg.norm(image, axis=-1, keepdims=True)
        expected = direction * [1, -1, -1]  # the picture has y up and z to the viewer
        angle = np.degrees(np.arccos(np.clip((image * expected).sum(-1), -1, 1)))
        assert (angle[inside] <= 3).mean() >= 0.99 and np.median(angle[inside]) <= 0.5
        exact = np.degrees(np.arccos(np.clip((raw.normals * expected).sum(-1), -1, 1)))
        assert (exact[inside] <= 0.1).mean() >= 0.999
        assert (image[..., 2][inside] > 0).mean() > 0.99  # seen surfaces face the viewer


@pytest.mark.parametrize("size", [(128, 64), (37, 53)])
def test_the_library_s_z_buffer_draws_what_opengl_draws(size, renderer, bodies):
    """Every field, with colours that vary; the size does not divide anything."""
    height, width = size
    colours = np.random.default_rng(1).random(renderer.model.v_template.shape, np.float32)
    orientation, body_pose, betas, cam_t = bodies[3]
    points = pose(renderer.model, orientation, body_pose, betas)[0] + cam_t
    draw = {
        name: open_rasteriser(height, width, 1.9 * height, name) for name in ("opengl", "zbuffer")
    }
    one, other = (way(points, renderer.faces, colours) for way in draw.values())
    for name in ("albedo", "cover", "normals", "depth"):
        drawn, expected = getattr(one, name), getattr(other, name)
        assert drawn.dtype == expected.dtype == np.float32 and drawn.shape == expected.shape
        off = np.abs(drawn - expected) > 1e-3
        assert off.reshape(height, width, -1).any(-1).mean() < 0.005, (
            name
        )  # a sample on an edge may fall to either side
    for name, coloured in (("opengl", one), ("zbuffer", other)):
        bare = draw[name](points, renderer.faces)
        assert bare.albedo is None
        for field in ("cover", "normals", "depth"):
            np.testing.assert_array_equal(getattr(bare, field), getattr(coloured, field))


def test_a_body_partly_outside_or_behind_is_drawn_alike(renderer, bodies):
    orientation, body_pose, betas, _ = bodies[0]
    points = pose(renderer.model, orientation, body_pose, betas)[0]
    for cam_t in ([0.25, 0.5, 2.0], [0, 0, -5.0]):
        one, other = (
            open_rasteriser(H, W, FOCAL * H, name)(points + np.float32(cam_t), renderer.faces).cover
            for name in ("opengl", "zbuffer")
        )
        assert (np.abs(one - other) > 1e-3).mean() < 0.005
        assert one.any() == (cam_t[2] > 0)


def test_without_opengl_the_z_buffer_takes_over_and_says_so_once(monkeypatch, caplog):
    monkeypatch.setattr(backend, "check_libraries", lambda: "Off-screen OpenGL is missing")
    backend._opengl_problem.cache_clear()
    try:
        assert [backend.choose_backend(name) for name in ("auto", "auto", "zbuffer")] == [
            "zbuffer"
        ] * 3
        assert len(caplog.records) == 1 and "z-buffer" in caplog.text
        with pytest.raises(StudyError, match="OpenGL"):
            backend.choose_backend("opengl")
    finally:
        backend._opengl_problem.cache_clear()
    with pytest.raises(StudyError, match="zbuffer"):
        backend.choose_backend("vulkan")


def test_two_meshes_take_turns_on_one_rasteriser(renderer, bodies):
    points = pose(renderer.model, *bodies[0][:3])[0] + bodies[0][3].astype(np.float32)
    half = renderer.faces[: len(renderer.faces) // 2].copy()

    def draw(faces):
        return renderer.rasterise(points, faces).cover.sum()

    whole, part = draw(renderer.faces), draw(half)
    assert 0 < part < whole and (draw(renderer.faces), draw(half)) == (whole, part)


def test_a_placed_body_is_the_body_that_is_rendered(renderer, bodies):
    arms = np.zeros(69)
    arms[47], arms[50] = -1.1, 0.9
    orientation, cam_t, vertices, joints = renderer.place(np.zeros(3), arms, BETAS, 70, 12)
    one, other = renderer.draw(vertices, joints), renderer.render(orientation, arms, BETAS, cam_t)
    np.testing.assert_allclose(one.keypoints, other.keypoints, atol=1e-3)
    for name in ("normals", "depth", "skeleton", "mask"):
        assert (getattr(one, name) != getattr(other, name)).mean() < 0.002
    rows = np.flatnonzero(one.mask.any(1))
    assert abs((rows[-1] - rows[0] + 1) / H - 0.86) < 0.02  # from head to feet


def test_key_points_are_projected_joints(renderer, bodies):
    for body in bodies:
        x, y, z = (pose(renderer.model, *body[:3])[1][COCO_FROM_SMPL] + body[3]).T
        expected = np.stack([FOCAL * H * x / z + W / 2, FOCAL * H * y / z + H / 2], 1)
        drawn = renderer.render(*body)
        np.testing.assert_allclose(drawn.keypoints, expected, atol=1e-3)
        column, row = np.floor(drawn.keypoints[5:]).astype(int).T
        assert drawn.mask[row, column].mean() > 0.9  # shoulders to ankles lie inside the body


def standing(renderer, azimuth: float, **options):
    arms_down = np.zeros((23, 3))
    arms_down[15], arms_down[16] = (0, 0, -1.3), (0, 0, 1.3)
    orientation, cam_t, *_ = renderer.place(
        np.zeros(3), arms_down.ravel(), BETAS, azimuth, 5, **options
    )
    return renderer.render(orientation, arms_down.ravel(), BETAS, cam_t)


@pytest.mark.parametrize(
    "azimuth, shown, hidden",
    [
        (0, [0, 1, 2, 5, 6, 11, 12, 13, 14, 15, 16], []),
        (180, [5, 6, 13, 14, 15, 16], [0, 1, 2]),
        (90, [5, 7, 9, 13], [6, 8]),
        (-90, [6, 8, 10, 14], [5, 7]),
    ],
)
def test_visibility_follows_the_side_that_is_seen(azimuth, shown, hidden, renderer):
    visible = standing(renderer, azimuth).visible
    assert (visible[shown] == 2).all() and (visible[hidden] == 1).all()


def test_points_outside_the_picture_are_not_visible(renderer):
    drawn = standing(renderer, 0, shift=(0, 0.4))
    outside = (drawn.keypoints[:, 1] >= H) | (drawn.keypoints[:, 1] < 0)
    assert (
        outside.any()
        and (drawn.visible[outside] == 0).all()
        and (drawn.visible[~outside] > 0).all()
    )


def test_left_and_right_have_their_own_colours():
    points = np.full((17, 2), -100.0)
    points[5], points[7] = (40, 40), (40, 80)  # left upper arm
    image = draw_skeleton(points, H, W)
    assert image.shape == (H, W, 3) and tuple(image[60, 40]) == LIMBS[5, 7]
    points[6], points[8] = (20, 40), (20, 80)
    assert tuple(draw_skeleton(points, H, W)[60, 20]) == LIMBS[6, 8]


def test_a_nearer_body_is_whiter(renderer, bodies):
    orientation, body_pose, betas, cam_t = bodies[0]
    near, far = (
        renderer.render(orientation, body_pose, betas, cam_t * [1, 1, f]).depth for f in (0.9, 1.5)
    )
    assert near[near > 0].mean() > far[far > 0].mean() + 20


def test_rendering_is_the_same_twice(renderer, bodies):
    once, twice = renderer.render(*bodies[3]), renderer.render(*bodies[3])
    for name in ("skeleton", "depth", "normals", "neutral", "mask"):
        np.testing.assert_array_equal(getattr(once, name), getattr(twice, name))


def test_many_bodies_are_rendered_as_one_by_one(renderer, bodies):
    """In this process and in two others; stacked in order."""
    many = [bodies[i % 4] for i in range(66)]
    columns = [np.stack(column) for column in zip(*many, strict=True)]
    rendering = Rendering(str(ROOT / "data/body/SMPL_NEUTRAL.npz"), H, W, NEAR, FAR, FOCAL)
    table = SimpleTable(*columns)
    for some in (table, SimpleTable(*(column[:4] for column in columns))):
        stacked = render_many(some, rendering)
        for row in (1, len(some) - 1):
            one = renderer.render(*many[row])
            for field in fields(one):
                found = getattr(stacked, field.name)
                assert len(found) == len(some)
                np.testing.assert_array_equal(found[row], getattr(one, field.name))


@dataclass
class SimpleTable:
    """The columns of a `BodyTable` that are rendered."""

    global_orient: np.ndarray
    body_pose: np.ndarray
    betas: np.ndarray
    cam_t: np.ndarray

    def __len__(self) -> int:
        return len(self.cam_t)


def test_ctrl_c_is_left_to_the_process_that_started_the_others():
    with worker_pool(1) as pool:
        first = pool.submit(os.getpid)
        for process in pool._processes.values():  # while they start
            os.kill(process.pid, signal.SIGINT)
        pid = first.result()
        os.kill(pid, signal.SIGINT)
        assert pool.submit(os.getpid).result() == pid


@pytest.mark.parametrize(
    "lens",
    [
        dict(focal=0.0),
        dict(focal=np.nan),
        dict(near=11.0),
        dict(near=-1.0),
        dict(far=np.inf),
        dict(near=np.nan),
    ],
)
def test_a_lens_or_range_that_cannot_be_is_refused(lens):
    with pytest.raises(StudyError, match="give 0 ≤ near < far"):
        ConditionRenderer(
            str(ROOT / "data/body/SMPL_NEUTRAL.npz"),
            H,
            W,
            **{"near": NEAR, "far": FAR, "focal": FOCAL, **lens},
        )
