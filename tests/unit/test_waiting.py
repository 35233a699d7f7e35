"""Waits for the loader end at their limit, and soon after the run is asked to stop."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from mae_et import waiting
from mae_et.errors import ProcessStoppedError, RunInterruptedError
from mae_et.waiting import LoaderWait

LONG = 60.0


def sleep_as_a_library() -> None:
    """A library that reads images takes every error for a fault of the image."""
    for _ in range(2):
        try:
            time.sleep(LONG)
        except Exception:
            continue


@pytest.mark.parametrize(
    "wait",
    [
        lambda: time.sleep(LONG),
        lambda: threading.Event().wait(LONG),
        lambda: queue.Queue[int]().get(),
        lambda: Future[int]().result(),
        sleep_as_a_library,
    ],
)
def test_a_wait_ends_at_its_limit(wait: Callable[[], object]) -> None:
    handler, start = signal.getsignal(signal.SIGALRM), time.monotonic()
    message = r"no batch for 0\.2 seconds \(data\.max_wait\)"
    with pytest.raises(ProcessStoppedError, match=message), LoaderWait().limited(0.2):
        wait()
    assert 0.1 < time.monotonic() - start < LONG / 2
    assert signal.getsignal(signal.SIGALRM) is handler


def test_short_waits_and_other_threads_are_let_be() -> None:
    wait, errors = LoaderWait(), list[BaseException]()

    def work() -> None:
        try:
            with wait.limited(0.01):
                time.sleep(0.1)
        except BaseException as error:
            errors.append(error)

    with wait.limited(0.1):
        pass
    with wait.limited(None):
        time.sleep(0.2)  # the timer of the wait before is off
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not errors


def test_a_run_that_is_asked_to_stop_waits_a_little_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "STOP_SECONDS", 0.2)
    wait = LoaderWait()
    threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGUSR2)).start()
    handler = signal.signal(signal.SIGUSR2, lambda *_: wait.hurry())
    try:
        with (
            pytest.raises(RunInterruptedError, match="while waiting for images"),
            wait.limited(LONG),
        ):
            time.sleep(LONG)
    finally:
        signal.signal(signal.SIGUSR2, handler)
    with pytest.raises(RunInterruptedError), wait.limited(None):  # later ones too
        time.sleep(LONG)
    wait.relax()
    with wait.limited(None):
        time.sleep(0.3)
