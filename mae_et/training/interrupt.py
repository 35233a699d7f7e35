"""Signals that ask a run to stop: it finishes the step, and all processes stop after the same one.

A scheduler may signal only one of many processes, so they have to agree. A step that waits for the
loader is given up after a while (see `mae_et.waiting`). For one that hangs elsewhere, in a library
or in the exchange between processes, there is a second signal: a thread receives it, since Python
tells the main thread of signals only between two of its own instructions.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ..waiting import loader_wait
from ..workers import STOP_SIGNALS

SAME_SIGNAL_SECONDS = 1.0
"""A terminal and a launcher may both deliver one Ctrl-C; after this time, it is a second one."""

SAME_SIGTERM_SECONDS = 5.0
"""The same for SIGTERM, which schedulers and launchers on busy machines deliver less promptly."""


class Interrupt:
    """Notes signals while it is open, instead of letting them end the process.

    A second Ctrl-C or SIGTERM ends the process. An open interrupt may be entered again, as a search
    does for each of its runs: what it has noted stays noted until it is closed.

    Args:
        accelerator: The accelerator of this process.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self._noted_at: list[float] = []  # of the first signal
        self._previous: dict[signal.Signals, Any] = {}
        self._vote: _Vote | None = None
        self._ending: _Ending | None = None
        self._depth = 0

    def __enter__(self) -> Interrupt:
        self._depth += 1
        is_main_thread = threading.current_thread() is threading.main_thread()
        if self._depth == 1 and is_main_thread:  # no other thread may set handlers
            self._previous = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}
            self._ending = _Ending()
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            for number, handler in self._previous.items():
                signal.signal(number, handler)
            if self._ending is not None:
                self._ending.close()
                self._ending = None
            loader_wait.relax()
            self._noted_at.clear()
            self._vote = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self._noted_at:
            self._noted_at.append(now)
            hint = "; Ctrl-C again stops at once" if number == signal.SIGINT else ""
            _say(f"{signal.Signals(number).name}: finishing the step, then saving{hint}")
            loader_wait.hurry()
        elif number == signal.SIGINT and now - self._noted_at[0] > SAME_SIGNAL_SECONDS:
            raise KeyboardInterrupt

    def ask(self, reason: str) -> None:
        """Ask the run to stop, as a signal would.

        Args:
            reason: Why, in words.
        """
        if not self._noted_at:
            self._noted_at.append(time.monotonic())
            if self.accelerator.is_main_process:
                _say(f"{reason}: finishing the step, then saving")

    def is_agreed(self) -> bool:
        """Return whether to stop now, the same in every process; call this after each step.

        With several processes, each step ends in a reduction of one number, whose result is read
        one step later: by then it has long arrived, so a GPU never idles while it is waited
        for. Reading it at log steps only would cost even less, but a spot machine gives 30
        seconds, and 50 steps take longer.
        """
        noted = bool(self._noted_at)
        if self.accelerator.num_processes == 1:
            return noted
        previous, self._vote = self._vote, _Vote(noted, self.accelerator.device)
        return previous is not None and previous.result()


class _Ending:
    """A thread that ends the process at a second SIGTERM, whatever the main thread is doing."""

    def __init__(self) -> None:
        reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)  # as `set_wakeup_fd` asks for
        self._previous = signal.set_wakeup_fd(self._writer.fileno())
        threading.Thread(target=_end_at_second_sigterm, args=(reader,), daemon=True).start()

    def close(self) -> None:
        """End the thread, and let signals be."""
        signal.set_wakeup_fd(self._previous)
        self._writer.close()


def _end_at_second_sigterm(numbers: socket.socket) -> None:
    first = None
    with numbers:
        while received := numbers.recv(1):  # empty once the other end is closed
            if received[0] != signal.SIGTERM:
                continue
            now = time.monotonic()
            first = now if first is None else first
            if now - first > SAME_SIGTERM_SECONDS:
                _say("a second SIGTERM: ended at once, without a new checkpoint")
                os._exit(128 + signal.SIGTERM)  # what a shell calls the end by that signal


def _say(line: str) -> None:
    os.write(2, f"\n{line}\n".encode())  # print is not reentrant


class _Vote:
    """Whether any process has noted a signal, found out without waiting for the device."""

    def __init__(self, noted: bool, device: torch.device) -> None:
        vote = torch.full((), float(noted), device=device)
        torch.distributed.all_reduce(vote, torch.distributed.ReduceOp.MAX)
        self._vote: Tensor = vote.to("cpu", non_blocking=device.type == "cuda")
        self._arrived = None
        if device.type == "cuda":
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()

    def result(self) -> bool:
        if self._arrived is not None:
            self._arrived.synchronize()
        return bool(self._vote)
