"""The server that forks the workers of loaders: a process without threads.

Forking the run itself would copy locks that its threads hold: those of Arrow, which read a stream,
made workers wait for ever (https://github.com/python/cpython/issues/112275).
"""

from __future__ import annotations

import os
import signal
import threading
from functools import cache
from multiprocessing import forkserver, get_context, parent_process, resource_tracker
from multiprocessing.context import ForkServerContext

from .cli import STOP_SIGNALS


@cache
def worker_context() -> ForkServerContext:
    """The server's context; when first asked for, it begins to import what workers need.

    The server and the workers never see the signals that ask a run to stop, which may be sent to
    all its processes.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload([f"{__package__}.data", "timm.data"])
    for start in (resource_tracker.ensure_running, forkserver.ensure_running):
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # is inherited
        start()
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
    return context


def end_with_the_run() -> None:
    """In a worker: see to it that it does not outlive a run that is killed.

    The server ends when the run and all workers have, and workers look only for the server.
    """
    run = parent_process()
    assert run is not None

    def wait() -> None:
        run.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
