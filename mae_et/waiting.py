"""A wait for the loader that comes to an end: at a limit, or soon after the run is asked to stop.

A timer ends it. Its signal reaches the main thread wherever this waits in Python: for a worker's
batch, for a thread that reads a stream, or between the images that it decodes by itself.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from .errors import ProcessStoppedError, RunInterruptedError

STOP_SECONDS = 20.0
"""How long a run that was asked to stop waits for its loader; spot machines give it 30 seconds."""


class _ExpiredError(BaseException):
    """The time of a wait is over. Not an `Exception`: whoever reads an image would catch that."""


class LoaderWait:
    """The main thread's wait for its loader; waits of other threads have no limit."""

    def __init__(self) -> None:
        self._is_active = False
        self._is_hurried = False

    @contextmanager
    def limited(self, seconds: float | None) -> Iterator[None]:
        """Limit how long the body may wait.

        Args:
            seconds: The limit; None for none. After `hurry`, it is `STOP_SECONDS` at most.

        Raises:
            ProcessStoppedError: The time is over.
            RunInterruptedError: The time is over, and the run was asked to stop.
        """
        if threading.current_thread() is not threading.main_thread():  # gets no signals
            yield
            return
        previous = signal.signal(signal.SIGALRM, self._expire)
        try:
            try:
                self._is_active = True
                _set_timer(STOP_SECONDS if self._is_hurried else seconds)
                yield
            finally:
                self._is_active = False
                _set_timer(None)
        except _ExpiredError:
            if self._is_hurried:
                raise RunInterruptedError(
                    "interrupted while waiting for images, without a new checkpoint; --resume auto "
                    "continues from the last one, if there is one"
                ) from None
            raise ProcessStoppedError(
                f"the loader has handed over no batch for {seconds:g} seconds (data.max_wait); is "
                "a disk or a server slow or gone? --resume auto resumes from the last checkpoint, "
                "if there is one"
            ) from None
        finally:
            signal.signal(signal.SIGALRM, previous)

    def hurry(self) -> None:
        """Shorten the present wait and all later ones, since the run was asked to stop."""
        self._is_hurried = True
        if self._is_active:
            _set_timer(STOP_SECONDS)

    def relax(self) -> None:
        """Take `hurry` back."""
        self._is_hurried = False

    def _expire(self, number: int, frame: FrameType | None) -> None:
        if self._is_active:
            raise _ExpiredError


def _set_timer(seconds: float | None) -> None:
    signal.setitimer(signal.ITIMER_REAL, seconds or 0)


loader_wait = LoaderWait()
"""The wait of this process, which has one main thread."""
