"""What a run says of itself: a bar on a terminal, lines in a file, one process's voice."""

import sys
from types import SimpleNamespace

import pytest

from mae_et.progress import Progress, describe

WINDOW = {
    "size": 20,
    "loss": 0.98765,
    "lr": 1.5e-4,
    "images_per_s": 1234.5,
    "data_wait": 0.021,
    "skipped_steps": 0,
    "bad_images": 0,
}
IN_WORDS = "size 20, loss 0.9877, lr 1.50e-04, 1234 images/s, 2% waiting for data"
SCORES = "step 60 of 100: top1 0.5000, eval_loss 0.2500\n"


@pytest.fixture
def told(monkeypatch, capsys):
    """What is said of a window and an evaluation."""

    def tell(*, is_main_process: bool = True, has_bar: bool = True, is_terminal: bool) -> str:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
        process = SimpleNamespace(is_main_process=is_main_process)
        with Progress(process, 40, 100, has_bar=has_bar) as progress:
            progress.on_step()
            progress.on_window(WINDOW, 50)
            progress.on_scores({"top1": 0.5, "eval_loss": 0.25}, 60)
        captured = capsys.readouterr()
        assert not captured.out
        return captured.err

    return tell


def test_a_file_gets_lines(told):
    assert told(is_terminal=False) == f"step 50 of 100: {IN_WORDS}\n{SCORES}"


def test_a_terminal_gets_a_bar_and_lines_of_scores(told):
    text = told(is_terminal=True)
    for part in ("\r", "41/100", f"{IN_WORDS}]", SCORES):
        assert part in text
    assert "step 50" not in text


def test_a_terminal_gets_lines_if_no_bar_is_wanted(told):
    assert told(is_terminal=True, has_bar=False) == told(is_terminal=False)


def test_other_processes_say_nothing(told):
    for is_terminal in (False, True):
        assert told(is_terminal=is_terminal, is_main_process=False) == ""


def test_what_went_wrong_is_said():
    text = describe(WINDOW | {"skipped_steps": 3, "bad_images": 2})
    assert text == f"{IN_WORDS}, 3 steps skipped, 2 bad images"
