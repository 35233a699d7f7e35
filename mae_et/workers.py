"""The loader workers, and the server that forks them.

Forking the run itself would copy locks that its threads hold: those of Arrow, which reads a stream,
made workers wait forever (https://github.com/python/cpython/issues/112275). In the server, only the
thread that forks runs Python.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Sequence
from functools import cache
from multiprocessing import (
    active_children,
    forkserver,
    get_context,
    parent_process,
    resource_tracker,
)
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize

from .glibc import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, set_allocator

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""Signals that ask a run to stop: schedulers, spot machines and `docker stop`; Slurm; Ctrl-C.

They may be sent to all processes of a run. Its workers and their server block them, so that the
run decides when to stop.
"""

KEPT_MEMORY = 32 << 20
"""Bytes of freed memory that a worker keeps, the most that glibc allows."""

KILL_SECONDS = 5.0
"""How long to wait for a worker that was killed; a file system that hangs may hold it."""


def cpu_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS


@cache
def worker_context() -> ForkServerContext | SpawnContext:
    """Return the context in which workers start.

    The first call starts the server, which begins to import what workers need, and has workers
    killed when Python exits: those of an iterator that is still alive then, in a reference cycle
    for example, would keep a finished run from ending. Python sends its daemonic children SIGTERM,
    which workers block (see `become_worker`), and then waits for them without a time limit.
    """
    context = _start_context()
    # With a priority, this runs before Python waits for its children; with 0, after all others.
    Finalize(None, _kill_all, args=(context.Process,), exitpriority=0)
    return context


def _start_context() -> ForkServerContext | SpawnContext:
    if sys.platform == "darwin":  # its libraries do not promise to survive a fork
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([f"{__package__}.data", "timm.data"])
    # The server would start the tracker too, but starting the tracker unblocks signals.
    for start in (resource_tracker.ensure_running, forkserver.ensure_running):
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # inherited
        try:
            start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)
    return context


def _kill_all(kind: type[BaseProcess]) -> None:
    kill_workers([child for child in active_children() if child.daemon and isinstance(child, kind)])


def kill_workers(workers: Sequence[BaseProcess]) -> None:
    """Kill workers; they only read, so nothing is lost.

    Args:
        workers: The processes, dead or alive.
    """
    if workers:  # torch's handler would raise an error for each one that is killed
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join(KILL_SECONDS)


def become_worker() -> None:
    """Make this process a worker: it blocks stop signals, and ends when the run does.

    It keeps some of the memory that it frees, for the next image, and leaves what has been imported
    so far out of garbage collection.

    It ends even if the run is killed, since a thread waits for that. The worker itself would only
    notice the end of the server, which in turn waits for the run and all workers.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    gc.freeze()
    set_allocator({M_MMAP_THRESHOLD: KEPT_MEMORY, M_TRIM_THRESHOLD: KEPT_MEMORY})
    run = parent_process()
    assert run is not None

    def wait() -> None:
        run.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
