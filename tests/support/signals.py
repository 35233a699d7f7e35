"""Things that happen to a run before one of its steps: signals among them."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from mae_et.training.trainer import Trainer


def before_step(monkeypatch: pytest.MonkeyPatch, actions: dict[int, Callable[[], None]]) -> None:
    """Do something before each of some steps."""
    train_step = Trainer.train_step

    def acting(self: Trainer[Any, Any], step: int, *arguments: Any) -> Any:
        if step in actions:
            actions[step]()
        return train_step(self, step, *arguments)

    monkeypatch.setattr(Trainer, "train_step", acting)


def send(number: int) -> Callable[[], None]:
    """Send a signal to this process and those it has started, as a scheduler does."""

    def act() -> None:
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        os.kill(os.getpid(), number)

    return act


def steps_of(run: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in (run / "checkpoints").glob("step_????????"))
