"""The end of a process that has loader workers; what signals do to runs is in test_survival."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from tests.support.paths import ROOT

KEEP_AN_ITERATOR = """
import gc, multiprocessing, types
from torch.utils.data import DataLoader
from mae_et import workers
from mae_et.data import worker_options

gc.disable()
workers.sys = types.SimpleNamespace(platform={platform!r})
batches = iter(DataLoader(range(10_000), **worker_options(2)))
cycle = [batches]
cycle.append(cycle)
del batches, cycle
print(*[worker.pid for worker in multiprocessing.active_children()])
"""


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_workers_of_a_live_iterator_do_not_keep_a_process_from_ending(platform: str) -> None:
    """It would wait for them for ever: they block the signal by which Python would end them."""
    script = KEEP_AN_ITERATOR.format(platform=platform)
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=180
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    workers = [int(pid) for pid in ended.stdout.split()]
    assert len(workers) == 2
    assert not any(psutil.pid_exists(worker) for worker in workers)


END = """
import atexit, threading, time
from mae_et.errors import end_process

class Finalised:
    def __del__(self):
        print("the interpreter was taken apart")

kept = Finalised()
atexit.register(print, "exit handlers ran")
threading.Thread(target=lambda: (time.sleep(0.3), print("a thread ended"))).start()
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
end_process(75)
"""


def test_a_process_ends_with_its_code_and_its_handlers_but_does_not_take_python_apart() -> None:
    """Threads of C++ libraries would abort it then: readers of Arrow, process groups of gloo."""
    ended = subprocess.run(
        [sys.executable, "-c", END], cwd=ROOT, capture_output=True, text=True, timeout=180
    )
    assert ended.returncode == 75, ended.stderr
    assert ended.stdout.splitlines() == ["a thread ended", "exit handlers ran"]
