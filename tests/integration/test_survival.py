"""What may happen to a run: signals, damaged checkpoints, a full disk, other processes."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from finetune.__main__ import main as finetune_main
from finetune.finetuner import Finetuner
from finetune.model import saved_top1
from mae_et.__main__ import main
from mae_et.runs import Run
from mae_et.training import interrupt
from tests.support.arguments import tiny, tiny_finetune
from tests.support.compare import assert_same_weights, weights
from tests.support.launch import launch_machines, run_tasks
from tests.support.signals import before_step, send, steps_of


@pytest.mark.parametrize(
    ("number", "workers"),
    [(signal.SIGTERM, 2), (signal.SIGUSR1, 0), (signal.SIGINT, 2)],
)
def test_a_signal_saves_a_checkpoint_and_resume_auto_goes_on(
    clothes: str,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    number: signal.Signals,
    workers: int,
) -> None:
    run = tmp_path / "run"
    arguments = [*tiny(clothes, run, data__num_workers=workers), "--resume", "auto"]
    handler = signal.getsignal(number)  # SIGINT's is SIG_IGN where a shell started this with "&"
    with monkeypatch.context() as patch:
        before_step(patch, {7: send(number)})
        assert main(["pretrain", *arguments]) == 75
    error = capfd.readouterr().err
    assert f"{number.name}: finishing the step, then saving" in error
    assert "interrupted after step 8, checkpoint saved; --resume auto continues" in error
    assert steps_of(run) == [6, 8]
    assert signal.getsignal(number) is handler  # workers ignore signals, this process does not
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "lo')  # what a kill may leave
    assert main(["pretrain", *arguments]) == 0
    assert_same_weights(run, finished)
    assert losses_of(run) == losses_of(finished)
    assert "resuming after step 8 of 20" in capfd.readouterr().err


def losses_of(run: Path) -> list[tuple[object, ...]]:
    """What every line of metrics.jsonl says of a step, and of an evaluation."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line.get("loss"), line.get("eval_loss")) for line in lines]


def kill_a_worker() -> None:
    multiprocessing.active_children()[0].kill()


def fail() -> None:
    raise RuntimeError("nobody expects this")


@pytest.mark.parametrize(
    ("action", "code", "said"),
    [
        (kill_a_worker, 3, "error: a loader's worker was killed, perhaps for want of memory"),
        (fail, 1, "RuntimeError: nobody expects this"),
    ],
)
def test_a_run_that_fails_leaves_no_workers(
    clothes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    action: Callable[[], None],
    code: int,
    said: str,
) -> None:
    """Python waits for them when it ends."""
    before_step(monkeypatch, {7: action})
    assert main(["pretrain", *tiny(clothes, tmp_path / "run", data__num_workers=2)]) == code
    assert said in capfd.readouterr().err
    assert not multiprocessing.active_children()


