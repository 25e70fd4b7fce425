"""Off-screen OpenGL, which the renders of §B and §H need: check it before anything long starts.

Two checks. `check_libraries` uses the standard library alone, so that `make` can run it before any
package is installed; `check_render` draws one triangle with pyrender. From the command line:

    python3 -I posedive_lib/body/opengl.py --libraries    # before the installation
    python3 -I posedive_lib/body/opengl.py --packages     # prints the system packages
    python -m posedive_lib.body.opengl                    # after it: a real render

Exit status 0 when all is well; otherwise 1, with one line on stderr that says what to do.
"""

import ctypes
import os
import sys
from contextlib import suppress
from importlib import import_module

# Debian and Ubuntu: the vendor-neutral libegl1 and libgl1, and Mesa's software renderer.
PACKAGES = ("libegl1", "libgl1", "libegl-mesa0", "libgl1-mesa-dri")
LIBRARIES = ("libEGL.so.1", "libGL.so.1")
EGL_PLATFORM_DEVICE_EXT = 0x313F  # from EGL_EXT_platform_device
EGL_OPENGL_API = 0x30A2
# A surface off the screen, 8 bits per colour, 24 of depth, OpenGL; ended by EGL_NONE.
EGL_CONFIG = (0x3033, 1, 0x3022, 8, 0x3023, 8, 0x3024, 8, 0x3025, 24, 0x3040, 8, 0x3042, 8, 0x3038)
EGL_CONTEXT = (0x3098, 4, 0x30FB, 1, 0x30FD, 1, 0x3038)  # version 4.1, core profile
MEND = f"install it with: apt-get install -y {' '.join(PACKAGES)}"


def check_libraries() -> str | None:
    """The problem that keeps EGL from starting, as one sentence, or None.

    The environment asks for EGL, the libraries load, the chosen device's display starts and gives
    a context.
    """
    platform = os.environ.get("PYOPENGL_PLATFORM", "egl")
    if platform != "egl":
        return (
            f"PYOPENGL_PLATFORM is '{platform}', but bodies are drawn off-screen with EGL; "
            "unset it or set it to egl"
        )
    for name in LIBRARIES:
        try:
            ctypes.CDLL(name)
        except OSError:
            return f"Off-screen OpenGL is missing ({name} does not load); {MEND}"
    egl = ctypes.CDLL("libEGL.so.1")
    devices = _devices(egl)
    chosen = os.environ.get("EGL_DEVICE_ID", "0")  # the variable that pyrender reads
    if devices and not (chosen.isdecimal() and int(chosen) < len(devices)):
        return (
            f"EGL_DEVICE_ID is '{chosen}', but the EGL devices here are 0 to {len(devices) - 1}; "
            "unset it or name one of them"
        )
    egl.eglInitialize.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    display = _display(egl, devices[int(chosen)]) if devices else None
    if not display or not egl.eglInitialize(display, None, None):
        return f"Off-screen OpenGL does not start (no EGL driver); {MEND}"
    if not _gives_context(egl, display):
        mend = "update its driver, or name another device with EGL_DEVICE_ID"
        if "MESA_GL_VERSION_OVERRIDE" in os.environ:
            mend = "unset MESA_GL_VERSION_OVERRIDE"
        return f"OpenGL starts, but its driver gives no context of version 4.1; {mend}"
    return None


def _gives_context(egl: ctypes.CDLL, display: int) -> bool:
    """Whether a started display gives the context that pyrender asks for."""
    ints, pointer = ctypes.POINTER(ctypes.c_int), ctypes.c_void_p
    egl.eglChooseConfig.argtypes = [pointer, ints, ctypes.POINTER(pointer), ctypes.c_int, ints]
    egl.eglCreateContext.argtypes = [pointer, pointer, pointer, ints]
    egl.eglCreateContext.restype = pointer
    egl.eglDestroyContext.argtypes = [pointer, pointer]
    config, count = pointer(), ctypes.c_int()
    wanted, version = (
        (ctypes.c_int * len(values))(*values) for values in (EGL_CONFIG, EGL_CONTEXT)
    )
    egl.eglBindAPI(EGL_OPENGL_API)
    if not egl.eglChooseConfig(display, wanted, ctypes.byref(config), 1, ctypes.byref(count)):
        return False
    context = egl.eglCreateContext(display, config, None, version) if count.value else None
    if context:
        egl.eglDestroyContext(display, context)
    return bool(context)


def _devices(egl: ctypes.CDLL) -> list[int | None]:
    """Handles of all EGL devices, in the order that pyrender counts them."""
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    address = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
    if not address:
        return []
    pointer = ctypes.c_void_p
    query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, pointer, pointer)(address)
    count = ctypes.c_int()
    if not query(0, None, ctypes.byref(count)) or count.value < 1:
        return []
    handles = (pointer * count.value)()
    if not query(count.value, handles, ctypes.byref(count)):
        return []
    return list(handles)[: count.value]


def _display(egl: ctypes.CDLL, device: int | None) -> int | None:
    """Display handle of a device."""
    address = egl.eglGetProcAddress(b"eglGetPlatformDisplayEXT")
    if not address:
        return None
    pointer = ctypes.c_void_p
    get_display = ctypes.CFUNCTYPE(pointer, ctypes.c_int, pointer, pointer)(address)
    return get_display(EGL_PLATFORM_DEVICE_EXT, device, None)


def load_triton() -> None:
    """Load Triton, where it is, before an OpenGL driver.

    It comes with torch's builds for CUDA. It and Mesa's driver have an LLVM each, and the process
    dies where Mesa's is loaded first and torch asks for Triton later.
    """
    with suppress(ImportError):
        import_module("triton")


def know_references() -> None:
    """Let PyOpenGL know the type of `ctypes.byref` by the name that it has since Python 3.12.

    pyrender 0.1.45 asks for PyOpenGL 3.1.0, which has the older name alone, and then makes no
    texture.
    """
    from OpenGL.plugins import FormatHandler

    handler = "OpenGL.arrays.ctypesparameters.CtypesParameterHandler"
    FormatHandler("ctypesparameter", handler, ["_ctypes.CArgObject"])


def check_render() -> str | None:
    """The problem that keeps pyrender from drawing, as one sentence, or None.

    One triangle is drawn, two metres away.
    """
    os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    try:
        import pyrender
        import trimesh

        know_references()
        scene = pyrender.Scene()
        triangle = trimesh.Trimesh(
            [[-1, -1, -2], [1, -1, -2], [0, 1, -2]], [[0, 1, 2]], process=False
        )
        scene.add(pyrender.Mesh.from_trimesh(triangle))
        scene.add(pyrender.PerspectiveCamera(yfov=1.0))
        renderer = pyrender.OffscreenRenderer(16, 16)
        depth = renderer.render(scene, flags=pyrender.RenderFlags.DEPTH_ONLY)
        renderer.delete()
    except Exception as error:  # drivers fail in many ways, and each has the same mend
        said = " ".join(str(error).split())
        return f"Off-screen OpenGL fails ({type(error).__name__}: {said}); {MEND}"
    if abs(float(depth[8, 8]) - 2.0) > 1e-3:
        return f"Off-screen OpenGL draws a wrong depth ({depth[8, 8]:.3f} m instead of 2 m); {MEND}"
    return None


def main(arguments: list[str]) -> int:
    if arguments == ["--packages"]:
        print(*PACKAGES)
        return 0
    problem = check_libraries()
    if problem is None and arguments != ["--libraries"]:
        problem = check_render()
    if problem:
        print(problem, file=sys.stderr)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
