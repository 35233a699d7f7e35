"""Workers of loaders: no copies of the run, and gone when it is."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import datasets
import psutil
import pytest
from PIL import Image

from mae_et import data
from mae_et.data import sources
from tests.support.images import black, numbered_png
from tests.support.paths import ROOT
from tests.support.workers import Surroundings

OWN_MODULE = """
from PIL import Image
from tests.support.images import black

Image.MIME["OWN"] = "image/own"  # as a plug-in for a format does

def images():
    return black().rows
"""


def test_workers_are_no_copies_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come from a server, see no signals to stop, and import the user's code again."""
    (tmp_path / "own_images.py").write_text(OWN_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sources, "own_modules", set())
    rows = data.load_splits("python:own_images:images")["train"]
    stream = data.Samples(data.ImageTable(rows, None, 1), Surroundings(), seed=0)
    (chunk,) = data.make_loader(stream, [[0]], 1, pin_memory=False)
    assert chunk["parent"] != os.getpid()
    assert chunk["blocked"]
    assert chunk["has_plugin"]
    assert chunk["not_collected"] > 10_000  # what has been imported
    if hasattr(ctypes.CDLL(None), "mallopt"):
        assert chunk["page_faults"] < 1000


def test_workers_have_the_limit_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # and restore it
    (cell,) = black().rows["image"]
    cells = datasets.Dataset.from_dict({"image": [cell["bytes"], numbered_png(1)]})
    table = data.ImageTable(cells, None, 1)  # 8 × 8 and 16 × 16
    for most, number in ((300, 0), (255, 1), (64, 1)):
        data.allow_pixels(most)
        samples = data.Samples(table, data.EvalTransform((8, 8), 4), seed=0, shuffle=False)
        (chunk,) = data.make_loader(samples, [[0, 1]], 1, pin_memory=False)
        assert len(chunk["unreadable"]) == number


KILLED = """
import os, psutil
from mae_et import data
from tests.support.images import black
from tests.support.workers import Surroundings

if __name__ == "__main__":
    stream = data.Samples(black(), Surroundings(), seed=0)
    chunks = iter(data.make_loader(stream, [[0]] * 99, 2, pin_memory=False))
    next(chunks)
    print(*(process.pid for process in psutil.Process().children(recursive=True)), flush=True)
    os.kill(os.getpid(), 9)
"""


def lives(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_workers_do_not_outlive_a_killed_run(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    output = tmp_path / "pids"
    with output.open("w") as file:  # a pipe would be open for as long as a worker lives
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, script], stdout=file, env=environment, check=False)
    pids = [int(pid) for pid in output.read_text().split()]
    assert len(pids) == 4  # two workers, their server, and Python's resource tracker
    ends = time.monotonic() + 20
    while any(lives(pid) for pid in pids):
        assert time.monotonic() < ends
        time.sleep(0.1)
