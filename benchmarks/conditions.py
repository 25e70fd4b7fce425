"""Condition triplets per second against a scene rebuilt in pyrender for each picture.

python -m benchmarks.conditions [--bodies 400] [--workers 2] [--repeats 3]
"""

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

BODY, HEIGHT, WIDTH = "data/body/SMPL_NEUTRAL.npz", 128, 64
NEAR, FAR, FOCAL = 2.5, 10.5, 2.5
_state: dict = {}


def bodies(count: int) -> list[tuple]:
    """Rows of (orientation, pose, shape, translation), seen from all around."""
    from posedive_lib.body.camera import orient
    from posedive_lib.body.poses import load_poses

    source, rng = load_poses("data/motions", fps=6), np.random.default_rng(0)
    rows = rng.integers(len(source), size=count)
    orientation = orient(
        source.root_tilt[rows], rng.uniform(-180, 180, count), rng.uniform(0, 30, count)
    )
    betas, cam_t = rng.normal(0, 0.5, (count, 10)), np.tile([0, 0.1, 4.6], (count, 1))
    return list(zip(orientation, source.body_pose[rows], betas, cam_t, strict=True))


def fast(rows: list[tuple], backend: str) -> int:
    """The library's renderer, kept between calls."""
    from posedive_lib.body.conditions import ConditionRenderer

    if backend not in _state:
        _state[backend] = ConditionRenderer(
            BODY, HEIGHT, WIDTH, near=NEAR, far=FAR, focal=FOCAL, backend=backend
        )
    return len([_state[backend].render(*row) for row in rows])


def naive(rows: list[tuple], posed_by: str) -> int:
    """smplx and pyrender as their manuals show them, with the same outputs.

    For each picture a scene with a lit grey body, one with its normals as vertex colours, the
    depth of that, and the skeleton. The renderer is kept. posed_by: smplx (its forward) or library.
    """
    import pyrender
    import torch
    import trimesh

    from posedive_lib.body.camera import project
    from posedive_lib.body.conditions import draw_skeleton
    from posedive_lib.body.smpl import COCO_FROM_SMPL, cached_smpl, pose

    model, focal = cached_smpl(BODY), FOCAL * HEIGHT
    if "naive" not in _state:
        _state["naive"] = pyrender.OffscreenRenderer(WIDTH, HEIGHT)

    def picture(mesh, light: bool, flags: int):
        scene = pyrender.Scene(
            bg_color=[0, 0, 0, 0], ambient_light=[0.4, 0.4, 0.4] if light else [1, 1, 1]
        )
        scene.add(pyrender.Mesh.from_trimesh(mesh))
        scene.add(
            pyrender.IntrinsicsCamera(focal, focal, WIDTH / 2, HEIGHT / 2, znear=0.3, zfar=30)
        )
        if light:
            scene.add(pyrender.DirectionalLight(intensity=3.0))
        return _state["naive"].render(scene, flags=flags)

    def row(values):
        return torch.as_tensor(np.asarray(values, np.float32))[None]

    for orientation, body_pose, betas, cam_t in rows:
        if posed_by == "library":
            vertices, joints = pose(model, orientation, body_pose, betas)
        else:
            with torch.no_grad():
                output = model(
                    global_orient=row(orientation), body_pose=row(body_pose), betas=row(betas)
                )
            vertices, joints = output.vertices[0].numpy(), output.joints[0].numpy()
        mesh = trimesh.Trimesh((vertices + cam_t) * [1, -1, -1], model.faces, process=False)
        picture(mesh, True, pyrender.RenderFlags.NONE)
        colours = (mesh.vertex_normals * 0.5 + 0.5) * 255
        mesh.visual.vertex_colors = np.hstack([colours, np.full((len(colours), 1), 255)]).astype(
            np.uint8
        )
        _, depth = picture(mesh, False, pyrender.RenderFlags.FLAT)
        np.clip((FAR - depth) / (FAR - NEAR) * 255, 0, 255).astype(np.uint8)
        draw_skeleton(project(joints[COCO_FROM_SMPL] + cam_t, focal, HEIGHT, WIDTH), HEIGHT, WIDTH)
    return len(rows)


def timed(work, rows: list[tuple], argument: str) -> tuple[int, float]:
    """Pictures and the CPU seconds of this process that they took."""
    start = time.process_time()
    return work(rows, argument), time.process_time() - start


def rates(
    methods: dict[str, tuple], rows: list[tuple], workers: int, repeats: int
) -> list[tuple[str, float, float]]:
    """Median pictures per second and CPU milliseconds per picture of each method.

    The methods take turns; their processes are started and warm.
    """
    chunks = [rows[i : i + 16] for i in range(0, len(rows), 16)]
    found: dict[str, list] = {name: [] for name in methods}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:

        def go(work, some, argument):
            return list(pool.map(timed, [work] * len(some), some, [argument] * len(some)))

        for work, argument in methods.values():
            go(work, [rows[:4]] * workers * 2, argument)
        for _ in range(repeats):
            for name, (work, argument) in methods.items():
                start = time.perf_counter()
                done = go(work, chunks, argument)
                found[name].append(
                    (
                        len(rows) / (time.perf_counter() - start),
                        1e3 * sum(d[1] for d in done) / len(rows),
                    )
                )
    return [(name, *np.median(values, axis=0)) for name, values in found.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bodies", type=int, default=400)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    a = parser.parse_args()
    rows = bodies(a.bodies)
    found = rates(
        {
            "smplx, scene rebuilt for each picture (pyrender)": (naive, "smplx"),
            "the same, posed by this library": (naive, "library"),
            "this library, OpenGL": (fast, "opengl"),
            "this library, z-buffer in NumPy": (fast, "zbuffer"),
        },
        rows,
        a.workers,
        a.repeats,
    )
    lines = [
        f"`python -m benchmarks.conditions --bodies {a.bodies} --workers {a.workers} "
        f"--repeats {a.repeats}` · 2 CPU cores · medians · {HEIGHT} × {WIDTH} pixels, "
        f"{a.workers} processes",
        "",
        "| depth, normals, skeleton and neutral rendering | per second | × rebuilt "
        "| CPU ms per picture | × rebuilt |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {value:.0f} | {value / found[0][1]:.1f} "
        f"| {cpu:.1f} | {found[0][2] / cpu:.1f} |"
        for name, value, cpu in found
    ]
    print("\n".join(lines))
    Path("benchmarks/results/conditions.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
