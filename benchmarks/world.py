"""Samples of the mini world per second, against pyrender used afresh for each map.

    python -m benchmarks.world [--shots 480] [--naive 48] [--workers 2] [--repeats 3]

A full sample is a photo of a dressed person with depth, normals and skeleton of the body below,
through `miniworld.photography.photograph`. The start of its processes is taken out: a long and a
short run are subtracted. The naive way poses the same people with the same code and opens a
renderer, a scene and a mesh for each of colour, depth and normals. It has no sensor, no occluder
and no placing in the crop.
"""

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PYOPENGL_PLATFORM", "egl")

import numpy as np

from benchmarks.measure import report, table

BODY, HEIGHT, WIDTH, NEAR, FAR, FOCAL = "data/body/SMPL_NEUTRAL.npz", 128, 64, 2.5, 10.5, 2.5
CHUNK = 48  # shots that `photograph` gives a process at a time
_kept: dict = {}


def scene_of(people: int, shots: int) -> tuple:
    """Identities, poses and `shots` free shots of them by the cameras of MSMT17."""
    from miniworld.cameras import read_cameras
    from miniworld.photography import free_shots
    from miniworld.wardrobe import sample_identities
    from posedive_lib.body.poses import load_poses

    source = load_poses("data/motions", fps=6)
    cameras = read_cameras("data/world")["msmt17"]
    each = -(-shots // people)  # rounded up
    wanted = free_shots(people, source, cameras, each, ("benchmark",))[:shots]
    return sample_identities("benchmark", people), source, wanted


def photographs(identities, source, shots, workers: int, full: bool) -> float:
    """Seconds to photograph the shots, the start of the processes included."""
    from miniworld.photography import photograph

    start = time.perf_counter()
    for _ in photograph(
        identities,
        source,
        shots,
        body=BODY,
        height=HEIGHT,
        width=WIDTH,
        focal=FOCAL,
        depth_range=(NEAR, FAR) if full else None,
        workers=workers,
    ):
        pass
    return time.perf_counter() - start


def pyrender_map(points, faces, colours, light: bool) -> tuple[np.ndarray, np.ndarray]:
    """Colour and depth of a mesh in the camera's frame, by a renderer opened for it alone."""
    import pyrender
    import trimesh

    renderer = pyrender.OffscreenRenderer(WIDTH, HEIGHT)
    ambient = [0.5, 0.5, 0.5] if light else [1, 1, 1]
    scene = pyrender.Scene(bg_color=[0, 0, 0, 0], ambient_light=ambient)
    mesh = trimesh.Trimesh(points * [1, -1, -1], faces, vertex_colors=colours, process=False)
    scene.add(pyrender.Mesh.from_trimesh(mesh))
    focal, centre = FOCAL * HEIGHT, (WIDTH / 2, HEIGHT / 2)
    scene.add(pyrender.IntrinsicsCamera(focal, focal, *centre, znear=0.3, zfar=30))
    if light:
        scene.add(pyrender.DirectionalLight(intensity=3.0))
    flags = pyrender.RenderFlags.NONE if light else pyrender.RenderFlags.FLAT
    try:
        return renderer.render(scene, flags=flags)
    finally:
        renderer.delete()


def naive(jobs: list[tuple]) -> int:
    """Worker: colour, depth, normals and skeleton of (identity, root tilt, body pose, shot)."""
    import trimesh

    from miniworld.dresser import Dresser
    from miniworld.wardrobe import betas
    from posedive_lib.body.camera import orient, project
    from posedive_lib.body.conditions import draw_skeleton
    from posedive_lib.body.smpl import COCO_FROM_SMPL, cached_smpl, pose

    model, cam_t = cached_smpl(BODY), np.array([0, 0.1, 4.6])
    if "dresser" not in _kept:
        _kept["dresser"] = Dresser(model)
    grey = np.full((len(model.v_template), 3), 180, np.uint8)
    for who, tilt, body_pose, shot in jobs:
        turn = orient(tilt, shot.azimuth, shot.elevation)[0]
        outfit = _kept["dresser"].dress(who)
        vertices, _ = pose(
            model, turn, body_pose, betas(who), outfit.offsets, (outfit.points, outfit.weights)
        )
        pyrender_map(vertices + cam_t, outfit.faces, (outfit.albedo * 255).astype(np.uint8), True)
        naked, joints = pose(model, turn, body_pose, betas(who))
        depth = pyrender_map(naked + cam_t, model.faces, grey, False)[1]
        np.clip((FAR - depth) / (FAR - NEAR) * 255, 0, 255).astype(np.uint8)
        normals = trimesh.Trimesh(naked * [1, -1, -1], model.faces, process=False).vertex_normals
        pyrender_map(
            naked + cam_t, model.faces, ((normals * 0.5 + 0.5) * 255).astype(np.uint8), False
        )
        draw_skeleton(
            project(joints[COCO_FROM_SMPL] + cam_t, FOCAL * HEIGHT, HEIGHT, WIDTH), HEIGHT, WIDTH
        )
    return len(jobs)


def rates(count: int, few: int, workers: int, repeats: int) -> dict[str, list[float]]:
    """Samples per second of each way in each round; the ways take turns."""
    identities, source, shots = scene_of(48, count)
    rows = identities.to_dict("records")
    jobs = [
        (rows[s.person], source.root_tilt[s.pose], source.body_pose[s.pose], s) for s in shots[:few]
    ]
    chunks = [jobs[i :: workers * 2] for i in range(workers * 2)]
    short = shots[: CHUNK * workers]
    found: dict[str, list[float]] = {"full": [], "photo": [], "naive": []}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(naive, [jobs[:1]] * workers * 2))  # started and warm
        for _ in range(repeats):
            for name, full in (("full", True), ("photo", False)):
                long = photographs(identities, source, shots, workers, full)
                found[name].append(
                    (len(shots) - len(short))
                    / max(1e-9, long - photographs(identities, source, short, workers, full))
                )
            start = time.perf_counter()
            done = sum(pool.map(naive, chunks))
            found["naive"].append(done / (time.perf_counter() - start))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--shots", type=int, default=480, help="more than 48 per process")
    parser.add_argument("--naive", type=int, default=48)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    a = parser.parse_args()
    if a.shots <= CHUNK * a.workers or min(a.naive, a.workers, a.repeats) < 1:
        parser.error(
            f"--shots must be above {CHUNK * a.workers} ({CHUNK} per process); "
            "the others at least 1"
        )
    found = rates(a.shots, a.naive, a.workers, a.repeats)
    base = median(found["naive"])
    names = {
        "full": "photo, depth, normals and skeleton (`photography.photograph`)",
        "photo": "photo only (`photography.photograph`)",
        "naive": "colour, depth, normals and skeleton, pyrender opened for each map",
    }
    rows = [
        [
            text,
            f"{median(found[name]):.1f}",
            f"{min(found[name]):.1f}–{max(found[name]):.1f}",
            f"{median(found[name]) / base:.1f}",
        ]
        for name, text in names.items()
    ]
    report(
        "world",
        f"Options: `--shots {a.shots} --naive {a.naive} --workers {a.workers} "
        f"--repeats {a.repeats}`; {HEIGHT} × {WIDTH} pixels, medians of {a.repeats}.\n\n"
        + table(["sample", "per second", "range", "× naive"], rows),
    )


if __name__ == "__main__":
    main()
