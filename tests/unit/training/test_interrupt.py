"""Signals: noted while an interrupt is open; a second SIGTERM ends what does not end by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from accelerate import Accelerator

from mae_et.training import Interrupt
from tests.support.paths import ROOT


def test_nested_use_shares_notes_and_closing_forgets_them() -> None:
    before = signal.getsignal(signal.SIGTERM)
    interrupt = Interrupt(Accelerator(cpu=True))
    with interrupt:
        with interrupt:  # as a run of a search does
            os.kill(os.getpid(), signal.SIGTERM)
            assert interrupt.is_agreed()
        assert interrupt.is_agreed()
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
    with interrupt:
        assert not interrupt.is_agreed()


HANGING = """
import ctypes, os, signal, threading, time
from accelerate import Accelerator
from mae_et.training import interrupt

interrupt.SAME_SIGTERM_SECONDS = {seconds}

def send():
    for number in {numbers}:
        time.sleep(0.5)
        os.kill(os.getpid(), number)
    time.sleep(2)
    os._exit(7)

with interrupt.Interrupt(Accelerator(cpu=True)):
    threading.Thread(target=send).start()
    lock, library = ctypes.create_string_buffer(256), ctypes.CDLL(None)  # a mutex of glibc
    library.pthread_mutex_lock(lock)
    library.pthread_mutex_lock(lock)  # hangs in C, as an exchange between processes may
"""

TERM, USR1 = int(signal.SIGTERM), int(signal.SIGUSR1)


@pytest.mark.skipif(sys.platform != "linux", reason="hangs in glibc")
@pytest.mark.parametrize(
    ("numbers", "seconds", "code"),
    [
        ([TERM, TERM], 0.1, 143),
        ([TERM], 0.1, 7),
        ([USR1, TERM], 0.1, 7),  # Slurm's notice, and then its SIGTERM: the first one
        ([TERM, TERM], 5.0, 7),  # one signal, delivered by scheduler and launcher
    ],
)
def test_a_second_sigterm_ends_a_process_that_hangs(
    numbers: list[int], seconds: float, code: int
) -> None:
    script = HANGING.format(numbers=numbers, seconds=seconds)
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=180
    )
    assert ended.returncode == code, ended.stderr
    assert ("a second SIGTERM: ended at once" in ended.stderr) == (code == 143)
