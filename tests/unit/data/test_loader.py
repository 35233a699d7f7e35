"""A loader hands over every batch, or ends with an error that says why it cannot."""

from __future__ import annotations

import logging
import multiprocessing
import shutil
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mae_et.data import check_shared_memory, found, loader, make_loader
from mae_et.errors import ProcessStoppedError
from tests.support.workers import Faulty


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("cannot be sent", TypeError, "this stays where it is"),
        ("no shared memory", ProcessStoppedError, "no shared memory is left.*--shm-size"),
        ("bus error", ProcessStoppedError, "no shared memory is left.*--data.num_workers 0"),
        ("files", ProcessStoppedError, "too many files are open.*ulimit -n"),
        ("hangs", ProcessStoppedError, r"no batch for 4 seconds \(data.max_wait\)"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_batch_that_is_not_handed_over_is_an_error(
    fault: str, error: type[Exception], message: str, workers: int
) -> None:
    """In seconds, and without workers that are left or waited for."""
    numbers, start = [[number] for number in range(9)], time.monotonic()
    seconds = 4.0 if fault == "hangs" else 100.0
    samples: Any = Faulty(fault, 3)
    seen = list[int]()
    with pytest.raises(error, match=message):
        seen.extend(
            int(b["number"]) for b in make_loader(samples, numbers, workers, False, seconds)
        )
    assert seen == [0, 1, 2][: len(seen)]
    assert time.monotonic() - start < 40
    assert not multiprocessing.active_children()


def test_a_thread_without_signals_loads_too() -> None:
    seen = list[int]()

    def load() -> None:
        samples: Any = Faulty("none", 0)
        batches = make_loader(samples, [[4], [5]], 0, False, 1.0)
        seen.extend(int(batch["number"]) for batch in batches)

    thread = threading.Thread(target=load)
    thread.start()
    thread.join()
    assert seen == [4, 5]


class Space(NamedTuple):
    total: int
    used: int
    free: int


@pytest.mark.parametrize(("free", "warned"), [(9 * 2**20, False), (9 * 2**20 - 1, True)])
def test_batches_that_may_not_fit_into_shared_memory_are_warned_of(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    free: int,
    warned: bool,
) -> None:
    """4 workers prepare two batches each, and one is in use: nine of a MiB."""
    monkeypatch.setattr(loader, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Space(2**26, 0, free))
    with caplog.at_level(logging.WARNING):
        check_shared_memory(2**20, 4)
    said = "4 workers may need 9 MiB of shared memory" in caplog.text
    assert said == warned
    assert ("8 of 64 MiB are free" in caplog.text) == warned


def test_more_workers_than_cores_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(found, "cpu_cores", lambda: 2)
    samples: Any = Faulty("none", 0)
    for workers in (2, 3, 3):
        make_loader(samples, [[0]], workers, False, 1.0)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("num_workers 3 is more than the 2 CPU cores of this process: with 2, ")
