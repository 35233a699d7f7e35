"""A run finds out before its first step that it cannot save."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from accelerate import Accelerator
from torch import nn

from mae_et.__main__ import main
from mae_et.runs import Run
from mae_et.training.checkpoint import try_saving
from tests.support.arguments import tiny


class Space(NamedTuple):
    total: int
    used: int
    free: int


@pytest.mark.parametrize(
    "error",
    [
        TypeError("save_file() got an unexpected keyword argument 'x'"),  # an old accelerate
        OSError(28, "No space left on device"),
    ],
)
def test_a_run_that_cannot_save_trains_nothing(
    clothes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    run = Run(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Accelerator, "save_state", fail)
        assert main(["pretrain", *tiny(clothes, run.folder)]) == 3
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"error: no checkpoint can be saved in {run.folder} (")
    assert str(error) in said
    assert not run.read_metrics()
    assert main(["pretrain", *tiny(clothes, run.folder), "--resume=auto"]) == 0


@pytest.mark.parametrize(("free", "warned"), [(0, True), (2**40, False)])
def test_a_trial_leaves_nothing_and_tells_of_little_space(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    free: int,
    warned: bool,
) -> None:
    """Three million numbers of four bytes, and two of AdamW for each: 36 MB."""
    accelerator = Accelerator(cpu=True)
    accelerator.prepare(nn.Linear(1000, 3000, bias=False))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Space(2**40, 0, free))
    with caplog.at_level(logging.WARNING):
        try_saving(accelerator, Run(tmp_path))
    assert ("a checkpoint needs about 34 MiB, 0 are free" in caplog.text) == warned
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]
