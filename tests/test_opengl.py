"""Off-screen OpenGL is checked before anything long starts, and the mend is one line."""

import os
import subprocess
import sys

import pytest

from posedive_lib.body import backend, opengl
from posedive_lib.errors import StudyError


def test_a_missing_library_is_named_with_the_line_that_installs_it(monkeypatch, capsys):
    monkeypatch.setattr(opengl, "LIBRARIES", ("libNoSuchThing.so.9",))
    assert opengl.main(["--libraries"]) == 1
    printed = capsys.readouterr().err.strip()
    assert (
        "libNoSuchThing.so.9" in printed
        and f"apt-get install -y {' '.join(opengl.PACKAGES)}" in printed
        and "\n" not in printed
    )


@pytest.mark.parametrize("device", ["99", "-1", "gpu"])
def test_a_device_that_is_not_there_is_named(device, monkeypatch):
    """pyrender would end with a traceback; with the sentence, the z-buffer takes over."""
    monkeypatch.setenv("EGL_DEVICE_ID", device)
    assert f"EGL_DEVICE_ID is '{device}'" in opengl.check_libraries()


def test_a_driver_that_gives_no_context_is_named_and_the_z_buffer_draws():
    """In a process of its own: drivers read their settings once."""
    code = "from posedive_lib.body.backend import open_rasteriser as o; print(o(8, 4, 10.0))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "MESA_GL_VERSION_OVERRIDE": "2.1"},
    )
    assert "ZBuffer" in done.stdout
    (said,) = done.stderr.strip().splitlines()
    assert "gives no context of version 4.1; unset MESA_GL_VERSION_OVERRIDE." in said


def test_this_machine_draws():
    """In a process of its own: pyrender ends the display of all renderers when it deletes one."""
    done = subprocess.run(
        [sys.executable, "-m", "posedive_lib.body.opengl"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("platform", ["osmesa", "glx", ""])
def test_another_platform_is_named_and_the_z_buffer_draws(platform, monkeypatch, capsys, caplog):
    monkeypatch.setenv("PYOPENGL_PLATFORM", platform)
    assert opengl.main([]) == 1
    printed = capsys.readouterr().err.strip()
    assert (
        f"PYOPENGL_PLATFORM is '{platform}'" in printed
        and "set it to egl" in printed
        and "\n" not in printed
    )
    backend._opengl_problem.cache_clear()
    try:
        with pytest.raises(StudyError, match="set it to egl"):
            backend.open_rasteriser(8, 4, 10.0, "opengl")
        assert (
            type(backend.open_rasteriser(8, 4, 10.0)).__name__ == "ZBuffer"
            and "slower z-buffer" in caplog.text
        )
    finally:
        backend._opengl_problem.cache_clear()


@pytest.mark.parametrize(
    "code",
    [
        "from posedive_lib.body.opengl_raster import Rasteriser as draws",
        "from posedive_lib.body.backend import open_rasteriser as draws",
    ],
)
def test_triton_is_loaded_before_the_driver(code, tmp_path):
    """After Mesa's driver it ends the process: both bring an LLVM. It comes with CUDA's torch."""
    (tmp_path / "triton.py").write_text(
        "maps = open('/proc/self/maps').read()\n"
        "print('triton', any(name in maps for name in ('libLLVM', 'libgallium', '_dri.so')))\n"
    )
    code += "\ndraws(8, 4, 10.0)._on(False)\nprint('drawn')"
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.stdout.split("\n")[:2] == ["triton False", "drawn"]
