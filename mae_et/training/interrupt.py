"""Signals that ask a run to stop: the step is finished, and every process stops after the same one.

A scheduler may signal one process of many, so processes have to agree.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ..workers import STOP_SIGNALS

SAME_SIGNAL_SECONDS = 1.0
"""A terminal and a launcher may both hand on one Ctrl-C; later than this, it is a second one."""


class Interrupt:
    """While it is open, signals are noted, in place of ending the process.

    A second Ctrl-C ends it. One that is opened within another shares its notes.

    Args:
        accelerator: of this process.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self._noted_at: list[float] = []  # of the first signal
        self._previous: dict[signal.Signals, Any] = {}
        self._vote: _Vote | None = None

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            self._previous = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}
            outer = getattr(self._previous[STOP_SIGNALS[0]], "__self__", None)
            if isinstance(outer, Interrupt):
                self._noted_at = outer._noted_at
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self._noted_at:
            self._noted_at.append(now)
            hint = "; Ctrl-C again stops at once" if number == signal.SIGINT else ""
            line = f"\n{signal.Signals(number).name}: finishing the step, then saving{hint}\n"
            os.write(2, line.encode())  # print must not be entered twice
        elif number == signal.SIGINT and now - self._noted_at[0] > SAME_SIGNAL_SECONDS:
            raise KeyboardInterrupt

    def is_agreed(self) -> bool:
        """Whether to stop now; called after each step, and the same in every process.

        With several processes, each step ends in a reduction of one number, whose result is read
        one step later: by then it has long arrived, so a GPU is never waited for while it has
        nothing to do. Reading it at log steps only would cost less still, but a spot machine gives
        30 seconds, and 50 steps take longer.
        """
        noted = bool(self._noted_at)
        if self.accelerator.num_processes == 1:
            return noted
        previous, self._vote = self._vote, _Vote(noted, self.accelerator.device)
        return previous is not None and previous.result()


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
