"""Which backend draws bodies: off-screen OpenGL or, where it does not start, NumPy's z-buffer."""

import logging
from collections.abc import Callable
from functools import lru_cache

from posedive_lib.body.opengl import check_libraries, load_triton
from posedive_lib.body.raster import Raster
from posedive_lib.errors import StudyError

BACKENDS = ("auto", "opengl", "zbuffer")


def choose_backend(backend: str = "auto") -> str:
    """`opengl` or `zbuffer`; `auto` takes the z-buffer where off-screen OpenGL does not start.

    The first such choice is logged in one line. StudyError for an unknown name, and for `opengl`
    where it does not start.
    """
    if backend not in BACKENDS:
        raise StudyError(f"backend is '{backend}': use one of {', '.join(BACKENDS)}")
    if backend == "zbuffer":
        return backend
    problem = _opengl_problem()
    if backend == "opengl" and problem:
        raise StudyError(problem)
    return "zbuffer" if problem else "opengl"


@lru_cache(maxsize=1)
def _opengl_problem() -> str | None:
    load_triton()
    problem = check_libraries()
    if problem:
        logging.getLogger(__name__).warning(
            "%s. Bodies are drawn by the slower z-buffer meanwhile.", problem
        )
    return problem


def open_rasteriser(
    height: int, width: int, focal: float, backend: str = "auto"
) -> Callable[..., Raster]:
    """A callable (vertices (V, 3), faces (F, 3), albedo (V, 3) or None) -> Raster.

    height, width, focal: pixels. backend: see `choose_backend`.
    """
    # Imported only where it is used: the import of OpenGL fails on machines without it.
    if choose_backend(backend) == "zbuffer":
        from posedive_lib.body.zbuffer import ZBuffer

        return ZBuffer(height, width, focal)
    from posedive_lib.body.opengl_raster import Rasteriser

    return Rasteriser(height, width, focal)
