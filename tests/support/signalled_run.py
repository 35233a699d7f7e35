"""A run that is sent a signal: signalled_run.py SIGNAL STEP RANK [arguments].

Before step STEP, the process RANK sends SIGNAL to itself.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from mae_et.__main__ import main
from mae_et.errors import end_process
from mae_et.training.trainer import Trainer


def arm(number: int, at: int, rank: str) -> None:
    learning_rate, sent = Trainer.learning_rate, False

    def signalled(self: Trainer[Any, Any], step: int) -> Any:
        nonlocal sent
        if step == at and not sent and str(self.accelerator.process_index) == rank:
            sent = True
            os.kill(os.getpid(), number)
        return learning_rate(self, step)

    Trainer.learning_rate = signalled


if __name__ == "__main__":
    name, at, rank, *arguments = sys.argv[1:]
    arm(signal.Signals[name], int(at), rank)
    end_process(main(["pretrain", *arguments]))
