"""A pretraining run that kills itself, run by test_pretrain: killed_run.py POINT [arguments].

POINT is step:K (before step K), save:K (inside the checkpoint of step K), or size:S (inside the
change to input size S).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from mae_et.__main__ import main
from mae_et.model.mae import MaskedAutoencoder
from mae_et.pretraining import Pretrainer


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str) -> None:
    kind, _, number = point.partition(":")
    train_step, save_state = Pretrainer.train_step, Accelerator.save_state
    update_positions = MaskedAutoencoder._follow_input_size
    training = False

    def killed_step(self: Pretrainer, step: int, *arguments: Any) -> Any:
        nonlocal training
        training = True
        if kind == "step" and step == int(number):
            die()
        return train_step(self, step, *arguments)

    def killed_save(self: Accelerator, folder: str, **options: Any) -> Any:
        result = save_state(self, folder, **options)
        if kind == "save" and Path(folder).name == f"step_{int(number):08d}.tmp":
            with (Path(folder) / "model.safetensors").open("r+b") as file:
                file.truncate(100)
            die()
        return result

    def killed_update(self: MaskedAutoencoder) -> None:
        if kind == "size" and training and self.input_size[0] == int(number):
            die()
        update_positions(self)

    Pretrainer.train_step = killed_step  # type: ignore[assignment]
    Accelerator.save_state = killed_save
    MaskedAutoencoder._follow_input_size = killed_update  # type: ignore[assignment]


if __name__ == "__main__":
    arm(sys.argv[1])
    sys.exit(main(["pretrain", *sys.argv[2:]]))
