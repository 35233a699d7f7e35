"""What a run says of itself: a bar on a terminal, lines in a file, one process's voice."""

import os
import pty
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mae_et.curriculum import Curriculum
from mae_et.training.progress import Progress, describe

WINDOW = {
    "size": 20,
    "loss": 0.98765,
    "lr": 1.5e-4,
    "images_per_s": 1234.5,
    "data_wait": 0.021,
    "skipped_steps": 0,
    "bad_images": 0,
}
IN_WORDS = "stage 3/5, size 20, 1234 images/s, 1:40 min left, loss 0.9877, 2% waiting"
LR = ", lr 1.50e-04"
SCORES = "step 60 of 100: top1 0.5000, eval_loss 0.2500"
START = (
    "runs/one: 120 images, 30 held out; steps of 128: 60 at size 160, 20 at size 192, "
    "20 at size 224; processes on cpu: 2"
)
LINES = [
    START,
    "resuming after step 40 of 100",
    "optim.batch_size 128 is more than the 120 training images: 100 steps in all. "
    "A smaller batch makes more steps",
    f"step 50 of 100: {IN_WORDS}{LR}",
    SCORES,
]


def tell(*, is_main_process: bool = True, has_bar: bool = True) -> None:
    """Say what is said of a run that goes on, of a window and of an evaluation."""
    process = SimpleNamespace(
        is_main_process=is_main_process, num_processes=2, device=torch.device("cpu")
    )
    schedule = Curriculum.efficienttrain(full_size=224, patch_size=16, num_steps=100)
    with Progress(process, 40, schedule, 100, has_bar) as progress:
        progress.on_start(Path("runs/one"), 128, 120, 30)
        progress.on_step()
        progress.on_window(WINDOW, 50, 100.0)
        progress.on_scores({"top1": 0.5, "eval_loss": 0.25}, 60)


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What a terminal of so many columns is sent."""

    def sent(columns: int, **options: bool) -> str:
        reader, writer = pty.openpty()
        termios.tcsetwinsize(writer, (24, columns))
        with os.fdopen(writer, "w") as stderr, monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stderr)
            tell(**options)
        text = b""
        with suppress(OSError):  # the end of a terminal is an error
            while part := os.read(reader, 1 << 16):
                text += part
        os.close(reader)
        return text.decode().replace("\r\n", "\n")

    return sent


def test_a_file_gets_lines(capsys: pytest.CaptureFixture[str]) -> None:
    tell()
    captured = capsys.readouterr()
    assert captured.err.splitlines() == LINES
    assert not captured.out


def test_a_terminal_gets_a_bar_and_lines_of_scores(on_terminal: Callable[..., str]) -> None:
    text = on_terminal(120)
    for part in ("41/100 |", IN_WORDS + LR, f"{SCORES}\n", f"{START}\n"):
        assert part in text
    assert "step 50" not in text


def test_the_bar_of_a_narrow_terminal_has_all_up_to_the_loss(
    on_terminal: Callable[..., str],
) -> None:
    assert IN_WORDS.partition(", 2% waiting")[0] in on_terminal(80)


def test_a_terminal_of_unknown_width_gets_lines(on_terminal: Callable[..., str]) -> None:
    assert on_terminal(0).splitlines() == LINES


def test_a_terminal_gets_lines_if_no_bar_is_wanted(on_terminal: Callable[..., str]) -> None:
    assert on_terminal(120, has_bar=False).splitlines() == LINES


def test_other_processes_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    tell(is_main_process=False)
    assert capsys.readouterr().err == ""


def test_what_went_wrong_is_said() -> None:
    text = describe(WINDOW | {"skipped_steps": 3, "bad_images": 2}, best={"knn": 0.5})
    assert text == (
        "size 20, 1234 images/s, loss 0.9877, best knn 50.00%, 2% waiting, 3 steps skipped, "
        f"2 bad images{LR}"
    )
