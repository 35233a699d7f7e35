"""Runs in this process that are interrupted in the middle of a step."""

from __future__ import annotations

import pytest
import torch

from mae_et.pretraining import Pretrainer


def interrupt_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Have pretraining interrupted, as by Ctrl-C, at a micro-batch, counted from 1."""
    done: list[int] = []
    micro_batch_loss = Pretrainer.micro_batch_loss

    def interrupted(self: Pretrainer, *arguments: object) -> torch.Tensor:
        done.append(0)
        if len(done) == number:
            raise KeyboardInterrupt
        return micro_batch_loss(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Pretrainer, "micro_batch_loss", interrupted)
