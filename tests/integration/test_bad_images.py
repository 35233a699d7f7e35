"""Images that can't be decoded: replaced, listed, and too many of them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mae_et.__main__ import main
from mae_et.runs import Run
from tests.support.arguments import tiny
from tests.support.images import png
from tests.support.launch import launch_two

NUMBER = 400


def jpeg(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (28, 28), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def folder_with(bad: int, target: Path) -> tuple[str, list[str]]:
    """A path for `data.path`, and its bad files, which are the first ones: all kinds in turn."""
    target.mkdir()
    names = [target / f"{number:03d}.jpg" for number in range(NUMBER)]
    kinds = [jpeg(0)[:500], b"", b"no image at all", png(30_000, 30_000)]
    for number, name in enumerate(names):
        name.write_bytes(kinds[number % 4] if number < bad else jpeg(number))
    return f"imagefolder:{target}", [str(name) for name in names[:bad]]


def listed(run: Path) -> list[tuple[str, str]]:
    lines = (run / "bad_images.txt").read_text().splitlines()
    return [(name, reason) for name, _, reason in (line.partition("\t") for line in lines)]


def short(path: str, run: Path, **overrides: object) -> list[str]:
    """25 steps: every image once, and 40 held-out ones in the end."""
    options = {"data.eval_images": 40, "optim.epochs": 1.2, "optim.warmup_epochs": 0.1}
    return ["pretrain", *tiny(path, run, **{**options, **overrides})]


def test_one_in_a_hundred(tmp_path: Path) -> None:
    path, bad = folder_with(4, tmp_path / "images")
    run = tmp_path / "run"
    assert main(short(path, run, data__num_workers=2)) == 0
    found = dict(listed(run))
    assert sorted(found) == bad
    assert len(listed(run)) == 4
    reasons = [found[name] for name in bad]
    assert reasons[1:3] == ["no image", "no image"]
    assert "truncated" in reasons[0]
    assert "decompression bomb" in reasons[3]
    counts = [line["bad_images"] for line in Run(run).read_metrics() if "loss" in line]
    assert counts == sorted(counts)
    assert counts[-1] >= 3  # the last may be held out, which is seen only after the last step


def test_thirty_in_a_hundred(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stopped by the default share; with a larger one the run goes on with the list it has."""
    path, bad = folder_with(120, tmp_path / "images")
    run = tmp_path / "run"
    assert main(short(path, run)) == 3
    _, start, *windows, line = capsys.readouterr().err.splitlines()
    assert start.startswith(f"{run}: ")
    assert all(window.startswith("step ") for window in windows)
    before = listed(run)
    assert 4 < len(before) < 120
    assert line.startswith(f"error: {len(before)} of 400 images are unreadable, and ")
    assert "data.max_bad_share allows 1.00%; one of them: " in line
    assert before[0][0] in line
    assert main([*short(path, run), "--resume"]) == 3  # those of before count
    assert main([*short(path, run, data__max_bad_share=0.5), "--resume"]) == 0
    after = listed(run)
    assert after[: len(before)] == before
    assert sorted(name for name, _ in after) == bad


@pytest.mark.parametrize("workers", [0, 2])
def test_raise(tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int) -> None:
    path, bad = folder_with(20, tmp_path / "images")
    run = tmp_path / "run"
    arguments = short(path, run, data__bad_images="raise", data__num_workers=workers)
    arguments += ["--run.log_every=20", "--data.max_bad_share=1"]
    for attempt in ([], ["--resume"]):  # the list does not make it go on
        assert main([*arguments, *attempt]) == 3
        *_, start, line = capsys.readouterr().err.splitlines()
        assert start.startswith(f"{run}: ")
        assert "of 400 images are unreadable, and data.bad_images is raise; one of them: " in line
        assert any(name in line for name in bad)
        assert Run(run).read_metrics() == []


@pytest.mark.slow
def test_raise_stops_both_processes(tmp_path: Path) -> None:
    """One of them finds the image."""
    path, bad = folder_with(1, tmp_path / "images")
    result = launch_two(["mae_et", *short(path, tmp_path / "run", data__bad_images="raise")])
    assert result.returncode != 0
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    expected = "1 of 400 images are unreadable, and data.bad_images is raise; one of them: "
    assert line.startswith(f"error: {expected}{bad[0]}: image file is truncated")
