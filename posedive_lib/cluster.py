"""Independent pieces of work: by processes of this machine, or by Dask's workers on several.

`scale.scheduler` names a Dask scheduler (`distributed`, the extra `scale`). Its workers compute
then, one piece at a time each, with one processor thread or with their GPU. Workers may come, go
and die: a piece of a lost worker is given to another one. What is to be kept, a piece writes itself
into the folder that all machines share. So the workers change no result.

Modules whose code is part of a record's key do not import this one. They are handed a pool, or a
`Spread`, so that their keys do not follow how work is shared. Dask's scheduler imports this module
too, so nothing heavy is imported at its top.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from itertools import starmap
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posedive_lib.errors import StudyError

if TYPE_CHECKING:
    from distributed import Client
    from distributed import Future as Remote

Work = Callable[..., Any]
# Takes a function and its jobs; gives (i, work(*jobs[i])) of every job, as they come.
Spread = Callable[[Work, Iterable[tuple]], Iterable[tuple[int, Any]]]

PATIENCE = 10  # seconds until a scheduler must have answered
MARK = Path("runs/.cluster")
AHEAD = 2  # pieces in flight for each worker: one is computed, one waits there
# Packages that compute results: all machines need the same versions.
PACKAGES = ("torch", "numpy", "scipy", "pillow", "diffusers", "transformers", "distributed")

# the clusters that this process is connected to, by their schedulers
_open: dict[str, Cluster] = {}


def elsewhere(scheduler: str) -> bool:
    """Whether a scheduler shares the work. Under `accelerate launch` the launched processes do."""
    if not scheduler:
        return False
    from posedive_lib.devices import processes

    return processes().num_processes == 1


@contextmanager
def pieces(
    workers: int, scheduler: str, begin: Callable[[], None] | None = None
) -> Iterator[Executor]:
    """A pool for independent pieces: the scheduler's workers, or processes of this machine.

    workers, begin: as `workers.worker_pool` takes them, for this machine alone.
    """
    from posedive_lib.workers import begin_worker, worker_pool

    if elsewhere(scheduler):
        with connected(scheduler) as cluster:
            yield cluster
    else:
        with worker_pool(workers, begin or begin_worker) as pool:
            yield pool


def spread(scheduler: str, work: Work, jobs: Iterable[tuple]) -> Iterator[tuple[int, Any]]:
    """`(i, work(*jobs[i]))` of all jobs, as they come: in order here, or by a scheduler's workers.

    What `work` holds, such as the object of a bound method, goes to each worker once. Few pieces
    are in flight at a time, so any number of jobs takes little memory.
    """
    if not elsewhere(scheduler):
        yield from enumerate(starmap(work, jobs))
        return
    with connected(scheduler) as cluster:
        tool = cluster.shared(work)
        waiting: dict[Future, int] = {}
        for i, job in enumerate(jobs):
            waiting[cluster.piece(_name(work), tool, job)] = i
            if len(waiting) >= AHEAD * max(1, cluster.size()):
                yield from _finished(waiting)
        while waiting:
            yield from _finished(waiting)


def _finished(waiting: dict[Future, int]) -> Iterator[tuple[int, Any]]:
    """The pieces that are done, one at least; they are taken out."""
    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
        yield waiting.pop(future), future.result()


@contextmanager
def connected(scheduler: str) -> Iterator[Cluster]:
    """The workers of a scheduler, named by its address or by its file, as an executor.

    The working directory must be shared with the workers. StudyError in one sentence where Dask is
    missing, no scheduler answers, or a piece fails for want of a worker that fits. At the end, also
    after an exception, pieces that have not begun are dropped.
    """
    if scheduler in _open:
        yield _open[scheduler]
        return
    with _client(scheduler) as client, _large_pieces():
        here = Here(str(Path.cwd()), _mark(), code(), versions())
        cluster = Cluster(client, scheduler, here)
        if not cluster.size():
            getLogger(__name__).warning(
                "The scheduler %s has no workers yet; the work begins when one comes.", scheduler
            )
        _open[scheduler] = cluster
        try:
            yield cluster
        finally:
            del _open[scheduler]
            cluster.shutdown(wait=False, cancel_futures=True)


def _large_pieces() -> AbstractContextManager:
    """Dask advises against tasks that carry much data, but it is sent once to each worker here."""
    import dask

    return dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"})


def _client(scheduler: str) -> Client:
    try:
        from distributed import Client
    except ImportError:
        raise StudyError(
            f"scale.scheduler is {scheduler!r}, but Dask is not installed: "
            "pip install distributed, or set scale.scheduler to ''."
        ) from None
    address = scheduler
    if "://" not in scheduler:
        from posedive_lib.intake.files import load_json

        mend = "start `dask scheduler --scheduler-file` with it, or set scale.scheduler to ''"
        found = load_json(scheduler, "is no file of a Dask scheduler", mend)
        address = str(found.get("address") if isinstance(found, dict) else None)
    try:
        return Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StudyError(
            f"No Dask scheduler answers at scale.scheduler, {scheduler} ({reason}): start one with "
            "`dask scheduler`, or set scale.scheduler to ''."
        ) from None


def _mark() -> str:
    """What runs/.cluster holds, by which a worker sees that it shares this very folder."""
    from posedive_lib.writing import replacing

    if not MARK.is_file():
        with replacing(MARK) as draft:
            draft.write_text(uuid.uuid4().hex)
    return MARK.read_text()


class Cluster(Executor):
    """The workers of a Dask scheduler, as an executor."""

    def __init__(self, client: Client, scheduler: str, here: Here):
        self.client, self.scheduler = client, scheduler
        self._here = pickle.dumps(here)
        self._remote: dict[Future, Remote] = {}  # pieces that are not done

    def size(self) -> int:
        """How many workers there are now."""
        return len(self.client.ncores())

    def submit(self, work: Work, /, *args: Any, **options: Any) -> Future:
        """`work(*args, **options)` by a worker; the function must be a module's."""
        return self.piece(_name(work), pickle.dumps(partial(work, **options)), args)

    def shared(self, work: Work) -> Remote:
        """A function, kept by the workers with all that it holds, for `piece`."""
        # A task rather than scattered data: the scheduler can give it to workers again.
        content = pickle.dumps(work)
        key = f"shared-{hashlib.sha256(content).hexdigest()}"
        return self.client.submit(bytes, content, key=key)

    def piece(self, name: str, work: bytes | Remote, args: tuple) -> Future:
        """A piece by the name that the dashboard shows; work: pickled, or what `shared` gave."""
        said = pickle.dumps(args)
        # Named after its content: the same piece is computed once, whoever asks for it.
        of = work if isinstance(work, bytes) else str(work.key).encode()
        key = f"{name}-{hashlib.sha256(self._here + of + said).hexdigest()}"
        remote = self.client.submit(run, self._here, work, said, key=key)
        future: Future = Future()
        self._remote[future] = remote
        remote.add_done_callback(partial(self._settle, future))
        return future

    def _settle(self, future: Future, remote: Remote) -> None:
        """Take the result over. Dask then forgets the piece, and never computes it again."""
        if self._remote.pop(future, None) is None or not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(remote.result())
        except BaseException as error:
            future.set_exception(self._told(error))
        finally:
            remote.release()

    def _told(self, error: BaseException) -> BaseException:
        """The error of a piece, in one sentence where the cluster is at fault."""
        from distributed import CancelledError, KilledWorker
        from distributed.comm import CommClosedError

        if isinstance(error, KilledWorker):
            return StudyError(
                f"A piece of work has lost its worker {error.allowed_failures + 1} times, most "
                "likely because memory ran out: give the workers more memory, and start again; "
                "finished work is kept."
            )
        if isinstance(error, CancelledError | CommClosedError):
            return StudyError(
                f"The connection to the scheduler {self.scheduler} was lost: start it and its "
                "workers again, and this command too; finished work is kept."
            )
        if isinstance(error, ImportError) or "deserializ" in str(error):
            return StudyError(
                f"The workers of {self.scheduler} cannot load the study's code ({error}): start "
                "the scheduler and the workers in the study's environment and folder."
            )
        return error

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Drop pieces that have not begun; one that a worker is computing, it ends and keeps."""
        for future, remote in list(self._remote.items()):
            if cancel_futures:
                self._remote.pop(future, None)
                future.cancel()
                remote.release()


def _name(work: Work) -> str:
    """What the dashboard calls a piece."""
    while isinstance(work, partial):
        work = work.func
    return str(getattr(work, "__name__", type(work).__name__)).strip("_")


@dataclass(frozen=True)
class Here:
    """What a worker must have in common with the process that asks.

    folder: the working directory. mark: what MARK holds there. code: digest of the study's source.
    versions: of PACKAGES and Python.
    """

    folder: str
    mark: str
    code: str
    versions: tuple[tuple[str, str], ...]


@cache
def code() -> str:
    """Digest of the study's source as this process found it first."""
    from posedive_lib.digests import PACKAGES as OURS
    from posedive_lib.digests import folder_digest

    root = Path(__file__).resolve().parent.parent
    return "".join(folder_digest(root / package, ".py") for package in OURS)