def test_a_second_ctrl_c_stops_at_once(
    clothes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    monkeypatch.setattr(interrupt, "SAME_SIGNAL_SECONDS", 0.0)

    def twice() -> None:
        send(signal.SIGINT)()
        send(signal.SIGINT)()

    before_step(monkeypatch, {7: twice})
    assert main(["pretrain", *tiny(clothes, run)]) == 130
    assert "interrupted; --resume continues from the last checkpoint\n" in capsys.readouterr().err
    assert steps_of(run) == [3, 6]


def test_a_signal_in_fine_tuning(
    clothes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert finetune_main(tiny_finetune(clothes, tmp_path / "whole")) == 0
    arguments = [*tiny_finetune(clothes, tmp_path / "broken"), "--resume=auto"]
    with monkeypatch.context() as patch:
        before_step(patch, {4: send(signal.SIGTERM)})  # step 5 ends an epoch: it is evaluated
        assert finetune_main(arguments) == 75
    assert [m["step"] for m in Run(tmp_path / "broken").read_metrics() if "top1" in m] == [5]
    assert finetune_main(arguments) == 0
    whole, broken = (
        load_file(tmp_path / name / "last" / "model.safetensors") for name in ("whole", "broken")
    )
    for name in whole:
        assert torch.equal(whole[name], broken[name]), name


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.bin", "state.json"])
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(
    clothes: str,
    finished: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    file = run / "checkpoints" / "step_00000020" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert main(["pretrain", *tiny(clothes, run), "--resume"]) == 0
    assert "step_00000020 is damaged" in caplog.text
    assert "resuming from step_00000018" in caplog.text
    assert steps_of(run) == [18, 20]
    assert (run / "checkpoints" / "step_00000020.damaged").exists()
    assert_same_weights(run, finished)


def check_full_disk(
    run: Path, finished: Path, steps: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """The run has said which checkpoints it could not save, and has missed nothing else."""
    failures = [r.args for r in caplog.records if "no checkpoint of step" in r.msg]
    assert [args[0] for args in failures if isinstance(args, tuple)] == steps
    assert steps_of(run) == [18, 20]
    assert_same_weights(run, finished)
    assert [m["loss"] for m in Run(run).read_metrics() if "loss" in m] == [
        m["loss"] for m in Run(finished).read_metrics() if "loss" in m
    ]


def test_no_space_for_a_checkpoint_costs_that_checkpoint_only(
    clothes: str,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    save_state, run = Accelerator.save_state, tmp_path / "run"

    def full(self: Accelerator, folder: str, **options: Any) -> Any:
        save_state(self, folder, **options)
        if Path(folder).stem in ("step_00000006", "step_00000009"):
            assert steps_of(run) == [3]
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Accelerator, "save_state", full)
    assert main(["pretrain", *tiny(clothes, run)]) == 0
    assert not list((run / "checkpoints").glob("*.tmp"))
    check_full_disk(run, finished, [6, 9], caplog)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a tmpfs here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(ballast: Path) -> None:
    """Leave no space beside a file."""
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))


def test_a_full_disk(
    clothes: str,
    finished: Path,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Full from step 4 to 10, checkpoints and metrics; and again when the encoder is written."""
    run, ballast = small_disk / "run", small_disk / "ballast"

    def fill_metrics_page() -> None:
        file = run / "metrics.jsonl"
        file.write_text(file.read_text() + "\n" * (-file.stat().st_size % 4096))
        fill(ballast)

    arguments = tiny(clothes, run)  # TensorBoard's own thread would complain of the disk
    with monkeypatch.context() as patch:
        before_step(patch, {4: fill_metrics_page, 10: ballast.unlink})
        assert main(["pretrain", *arguments]) == 0
    check_full_disk(run, finished, [6, 9], caplog)
    assert "metrics.jsonl can't be written" in caplog.text

    shutil.rmtree(run / "encoder")
    fill(ballast)
    capsys.readouterr()
    assert main(["pretrain", *tiny(clothes, run), "--resume"]) == 3
    assert "encoder can't be written" in capsys.readouterr().err
    ballast.unlink()
    assert main(["pretrain", *tiny(clothes, run), "--resume"]) == 0
    assert (run / "encoder" / "model.safetensors").exists()


def test_a_full_disk_in_fine_tuning(
    clothes: str,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Full from step 3 to 6: the classifiers of steps 4 and 6 can't be kept, that of 8 can."""
    run, ballast = small_disk / "run", small_disk / "ballast"
    top1, kept = iter([0.1, 0.2, 0.5, 0.3, 0.2]), []
    evaluate = Finetuner.evaluate

    def scripted(self: Finetuner, chunks: Any) -> dict[str, float]:
        kept.append(saved_top1(run / "best"))
        return {**evaluate(self, chunks), "top1": next(top1)}

    monkeypatch.setattr(Finetuner, "evaluate", scripted)
    arguments = tiny_finetune(clothes, run, run__eval_every=2, run__checkpoint_every="null")
    with monkeypatch.context() as patch:
        before_step(patch, {2: partial(fill, ballast), 6: ballast.unlink})
        assert finetune_main(arguments) == 0
    assert kept == [0, 0.1, 0.1, 0.1, 0.3]
    assert saved_top1(run / "best") == 0.3
    assert caplog.text.count("best can't be written") == 2
    assert "best 30.00%, last 20.00%" in capsys.readouterr().out

    shutil.rmtree(run / "last")
    shutil.rmtree(run / "best")  # as if there never had been space
    fill(ballast)
    assert finetune_main([*arguments, "--resume"]) == 3
    assert "last can't be written" in capsys.readouterr().err
    ballast.unlink()
    assert finetune_main([*arguments, "--resume"]) == 0
    best, last = ((run / name / "model.safetensors").read_bytes() for name in ("best", "last"))
    assert best == last


@pytest.mark.slow
def test_other_processes_and_micro_batches_see_the_same_batches(
    clothes: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process, then two of which one is sent a signal, then one with another micro-batch."""
    run = tmp_path / "run"
    arguments = [*tiny(clothes, run), "--resume=auto"]
    with monkeypatch.context() as patch:
        before_step(patch, {6: send(signal.SIGTERM)})
        assert main(["pretrain", *arguments]) == 75
    tasks = run_tasks(["tests.support.signalled_run", "SIGUSR1", "11", "1", *arguments])
    assert [task.returncode for task in tasks] == [75, 75], tasks
    assert "interrupted after step 13, checkpoint saved" in tasks[0].stderr
    assert steps_of(run) == [12, 13]
    assert main(["pretrain", *arguments, "--optim.micro_batch_size=8"]) == 0

    ours, theirs = ([m for m in Run(r).read_metrics() if "loss" in m] for r in (run, finished))
    assert [line["processes"] for line in ours] == [1] * 7 + [2] * 6 + [1] * 7
    assert [line["loss"] for line in ours] == pytest.approx(
        [line["loss"] for line in theirs], abs=1e-4
    )
    for name, value in weights(finished).items():
        torch.testing.assert_close(weights(run)[name], value, rtol=0, atol=1e-3)


@pytest.mark.slow
def test_two_machines_train_as_one(clothes: str, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    machines = launch_machines(["mae_et", "pretrain", *tiny(clothes, run)])
    assert [machine.returncode for machine in machines] == [0, 0], machines
    ours, theirs = ([m for m in Run(r).read_metrics() if "loss" in m] for r in (run, finished))
    assert {line["processes"] for line in ours} == {2}
    assert [line["loss"] for line in ours] == pytest.approx(
        [line["loss"] for line in theirs], abs=1e-5
    )
    assert (run / "encoder" / "model.safetensors").exists()
