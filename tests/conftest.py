"""Tests run off-line, without a display, and with one thread per process."""

import os

import order
import pytest

os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    DVC_NO_ANALYTICS="1",
    PYOPENGL_PLATFORM="egl",
    MPLBACKEND="Agg",
    TOKENIZERS_PARALLELISM="false",
)
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Without compiled files each of the many processes that the tests start compiles the library anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Long tests begin, or the last of them would run alone when all others are done."""
    workers = getattr(config, "workerinput", {"workercount": 1})["workercount"]
    items[:] = order.long_first(items, order.seconds, workers, order.follows)
