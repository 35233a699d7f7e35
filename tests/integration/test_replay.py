"""Runs that use images again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mae_et.__main__ import main
from tests.support.arguments import tiny
from tests.support.compare import assert_same_weights
from tests.support.launch import run_two


def replayed(path: str, run: Path, **overrides: object) -> list[str]:
    """A tiny run whose first stage draws three of four images from its buffer."""
    replay = "[{size: 8, ratio: 4, batches: 2}, {size: 12, ratio: 2, batches: 1}]"
    return tiny(path, run, **{"data.replay": replay, "data.downsample": "loader", **overrides})


def test_a_run_killed_within_a_stage_resumes_exactly(clothes: str, tmp_path: Path) -> None:
    """From step 6 of 20, of which the first 10 have replay."""
    assert main(["pretrain", *replayed(clothes, tmp_path / "whole")]) == 0
    arguments = replayed(clothes, tmp_path / "part", **{"run.keep_checkpoints": 9})
    assert main(["pretrain", *arguments]) == 0
    for step in (9, 12, 15, 18, 20):
        folder = tmp_path / "part" / "checkpoints" / f"step_{step:08d}"
        folder.rename(tmp_path / folder.name)
    assert main(["pretrain", *arguments, "--resume"]) == 0
    assert_same_weights(tmp_path / "whole", tmp_path / "part")
    out = tmp_path / "pictures.png"
    assert main(["reconstruct", f"--checkpoint={tmp_path / 'whole'}", f"--out={out}"]) == 0
    lines = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines if '"loss"' in line]
    assert len(losses) == 20


@pytest.mark.slow
def test_two_processes_draw_from_buffers_of_their_own(clothes: str, tmp_path: Path) -> None:
    run = run_two(["mae_et", "pretrain", *replayed(clothes, tmp_path / "run")])
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("replay", "message"),
    [
        ("[{size: 10, ratio: 4, batches: 2}]", "data.replay.size must be that of a stage (8, 12"),
        ("[{size: 8, ratio: 3, batches: 2}]", "data.replay.ratio must divide optim.batch_size 16"),
        ("[{size: 8, ratio: 8, batches: 2}]", "a divisor of the 4 images of a micro-batch"),
        ("[{size: 8, ratio: 1, batches: 2}]", "data.replay.ratio must be above 1"),
        ("[{size: 8, ratio: 2, batches: 2}, {size: 8, ratio: 4, batches: 2}]", "sizes that differ"),
        ("[{size: 8, ratio: 2, batches: 0}]", "data.replay.batches must be above 0"),
    ],
)
def test_bad_replay(
    clothes: str, replay: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pretrain", *replayed(clothes, tmp_path / "run", **{"data.replay": replay})]) == 2
    assert message in capsys.readouterr().err


def test_a_buffer_that_does_not_fit_into_memory(
    clothes: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Memory:
        available = 1000

    monkeypatch.setattr("psutil.virtual_memory", Memory)
    assert main(["pretrain", *replayed(clothes, tmp_path / "run")]) == 2
    assert "data.replay.batches must be few enough for the 0.0 GiB" in capsys.readouterr().err
