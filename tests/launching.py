"""Several processes that work together, as `accelerate launch` starts them, on the CPU."""

import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
SCRIPT = (
    "import importlib, sys; sys.path.insert(0, sys.argv[1]); "
    "getattr(importlib.import_module(sys.argv[2]), sys.argv[3])(*sys.argv[4:])"
)


ON_CPU = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def launch_line(line: str, folder: Path) -> str:
    """Run a `torchrun` line of the guide, as it stands there, in a folder; what it printed.

    AssertionError with the last lines where it fails.
    """
    environment = (
        os.environ
        | ON_CPU
        | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(TESTS.parent),
            "PET_MASTER_PORT": str(free_port()),  # as --master_port; tests run side by side
        }
    )
    ended = subprocess.run(
        shlex.split(line),
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stdout[-3000:]
    return ended.stdout


def launch(module: str, function: str, arguments: list, count: int) -> None:
    """Call `module.function(*arguments)` (as text) in `count` processes.

    The first process that fails shows its last lines.
    """
    team = ON_CPU | {
        "WORLD_SIZE": count,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
        "PYTHONPATH": TESTS.parent,
    }
    command = [sys.executable, "-c", SCRIPT, str(TESTS), module, function, *map(str, arguments)]
    started = []
    for rank in range(count):
        environment = os.environ | {
            name: str(value) for name, value in (team | {"RANK": rank, "LOCAL_RANK": rank}).items()
        }
        started.append(
            subprocess.Popen(
                command,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    outputs = [process.communicate(timeout=300)[0] for process in started]
    for process, output in zip(started, outputs, strict=True):
        assert process.returncode == 0, output[-3000:]
