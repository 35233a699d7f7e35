"""Runs that are late or early and replan themselves: they end, resume and are repeated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune.__main__ import main as finetune_main
from mae_et.__main__ import main
from mae_et.runs import Run
from mae_et.training import outlook
from tests.support.arguments import tiny, tiny_finetune
from tests.support.compare import assert_same_weights

LATE = ["--run.on_late=shorten"]
FOURTH = [None, None, None, 0.5]


def judge(monkeypatch: pytest.MonkeyPatch, shares: Iterator[float | None]) -> None:
    """Have the first windows of a run judged as given, and the later ones as in time."""
    monkeypatch.setattr(outlook.Deadline, "share", lambda self, left: next(shares, None))


def sizes(run: Path) -> list[int]:
    return [line["size"] for line in Run(run).read_metrics() if "loss" in line]


@pytest.fixture
def shortened(clothes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of twenty steps at 8, 12 and 16 pixels of which, after four, there is time for half."""
    judge(monkeypatch, iter(FOURTH))
    run = tmp_path / "run"
    assert main(["pretrain", *tiny(clothes, run), *LATE]) == 0
    return run


def test_a_late_run_ends_with_all_of_its_stages(shortened: Path) -> None:
    assert sizes(shortened) == [8] * 7 + [12] * 3 + [16] * 2
    lines = [line for line in Run(shortened).read_metrics() if "loss" in line]
    assert [line["step"] for line in lines] == list(range(1, 13))
    rates = [line["lr"] for line in lines]
    assert rates[6:] == sorted(rates[6:], reverse=True)
    assert rates[-1] < 0.1 * max(rates)  # the schedule has come to its end
    assert Run(shortened).section("run")["replanned"] == [[4, 12]]
    assert (shortened / "encoder").is_dir()


def test_it_is_repeated_from_its_configuration(shortened: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert main(["pretrain", "--config", str(shortened / "config.yaml"), f"--out={again}"]) == 0
    assert_same_weights(shortened, again)


def test_an_early_run_takes_more_steps(
    clothes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge(monkeypatch, iter([None, None, None, 1.5]))
    run, again = tmp_path / "run", tmp_path / "again"
    assert main(["pretrain", *tiny(clothes, run), "--run.on_late=fit"]) == 0
    assert Run(run).section("run")["replanned"] == [[4, 28]]
    assert Run(run).read_metrics()[-1]["step"] == 28
    assert main(["pretrain", "--config", str(run / "config.yaml"), f"--out={again}"]) == 0
    assert_same_weights(run, again)


def test_a_stage_that_uses_images_again_is_left_as_it_is(
    clothes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(deadline: outlook.Deadline, left: float) -> float | None:
        return None if deadline.run.replanned else 0.5

    monkeypatch.setattr(outlook.Deadline, "share", half)
    run, again = tmp_path / "run", tmp_path / "again"
    replay = {"data__replay": "[{size: 8, ratio: 2, batches: 2}]"}
    assert main(["pretrain", *tiny(clothes, run, **replay), *LATE]) == 0
    small = sizes(run).count(8)
    assert Run(run).section("run")["replanned"] == [[small, small + (20 - small) // 2]]
    assert main(["pretrain", "--config", str(run / "config.yaml"), f"--out={again}"]) == 0
    assert_same_weights(run, again)


def test_it_resumes_whatever_the_command_says(
    shortened: Path, clothes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a checkpoint before the change too: one of every three steps is kept here."""
    judge(monkeypatch, iter(FOURTH))
    broken, options = tmp_path / "broken", {"run__keep_checkpoints": 9}
    assert main(["pretrain", *tiny(clothes, broken, **options), *LATE]) == 0
    for checkpoint in (broken / "checkpoints").iterdir():
        if checkpoint.name > "step_00000003":
            (checkpoint / "model.safetensors").unlink()
    assert main(["pretrain", *tiny(clothes, broken, **options), "--resume"]) == 0
    assert_same_weights(shortened, broken)


def test_a_stream_goes_on_where_it_was(
    shards: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge(monkeypatch, iter(FOURTH))
    options = {"data__streaming": "true", "data__downsample": "loader", "data__num_workers": 1}
    first, again = tmp_path / "first", tmp_path / "again"
    assert main(["pretrain", *tiny(shards["parquet"], first, **options), *LATE]) == 0
    assert main(["pretrain", "--config", str(first / "config.yaml"), f"--out={again}"]) == 0
    assert_same_weights(first, again)


def test_fine_tuning_is_shortened_too(
    clothes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge(monkeypatch, iter(FOURTH[2:]))
    run = tmp_path / "run"
    options = [*tiny_finetune(clothes, run), *LATE]
    assert finetune_main(options) == 0
    ((since, steps),) = Run(run).section("run")["replanned"]
    assert since == 2
    assert Run(run).read_metrics()[-1]["step"] == steps


def test_numbers_of_no_run_are_an_error(
    clothes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = tiny(clothes, tmp_path / "run", run__replanned="[[5, 3]]")
    assert main(["pretrain", *arguments]) == 2
    (line,) = (row for row in capsys.readouterr().err.splitlines() if row.startswith("error: "))
    assert "run.replanned must be pairs" in line
    arguments = tiny(clothes, tmp_path / "run", run__replanned="[[25, 30]]")
    assert main(["pretrain", *arguments]) == 2
    assert "of a run of 20 steps, got [25, 30]" in capsys.readouterr().err
