"""Images that can't be decoded: replaced, listed, and too many of them."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mae_et import data
from mae_et.__main__ import main
from mae_et.errors import ProcessStoppedError
from mae_et.runs import Run

from .conftest import launch_two, tiny

NUMBER = 400


def png(width: int, height: int) -> bytes:
    """A PNG file of a few bytes that claims a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


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
    start, *windows, line = capsys.readouterr().err.splitlines()
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
        start, line = capsys.readouterr().err.splitlines()
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


class _Numbers:
    """Images that are their rows; the first ones are bad."""

    def __init__(self, number: int, bad: int) -> None:
        self.number, self.bad = number, bad

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> Any:
        if index < self.bad:
            raise data.UnreadableImageError(str(index), "bad")
        return index


def row_and_draw(image: Any, index: int, number: int) -> dict[str, Any]:
    return {"row": index, "draw": torch.rand(())}


def test_a_run_of_bad_rows_shows_no_other_row_many_times() -> None:
    images: Any = _Numbers(100, bad=30)
    stream = data.Samples(images, row_and_draw, seed=0)
    samples = [stream[number] for number in range(2000)]
    counts = np.bincount([sample["row"] for sample in samples], minlength=100)
    assert counts[:30].sum() == 0
    assert counts[30:].sum() == 2000
    assert counts[30:].min() >= 20  # its own, and some in place of others: 8.6 on average
    assert counts[30:].max() <= 40
    # What replaces an image depends on the sample alone, and its random draws on no replacement.
    whole: Any = _Numbers(100, bad=0)
    others = data.Samples(whole, row_and_draw, seed=0)
    fresh = data.Samples(images, row_and_draw, seed=0)
    for number in reversed(range(1900, 2000)):
        assert fresh[number]["row"] == samples[number]["row"]
        assert torch.equal(samples[number]["draw"], others[number]["draw"])
        assert not others[number]["unreadable"]


def test_none_is_readable() -> None:
    images: Any = _Numbers(3, bad=3)
    with pytest.raises(ProcessStoppedError, match=r"none readable; first: \d: bad"):
        data.Samples(images, row_and_draw, seed=0)[0]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (None, "no image"),
        ({"bytes": None, "path": None}, "no image"),
        ({"bytes": None, "path": "/nowhere/a.jpg"}, "No such file or directory"),
        ({"bytes": png(0, 5), "path": None}, "no image"),
        ({"bytes": png(30_000, 30_000), "path": None}, "decompression bomb"),
    ],
)
def test_cells_without_an_image(cell: Any, reason: str) -> None:
    with pytest.raises(data.UnreadableImageError, match=reason):
        data.open_image(cell, 3, "a")
