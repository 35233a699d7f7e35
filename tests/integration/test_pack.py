"""The command pack: as a user calls it, killed, and before a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mae_et.__main__ import main
from tests.support.arguments import tiny
from tests.support.paths import ROOT
from tests.support.photos import photo_folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photo_folder(tmp_path_factory.mktemp("photos") / "photos", per_class=40)


def test_packed_images_are_trained_on(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["pack", str(photos), "--out", str(out), "--short_side", "32", "--num_workers", "0"]
    assert main([*arguments, "--measure", "false"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{out}: train 123, validation 6 images in 2 shards; 127 made smaller or upright, "
        "0 copied as they are",
        "2 images of more than 8 bits or of other channels were copied as they are, at their size",
        f"2 unreadable images are left out; {out}/bad_images.txt lists them",
        lines[3],
        f"next: --data.path parquet:{out}",
    ]
    assert lines[3].startswith("size: 0.4 MiB before, ")
    assert main(["pretrain", *tiny(f"parquet:{out}", tmp_path / "run")]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "OUT"], "DATA must be given once, or else as --data.path, got none"),
        (["PHOTOS", "--data.path", "PHOTOS", "--out", "OUT"], "DATA must be given once"),
        (["PHOTOS", "--out", "OUT", "--quality", "101"], "--quality must be from 1 to 100"),
        (["PHOTOS", "--out", "PHOTOS/train"], "--out must be neither the folder of the images"),
    ],
)
def test_bad_input_is_one_line(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    places = {"PHOTOS": str(photos), "OUT": str(tmp_path / "out")}
    for word, place in places.items():
        arguments = [argument.replace(word, place) for argument in arguments]
    assert main(["pack", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


@pytest.mark.slow
def test_a_killed_command_goes_on_to_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    options = ["--short_side", "64", "--shard_mb", "0.01", "--measure", "false"]
    assert main(["pack", str(photos), "--out", str(whole), *options, "--num_workers", "0"]) == 0
    command = [sys.executable, "-m", "mae_et", "pack", str(photos), "--out", str(out), *options]
    for number in (2, 7):  # shards that are there when it is killed
        with subprocess.Popen([*command, "--num_workers", "2"], cwd=ROOT) as running:
            shard = out / ".data" / f"train-{number:05d}.parquet"
            while not shard.exists():
                assert running.poll() is None
                time.sleep(0.001)
            os.kill(running.pid, signal.SIGKILL)
        assert not (out / "data").exists()
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    names = sorted(path.relative_to(whole) for path in whole.rglob("*"))
    assert sorted(path.relative_to(out) for path in out.rglob("*")) == names
    for name in names:
        if (whole / name).is_file():
            assert (out / name).read_bytes() == (whole / name).read_bytes()
