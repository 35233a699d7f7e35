"""The workers of loaders, and the server that forks them.

Forking the run itself would copy locks that its threads hold: those of Arrow, which read a stream,
made workers wait for ever (https://github.com/python/cpython/issues/112275). In the server, only
the thread that forks runs Python.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from functools import cache
from multiprocessing import forkserver, get_context, parent_process, resource_tracker
from multiprocessing.context import BaseContext

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""Those that ask a run to stop: of schedulers, spot machines and `docker stop`; Slurm; Ctrl-C.

They may be sent to all processes of a run; its workers and their server let it decide.
"""


@cache
def worker_context() -> BaseContext:
    """The server's context; when first asked for, it begins to import what workers need."""
    if sys.platform == "darwin":  # whose libraries don't promise to survive a fork
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([f"{__package__}.data", "timm.data"])
    # The server would start the tracker, too; but that unblocks signals when it has been started.
    for start in (resource_tracker.ensure_running, forkserver.ensure_running):
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # is inherited
        try:
            start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)
    return context


def become_worker() -> None:
    """In a new worker: no signal ends it, but the end of the run does, even if that is killed.

    The server ends when the run and all workers have, and workers look only for the server.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    run = parent_process()
    assert run is not None

    def wait() -> None:
        run.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