@cache
def versions() -> tuple[tuple[str, str], ...]:
    """(package, version) of PACKAGES and Python; a build's own part, such as +cpu, is left out."""
    import platform
    from importlib import metadata

    found = [(name, metadata.version(name).split("+")[0]) for name in PACKAGES]
    return (("python", platform.python_version()), *found)


def run(here: bytes, work: bytes, args: bytes) -> Any:
    """A piece, in a worker; StudyError where the worker does not fit."""
    _fits(pickle.loads(here))
    import torch

    torch.set_num_threads(1)  # as in `workers.begin_worker`: the workers are the parallelism
    return _unpickled(work)(*pickle.loads(args))


@lru_cache(maxsize=1)
def _unpickled(work: bytes) -> Work:
    """The last one is kept between pieces, with the models that it may hold."""
    return pickle.loads(work)


def _fits(here: Here) -> None:
    """Go to the folder of the work; StudyError unless all that `here` says is so in this worker."""
    from distributed import get_worker

    worker = get_worker()
    mend = f"The Dask worker {worker.address} "
    if worker.state.nthreads != 1:
        raise StudyError(
            f"{mend}has {worker.state.nthreads} threads: start workers with --nthreads 1, and one "
            "for each core or GPU."
        )
    for (name, ours), (_, theirs) in zip(here.versions, versions(), strict=True):
        if ours != theirs:
            raise StudyError(
                f"{mend}has {name} {theirs}, but this process has {ours}: start the workers in the "
                "same environment."
            )
    mark = Path(here.folder, MARK)
    if not mark.is_file() or mark.read_text() != here.mark:
        raise StudyError(
            f"{mend}does not see the folder {here.folder}: it must lie on a file system that all "
            "machines share, at the same place."
        )
    if code() != here.code:
        raise StudyError(
            f"{mend}runs other code than this process: start the workers anew, with this folder's."
        )
    os.chdir(here.folder)
