"""How commands end: an error with its sentence and status 2, Ctrl-C with one line and 130."""

import os
import subprocess
import sys
from contextlib import nullcontext
from importlib import import_module

import pytest

from posedive_lib import params
from posedive_lib.bench import notebook
from posedive_lib.errors import StudyError, command

RESUMING = {
    "posedive_lib.augment.__main__": ["market1501", "data", "--out", "augmented"],
    "posedive_lib.own_data.fit": ["market1501", "data"],
    "posedive_lib.own_data.train": ["market1501", "data", "--out", "run"],
}


def raises(error):
    def function(*arguments, **options):
        raise error

    return function


@pytest.mark.parametrize("module", RESUMING)
@pytest.mark.parametrize(
    "error, status, said",
    [
        (StudyError("seed is -1: choose another."), 2, "seed is -1: choose another."),
        (KeyboardInterrupt(), 130, "Stopped: the same command goes on from here."),
    ],
)
def test_long_commands_say_how_to_go_on(module, error, status, said, monkeypatch, capsys):
    monkeypatch.setattr(params, "load", raises(error))
    assert import_module(module).main(RESUMING[module]) == status
    printed = capsys.readouterr()
    assert printed.err.strip() == said and not printed.out


def test_a_stopped_notebook_says_how_to_go_on(monkeypatch, capsys):
    monkeypatch.setattr(notebook, "measured", lambda *arguments: nullcontext())
    monkeypatch.setattr(notebook, "run", raises(KeyboardInterrupt()))
    monkeypatch.setattr(notebook.signal, "signal", lambda *arguments: None)
    assert (
        notebook.main(["01_dataset_splits"]) == 130
        and "`make repro` goes on" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "error, said",
    [
        (MemoryError("Unable to allocate 8 PiB"), "The memory is full (Unable to allocate 8 PiB)"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory:\n 9 bytes"),
            "The memory is full",
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "The memory is full (CUDA"),
        (OSError(28, "No space left on device", "a.csv"), "a.csv cannot be written (No space"),
    ],
)
def test_full_memory_and_a_full_disk_are_one_sentence(error, said, capsys):
    assert command()(raises(error))() == 2
    printed = capsys.readouterr().err
    assert printed.startswith(said) and printed.endswith("finished work is kept.\n")
    assert printed.count("\n") == 1


def test_output_that_nobody_reads_ends_without_a_traceback(tmp_path):
    code = (
        "import sys\n"
        "from posedive_lib.errors import command\n"
        "main = command()(lambda: print('line\\n' * 100_000) or 0)\n"
        "sys.exit(main())"
    )
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_broken_pipe_to_another_process_is_not_hidden():
    with pytest.raises(BrokenPipeError):
        command()(raises(BrokenPipeError(32, "Broken pipe")))()


def test_other_errors_are_not_hidden():
    for other in (RuntimeError("shapes differ"), OSError(2, "No such file or directory")):
        with pytest.raises(type(other)):
            command()(raises(other))()
    with pytest.raises(ZeroDivisionError):
        command()(raises(ZeroDivisionError()))()
    assert command()(lambda status: status)(1) == 1
