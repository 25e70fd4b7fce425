"""Conditions of many bodies, rendered by several processes (§B)."""

from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import repeat

import numpy as np
from tqdm import tqdm

from posedive_lib.body.backend import choose_backend
from posedive_lib.body.camera import stretch_of
from posedive_lib.body.conditions import ConditionRenderer, Conditions
from posedive_lib.body.table import BodyTable
from posedive_lib.errors import StudyError
from posedive_lib.workers import worker_pool

CHUNK = 64  # bodies that a process gets at a time


@dataclass(frozen=True)
class Rendering:
    """How bodies are rendered.

    body: SMPL file. height, width: pixels. near, far: metres of the depth map's white and black.
    focal: focal length in image heights. workers: processes. fill: part of the crop that a body
    fills from head to feet.
    """

    body: str
    height: int
    width: int
    near: float
    far: float
    focal: float
    workers: int = 2
    fill: float = 0.86

    def renderer(self, backend: str = "auto") -> ConditionRenderer:
        """A renderer of single bodies with these settings."""
        return ConditionRenderer(
            self.body,
            self.height,
            self.width,
            near=self.near,
            far=self.far,
            focal=self.focal,
            backend=backend,
        )


@lru_cache(maxsize=4)
def _renderer(rendering: Rendering, backend: str) -> ConditionRenderer:
    """This process's renderer, kept between calls."""
    return rendering.renderer(backend)


def _render(rendering: Rendering, backend: str, rows: list[tuple]) -> list[Conditions]:
    return [_renderer(rendering, backend).render(*row) for row in rows]


def _render_fitted(
    rendering: Rendering, backend: str, rows: list[tuple]
) -> list[tuple[np.ndarray, Conditions]]:
    return [_renderer(rendering, backend).render_fitted(*row) for row in rows]


def _chunks(*columns: np.ndarray) -> list[list[tuple]]:
    rows = list(zip(*columns, strict=True))
    return [rows[i : i + CHUNK] for i in range(0, len(rows), CHUNK)]


def _stacked(parts: list[Conditions]) -> Conditions:
    return Conditions(*(np.stack([getattr(p, f.name) for p in parts]) for f in fields(Conditions)))


def _check_focal(bodies: BodyTable, heights: np.ndarray, focal: float) -> None:
    """StudyError unless the bodies were seen with this focal length, in heights of their photos."""
    seen = bodies.focal / heights
    wrong = np.flatnonzero(~np.isclose(seen, focal, rtol=0.01))
    if len(wrong):
        raise StudyError(
            f"The body of {bodies.path[wrong[0]]} was seen with a focal length of "
            f"{seen[wrong[0]]:.3g} image heights, but conditions.focal is {focal:.3g} "
            f"({len(wrong):,} of {len(bodies):,} bodies): fit or import them for this focal length "
            "and for the photos in their own size, or change conditions.focal."
        )


def render_many(
    bodies: BodyTable,
    rendering: Rendering,
    *,
    sizes: np.ndarray | None = None,
    progress: str | None = None,
    backend: str = "auto",
) -> Conditions:
    """Conditions of N bodies in their own cameras, stacked, in order.

    sizes: (N, 2) width and height of the bodies' photos. Photos of other proportions than the
    rendering are stretched when they are read, and so are their bodies here. Without sizes nothing
    is stretched. StudyError for bodies seen with another focal length than the rendering's.

    Up to 64 bodies are rendered in this process, more by `rendering.workers` processes.
    """
    stretch = np.ones(len(bodies))
    if sizes is not None:
        _check_focal(bodies, sizes[:, 1], rendering.focal)
        stretch = stretch_of(sizes, rendering.height, rendering.width)
    chunks = _chunks(bodies.global_orient, bodies.body_pose, bodies.betas, bodies.cam_t, stretch)
    backend = choose_backend(backend)
    parts: list[Conditions] = []
    processes = max(1, min(rendering.workers, len(chunks)))
    bar = tqdm(total=len(bodies), desc=progress, unit="img", disable=progress is None)
    with bar, worker_pool(processes) if processes > 1 else nullcontext() as pool:
        several = pool.map if pool else map
        for part in several(_render, repeat(rendering), repeat(backend), chunks):
            parts += part
            bar.update(len(part))
    return _stacked(parts)


def render_fitted_later(
    global_orient: np.ndarray,
    body_pose: np.ndarray,
    betas: np.ndarray,
    rendering: Rendering,
    *,
    pool: Executor | None = None,
    backend: str = "auto",
) -> Callable[[], tuple[np.ndarray, Conditions]]:
    """N bodies, each centred and scaled to the crop, rendered while the caller does other work.

    Call the result for the translations (N, 3) and the stacked conditions. The processes of
    `pool` begin at once. Up to 64 bodies, or all without a pool, wait for that call.
    """
    chunks = _chunks(global_orient, body_pose, betas, np.full(len(betas), rendering.fill))
    backend = choose_backend(backend)
    begun = None
    if pool and len(chunks) > 1:
        begun = [pool.submit(_render_fitted, rendering, backend, chunk) for chunk in chunks]

    def finish() -> tuple[np.ndarray, Conditions]:
        if begun:
            done = [future.result() for future in begun]
        else:
            done = [_render_fitted(rendering, backend, chunk) for chunk in chunks]
        cam_t, parts = zip(*(pair for part in done for pair in part), strict=True)
        return np.stack(cam_t), _stacked(list(parts))

    return finish
