"""The end of a process that has loader workers; what signals do to runs is in test_survival."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.arguments import tiny
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


HANG = """
import threading, time
from mae_et import errors

errors.THREAD_SECONDS = 0.5
threading.Thread(target=time.sleep, args=(600,)).start()  # as one that reads from a dead server
errors.end_process(3)
"""


def test_a_thread_that_hangs_does_not_keep_a_process_from_ending() -> None:
    ended = subprocess.run([sys.executable, "-c", HANG], cwd=ROOT, timeout=60)
    assert ended.returncode == 3


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("at", "code"), [(99, 0), (7, 75)])
def test_a_stream_of_parquet_ends_with_the_code_of_its_run(
    clothes: str, tmp_path: Path, workers: int, at: int, code: int
) -> None:
    """At its end and after SIGTERM, although threads of Arrow still read ahead."""
    streamed = {"data__streaming": "true", "data__num_workers": workers}
    arguments = tiny(clothes, tmp_path / "run", **streamed)
    signalled = ["-m", "tests.support.signalled_run", "SIGTERM", str(at), "0", *arguments]
    ended = subprocess.run(
        [sys.executable, *signalled], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == code, ended.stderr
    assert "terminate called" not in ended.stderr
    assert ("interrupted after step 8, checkpoint saved" in ended.stderr) == (code == 75)


STUCK = """
import os, signal, sys, threading, time
from mae_et import errors, waiting
from mae_et.__main__ import main
from mae_et.data.streaming.shards import StreamedImages

waiting.STOP_SECONDS = errors.THREAD_SECONDS = 1.0
read = StreamedImages.read

def read_and_hang(self, span):
    for place, cell in enumerate(read(self, span)):
        if place == 5 and threading.current_thread() is not threading.main_thread():
            threading.Timer(2.0, lambda: os.kill(os.getpid(), {signal})).start()
            time.sleep(600)
        yield cell

StreamedImages.read = read_and_hang
errors.end_process(main(["pretrain", *sys.argv[1:]]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_a_signal_ends_a_run_that_waits_for_a_stream_that_hangs(
    clothes: str, tmp_path: Path, workers: int, number: str
) -> None:
    script = STUCK.format(signal=f"signal.{number}")
    streamed = {"data__streaming": "true", "data__num_workers": workers}
    arguments = tiny(clothes, tmp_path / "run", data__shuffle_buffer=16, **streamed)
    ended = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 75, ended.stderr
    assert "interrupted while waiting for images" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_a_stream_that_hangs_is_an_error_after_a_time(clothes: str, tmp_path: Path) -> None:
    streamed = {"data__streaming": "true", "data__max_wait": 3, "data__shuffle_buffer": 16}
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            STUCK.format(signal=0),
            *tiny(clothes, tmp_path / "run", **streamed),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 3, ended.stderr
    assert "error: the loader has handed over no batch for 3 seconds" in ended.stderr


SMALL = """
mount -t tmpfs -o size=400k tmpfs /dev/shm && exec "$0" -m mae_et pretrain "$@"
"""


@pytest.mark.slow
def test_a_run_without_shared_memory_says_so(clothes: str, tmp_path: Path) -> None:
    """Containers have 64 MiB by default; here 400 KiB, for batches of 196 KiB."""
    if subprocess.run(["unshare", "-m", "mount", "--make-rprivate", "/"]).returncode:
        pytest.skip("may not mount a tmpfs here")
    large = {
        "model__image_size": 112,
        "optim__micro_batch_size": 16,
        "curriculum__name": "constant",
        "curriculum__stages": "[]",
    }
    arguments = tiny(clothes, tmp_path / "run", data__num_workers=4, **large)
    ended = subprocess.run(
        ["unshare", "-m", "bash", "-c", SMALL, sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 3, ended.stderr
    assert "4 workers may need 1 MiB of shared memory (/dev/shm: 0 of 0 MiB" in ended.stderr
    assert "error: no shared memory is left to hand over images" in ended.stderr
